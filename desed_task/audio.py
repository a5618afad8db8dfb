"""Audio files: read a clip of fixed length, ask for a file's length, resample a folder.

Files are read with libsndfile and resampled with soxr (HQ), both outside Python's lock; that is
why a folder is resampled by threads.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray

from desed_task.errors import InputError
from desed_task.files import atomic_path
from desed_task.threads import in_threads

PathLike = str | os.PathLike[str]

# How samples of a subtype are read and written without loss; other subtypes become 16 bits.
_LOSSLESS = {"PCM_16": "int16", "PCM_24": "int32", "PCM_32": "int32", "FLOAT": "float32"}
# libsndfile's log of a RIFF chunk that ends behind the end of the file.
_CUT_SHORT = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
# Programs that write into a pipe cannot know the length and put a huge one.
_UNKNOWN_LENGTH = 0x7FFFFFFF
_LEFTOVER_S = 3600.0


class Clip(NamedTuple):
    """What `read_clip` hands on.

    Attributes:
        waveform: (sample,), float32; in [-1, 1] for integer files.
        duration_s: true length of the file, before padding or cropping.
        crop_onset_s: where in the file the waveform begins; 0 unless the file is longer.
    """

    waveform: NDArray[np.float32]
    duration_s: float
    crop_onset_s: float


class AudioInfo(NamedTuple):
    """A file's header: frames are samples per channel."""

    frames: int
    sample_rate: int
    channels: int
    duration_s: float

    @classmethod
    def of(cls, sound: sf.SoundFile) -> AudioInfo:
        """That of an open file."""
        duration_s = sound.frames / sound.samplerate
        return cls(sound.frames, sound.samplerate, sound.channels, duration_s)


@dataclass(frozen=True)
class ResampleReport:
    """What `resample_folder` did.

    Attributes:
        done: files written.
        skipped: files that were there already, complete and not older than their source.
        failed: (source file, reason) of each file that could not be read or written.
    """

    done: int
    skipped: int
    failed: tuple[tuple[Path, str], ...]


def read_clip(
    path: PathLike, *, sample_rate: int, n_samples: int, rng: np.random.Generator | None
) -> Clip:
    """A file as one channel of `n_samples` samples (SPEC section 2).

    The mean of the channels is taken; a shorter file is zero-padded at its end, a longer one
    cropped, of which only the kept part is read.

    Args:
        path: audio file at `sample_rate`.
        sample_rate: in Hz.
        n_samples: length of the waveform.
        rng: draws the crop's onset, uniform over all samples it may start at (training); None
            crops at 0 (testing).

    Raises:
        InputError: the file is missing, unreadable, cut short, empty, not finite or at another
            rate.
    """
    with opened(path) as sound:
        check_rate(path, sound, sample_rate)
        n_frames = sound.frames
        surplus = max(n_frames - n_samples, 0)
        start = 0 if rng is None or not surplus else int(rng.integers(surplus + 1))
        sound.seek(start)
        samples = sound.read(min(n_frames, n_samples), dtype="float32")
    samples = one_channel(path, samples)
    waveform = np.zeros(n_samples, dtype=np.float32)
    waveform[: len(samples)] = samples
    return Clip(waveform, n_frames / sample_rate, start / sample_rate)


def check_rate(path: PathLike, sound: sf.SoundFile, sample_rate: int) -> None:
    """Refuse an open file at another rate than `sample_rate` (Hz) with an InputError."""
    if sound.samplerate != sample_rate:
        raise InputError(
            f"{path}: is at {sound.samplerate} Hz, {sample_rate} Hz are needed; "
            "prepare its folder with generate_dcase_task4_2024.py"
        )


def one_channel(path: PathLike, samples: NDArray[Any]) -> NDArray[Any]:
    """(frame,) or (frame, channel) -> (frame,), the mean of the channels.

    Args:
        path: what they were read from, for the message.
        samples: float32, or int16 of one channel.

    Raises:
        InputError: for samples that are not finite.
    """
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if not np.isfinite(samples).all():
        raise InputError(f"{path}: holds samples that are not finite; replace the file")
    return samples


def probe(path: PathLike) -> AudioInfo:
    """A file's header, without its samples.

    Raises:
        InputError: the file is missing, unreadable, cut short or empty.
    """
    with opened(path) as sound:
        return AudioInfo.of(sound)


def read_lossless(path: PathLike) -> tuple[NDArray[Any], int, str]:
    """All samples as the file stores them.

    Returns:
        samples (frame,) or (frame, channel), integer for integer files; the rate in Hz; and the
        libsndfile subtype that stores them without loss.

    Raises:
        InputError: as `probe`.
    """
    with opened(path) as sound:
        subtype = sound.subtype if sound.subtype in _LOSSLESS else "PCM_16"
        return sound.read(dtype=_LOSSLESS[subtype]), sound.samplerate, subtype


