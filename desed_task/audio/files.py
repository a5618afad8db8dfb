"""Audio files: read a clip of fixed length, read a header, write a WAV file, list a folder."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from desed_task.atomic_files import PathLike, atomic_path
from desed_task.audio.windows import Span, WindowGrid
from desed_task.errors import InputError

# Sample formats as messages call them; others keep libsndfile's name.
_FORMATS = {
    "PCM_S8": "8-bit",
    "PCM_U8": "8-bit",
    "PCM_16": "16-bit",
    "PCM_24": "24-bit",
    "PCM_32": "32-bit",
    "FLOAT": "32-bit float",
    "DOUBLE": "64-bit float",
}
# How samples of a subtype are read and written without loss; other subtypes become 16 bits.
_LOSSLESS = {"PCM_16": "int16", "PCM_24": "int32", "PCM_32": "int32", "FLOAT": "float32"}
# libsndfile's log of a RIFF chunk that extends past the end of the file.
_TRUNCATED = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
# Programs that write into a pipe do not know the length and state a huge one.
_UNKNOWN_LENGTH = 0x7FFFFFFF
_STALE_S = 3600.0


class Clip(NamedTuple):
    """What `read_clip` returns.

    Attributes:
        waveform: (sample,), float32; in [-1, 1] for integer files.
        duration_s: true length of the file, before padding or cropping.
        crop_onset_s: where in the file the waveform begins; 0 unless the file is longer.
    """

    waveform: NDArray[np.float32]
    duration_s: float
    crop_onset_s: float


class AudioInfo(NamedTuple):
    """A file's header.

    Attributes:
        frames: samples per channel.
        sample_rate: in Hz.
        channels: of the file.
        duration_s: in seconds.
        subtype: libsndfile's name of the sample format, e.g. PCM_16 or FLOAT.
    """

    frames: int
    sample_rate: int
    channels: int
    duration_s: float
    subtype: str

    @property
    def sample_format(self) -> str:
        """The sample format for messages, e.g. "16-bit" or "32-bit float"."""
        return _FORMATS.get(self.subtype, self.subtype)

    @classmethod
    def of(cls, sound: sf.SoundFile) -> AudioInfo:
        """The header of an open file."""
        duration_s = sound.frames / sound.samplerate
        return cls(sound.frames, sound.samplerate, sound.channels, duration_s, sound.subtype)


def read_clip(
    path: PathLike, *, sample_rate: int, n_samples: int, rng: np.random.Generator | None
) -> Clip:
    """Read a file as one channel of `n_samples` samples (docs/method.md, Audio and labels).

    Channels are averaged; a shorter file is zero-padded at its end, a longer one cropped. Only the
    samples that are kept are read.

    Args:
        path: audio file at `sample_rate`.
        sample_rate: in Hz.
        n_samples: length of the waveform.
        rng: draws the crop's onset, uniform over all samples it may start at (training); None
            crops at 0 (testing).

    Raises:
        InputError: the file is missing, unreadable, truncated, empty, not finite or at another
            rate.
    """
    with open_audio(path) as sound:
        check_rate(path, sound, sample_rate)
        n_frames = sound.frames
        surplus = max(n_frames - n_samples, 0)
        start = 0 if rng is None or not surplus else int(rng.integers(surplus + 1))
        sound.seek(start)
        samples = sound.read(min(n_frames, n_samples), dtype="float32")
    samples = to_mono(path, samples)
    waveform = np.zeros(n_samples, dtype=np.float32)
    waveform[: len(samples)] = samples
    return Clip(waveform, n_frames / sample_rate, start / sample_rate)


def read_window(
    path: PathLike, windows: WindowGrid, span: Span, dtype: str = "float32"
) -> NDArray[Any]:
    """The waveform (sample,) of a window of a file that is longer than a window.

    Args:
        path: audio file at the windows' rate.
        windows: positions of the windows.
        span: the window.
        dtype: of the samples, float32 or (for one channel) int16.

    Raises:
        InputError: as `read_clip`, or the file has another length.
    """
    with open_audio(path) as sound:
        check_rate(path, sound, windows.grid.sample_rate)
        if sound.frames != span.n_samples:
            raise InputError(f"{path}: was replaced while it was in use; start again")
        sound.seek(windows.start(span))
        samples = sound.read(windows.n_samples, dtype=dtype)
    return windows.filled(to_mono(path, samples), longer=True)


def check_rate(path: PathLike, sound: sf.SoundFile, sample_rate: int) -> None:
    """Raise an InputError for an open file at another rate than `sample_rate` (Hz)."""
    if sound.samplerate != sample_rate:
        raise InputError(
            f"{path}: is at {sound.samplerate} Hz, {sample_rate} Hz are needed; "
            "prepare its folder with generate_dcase_task4_2024.py"
        )


def to_mono(path: PathLike, samples: NDArray[Any]) -> NDArray[Any]:
    """(frame,) or (frame, channel) -> (frame,), the mean of the channels.

    Args:
        path: file they were read from, for the message.
        samples: float32, or int16 of one channel.

    Raises:
        InputError: for samples that are not finite.
    """
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if not np.isfinite(samples).all():
        raise InputError(f"{path}: contains samples that are not finite; replace the file")
    return samples


def probe(path: PathLike) -> AudioInfo:
    """A file's header, without its samples.

    Raises:
        InputError: the file is missing, unreadable, truncated or empty.
    """
    with open_audio(path) as sound:
        return AudioInfo.of(sound)


def count_formats(infos: Iterable[AudioInfo]) -> dict[str, int]:
    """Sample format -> how many files have it, sorted by name."""
    return dict(sorted(Counter(info.sample_format for info in infos).items()))


def formats_text(formats: Mapping[str, int]) -> str:
    """The result of `count_formats` for messages: "16-bit (3) and 32-bit float (12) files"."""
    return " and ".join(f"{name} ({count})" for name, count in formats.items()) + " files"


def read_lossless(path: PathLike) -> tuple[NDArray[Any], int, str]:
    """All samples as the file stores them.

    Returns:
        samples (frame,) or (frame, channel), integer for integer files; the rate in Hz; and the
        libsndfile subtype that stores them without loss.

    Raises:
        InputError: as `probe`.
    """
    with open_audio(path) as sound:
        subtype = sound.subtype if sound.subtype in _LOSSLESS else "PCM_16"
        return sound.read(dtype=_LOSSLESS[subtype]), sound.samplerate, subtype


def write_wav(path: PathLike, samples: NDArray[Any], sample_rate: int, subtype: str) -> None:
    """Write a WAV file atomically; the same samples give the same bytes.

    Args:
        path: the file; parent folders are created.
        samples: (frame,) or (frame, channel). FLOAT keeps values beyond full scale.
        sample_rate: in Hz.
        subtype: libsndfile's name of the sample format, e.g. PCM_16.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        with atomic_path(path) as temporary:
            if subtype == "FLOAT":
                _write_floats(temporary, samples, sample_rate)
            else:
                sf.write(temporary, samples, sample_rate, subtype=subtype, format="WAV")
    except (sf.LibsndfileError, OSError) as error:
        raise InputError(
            f"{path}: cannot be written ({error}); check the folder's permissions and free space"
        ) from None


