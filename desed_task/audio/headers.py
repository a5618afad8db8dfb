"""Hold headers against what files have: by libsndfile's log, by chunks and by pages of Ogg."""

from __future__ import annotations

import mmap
import re
import struct
import warnings
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

import soundfile as sf

from desed_task.atomic_files import PathLike
from desed_task.errors import InputError, count_of

# Samples by the header that may be missing at the end: what a recorder or a copy loses that was
# stopped. More is a file to fetch again.
_MISSING_S, _MISSING_SHARE = 0.1, 0.01
# Bytes behind the samples that are no chunk, as a duration: less than this is padding.
_BEHIND_S = 0.1
# libsndfile's log of a chunk of samples that extends past the end of the file, for WAV, AIFF, AU
# and IFF, and of the whole file for W64 and RF64, where it does not name the chunk. The size of a
# RIFF is wrong in many sound files.
_CHUNK = re.compile(r"^ *(?:data|SSND|BODY|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
_WHOLE = re.compile(r"^ *(?:riff|Riff size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
_NIST_COUNT = re.compile(rb"sample_count -i (\d+)")
_NIST_HEADER_BYTES = 1024
# An Ogg page: where its number of segments is, whose lengths follow; and its largest size.
_OGG, _OGG_SEGMENTS_AT, _OGG_PAGE_BYTES = b"OggS", 26, 65307
# A FLAC stream begins with this mark and a block of 34 bytes, which may be the last of its kind.
_FLAC = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
# Sun's AU: after the mark where the samples begin and how many bytes they have.
_AU = {b".snd": struct.Struct(">2I"), b"dns.": struct.Struct("<2I")}
_WIDTH = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}  # bytes; 1 for others
# Programs that write into a pipe do not know the length and state about the largest of 31 or 32
# bits, or -1 in 64 bits.
_LARGEST, _LITTLE, _ENDLESS = (0x7FFFFFFF, 0xFFFFFFFF), 0x2000, 1 << 60
_EMPTY = 8  # what AIFF (8) and CAF (4) count with the samples


class _Chunks(NamedTuple):
    """A container of chunks: where they begin, their type and length, and which has the samples."""

    start: int
    head: struct.Struct
    samples: bytes = b"data"
    padded: bool = True


_LITTLE_ENDIAN = _Chunks(12, struct.Struct("<4sI"))
_CHUNKED = {
    **dict.fromkeys((b"RIFF", b"RF64", b"BW64"), _LITTLE_ENDIAN),
    b"RIFX": _Chunks(12, struct.Struct(">4sI")),
    b"FORM": _Chunks(12, struct.Struct(">4sI"), b"SSND"),
    b"caff": _Chunks(8, struct.Struct(">4sq"), padded=False),
}
# In RF64 a chunk of this type has the lengths of 64 bits: of all, then of the samples.
_WIDE, _WIDE_LENGTHS = b"ds64", struct.Struct("<2Q")


class _Layout(NamedTuple):
    """Bytes of a file: samples by the header, those of them there, and what no chunk explains.

    Attributes:
        twice: whether a second chunk of samples follows.
    """

    stated: int
    there: int
    behind: int
    twice: bool = False


class _Content(NamedTuple):
    """How much the header states, and how much of it is there, in a unit."""

    stated: int
    there: int
    unit: str = "bytes of samples"


def check_header(path: PathLike, sound: sf.SoundFile) -> None:
    """Warn of an open file that lacks the last samples, or has data that its header leaves out.

    Raises:
        InputError: more than 0.1 s or 1 % of the samples are missing, or several FLAC streams or
            chunks of samples follow each other.
    """
    content = _content(path, sound)
    if content is not None and content.there < content.stated:
        _judge(path, content, sound)
    if sound.format == "FLAC":
        _check_flac(path)
        return
    bytes_per_s = sound.samplerate * sound.channels * _WIDTH.get(sound.subtype, 1)
    read_s = sound.frames / sound.samplerate
    # Most files have nothing else that is as long.
    if Path(path).stat().st_size > (read_s + _BEHIND_S) * bytes_per_s:
        _name_what_is_behind(path, read_s)


def _content(path: PathLike, sound: sf.SoundFile) -> _Content | None:
    """What the header states and the file has; None where they agree or cannot be compared."""
    log = sound.extra_info
    if sound.format == "CAF":
        layout = _layout(path)
        return None if layout is None else _Content(layout.stated, layout.there)
    if sound.format == "NIST":
        with Path(path).open("rb") as file:
            count = _NIST_COUNT.search(file.read(_NIST_HEADER_BYTES))
        if count is None:
            return None
        found = _Content(int(count[1]), sound.frames, "samples")
    elif (match := _CHUNK.search(log)) is not None:
        found = _Content(int(match[1]), int(match[2]))
    elif sound.format in ("W64", "RF64") and (match := _WHOLE.search(log)) is not None:
        found = _Content(int(match[1]), int(match[2]), "bytes")
    else:
        return None
    return found if _is_known(found.stated) else None


def _layout(path: PathLike) -> _Layout | None:
    """Where the samples of a file are; None for other containers, and for an unknown length."""
    with Path(path).open("rb") as file:
        mark = file.read(4)
        if mark in _AU:
            start, stated = _AU[mark].unpack(file.read(8))
            size = file.seek(0, 2)
            there = min(stated, size - start)
            return _Layout(stated, there, size - start - there) if _is_known(stated) else None
        return _chunk_layout(file, _CHUNKED[mark]) if mark in _CHUNKED else None


def _chunk_layout(file: IO[bytes], chunks: _Chunks) -> _Layout | None:
    size, place, wide, twice = file.seek(0, 2), chunks.start, 0, False
    found: tuple[int, int] | None = None
    while place + chunks.head.size <= size:
        file.seek(place)
        kind, length = chunks.head.unpack(file.read(chunks.head.size))
        begin = place + chunks.head.size
        if kind == _WIDE and length >= _WIDE_LENGTHS.size:
            wide = _WIDE_LENGTHS.unpack(file.read(_WIDE_LENGTHS.size))[1]
        if kind == chunks.samples and found is None:
            length = wide if wide and length in _LARGEST else length
            if not _is_known(length):
                return None
            found = length, min(length, size - begin)
        elif found is not None and not (
            _is_chunk(kind) and kind != chunks.samples and 0 <= length <= size - begin
        ):
            twice = kind == chunks.samples
            break
        place = begin + max(length, 0) + (length & 1 if chunks.padded else 0)
    if found is None:
        return None
    return _Layout(*found, max(size - place, 0), twice)


def _is_chunk(kind: bytes) -> bool:
    return kind.isascii() and kind.decode().isprintable() and kind not in _CHUNKED


def _is_known(length: int) -> bool:
    """Whether a length is a real one, not one that programs state if they do not know it."""
    about = any(abs(length - largest) <= _LITTLE for largest in _LARGEST)
    return _EMPTY < length < _ENDLESS and not about


def _check_flac(path: PathLike) -> None:
    with (
        Path(path).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        n_streams = sum(1 for _ in islice(_FLAC.finditer(data), 2))
    if n_streams > 1:
        raise InputError(
            f"{path}: contains several FLAC streams one after the other, of which only the first "
            "is decoded; split it"
        )


def _judge(path: PathLike, content: _Content, sound: sf.SoundFile | None = None) -> None:
    missing = content.stated - content.there
    too_much, length = missing > _MISSING_SHARE * content.stated, ""
    if sound is not None:
        missing_s = missing / max(content.there, 1) * sound.frames / sound.samplerate
        too_much = (too_much or missing_s > _MISSING_S) and missing_s * sound.samplerate > 1
        length = f" ({1000 * missing_s:.3g} ms)"
    if too_much:
        raise InputError(
            f"{path}: is cut short ({content.there} of {content.stated} {content.unit}); "
            "fetch or copy it again"
        )
    warnings.warn(
        f"{path}: {missing} of {content.stated} {content.unit}{length} are missing at its end; "
        "the rest is read",
        UserWarning,
        stacklevel=1,
    )


def _name_what_is_behind(path: PathLike, read_s: float) -> None:
    layout = _layout(path)
    if layout is None or not layout.there:
        return
    if layout.twice:
        raise InputError(
            f"{path}: contains several chunks of samples, of which programs read the first or the "
            "last; split it"
        )
    if layout.behind * read_s > _BEHIND_S * layout.there:
        warnings.warn(
            f"{path}: {count_of(layout.behind, 'byte is', 'bytes are')} not read, as its header "
            f"states only {count_of(layout.stated, 'byte')} of samples ({read_s:.2f} s); if the "
            "others are samples, too, correct the header",
            UserWarning,
            stacklevel=1,
        )


def check_end(path: PathLike, decoded_s: float) -> None:
    """Hold the end of a decoded file against what its container says, if Ogg or one of chunks.

    FFmpeg notices in most other containers that their end is missing.

    Args:
        path: the file.
        decoded_s: its length as decoded.

    Raises:
        InputError: more than 1 % of the data of a container of chunks are missing.
    """
    with Path(path).open("rb") as file:
        kind = file.read(4)
        size = file.seek(0, 2)
        file.seek(max(size - _OGG_PAGE_BYTES, 0))
        end = file.read()
    if kind == _OGG and not _has_whole_page(end[max(end.rfind(_OGG), 0) :]):
        warnings.warn(
            f"{path}: its last page is incomplete, so that it is cut short by an unknown length; "
            "fetch or copy it again",
            UserWarning,
            stacklevel=1,
        )
    layout = _layout(path)
    if layout is not None and layout.there < layout.stated:
        _judge(path, _Content(layout.stated, layout.there))
    _name_what_is_behind(path, decoded_s)


def _has_whole_page(page: bytes) -> bool:
    """Whether bytes that begin with an Ogg page have all of it."""
    sizes_at = _OGG_SEGMENTS_AT + 1
    if not page.startswith(_OGG) or len(page) < sizes_at:
        return False
    sizes = page[sizes_at : sizes_at + page[_OGG_SEGMENTS_AT]]
    return len(page) >= sizes_at + page[_OGG_SEGMENTS_AT] + sum(sizes)
