"""Stream recordings of any format, rate and length as mono blocks at one rate."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

from desed_task.atomic_files import PathLike
from desed_task.audio.codecs.decoding import DecodedSound
from desed_task.audio.files import open_audio
from desed_task.audio.signal_check import LARGEST, SignalCheck, are_usable
from desed_task.errors import InputError

Waveform = npt.NDArray[np.float32]
BLOCK_S = 10.0


def stream_file(
    path: PathLike, sample_rate: int, *, block_s: float = BLOCK_S
) -> Iterator[Waveform]:
    """Blocks (sample,) of a recording: the mean of its channels, resampled with soxr HQ.

    Any format works that `open_audio` opens: WAV and FLAC, with ffmpeg or PyAV also compressed
    audio and the sound of videos. A recording at `sample_rate` is not resampled. A warning names a
    recording that is silent, or whose channels cancel each other in their mean.

    Args:
        path: the file.
        sample_rate: of the blocks, Hz.
        block_s: seconds read at a time.

    Raises:
        InputError: the file is missing, unreadable, truncated or empty, or contains samples that
            are not finite or absurdly large, the time of which is stated.
    """
    with open_audio(path) as sound:
        rate = sound.samplerate
        converter = _Converter(rate, sample_rate, str(path))
        check = SignalCheck(rate)
        for block in _read_blocks(sound, max(round(block_s * rate), 1)):
            converted = converter.convert(block)
            check.add(block)  # once it is known to be finite
            yield converted
        yield converter.finish()
    if remark := check.remark():
        warnings.warn(f"{path}: {remark}", UserWarning, stacklevel=1)


def _read_blocks(
    sound: sf.SoundFile | DecodedSound, n_frames: int
) -> Iterator[npt.NDArray[np.float32]]:
    if isinstance(sound, DecodedSound):
        while len(block := sound.read(n_frames, dtype="float32", always_2d=True)):
            yield block
        return
    # After every read of a seekable file, soundfile seeks to its own position, for which the
    # decoder of FLAC starts over.
    sound.seekable = lambda: False
    # Not beyond the last frame: behind it, a FLAC file may have bytes that are no audio.
    for start in range(0, sound.frames, n_frames):
        yield sound.read(min(n_frames, sound.frames - start), dtype="float32", always_2d=True)


def stream_array(
    waveform: npt.ArrayLike, rate: int, sample_rate: int, *, block_s: float = BLOCK_S
) -> Iterator[Waveform]:
    """Blocks (sample,) of a waveform in memory, as `stream_file` yields them, with its warnings.

    Args:
        waveform: (sample,) or (sample, channel), floats in [-1, 1].
        rate: of the waveform, Hz.
        sample_rate: of the blocks, Hz.
        block_s: seconds processed at a time.

    Raises:
        InputError: for a path, another shape, integers, or samples that are not finite or
            absurdly large.
    """
    if isinstance(waveform, str | bytes | os.PathLike):
        raise InputError(
            f"{os.fsdecode(waveform)}: is a path, where samples are needed; read it with "
            "soundfile.read, or give the blocks of stream_file to detect_blocks"
        )
    samples = np.asarray(waveform)
    if samples.ndim not in (1, 2) or (
        samples.ndim == 2 and not 0 < samples.shape[1] <= samples.shape[0]
    ):
        raise InputError(
            f"a waveform of shape {samples.shape}: give (sample,) or (sample, channel)"
        )
    if not np.issubdtype(samples.dtype, np.floating):
        raise InputError(
            f"a waveform of {samples.dtype}: give floats in [-1, 1]; divide integers by full scale"
        )
    if samples.ndim == 1:
        samples = samples[:, None]
    converter = _Converter(rate, sample_rate, "the waveform")
    check = SignalCheck(max(int(rate), 1))
    n_frames = max(round(block_s * rate), 1)
    for start in range(0, len(samples), n_frames):
        with np.errstate(over="ignore"):  # which becomes infinite, and is refused
            block = samples[start : start + n_frames].astype(np.float32)
        converted = converter.convert(block)
        check.add(block)
        yield converted
    yield converter.finish()
    if remark := check.remark():
        warnings.warn(f"the waveform: {remark}", UserWarning, stacklevel=1)


class _Converter:
    """(sample, channel) blocks at one rate to (sample,) blocks at another."""

    def __init__(self, rate: int, sample_rate: int, origin: str) -> None:
        if not 0 < rate < math.inf:
            raise InputError(f"{origin}: a sample rate of {rate} Hz is not positive; give it in Hz")
        self.rate, self.origin = rate, origin
        self._n_taken = 0
        self._resampler: Any = None
        if rate != sample_rate:
            self._resampler = soxr.ResampleStream(
                rate, sample_rate, 1, dtype="float32", quality="HQ"
            )

    def convert(self, samples: npt.NDArray[np.float32]) -> Waveform:
        # The mean of one channel is the channel, to the bit.
        with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is refused
            mono: Waveform = samples.mean(axis=1)
        if not are_usable(mono):
            self._refuse(samples)
        self._n_taken += len(samples)
        return mono if self._resampler is None else self._resampler.resample_chunk(mono)

    def finish(self) -> Waveform:
        """The samples still buffered in the resampler."""
        rest = np.empty(0, dtype=np.float32)
        return rest if self._resampler is None else self._resampler.resample_chunk(rest, last=True)

    def _refuse(self, samples: npt.NDArray[np.float32]) -> None:
        # A mean may be too large where no channel is.
        broken = ~(np.abs(samples) <= LARGEST)
        first = int(broken.any(axis=1).argmax())
        channel = int(broken[first].argmax()) + 1
        raise InputError(
            f"{self.origin}: contains samples that are not finite or beyond {LARGEST:g}, the "
            f"first at {(self._n_taken + first) / self.rate:.3f} s in channel {channel}; "
            "replace it or cut that part out"
        )