def _write_floats(path: Path, samples: NDArray[Any], sample_rate: int) -> None:
    """Write 32-bit floats without libsndfile, which stores the time of writing beside them."""
    from scipy.io import wavfile  # Takes as long to import as everything else here.

    wavfile.write(path, sample_rate, np.asarray(samples, dtype="<f4"))


def list_wavs(folder: PathLike, *, recursive: bool = False) -> list[Path]:
    """The WAV files of a folder, sorted by name, without hidden (half-written) ones.

    Args:
        folder: where to look.
        recursive: look in its subfolders too.

    Raises:
        InputError: the folder is missing or contains no WAV file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the path or put the audio there")
    entries = folder.rglob("*") if recursive else folder.iterdir()
    wavs = [p for p in entries if p.suffix.lower() == ".wav" and not p.name.startswith(".")]
    if not wavs:
        raise InputError(
            f"{folder}: contains no WAV file; put the audio there or remove the folder"
        )
    return sorted(wavs)


def remove_stale_wavs(folder: Path) -> None:
    """Remove hidden partial files of killed runs; recent ones may belong to another run."""
    oldest = time.time() - _STALE_S
    for path in folder.glob(".*.wav"):
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


@contextmanager
def open_audio(path: PathLike) -> Iterator[sf.SoundFile]:
    """Open a file; any problem, now or while it is read, raises an InputError."""
    try:
        with sf.SoundFile(path) as sound:
            if not sound.frames:
                raise InputError(f"{path}: contains no samples; replace or remove the file")
            cut = _TRUNCATED.search(sound.extra_info)
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