def write_wav(path: PathLike, samples: NDArray[Any], sample_rate: int, subtype: str) -> None:
    """Write a WAV file that appears whole.

    Args:
        path: the file; parent folders are made.
        samples: (frame,) or (frame, channel).
        sample_rate: in Hz.
        subtype: libsndfile's name of the sample format, e.g. PCM_16.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        with atomic_path(path) as temporary:
            sf.write(temporary, samples, sample_rate, subtype=subtype, format="WAV")
    except (sf.LibsndfileError, OSError) as error:
        raise InputError(
            f"{path}: cannot be written ({error}); check the folder's rights and the free space"
        ) from None


def list_wavs(folder: PathLike, *, recursive: bool = False) -> list[Path]:
    """The WAV files of a folder, sorted by name, without hidden (half-written) ones.

    Args:
        folder: where to look.
        recursive: look in its subfolders too.

    Raises:
        InputError: there is no such folder, or no WAV file in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the path or put the audio there")
    entries = folder.rglob("*") if recursive else folder.iterdir()
    wavs = [p for p in entries if p.suffix.lower() == ".wav" and not p.name.startswith(".")]
    if not wavs:
        raise InputError(f"{folder}: holds no WAV file; put the audio there or remove the folder")
    return sorted(wavs)


def resample_folder(
    source: PathLike,
    target: PathLike,
    *,
    sample_rate: int = 16000,
    jobs: int | None = None,
    progress: bool = True,
) -> ResampleReport:
    """Resample every WAV file of `source` into `target`, channels kept (soxr HQ, SPEC section 2).

    A folder that was partly done is completed: a file is skipped only when its target is whole, at
    the right rate and not older. Files that `source` no longer has stay in `target`. A file that
    cannot be read is reported and the others go on.

    Args:
        source: folder of audio at any rate; its subfolders are not searched.
        target: folder for files of the same names; made when absent.
        sample_rate: of the target, in Hz.
        jobs: files at a time; None for one a processor.
        progress: show a bar.

    Raises:
        InputError: `source` is missing, empty or the same folder as `target`.
    """
    source, target = Path(source), Path(target)
    wavs = list_wavs(source)
    if target.resolve() == source.resolve():
        raise InputError(f"{target}: is the source itself; give another folder for the result")
    remove_leftovers(target)
    work = partial(_resample_or_explain, target=target, sample_rate=sample_rate)
    desc = f"{source.parent.name}/{source.name}"
    results = list(in_threads(work, wavs, jobs=jobs, desc=desc, progress=progress))
    failed = tuple((p, r) for p, r in zip(wavs, results, strict=True) if isinstance(r, str))
    done = sum(r is True for r in results)
    return ResampleReport(done, len(wavs) - done - len(failed), failed)


def resample_file(source: PathLike, target: PathLike, *, sample_rate: int = 16000) -> bool:
    """Resample one file unless its target is whole and not older.

    16-bit files (and coarser ones) stay 16-bit, with samples beyond full scale clipped; finer ones
    become 32-bit floats.

    Returns:
        Whether the file was written.

    Raises:
        InputError: the source cannot be read or the target cannot be written.
    """
    if _is_current(Path(source), Path(target), sample_rate):
        return False
    with opened(source) as sound:
        fine = sound.subtype in ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")
        samples = sound.read(dtype="float32")
        rate = sound.samplerate
    if rate != sample_rate:
        samples = soxr.resample(samples, rate, sample_rate, quality="HQ")
    if not len(samples):
        raise InputError(f"{source}: is shorter than one sample at {sample_rate} Hz; remove it")
    if not np.isfinite(samples).all():
        raise InputError(f"{source}: holds samples that are not finite; replace the file")
    if not fine:
        # Full scale is 32768, as on reading, so that a file at the target's rate stays as it is.
        samples = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    write_wav(target, samples, sample_rate, "FLOAT" if fine else "PCM_16")
    return True


def _resample_or_explain(source: Path, target: Path, sample_rate: int) -> bool | str:
    try:
        return resample_file(source, target / f"{source.stem}.wav", sample_rate=sample_rate)
    except InputError as error:
        return str(error)


def _is_current(source: Path, target: Path, sample_rate: int) -> bool:
    if not target.is_file() or target.stat().st_mtime < source.stat().st_mtime:
        return False
    wanted = probe(source)
    try:
        found = probe(target)
    except InputError:
        return False
    # soxr rounds the length to one sample or the other.
    return (
        found.sample_rate == sample_rate
        and found.channels == wanted.channels
        and abs(found.frames - wanted.duration_s * sample_rate) <= 1
    )


def remove_leftovers(folder: Path) -> None:
    """Remove the hidden parts that a killed run left; younger ones may be another run's."""
    oldest = time.time() - _LEFTOVER_S
    for path in folder.glob(".*.wav"):
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


@contextmanager
def opened(path: PathLike) -> Iterator[sf.SoundFile]:
    """The open file; whatever is wrong with it, then or while it is read, is an InputError."""
    try:
        with sf.SoundFile(path) as sound:
            if not sound.frames:
                raise InputError(f"{path}: holds no samples; replace or remove the file")
            cut = _CUT_SHORT.search(sound.extra_info)
            if cut and int(cut[1]) < _UNKNOWN_LENGTH:
                raise InputError(
                    f"{path}: is cut short ({cut[2]} of {cut[1]} bytes of samples); "
                    "fetch or copy it again"
                )
            yield sound
    except sf.LibsndfileError as error:
        what = f"is not readable as audio ({error.error_string})"
        if not Path(path).is_file():
            what = "no such file"
        raise InputError(f"{path}: {what}; replace or remove the file") from None
