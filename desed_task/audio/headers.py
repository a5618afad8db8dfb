"""Hold headers against what files have: by libsndfile's log, and for Ogg by its pages."""

from __future__ import annotations

import re
import struct
import warnings
from pathlib import Path
from typing import NamedTuple

import soundfile as sf

from desed_task.atomic_files import PathLike
from desed_task.errors import InputError

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
_LOST = re.compile(r"^\*\*\* (?:Unknown chunk marker|Chunk size) .*Exiting parser", re.MULTILINE)
# An Ogg page: where its number of segments is, whose lengths follow; and its largest size.
_OGG, _OGG_SEGMENTS_AT, _OGG_PAGE_BYTES = b"OggS", 26, 65307
# Core Audio Format: after the file's header, chunks of a type, a length and as many bytes.
_CAF, _CAF_HEADER_BYTES, _CAF_CHUNK = b"caff", 8, struct.Struct(">4sq")
# Programs that write into a pipe do not know the length and state about the largest of 31 or 32
# bits, or -1 in 64 bits.
_LARGEST, _LITTLE, _ENDLESS = (0x7FFFFFFF, 0xFFFFFFFF), 0x2000, 1 << 60


class _Content(NamedTuple):
    """How much the header states, and how much of it is there, in a unit."""

    stated: int
    there: int
    unit: str = "bytes of samples"


def check_header(path: PathLike, sound: sf.SoundFile) -> None:
    """Warn of an open file that lacks the last samples, or has data that its header leaves out.

    Raises:
        InputError: more than 0.1 s or 1 % of the samples are missing.
    """
    if "Seems to be a truncated file." in sound.extra_info:  # VOC
        raise InputError(f"{path}: is cut short; fetch or copy it again")
    content = _content(path, sound)
    if content is not None and content.there < content.stated:
        _judge(path, content, sound)
    if _LOST.search(sound.extra_info):
        _name_what_is_behind(path, sound)


def _content(path: PathLike, sound: sf.SoundFile) -> _Content | None:
    """What the header states and the file has; None where they agree or cannot be compared."""
    log = sound.extra_info
    if sound.format == "CAF":
        return _caf_content(Path(path))
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
    unknown = found.stated >= _ENDLESS or any(
        abs(found.stated - largest) <= _LITTLE for largest in _LARGEST
    )
    return None if unknown else found


def _caf_content(path: Path) -> _Content | None:
    size, place = path.stat().st_size, _CAF_HEADER_BYTES
    with path.open("rb") as file:
        while place + _CAF_CHUNK.size <= size:
            file.seek(place)
            kind, length = _CAF_CHUNK.unpack(file.read(_CAF_CHUNK.size))
            place += _CAF_CHUNK.size
            if kind == b"data":
                return None if length < 0 else _Content(length, min(length, size - place))
            place += max(length, 0)
    return None


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


def _name_what_is_behind(path: PathLike, sound: sf.SoundFile) -> None:
    size = Path(path).stat().st_size
    sizes = re.findall(r"^ *data *: (\d+)$", sound.extra_info, re.MULTILINE)
    stated = int(sizes[-1]) if sizes else size
    frame_bytes = stated / max(sound.frames, 1)
    if size - stated > _BEHIND_S * sound.samplerate * frame_bytes:
        stated_s = sound.frames / sound.samplerate
        warnings.warn(
            f"{path}: {size - stated} bytes are not read, as its header states only {stated} bytes "
            f"of samples ({stated_s:.2f} s); if the others are samples, too, correct the header",
            UserWarning,
            stacklevel=1,
        )


def check_end(path: PathLike) -> None:
    """Hold the end of a compressed file against what its container, if Ogg or CAF, says.

    FFmpeg notices in most other containers that their end is missing.

    Raises:
        InputError: more than 1 % of a CAF file's data are missing.
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
    content = _caf_content(Path(path)) if kind == _CAF else None
    if content is not None and content.there < content.stated:
        _judge(path, content)


def _has_whole_page(page: bytes) -> bool:
    """Whether bytes that begin with an Ogg page have all of it."""
    sizes_at = _OGG_SEGMENTS_AT + 1
    if not page.startswith(_OGG) or len(page) < sizes_at:
        return False
    sizes = page[sizes_at : sizes_at + page[_OGG_SEGMENTS_AT]]
    return len(page) >= sizes_at + page[_OGG_SEGMENTS_AT] + sum(sizes)
