"""Audio files: read a clip of fixed length, read a header, write a WAV file, list a folder."""

from __future__ import annotations

import os
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
from desed_task.audio.codecs.decoding import COMPRESSED, INSTALL_HINT, DecodedSound
from desed_task.audio.formats import refuse_undecodable
from desed_task.audio.headers import check_header
from desed_task.audio.signal_check import LARGEST, are_usable
from desed_task.audio.windows import Span, WindowGrid
from desed_task.errors import DiskFullError, InputError, command_name, count_of
from desed_task.file_names import looked_up_from

# Sample formats as messages call them; others keep libsndfile's name.
_FORMATS = {
    "PCM_S8": "8-bit",
    "PCM_U8": "8-bit",
    "PCM_16": "16-bit",
    "PCM_24": "24-bit",
    "PCM_32": "32-bit",
    "FLOAT": "32-bit float",
    "DOUBLE": "64-bit float",
    COMPRESSED: "compressed",
}
# How samples of a subtype are read and written without loss; other subtypes become 16 bits.
_LOSSLESS = {"PCM_16": "int16", "PCM_24": "int32", "PCM_32": "int32", "FLOAT": "float32"}
# Subtypes that libsndfile reads whole, from any container. It reads an MP3 without a header of its
# length and chained Ogg streams in part, and does not say so.
_UNCOMPRESSED = (*("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"), "DOUBLE")
_COMPANDED = ("ULAW", "ALAW")
# libsndfile's number of frames of a FLAC file written into a pipe.
_UNKNOWN_FRAMES = 1 << 62
# A file of this size with no samples by its header may have some.
_HEADER_BYTES = 1024
_STALE_S = 3600.0
# Names that `atomic_path` gives, now and in earlier versions; others are the user's.
_PARTIAL = re.compile(r"\..+\.(tmp[0-9a-f]{5}|[0-9a-f]{8})\.wav")


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
        subtype: libsndfile's name of the sample format, e.g. PCM_16 or FLOAT; COMPRESSED for
            what it does not read.
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
    def of(cls, sound: sf.SoundFile | DecodedSound) -> AudioInfo:
        """The header of an open file; the frames of a compressed one are counted."""
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


def check_rate(path: PathLike, sound: sf.SoundFile | DecodedSound, sample_rate: int) -> None:
    """Raise an InputError for an open file at another rate than `sample_rate` (Hz)."""
    if sound.samplerate != sample_rate:
        raise InputError(
            f"{path}: is at {sound.samplerate} Hz, {sample_rate} Hz are needed; "
            f"prepare its folder with {command_name('generate_dcase_task4_2024.py')}"
        )


def to_mono(path: PathLike, samples: NDArray[Any]) -> NDArray[Any]:
    """(frame,) or (frame, channel) -> (frame,), the mean of the channels.

    Args:
        path: file they were read from, for the message.
        samples: float32, or int16 of one channel.

    Raises:
        InputError: for samples that are not finite, or absurdly large.
    """
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if not are_usable(samples):
        raise InputError(
            f"{path}: contains samples that are not finite or beyond {LARGEST:g}; replace the file"
        )
    return samples


def probe(path: PathLike) -> AudioInfo:
    """A file's header, without its samples.

    The frames of a compressed file are counted by decoding it, as its header may be wrong.

    Raises:
        InputError: the file is missing, unreadable, truncated or empty.
    """
    with open_audio(path) as sound:
        return AudioInfo.of(sound)


