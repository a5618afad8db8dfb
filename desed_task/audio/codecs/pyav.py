"""Decode audio with PyAV, the extra [codecs], where the program ffmpeg is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import av.logging
import numpy as np
from numpy.typing import NDArray

from desed_task.atomic_files import PathLike
from desed_task.audio.formats import FROM_ZERO, SAFE_OPTIONS, UNRELIABLE, refuse_undecodable
from desed_task.errors import InputError

_ESTIMATED = "Estimating duration from bitrate"
# Tags may be in any encoding. From 19 on PyAV decodes them only when asked.
_TOLERANT = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
_FULL_SCALE = {"u8": 1 << 7, "s16": 1 << 15, "s32": 1 << 31, "s64": 1 << 63}


class PyavDecoder:
    """FFmpeg's libraries, as PyAV's wheels bring them (`decoding.Decoder`).

    Args:
        path: the file, of any name.

    Raises:
        InputError: the file cannot be read.
    """

    def __init__(self, path: PathLike) -> None:
        self._path = path
        self._messages: list[tuple[int, str]] = []
        self._faults: list[str] = []
        self._converter: Any = None
        self._convertible: tuple[int, int] | None = None
        try:
            # An open file, as PyAV takes only names in UTF-8, and no address opens as one.
            self._file = Path(path).open("rb")  # noqa: SIM115  closed by `close`
        except OSError as error:
            refuse_undecodable(path, [str(error.strerror)])
        try:
            with self._listening():
                options = dict(SAFE_OPTIONS)
                self._container = av.open(self._file, options=options, **_TOLERANT)
            self._stream = self._container.streams.best("audio")
            if self._stream is None:
                refuse_undecodable(path, [])
            self._stream.thread_type = "NONE"  # messages of other threads are not heard
            self._frames = self._decoded()
            self._first = next(self._frames, None)
        except (av.FFmpegError, OSError) as error:  # OSError: of reading the file
            self.close()
            refuse_undecodable(path, [*self.faults(), str(error.strerror)])
        except BaseException:
            self.close()
            raise
        first = self._first
        self.sample_rate = (self._stream.rate or 1) if first is None else first.sample_rate
        self.channels = 1 if first is None else len(first.layout.channels)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """See `decoding.Decoder`."""
        if self._first is None:
            return
        yield _samples(self._first)
        for frame in self._frames:
            yield from self._like_the_first(frame)
        yield from self._converted(None)

    def faults(self) -> list[str]:
        """See `decoding.Decoder`."""
        errors = [text for level, text in self._messages if level <= av.logging.ERROR]
        return [*(text.strip() for text in errors), *self._faults]

    def stated_s(self) -> float | None:
        """See `decoding.Decoder`."""
        estimated = any(text.startswith(_ESTIMATED) for _, text in self._messages)
        if estimated or self._container.format.name in UNRELIABLE:
            return None
        alone = len(self._container.streams) == 1
        return self._stream_s or (self.estimated_s() if alone else None)

    def estimated_s(self) -> float | None:
        """See `decoding.Decoder`."""
        whole = self._container.duration
        if whole is not None and self._container.format.name in FROM_ZERO:
            whole -= max(self._container.start_time or 0, 0)
        return self._stream_s or (None if whole is None else whole / av.time_base)

    def close(self) -> None:
        """Close the file."""
        if hasattr(self, "_container"):
            self._container.close()
        self._file.close()

    @property
    def _stream_s(self) -> float | None:
        length, unit = self._stream.duration, self._stream.time_base
        return None if length is None or unit is None else float(length * unit)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Collect what FFmpeg's libraries log, which they otherwise print or keep to themselves."""
        before = av.logging.get_level()
        av.logging.set_level(av.logging.WARNING)
        try:
            with av.logging.Capture() as heard:
                yield
        finally:
            av.logging.set_level(before)
            self._messages += [(level, text) for level, _, text in heard]

    def _decoded(self) -> Iterator[Any]:
        """Decode frame by frame; packets that cannot be decoded are faults, as in ffmpeg."""
        packets = self._container.demux(self._stream)
        while True:
            frames: list[Any] = []
            with self._listening():
                try:
                    packet = next(packets, None)
                except (av.FFmpegError, OSError) as error:
                    self._faults.append(str(error.strerror))
                    packet = None
                try:
                    frames = [] if packet is None else packet.decode()
                except (av.FFmpegError, OSError) as error:
                    self._faults.append(str(error.strerror))
            if packet is None:
                return
            yield from frames

    def _like_the_first(self, frame: Any) -> Iterator[NDArray[np.float32]]:
        """Convert a frame of other rate or channels, as chained streams may have."""
        kind = (frame.sample_rate, len(frame.layout.channels))
        if kind != self._convertible:
            yield from self._converted(None)
            self._convertible = kind
        if kind == (self.sample_rate, self.channels):
            yield _samples(frame)
            return
        if self._converter is None:
            assert self._first is not None
            layout, rate = self._first.layout, self.sample_rate
            self._converter = av.AudioResampler(format="flt", layout=layout, rate=rate)
        frame.pts = None
        yield from self._converted(frame)

    def _converted(self, frame: Any | None) -> Iterator[NDArray[np.float32]]:
        """Frames that the converter gives back; with None it is emptied and ends."""
        if self._converter is None:
            return
        try:
            frames = self._converter.resample(frame)
        except (av.FFmpegError, ValueError) as error:
            raise InputError(
                f"{self._path}: changes its rate or channels on the way, which is not decoded "
                f"({error}); split it and convert the parts"
            ) from None
        if frame is None:
            self._converter = None
        yield from map(_samples, frames)


def _samples(frame: Any) -> NDArray[np.float32]:
    """(frame, channel), in [-1, 1] for integers."""
    values = frame.to_ndarray()
    if frame.format.is_planar:
        values = values.T
    values = values.reshape(frame.samples, -1)
    kind = frame.format.name.removesuffix("p")
    if kind == "u8":
        values = values.astype(np.float32) - _FULL_SCALE[kind]
    scale = _FULL_SCALE.get(kind, 1)
    found: NDArray[np.float32] = np.ascontiguousarray(values * (1 / scale), dtype=np.float32)
    return found
