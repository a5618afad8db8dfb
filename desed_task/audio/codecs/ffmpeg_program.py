"""Decode audio with the program ffmpeg, through a pipe."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from desed_task.atomic_files import PathLike
from desed_task.audio.formats import FROM_ZERO, SAFE_OPTIONS, UNRELIABLE, refuse_undecodable
from desed_task.errors import InputError

_BLOCK_BYTES = 1 << 20
# A log of a damaged file may have a line per packet.
_LOG_BYTES = 1 << 20
# "[mp3 @ 0x55d94a8f7900] Header missing": what follows the address is the message.
_ADDRESS = re.compile(r"^(\[[^\]]* @ 0x[0-9a-f]+\] )+")
# Of the output, not the file: its format has no times, which chained streams begin again.
_OF_OUTPUT = re.compile(r"^(\s*Last message repeated \d+ times$|\[au @ )")
_AU = b".snd"
_ESTIMATED = "Estimating duration from bitrate"
_PROBE_TIMEOUT_S = 60.0


class _Header(NamedTuple):
    """Lengths by the container, in seconds; None if unknown."""

    stated_s: float | None = None
    estimated_s: float | None = None


class FfmpegDecoder:
    """A run of ffmpeg that writes a file's samples into a pipe (`decoding.Decoder`).

    ffmpeg chooses the best audio stream, removes the padding of encoders, and converts what changes
    its rate or channels on the way to those at the beginning.

    Args:
        path: the file, of any name; addresses and playlists are not opened.
        program: path of ffmpeg.

    Raises:
        InputError: ffmpeg cannot read the file.
    """

    def __init__(self, path: PathLike, program: str) -> None:
        self._path, self._program = path, program
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by `close`
        # Sun's AU format is the simplest whose header has the rate and the channels of what is
        # written, floats without loss, and any length.
        written = ["-map_metadata", "-1", "-f", "au", "-c:a", "pcm_f32be", "pipe:1"]
        streams = ["-vn", "-sn", "-dn"]
        try:
            self._process = subprocess.Popen(
                [program, "-nostdin", *_input(path, "error"), *streams, *written],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._log,
            )
        except OSError as error:
            self._log.close()
            raise InputError(_broken(path, program, str(error.strerror))) from None
        assert self._process.stdout is not None
        self._pipe = self._process.stdout
        try:
            self.sample_rate, self.channels = self._read_header()
        except BaseException:
            self.close()
            raise

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """See `decoding.Decoder`."""
        size = 4 * self.channels
        while data := self._pipe.read(_BLOCK_BYTES // size * size or size):
            samples = np.frombuffer(data[: len(data) // size * size], dtype=">f4")
            yield samples.astype(np.float32).reshape(-1, self.channels)
        status = self._process.wait()
        if status:
            reason = (self.faults() or [f"exit status {status}"])[-1]
            raise InputError(
                f"{self._path}: could not be decoded to its end (ffmpeg: {reason}); fetch or copy "
                "it again"
            )

    def faults(self) -> list[str]:
        """See `decoding.Decoder`."""
        self._log.seek(0)
        named = f"file:{os.fspath(self._path)}: "
        return [text.removeprefix(named) for text in _messages(self._log.read(_LOG_BYTES))]

    def stated_s(self) -> float | None:
        """See `decoding.Decoder`."""
        return self._header.stated_s

    def estimated_s(self) -> float | None:
        """See `decoding.Decoder`."""
        return self._header.estimated_s

    def close(self) -> None:
        """End ffmpeg and wait for it."""
        self._process.kill()
        self._process.wait()
        self._pipe.close()
        self._log.close()

    def _read_header(self) -> tuple[int, int]:
        """Rate and channels from the header that ffmpeg writes before the samples."""
        head = self._pipe.read(24)
        if len(head) == 24 and head.startswith(_AU):
            _, offset, _, _, rate, channels = struct.unpack(">6I", head)
            self._pipe.read(offset - len(head))
            return rate, channels
        self._pipe.close()  # Another program may have more to say.
        self._process.wait()
        if fault := _fault_of(self._program):
            raise InputError(_broken(self._path, self._program, fault))
        refuse_undecodable(self._path, self.faults())

    @cached_property
    def _header(self) -> _Header:
        """Ask ffprobe, which is installed together with ffmpeg."""
        beside = os.path.join(os.path.dirname(self._program), "ffprobe")
        program = beside if os.access(beside, os.X_OK) else shutil.which("ffprobe")
        if program is None:
            return _Header()
        shown = "stream=codec_type,duration:format=start_time,duration,format_name"
        try:
            done = subprocess.run(
                [program, *_input(self._path, "warning"), "-show_entries", shown, "-of", "json"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_TIMEOUT_S,
                check=True,
            )
            return _header_of(json.loads(done.stdout), _ESTIMATED.encode() in done.stderr)
        except (subprocess.SubprocessError, OSError, ValueError, AttributeError, TypeError):
            return _Header()  # of an ffprobe that does not work


def _fault_of(program: str) -> str:
    """Why a program is not a working ffmpeg; "" if it is one."""
    try:
        done = subprocess.run(
            [program, "-version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (subprocess.SubprocessError, OSError) as error:
        return str(error)
    if done.stdout.startswith(b"ffmpeg version"):
        return ""
    return (_messages(done.stderr) or [f"it is no ffmpeg; exit status {done.returncode}"])[-1]


def _broken(path: PathLike, program: str, fault: str) -> str:
    return (
        f"{path}: the program {program} does not work ({fault}); install ffmpeg again, or remove "
        "it from PATH and install the package av (pip install --editable '.[codecs]')"
    )


def _input(path: PathLike, verbosity: str) -> list[str]:
    """Arguments that open a file as such, whatever its name looks like."""
    options = [part for name, value in SAFE_OPTIONS.items() for part in (f"-{name}", value)]
    return ["-hide_banner", "-v", verbosity, *options, "-i", f"file:{os.fspath(path)}"]


def _header_of(found: dict[str, Any], estimated: bool) -> _Header:
    streams, container = found.get("streams", []), found.get("format", {})
    audio = [stream for stream in streams if stream.get("codec_type") == "audio"]
    lengths_s = [float(stream["duration"]) for stream in audio if "duration" in stream]
    # Which of several audio streams ffmpeg chose is not known here.
    length_s = min(lengths_s, default=None)
    whole_s = float(container["duration"]) if "duration" in container else None
    if whole_s is not None and container.get("format_name") in FROM_ZERO:
        whole_s -= max(float(container.get("start_time", 0.0)), 0.0)
    if length_s is None and len(streams) == 1:  # else it may be that of the pictures
        length_s = whole_s
    estimated = estimated or container.get("format_name") in UNRELIABLE
    return _Header(None if estimated else length_s, whole_s if length_s is None else length_s)


def _messages(log: bytes) -> list[str]:
    lines: Sequence[str] = log.decode("utf-8", "replace").splitlines()
    shown = (_ADDRESS.sub("", line).strip() for line in lines if not _OF_OUTPUT.match(line))
    return [line for line in shown if line]
