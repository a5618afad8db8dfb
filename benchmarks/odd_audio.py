"""Compare how odd audio files are read with what `ffmpeg -f f32le` decodes.

python -m benchmarks.odd_audio
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from desed_task.audio.files import open_audio
from desed_task.errors import InputError

SECONDS = 2.0
MAX_APART_S, MAX_APART = 1e-3, 1e-3


class OddFile(NamedTuple):
    """A file to make, and what is expected of it.

    Attributes:
        name: its name; unusual ones are part of the test.
        fault: what is odd about it.
        rate: sample rate of the signal in it, Hz.
        channels: of the signal.
        arguments: of ffmpeg, for the output.
        spoil: changes the bytes that ffmpeg wrote.
        piped: whether ffmpeg writes into a pipe, where it cannot correct a header at the end.
        refused: whether it is refused, if ffmpeg decodes a part of it, too.
    """

    name: str
    fault: str = ""
    rate: int = 44100
    channels: int = 1
    arguments: Sequence[str] = ()
    spoil: Callable[[bytes], bytes] = bytes
    piped: bool = False
    refused: bool = False


class Comparison(NamedTuple):
    """A file as read, beside ffmpeg's decoding.

    Attributes:
        frames, expected: frames read and decoded by ffmpeg.
        apart: largest difference of samples; NaN if shapes differ.
        rate: Hz.
        said: the refusal, or the warnings.
        refused: whether the file was refused.
    """

    frames: int
    expected: int
    apart: float
    rate: int
    said: str
    refused: bool = False

    @property
    def is_right(self) -> bool:
        """Whether lengths agree to 1 ms and samples to 1e-3."""
        same_length = abs(self.frames - self.expected) <= MAX_APART_S * self.rate
        return same_length and self.apart <= MAX_APART


def _cut(share: float, data: bytes) -> bytes:
    return data[: int(len(data) * share)]


def _without_last_byte(data: bytes) -> bytes:
    return data[:-1]


def _state_size(size: int, data: bytes) -> bytes:
    """Write another size of samples into the header of a WAV file."""
    place = data.index(b"data") + 4
    return data[:place] + struct.pack("<I", size) + data[place + 4 :]


def _twice(data: bytes) -> bytes:
    return data + data


def _behind_zeros(data: bytes) -> bytes:
    return bytes(1000) + data


VIDEO = ("-f", "lavfi", "-i", "testsrc=d=4:s=64x48:r=5", "-c:v", "mpeg4")
PICTURE = ("-map", "0:a", "-map", "1:v", "-frames:v", "1", "-c:v", "mjpeg", "-f", "mp3")
LATE = ("-c:a", "flac", "-output_ts_offset", "1.5")
PAGES = ("-c:a", "libvorbis", "-page_duration", "100000")
ODD_FILES = (
    OddFile("plain.wav", "", 44100, 2),
    OddFile("24 bit.wav", "", 96000, 2, ("-c:a", "pcm_s24le")),
    OddFile("float.wav", "", 48000, 6, ("-c:a", "pcm_f32le")),
    OddFile("pipe.wav", "size 0xFFFFFFFF (pipe)", 16000, 1, piped=True),
    OddFile("sox.wav", "size 0x7FFFF000 (pipe)", 16000, 2, spoil=partial(_state_size, 0x7FFFF000)),
    OddFile("stopped.wav", "size 0 (recorder stopped)", spoil=partial(_state_size, 0)),
    OddFile("understated.wav", "states a part", spoil=partial(_state_size, 20000)),
    OddFile("byte.wav", "a byte short", spoil=_without_last_byte),
    OddFile("half.wav", "half of it missing", spoil=partial(_cut, 0.5), refused=True),
    OddFile("adpcm.wav", "", 22050, 1, ("-c:a", "adpcm_ima_wav")),
    OddFile("mp3.wav", "MP3 in WAV", 44100, 2, ("-c:a", "libmp3lame")),
    OddFile("a.aiff", "", 44100, 2),
    OddFile("a.w64", "", 32000, 1),
    OddFile("a.au", "", 8000, 1, ("-c:a", "pcm_mulaw")),
    OddFile("a.caf", "", 44100, 2, ("-c:a", "alac")),
    OddFile("a.flac", "", 48000, 2),
    OddFile("pipe.flac", "unknown length (pipe)", 44100, 1, ("-f", "flac"), piped=True),
    OddFile("half.flac", "half of it missing", spoil=partial(_cut, 0.5), refused=True),
    OddFile("a.oga", "FLAC in Ogg", 44100, 2, ("-c:a", "flac")),
    OddFile("cbr.mp3", "", 22050, 2, ("-b:a", "48k")),
    OddFile("noxing.mp3", "VBR, no Xing header", 44100, 1, ("-q:a", "5", "-write_xing", "0")),
    OddFile("picture.mp3", "with a picture", 44100, 2, (*VIDEO[:4], *PICTURE)),
    OddFile("zeros.mp3", "behind 1000 zeros", 48000, 1, spoil=_behind_zeros),
    OddFile("half.mp3", "half of it missing", spoil=partial(_cut, 0.5), refused=True),
    OddFile("a.ogg", "", 44100, 2, ("-c:a", "libvorbis")),
    OddFile("chained.ogg", "two streams", 44100, 1, ("-c:a", "libvorbis"), spoil=_twice),
    OddFile("half.ogg", "half of it missing", 44100, 1, PAGES, spoil=partial(_cut, 0.5)),
    OddFile("a.opus", "", 48000, 1),
    OddFile("a.m4a", "AAC", 44100, 2),
    OddFile("alac.m4a", "ALAC", 44100, 2, ("-c:a", "alac")),
    OddFile("half.m4a", "half of it missing", spoil=partial(_cut, 0.5), refused=True),
    OddFile("a.aac", "no header of the length", 32000, 2),
    OddFile("a.wma", "", 44100, 2),
    OddFile("pipe.webm", "Opus, unknown length", 48000, 2, ("-f", "webm"), piped=True),
    OddFile("half.webm", "half of it missing", 48000, 1, spoil=partial(_cut, 0.5), refused=True),
    OddFile("a.mka", "AC-3, 6 channels", 48000, 6, ("-c:a", "ac3")),
    OddFile("late.mka", "begins at 1.5 s", 44100, 1, LATE),
    OddFile(
        "half late.mka", "half missing", 44100, 1, LATE, spoil=partial(_cut, 0.5), refused=True
    ),
    OddFile("video.mp4", "longer video", 44100, 2, VIDEO),
    OddFile("-dash:and %d.mov", "name like an option", 44100, 1, (*VIDEO[:4], "-c:a", "pcm_s16be")),
    OddFile("text.mp3", "a text", spoil=lambda _: b"no audio\n" * 100, refused=True),
    OddFile("playlist.m4a", "a playlist", spoil=lambda _: b"#EXTM3U\n/etc/passwd\n", refused=True),
)


def make(odd: OddFile, folder: Path) -> Path:
    """Make a file in a folder; a signal of its own in each channel, with noise."""
    rng = np.random.default_rng(len(odd.name))
    times_s = np.arange(round(SECONDS * odd.rate)) / odd.rate
    pitches = 220 * (1 + np.arange(odd.channels))
    signal = 0.3 * np.sin(2 * np.pi * times_s[:, None] * pitches)
    signal += 0.02 * rng.normal(size=signal.shape)
    path = folder / odd.name
    given = ["-f", "f32le", "-ar", str(odd.rate), "-ac", str(odd.channels), "-i", "pipe:0"]
    form = ["-f", "wav", "pipe:1"] if path.suffix == ".wav" and odd.piped else []
    target = form or (["pipe:1"] if odd.piped else ["-y", f"file:{path}"])
    quiet = ["ffmpeg", "-nostdin", "-v", "error", *given]
    done = subprocess.run(
        [*quiet, *odd.arguments, *target],
        input=signal.astype("<f4").tobytes(),
        capture_output=True,
        check=True,
    )
    path.write_bytes(odd.spoil(done.stdout if odd.piped else path.read_bytes()))
    return path


def ffmpeg_samples(path: Path, channels: int) -> NDArray[np.float32]:
    """(frame, channel) as `ffmpeg -f f32le` writes them; none if it cannot read the file."""
    command = ["ffmpeg", "-nostdin", "-v", "quiet", "-i", f"file:{path}", "-f", "f32le", "pipe:1"]
    out = subprocess.run(command, capture_output=True, check=False).stdout
    return np.frombuffer(out, dtype="<f4").reshape(-1, channels)


def compare(path: Path, channels: int) -> Comparison:
    """Read a file and compare it with ffmpeg's decoding."""
    expected = ffmpeg_samples(path, channels)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            with open_audio(path) as sound:
                found = sound.read(dtype="float32", always_2d=True)
                rate = sound.samplerate
        except InputError as error:
            return Comparison(0, len(expected), np.nan, 1, str(error), refused=True)
    said = "; ".join(str(warning.message) for warning in told)
    n_both = min(len(found), len(expected))
    apart = np.nan
    if found.shape[1] == channels:
        apart = float(np.abs(found[:n_both] - expected[:n_both]).max(initial=0.0))
    return Comparison(len(found), len(expected), apart, rate, said)


def table(folder: Path) -> str:
    """Make all files and format what became of them as a Markdown table."""
    lines = ["| file | oddity | rate | channels | read | `ffmpeg` | largest difference | said |"]
    lines.append("|---" * 8 + "|")
    for odd in ODD_FILES:
        path = make(odd, folder)
        seen = compare(path, odd.channels)
        said = seen.said.replace(f"{path}: ", "") or "-"
        cells = [odd.name, odd.fault or "-", odd.rate, odd.channels]
        if seen.refused:
            cells += ["refused", seen.expected, "-", said]
        else:
            cells += [seen.frames, seen.expected, f"{seen.apart:.1e}", said]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    if shutil.which("ffmpeg") is None:
        raise SystemExit("ffmpeg is needed to make the files; apt-get install ffmpeg")
    with tempfile.TemporaryDirectory() as folder:
        print(table(Path(folder)))


if __name__ == "__main__":
    main()
