"""The sound of a page: the recording embedded, a copy that browsers play, or a link to the file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from desed_task.audio.streaming import stream_file
from desed_task.errors import InputError
from desed_task.file_names import escape_name
from local.predict.pages import EMBEDDED_MB
from local.predict.pages.urls import addresses

# What all current browsers play, by format and sample format as libsndfile calls them.
_PLAYED = {
    "WAV": ("audio/wav", ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT")),
    "WAVEX": ("audio/wav", ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT")),
    "FLAC": ("audio/flac", ("PCM_S8", "PCM_16", "PCM_24")),
    "OGG": ("audio/ogg", ("VORBIS", "OPUS")),
    "MP3": ("audio/mpeg", ("MPEG_LAYER_III",)),
    "MPEG": ("audio/mpeg", ("MPEG_LAYER_III",)),
}
# What libsndfile does not read, by ending.
_PLAYED_ENDINGS = {
    ".m4a": "audio/mp4",
    ".mp4": "audio/mp4",
    ".webm": "audio/webm",
    ".weba": "audio/webm",
    ".aac": "audio/aac",
}
_MOST_CHANNELS = 2
_RATES_HZ = (8000, 192000)
COPY_TYPE = "audio/flac"


@dataclass(frozen=True)
class PageSound:
    """What a page plays.

    Attributes:
        type: media type, "" if unknown.
        embedded: content of a sound file, or None for a link.
        urls: addresses of the recording, tried one after the other.
        note: what the reader of the page should know; may be empty.
    """

    type: str = ""
    embedded: bytes | None = None
    urls: tuple[str, ...] = ()
    note: str = ""


NO_SOUND = PageSound(note="This page has no sound.")


class SoundCopy:
    """A copy of what the network hears: one channel at its rate, 16 bits, as FLAC.

    Args:
        rate_hz: sample rate.
        most_bytes: the copy is given up when it becomes larger.
    """

    def __init__(self, rate_hz: int, most_bytes: float) -> None:
        self._rate_hz, self._most_bytes = rate_hz, most_bytes
        self._buffer: io.BytesIO | None = io.BytesIO()

    @property
    def content(self) -> bytes | None:
        """The file, when all blocks have passed; None if it is too large."""
        if self._buffer is None or len(self._buffer.getbuffer()) > self._most_bytes:
            return None
        return self._buffer.getvalue()

    def watch(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Pass blocks (sample,) through and add them to the copy."""
        assert self._buffer is not None
        file = sf.SoundFile(self._buffer, "w", self._rate_hz, 1, "PCM_16", format="FLAC")
        with file:
            for block in blocks:
                if self._buffer is not None:
                    file.write(np.clip(block, -1, 1))
                    if len(self._buffer.getbuffer()) > self._most_bytes:
                        self._buffer = None  # libsndfile still has it until the file is closed
                yield block


def played_type(path: Path) -> str | None:
    """The media type of a file that all current browsers play; None for any other."""
    try:
        info = sf.info(os.fsencode(path) if os.name == "posix" else path)
    except (sf.SoundFileError, OSError):
        return _PLAYED_ENDINGS.get(path.suffix.lower())
    type_, subtypes = _PLAYED.get(info.format, ("", ()))
    fits = info.channels <= _MOST_CHANNELS and _RATES_HZ[0] <= info.samplerate <= _RATES_HZ[1]
    return type_ if info.subtype in subtypes and fits else None


def needs_copy(path: Path) -> bool:
    """Whether a page of this recording embeds a copy, if it is small enough."""
    return played_type(path) is None


def sound_of(
    recording: Path,
    page: Path,
    *,
    embedded_mb: float = EMBEDDED_MB,
    copy: SoundCopy | None = None,
    rate_hz: int = 16000,
) -> PageSound:
    """The sound of a recording for a page.

    Up to `embedded_mb` the recording becomes a part of the page: as it is if browsers play it, else
    a copy. Above, the page links it, by a relative address and, where that leads nowhere, by the
    absolute one. So it does with a recording that is not there any more, of which it then tells.

    Args:
        recording: the recording.
        page: the page's file.
        embedded_mb: size limit in millions of bytes; 0 links all.
        copy: a copy whose blocks have passed, if `needs_copy`; None to read the recording for it.
        rate_hz: rate of a copy that is made here.
    """
    most_bytes = embedded_mb * 1e6
    type_ = played_type(recording)
    urls = addresses(recording, page)
    try:
        if type_ is not None:
            if recording.stat().st_size <= most_bytes:
                return PageSound(type_, recording.read_bytes())
            return PageSound(type_, urls=urls)
        if copy is None:
            copy = SoundCopy(rate_hz, most_bytes)
            for _ in copy.watch(stream_file(recording, rate_hz)):
                pass
    except (OSError, InputError):
        return PageSound(urls=urls)
    kind = escape_name(recording.suffix.lstrip(".").upper()) or "this format"
    if copy.content is not None:
        told = "Sound: a copy of what the network heard (one channel), as not all browsers play "
        return PageSound(COPY_TYPE, copy.content, note=f"{told}the recording itself ({kind}).")
    told = "Not all browsers play this recording"
    remedy = "convert it (ffmpeg -i RECORDING street.flac) and run predict.py on the result"
    return PageSound(urls=urls, note=f"{told} ({kind}); if there is no sound, {remedy}.")