def estimate_duration_s(path: PathLike) -> float:
    """A file's length for a progress bar: what a compressed one states, without decoding it.

    Raises:
        InputError: as `probe`.
    """
    with open_audio(path) as sound:
        stated_s = sound.estimated_s if isinstance(sound, DecodedSound) else None
        return stated_s or AudioInfo.of(sound).duration_s


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
        subtype = "FLOAT" if sound.subtype == COMPRESSED else sound.subtype
        subtype = subtype if subtype in _LOSSLESS else "PCM_16"
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
        DiskFullError: the disk is full.
    """
    try:
        with atomic_path(path) as temporary:
            if subtype == "FLOAT":
                _write_floats(temporary, samples, sample_rate)
            else:
                name = os.fsencode(temporary)
                sf.write(name, samples, sample_rate, subtype=subtype, format="WAV")
    except DiskFullError:
        raise  # The next file would not fit either.
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
        where = looked_up_from(folder)
        raise InputError(f"{folder}: no such folder{where}; check the path or put the audio there")
    entries = folder.rglob("*") if recursive else folder.iterdir()
    wavs = [p for p in entries if p.suffix.lower() == ".wav" and not p.name.startswith(".")]
    if not wavs:
        raise InputError(
            f"{folder}: contains no WAV file; put the audio there or remove the folder"
        )
    return sorted(wavs)


def remove_stale_wavs(folder: Path) -> None:
    """Remove hidden partial files of killed runs below a folder; recent ones may be another's."""
    oldest = time.time() - _STALE_S
    for path in folder.rglob(".*.wav"):
        if _PARTIAL.fullmatch(path.name) and path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


@contextmanager
def open_audio(path: PathLike) -> Iterator[sf.SoundFile | DecodedSound]:
    """Open a file; any problem, now or while it is read, raises an InputError.

    Uncompressed audio and FLAC are read with libsndfile, anything else with ffmpeg or PyAV
    (`desed_task.audio.codecs.decoding`). Neither gives a part of a file without a warning.
    """
    try:
        with _open(path) as sound:
            yield sound
    except sf.LibsndfileError as error:
        refuse_undecodable(path, [error.error_string.rstrip(".")])


class _WholeFile(sf.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """Refuses a file that ends before its header says, as a cut FLAC file does."""

    def __init__(self, path: PathLike) -> None:
        # As bytes, since a name need not be UTF-8.
        super().__init__(os.fsencode(path) if os.name == "posix" else path)
        self._path = path

    def read(self, frames: int = -1, *args: Any, **kwargs: Any) -> NDArray[Any]:
        start = self.tell()
        samples: NDArray[Any] = super().read(frames, *args, **kwargs)
        n_left = self.frames - start
        if len(samples) < (n_left if frames < 0 else min(frames, n_left)):
            there_s = (start + len(samples)) / self.samplerate
            stated_s = self.frames / self.samplerate
            raise InputError(
                f"{self._path}: is cut short ({there_s:.1f} of {stated_s:.1f} s); fetch or copy it "
                "again"
            )
        return samples


def _open(path: PathLike) -> sf.SoundFile | DecodedSound:
    try:
        sound = _WholeFile(path)
    except (sf.LibsndfileError, TypeError) as error:  # TypeError: an ending that means no header
        if not Path(path).is_file() or not Path(path).stat().st_size:
            refuse_undecodable(path, ["it has 0 bytes"])
        reason = getattr(error, "error_string", "its ending means samples without a header")
        refusal = f"is not readable as audio ({reason.rstrip('.')}); replace or remove the file"
        return DecodedSound(
            path, f"{refusal}, or, if it is compressed audio or a video, {INSTALL_HINT}"
        )
    try:
        problem = _needs_decoder(path, sound)
        if not problem:
            if not sound.frames:
                raise InputError(f"{path}: contains no samples; replace or remove the file")
            check_header(path, sound)
            return sound
    except BaseException:
        sound.close()
        raise
    sound.close()
    return DecodedSound(path, f"{problem}; {INSTALL_HINT}")


def _needs_decoder(path: PathLike, sound: sf.SoundFile) -> str:
    """Why libsndfile may read a part of an open file only; "" if it reads it whole."""
    if sound.subtype not in (*_UNCOMPRESSED, *_COMPANDED):
        return f"is {sound.subtype} audio, of which libsndfile may read only a part"
    if sound.format == "VOC":
        return "is VOC audio, of which libsndfile may take headers of blocks for samples"
    if sound.frames >= _UNKNOWN_FRAMES:
        return f"is {sound.format} audio of unknown length, which libsndfile does not read"
    if not sound.frames and (size := Path(path).stat().st_size) > _HEADER_BYTES:
        return f"has no samples by its header, but {count_of(size, 'byte')}"
    return ""
