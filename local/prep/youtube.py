"""One cut of a YouTube video as a WAV file: yt-dlp finds the audio's address, ffmpeg cuts it.

ffmpeg decodes from the address, so that the cut begins at the sample it is named for; yt-dlp's own
sections are copies of packets, which may begin seconds beside.
Both are called as programs. YouTube changes often and yt-dlp follows within days, so it is updated
apart from everything else; and what one video does to it cannot end the others.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from desed_task.audio import probe
from desed_task.errors import InputError

SAMPLE_RATE = 44100
# Folders of clips at work, in the folder of the clips; a killed run leaves them.
LEFTOVER = ".fetch-"
NOT_TRIED = "not tried yet"
_NAME = re.compile(r"Y(?P<video>[\w-]{11})_(?P<start>\d+\.\d{3})_(?P<end>\d+\.\d{3})")
# What yt-dlp says of videos that will not come back, and of machines that YouTube does not serve.
_GONE = re.compile(
    r"private video|video unavailable|removed|terminated|not available|members.only|copyright"
    r"|confirm your age|no longer available|does not exist",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"HTTP Error (429|403)|too many requests|not a bot|rate.limited|try again later", re.IGNORECASE
)
# A cut may be shorter where the video ends, never longer.
_LONGER_S = 0.1
_SHORTEST_S = 0.5
_POLL_S = 0.2


class Cut(NamedTuple):
    """Which seconds of which video a clip is."""

    video: str
    start_s: float
    end_s: float


def cut_of(clip_id: str) -> Cut | None:
    """What a clip's name says, `Y<video>_<start>_<end>`; None for a name of another form."""
    match = _NAME.fullmatch(clip_id)
    if match is None:
        return None
    cut = Cut(match["video"], float(match["start"]), float(match["end"]))
    return cut if cut.end_s > cut.start_s else None


class Tools(NamedTuple):
    """The two programs."""

    yt_dlp: str
    ffmpeg: str


def find_tools() -> Tools:
    """The programs, beside this Python or on PATH.

    Raises:
        InputError: saying how to install what is missing.
    """
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = {name: shutil.which(name, path=places) for name in ("yt-dlp", "ffmpeg")}
    remedy = {
        "yt-dlp": "pip install --upgrade yt-dlp",
        "ffmpeg": "apt install ffmpeg, conda install ffmpeg or brew install ffmpeg",
    }
    missing = [f"{name} ({remedy[name]})" for name, path in found.items() if path is None]
    if missing:
        raise InputError(f"clips of YouTube need {' and '.join(missing)}; install and run again")
    return Tools(str(found["yt-dlp"]), str(found["ffmpeg"]))


@dataclass(frozen=True)
class Policy:
    """How patient and how polite a fetch is.

    Attributes:
        tries: of a clip whose failure may pass.
        first_wait_s: before the second try; doubles.
        pause_s: between two requests of one yt-dlp.
        timeout_s: for one call of a program.
    """

    tries: int = 3
    first_wait_s: float = 5.0
    pause_s: float = 1.0
    timeout_s: float = 180.0


class FailedError(Exception):
    """A clip could not be had; the message is the reason.

    Attributes:
        refused: YouTube does not serve this machine, whatever the clip.
    """

    def __init__(self, reason: str, *, passing: bool = False, refused: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing or refused
        self.refused = refused


@dataclass(frozen=True)
class Fetcher:
    """Fetches cuts into a folder.

    Attributes:
        folder: of the clips.
        tools: the programs.
        policy: how patient to be.
        stop: when set, programs at work are ended.
        cookies: a file of a browser's cookies, for videos that ask for a login.
    """

    folder: Path
    tools: Tools
    policy: Policy
    stop: threading.Event
    cookies: Path | None = None

    def fetch(self, clip_id: str, cut: Cut) -> None:
        """Fetch, cut and check one clip; its file appears whole.

        Raises:
            FailedError: with the reason.
        """
        with tempfile.TemporaryDirectory(prefix=LEFTOVER, dir=self.folder) as work:
            wav = Path(work) / "cut.wav"
            self._try(cut, wav)
            _check(wav, cut)
            os.replace(wav, self.folder / f"{clip_id}.wav")

    def _try(self, cut: Cut, wav: Path) -> None:
        """Find the audio's address and cut it, as often as that may help."""
        wait_s = self.policy.first_wait_s
        for left in range(self.policy.tries - 1, -1, -1):
            try:
                address = self._run(self._asking(cut), "yt-dlp").strip()
                if not address:
                    raise FailedError("yt-dlp gave no address", passing=True)
                self._run(self._cutting(address.splitlines()[0], wav, cut), "ffmpeg")
                return
            except FailedError as failure:
                if not (failure.passing and left):
                    raise
            if self.stop.wait(wait_s):
                raise FailedError(NOT_TRIED)
            wait_s *= 2

    def _asking(self, cut: Cut) -> list[str]:
        pause = f"{self.policy.pause_s:g}"
        cookies = ["--cookies", str(self.cookies)] if self.cookies else []
        return [
            self.tools.yt_dlp, "--ignore-config", "--quiet", "--no-warnings", "--no-progress",
            "--no-playlist", "--no-cache-dir", "--format", "bestaudio/best",
            "--print", "%(url)s", "--sleep-requests", pause, "--socket-timeout", "30", *cookies,
            f"https://www.youtube.com/watch?v={cut.video}",
        ]  # fmt: skip

    def _cutting(self, address: str, wav: Path, cut: Cut) -> list[str]:
        return [
            self.tools.ffmpeg, "-nostdin", "-loglevel", "error", "-y",
            "-ss", f"{cut.start_s:.3f}", "-i", address, "-vn",
            "-t", f"{cut.end_s - cut.start_s:.3f}", "-ar", str(SAMPLE_RATE),
            "-c:a", "pcm_s16le", str(wav),
        ]  # fmt: skip

    def _run(self, command: Sequence[str], name: str) -> str:
        """What a program prints; it and its children are ended after the time or a stop."""
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        until = time.monotonic() + self.policy.timeout_s
        while True:
            try:
                printed, said = program.communicate(timeout=_POLL_S)
                break
            except subprocess.TimeoutExpired:
                if self.stop.is_set() or time.monotonic() > until:
                    os.killpg(program.pid, signal.SIGKILL)
                    program.communicate()
                    if self.stop.is_set():
                        raise FailedError(NOT_TRIED) from None
                    reason = f"{name} had no end after {self.policy.timeout_s:g} s"
                    raise FailedError(reason, passing=True) from None
        if program.returncode:
            raise _failure(name, said)
        return printed


def _failure(name: str, said: str) -> FailedError:
    """The last error line of a program, and what it means."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines
    reason = re.sub(r"^ERROR:\s*(\[[^]]*\]\s*)?([\w-]{11}:\s*)?", "", errors[-1]) if errors else ""
    reason = f"{name}: {reason or 'failed without a word'}"
    refused = bool(_REFUSED.search(reason))
    return FailedError(reason, passing=not _GONE.search(reason), refused=refused)


def _check(wav: Path, cut: Cut) -> None:
    wanted_s = cut.end_s - cut.start_s
    try:
        duration_s = probe(wav).duration_s
    except InputError as error:
        raise FailedError(f"the cut cannot be used: {error}") from None
    if not min(_SHORTEST_S, wanted_s / 2) <= duration_s <= wanted_s + _LONGER_S:
        raise FailedError(f"the cut has {duration_s:.2f} s instead of {wanted_s:.2f} s")
