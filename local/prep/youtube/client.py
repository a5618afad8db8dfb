"""Fetch one clip from YouTube: yt-dlp resolves the audio's address, ffmpeg cuts the named seconds.

Both run as subprocesses. YouTube changes every few weeks and only the newest yt-dlp keeps up, so
the user updates it and it is not a pinned dependency; a crashed or hanging process can be killed
and costs one clip; and yt-dlp reads its own configuration file, where a proxy, a JavaScript engine
or tokens are set. Its --download-sections would copy packets, which begin up to a few seconds away
from the requested time; ffmpeg is exact to the sample.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from desed_task.atomic_files import atomic_path
from desed_task.audio.files import probe
from desed_task.errors import InputError
from desed_task.file_names import looked_up_from
from local.prep.youtube.errors import ClipError, Failure, classify_error, last_line, shorten_message
from local.prep.youtube.rate_limit import GaveUpError, RateLimiter, RateLimits
from local.prep.youtube.subprocesses import CompletedRun, Subprocesses, TimeLimitError

CLIP_RATE = 44100
UPDATE_COMMAND = "pip install --upgrade 'yt-dlp[default]'"
_WATCH = "https://www.youtube.com/watch?v="
_NAME = re.compile(r"Y([\w-]{11})_(\d+\.\d{3})_(\d+\.\d{3})\.wav", re.ASCII)
# A video's length is given in whole seconds, and its audio may end before its images.
_END_S = 1.0
_TOLERANCE_S = 0.05
_STALL_S = 30
# Some addresses become valid only a few seconds later: the time of an advertisement.
_LONGEST_READY_S = 60.0


class ClipCut(NamedTuple):
    """The fields of a clip's file name."""

    name: str
    video: str
    start_s: float
    end_s: float


class _Stream(NamedTuple):
    url: str
    headers: dict[str, str]
    duration_s: float | None
    ready_at: float  # seconds since the epoch


class _Programs(NamedTuple):
    yt_dlp: tuple[str, ...]
    ffmpeg: str


def parse_clip_name(name: str) -> ClipCut | None:
    """Parse `Y<11 characters>_<start>_<end>.wav`; None for any other name."""
    match = _NAME.fullmatch(name)
    if not match or not float(match[2]) < float(match[3]):
        return None
    return ClipCut(name, match[1], float(match[2]), float(match[3]))


