"""Decode compressed audio with ffmpeg or PyAV, whichever is installed, in blocks.

libsndfile reads some compressed files in part without saying so (an MP3 without a header of its
length, chained Ogg streams) and most formats of phones and browsers not at all.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cached_property
from importlib.util import find_spec
from shutil import which
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from desed_task.atomic_files import PathLike
from desed_task.audio.formats import refuse_undecodable
from desed_task.audio.headers import check_end
from desed_task.errors import InputError, count_of

INSTALL_HINT = (
    "install ffmpeg (apt-get install ffmpeg, or conda install -c conda-forge ffmpeg) or the "
    "package av (pip install --editable '.[codecs]')"
)
# `DecodedSound.subtype`, where libsndfile has names such as PCM_16.
COMPRESSED = "COMPRESSED"
# What is missing of the length that a header states is named from 0.2 s on, which is more than the
# padding of any codec. A file is cut short that lacks a second and a hundredth of it, or a tenth.
_NAMED_S, _CUT_S, _CUT_SHARE, _CUT_SHARE_OF_SHORT = 0.2, 1.0, 0.01, 0.1
# What FFmpeg's libraries log of chained streams that differ, and then leave out.
_CHANGED = "change is not supported"


class Decoder(Protocol):
    """A decoder of one file, opened, of its best audio stream.

    Attributes:
        sample_rate: of the blocks, Hz.
        channels: of the blocks.
    """

    sample_rate: int
    channels: int

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield blocks (frame, channel), all frames in order.

        Raises:
            InputError: decoding ended with an error.
        """

    def faults(self) -> list[str]:
        """The messages of errors so far that decoding went on after."""

    def stated_s(self) -> float | None:
        """The length that the container states; None if it states none or it is estimated."""

    def estimated_s(self) -> float | None:
        """The length by the container, stated or estimated; None if unknown."""

    def close(self) -> None:
        """End the decoder, finished or not."""


def open_decoder(path: PathLike, refusal: str) -> Decoder:
    """Open a file with ffmpeg or, without that program, with PyAV.

    Args:
        path: the file.
        refusal: what to say after the path if neither is installed, with `INSTALL_HINT`.

    Raises:
        InputError: the file cannot be decoded, or not without ffmpeg or PyAV.
    """
    program = which("ffmpeg")
    if program is not None:
        from desed_task.audio.codecs.ffmpeg_program import FfmpegDecoder

        return FfmpegDecoder(path, program)
    if find_spec("av") is not None:
        from desed_task.audio.codecs.pyav import PyavDecoder

        return PyavDecoder(path)
    raise InputError(f"{path}: {refusal}")


class DecodedSound:
    """A compressed file, with what this code needs of `soundfile.SoundFile`.

    Reading goes forward only. What has been decoded counts: `frames` decodes the file once more.

    Attributes:
        samplerate: in Hz.
        channels: number of channels.
        subtype: `COMPRESSED`.

    Args:
        path: the file.
        refusal: see `open_decoder`.

    Raises:
        InputError: see `open_decoder`; on reading, a file without samples, one whose end is missing
            and one that ends with an error.
    """

    subtype = COMPRESSED

    def __init__(self, path: PathLike, refusal: str) -> None:
        self._path, self._refusal = path, refusal
        self._decoder = open_decoder(path, refusal)
        self.samplerate, self.channels = self._decoder.sample_rate, self._decoder.channels
        self._blocks = self._decoder.blocks()
        self._rest = np.empty((0, self.channels), dtype=np.float32)
        self._n_decoded = 0
        self._ended = False

    def __enter__(self) -> DecodedSound:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._decoder.close()

    @cached_property
    def frames(self) -> int:
        """Number of frames, counted."""
        with DecodedSound(self._path, self._refusal) as again:
            while again._next_block():
                pass
            return again._n_decoded

    @property
    def estimated_s(self) -> float | None:
        """Length by the container, which may be wrong; None if it states none."""
        return self._decoder.estimated_s()

    def read(
        self, frames: int = -1, dtype: str = "float32", always_2d: bool = False
    ) -> NDArray[Any]:
        """Read the next frames; fewer than asked for, down to none, at the end.

        Args:
            frames: how many; -1 for all that are left.
            dtype: float32.
            always_2d: whether one channel has a second axis, too.

        Returns:
            (frame, channel), or (frame,) for one channel.
        """
        if dtype != "float32":
            raise ValueError(f"dtype {dtype}: compressed audio is decoded as float32")
        parts = [self._rest]
        n_there = len(self._rest)
        while (frames < 0 or n_there < frames) and self._next_block():
            parts.append(self._rest)
            n_there += len(self._rest)
        found = np.concatenate(parts) if len(parts) > 1 else parts[0]
        n_taken = len(found) if frames < 0 else min(frames, len(found))
        self._rest = found[n_taken:]
        taken = found[:n_taken]
        return taken if always_2d or self.channels > 1 else taken[:, 0]

    def seek(self, frames: int) -> None:
        """Skip frames from the beginning of the file, before the first read."""
        while frames > 0 and len(skipped := self.read(min(frames, self.samplerate))):
            frames -= len(skipped)

    def _next_block(self) -> bool:
        """Decode a block into `_rest`; at the end of the file, check what has been decoded."""
        if self._ended:
            return False
        block = next(self._blocks, None)
        self._ended = block is None
        self._rest = self._rest[:0] if block is None else block
        self._n_decoded += len(self._rest)
        if self._ended:
            self._check_end()
        return not self._ended

    def _check_end(self) -> None:
        faults = self._decoder.faults()
        if not self._n_decoded:
            if faults:
                refuse_undecodable(self._path, faults)
            raise InputError(f"{self._path}: contains no samples; replace or remove the file")
        if any(_CHANGED in text for text in faults):
            raise InputError(
                f"{self._path}: changes its rate or channels on the way, which is not decoded; "
                "split it and convert the parts"
            )
        if faults:
            number = count_of(len(faults), "error")
            warnings.warn(
                f"{self._path}: decoded with {number} ({faults[0]}), so that parts of it may be "
                "missing or wrong; fetch or copy it again",
                UserWarning,
                stacklevel=1,
            )
        stated_s, decoded_s = self._decoder.stated_s(), self._n_decoded / self.samplerate
        check_end(self._path, decoded_s)
        if stated_s is not None and stated_s - decoded_s > _NAMED_S:
            self._name_shortfall(stated_s, decoded_s)

    def _name_shortfall(self, stated_s: float, decoded_s: float) -> None:
        lengths = f"{decoded_s:.1f} of {stated_s:.1f} s"
        missing_s = stated_s - decoded_s
        most_s = min(max(_CUT_S, _CUT_SHARE * stated_s), _CUT_SHARE_OF_SHORT * stated_s)
        if missing_s > most_s:
            raise InputError(
                f"{self._path}: is cut short ({lengths}); fetch or copy it again, or, if no more "
                "of it is to be had, convert it to WAV with ffmpeg"
            )
        text = f"{self._path}: {lengths} that its header states could be decoded; the rest is left"
        warnings.warn(f"{text} out", UserWarning, stacklevel=1)