class YouTubeClient:
    """Fetch clips, in several threads at once.

    Attributes:
        cookies: file of an account's cookies, None without an account.
        line: that requests go through.
        children: the programs at work.
    """

    def __init__(
        self,
        *,
        cookies: Path | None = None,
        limits: RateLimits | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.cookies = cookies
        self.subprocesses = Subprocesses()
        self._limits = limits or RateLimits()
        self.rate_limiter = RateLimiter(self._limits, self.subprocesses, say)

    def check(self) -> None:
        """Check that clips can be requested.

        Raises:
            InputError: yt-dlp, ffmpeg or the file of cookies is missing.
        """
        if self.cookies is not None and not self.cookies.is_file():
            raise InputError(
                f"--cookies {self.cookies}: no such file{looked_up_from(self.cookies)}; export it "
                "from a browser (docs/data.md)"
            )
        _ = self._programs

    def fetch(self, cut: ClipCut, folder: Path) -> None:
        """Write one clip at 44.1 kHz into a folder, atomically.

        Raises:
            ClipError: the clip cannot be fetched.
            GaveUpError: no further requests are made.
            StoppedError: `children.stop` was called.
        """
        for tries_left in reversed(range(self._limits.tries)):
            asked_at = self.rate_limiter.turn()
            try:
                self._cut(cut, self._stream(cut.video), folder / cut.name)
            except ClipError as error:
                self._tell(error, asked_at, tries_left)
                # A clip that alone is refused must not block the others for ever.
                if not tries_left or error.kind not in (Failure.PASSING, Failure.LIMIT):
                    raise
            except OSError as error:
                reason = f"{folder}: cannot be written to ({error}); free some space and run again"
                self.rate_limiter.close(reason)
                raise GaveUpError(reason) from None
            else:
                self.rate_limiter.fetched()
                return

    def _tell(self, error: ClipError, asked_at: float, tries_left: int) -> None:
        """Tell the line of a failure; then wait if another try is to follow."""
        if error.kind is Failure.LIMIT:
            self.rate_limiter.limited(asked_at, str(error))
        elif error.kind in (Failure.GONE, Failure.SIGN_IN):
            self.rate_limiter.gone()
        elif error.kind is Failure.PASSING and tries_left:
            done = self._limits.tries - tries_left - 1
            self.subprocesses.wait(self._limits.first_wait_s * 2**done)
        else:
            self.rate_limiter.failed(str(error))

    def _stream(self, video: str) -> _Stream:
        """Address and properties of a video's audio."""
        with self._private_cookies() as cookies:
            ended = self._run(
                "yt-dlp",
                [
                    *self._programs.yt_dlp,
                    *("--simulate", "--no-playlist", "--no-warnings"),
                    *("--format", "bestaudio/best", "--socket-timeout", str(_STALL_S)),
                    *("--print", "%(.{url,http_headers,duration,available_at})j"),
                    *(("--cookies", str(cookies)) if cookies else ()),
                    *("--", _WATCH + video),
                ],
            )
        if ended.status:
            message = shorten_message(last_line(ended.err, "ERROR:"))
            raise ClipError(classify_error(message), message)
        try:
            told = json.loads(last_line(ended.out, "{"))
            return _Stream(
                str(told["url"]),
                dict(told.get("http_headers") or {}),
                None if told.get("duration") is None else float(told["duration"]),
                float(told.get("available_at") or 0),
            )
        except (ValueError, TypeError, KeyError):
            raise ClipError(
                Failure.OTHER, f"yt-dlp reports no audio; update it ({UPDATE_COMMAND})"
            ) from None

    def _cut(self, cut: ClipCut, stream: _Stream, target: Path) -> None:
        """Cut the named seconds of an audio stream into a file."""
        if stream.duration_s is not None and stream.duration_s <= cut.start_s:
            raise ClipError(Failure.GONE, f"the video lasts {stream.duration_s:g} s only")
        self.subprocesses.wait(min(max(stream.ready_at - time.time(), 0.0), _LONGEST_READY_S))
        headers = "".join(f"{name}: {value}\r\n" for name, value in stream.headers.items())
        with atomic_path(target) as temporary:
            ended = self._run(
                "ffmpeg",
                [
                    *(self._programs.ffmpeg, "-nostdin", "-y", "-v", "error"),
                    *("-rw_timeout", str(_STALL_S * 1_000_000), "-reconnect", "1"),
                    *(("-headers", headers) if headers else ()),
                    *("-ss", f"{cut.start_s:.3f}", "-i", stream.url),
                    *("-t", f"{cut.end_s - cut.start_s:.3f}", "-map", "0:a:0"),
                    *("-map_metadata", "-1", "-bitexact", "-ar", str(CLIP_RATE)),
                    *("-c:a", "pcm_s16le", "-f", "wav", str(temporary)),
                ],
            )
            if "No space left" in ended.err or "quota exceeded" in ended.err:
                raise OSError(shorten_message(last_line(ended.err)))
            if ended.status:
                # Whatever the reason, a new address may work.
                raise ClipError(Failure.PASSING, f"ffmpeg: {shorten_message(last_line(ended.err))}")
            _check_length(cut, stream.duration_s, temporary)

    def _run(self, title: str, command: list[str]) -> CompletedRun:
        timeout_s = self._limits.timeout_s
        try:
            return self.subprocesses.run(command, timeout_s=timeout_s, env=_environment())
        except TimeLimitError:
            raise ClipError(Failure.PASSING, f"{title} took more than {timeout_s:g} s") from None
        except OSError as error:
            raise ClipError(Failure.OTHER, f"{title} cannot be run ({error})") from None

    @cached_property
    def _programs(self) -> _Programs:
        yt_dlp = shutil.which("yt-dlp")
        module = (sys.executable, "-m", "yt_dlp") if importlib.util.find_spec("yt_dlp") else None
        command = (yt_dlp,) if yt_dlp else module
        ffmpeg = shutil.which("ffmpeg")
        if command is None or ffmpeg is None:
            lacking = [f"yt-dlp ({UPDATE_COMMAND})"] * (command is None)
            lacking += ["ffmpeg (apt install ffmpeg, or conda install ffmpeg)"] * (ffmpeg is None)
            raise InputError(
                f"{' and '.join(lacking)}: not on PATH, but needed to fetch clips from YouTube; "
                "install, or add the clips yourself"
            )
        return _Programs(command, ffmpeg)

    @contextmanager
    def _private_cookies(self) -> Iterator[Path | None]:
        """Copy the cookies: each yt-dlp rewrites its file at the end."""
        if self.cookies is None:
            yield None
            return
        handle, name = tempfile.mkstemp(prefix="cookies.", suffix=".txt")
        with os.fdopen(handle, "wb") as file:
            file.write(self.cookies.read_bytes())
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)


def _environment() -> dict[str, str]:
    """This process's environment, with the https proxy in the only variable that ffmpeg reads.

    An address is only valid for the client that requested it, so both must take the same route.
    """
    proxies = urllib.request.getproxies_environment()
    proxy = proxies.get("https") or proxies.get("all")
    return {**os.environ, **({"http_proxy": proxy} if proxy else {})}


def _check_length(cut: ClipCut, video_s: float | None, path: Path) -> None:
    """Check that a clip has its named length or ends with the video."""
    wanted_s = shortest_s = cut.end_s - cut.start_s
    if video_s is not None and cut.end_s > video_s - _END_S:
        shortest_s = min(cut.end_s, video_s) - cut.start_s - _END_S
    try:
        info = probe(path)
    except InputError:
        raise ClipError(Failure.PASSING, "ffmpeg wrote no audio") from None
    fits = shortest_s - _TOLERANCE_S <= info.duration_s <= wanted_s + _TOLERANCE_S
    if not fits or info.sample_rate != CLIP_RATE:
        raise ClipError(
            Failure.PASSING,
            f"ffmpeg wrote {info.duration_s:.2f} s at {info.sample_rate} Hz of {wanted_s:g} s",
        )
