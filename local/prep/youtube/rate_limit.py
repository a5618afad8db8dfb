"""How fast YouTube is asked, when to wait, and when asking on makes no sense.

YouTube lets a visitor without an account ask for about 300 videos an hour, and refuses everything
for up to an hour afterwards (yt-dlp's wiki, "Extractors"). Requests of all threads therefore go
through one `RateLimiter`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from local.prep.youtube.subprocesses import Subprocesses

_LOOK_S = 0.5


@dataclass(frozen=True)
class RateLimits:
    """How politely and how patiently clips are asked for.

    Attributes:
        pause_s: between two requests; 12 s are 300 an hour.
        tries: of a clip whose fault can pass.
        first_wait_s: before the second try; doubles with each one.
        timeout_s: of one run of yt-dlp or ffmpeg.
        limit_wait_s: before asking again, once YouTube has asked to slow down.
        limit_waits: such waits in a row before giving up.
        most_failed: clips in a row that may fail for reasons of their own.
        most_gone: clips in a row that may be gone before the first one is there.
    """

    pause_s: float = 12.0
    tries: int = 3
    first_wait_s: float = 10.0
    timeout_s: float = 180.0
    limit_wait_s: float = 900.0
    limit_waits: int = 6
    most_failed: int = 10
    most_gone: int = 40


class GaveUpError(Exception):
    """Asking on makes no sense; the message says why, and what to do."""


class RateLimiter:
    """The one line to YouTube that all threads ask through.

    Attributes:
        closed: why nothing more is asked; None while it is open.
    """

    def __init__(
        self, limits: RateLimits, subprocesses: Subprocesses, say: Callable[[str], None]
    ) -> None:
        self.closed: str | None = None
        self._limits = limits
        self._subprocesses = subprocesses
        self._say = say
        self._lock = threading.Lock()
        self._next = self._held_at = 0.0
        self._answered = self._fetched = False
        self._holds = self._failures = self._gone = 0

    def turn(self) -> float:
        """Wait for one's turn to ask.

        Returns:
            When it came, for `limited`.

        Raises:
            ClosedError: nothing more is asked.
            StoppedError: the user stopped the command.
        """
        while True:
            with self._lock:
                if self.closed is not None:
                    raise GaveUpError(self.closed)
                now = time.monotonic()
                if now >= self._next:
                    self._next = now + self._limits.pause_s
                    return now
                delay_s = self._next - now
            self._subprocesses.wait(min(delay_s, _LOOK_S))

    def fetched(self) -> None:
        """A clip is there."""
        with self._lock:
            self._answered = self._fetched = True
            self._holds = self._failures = 0

    def gone(self) -> None:
        """YouTube says that a video is not to be had."""
        with self._lock:
            self._answered = True
            self._holds = self._failures = 0
            self._gone += not self._fetched
            if self._gone == self._limits.most_gone:
                self._close(
                    f"the first {self._gone} clips asked for are all gone by yt-dlp's word; if a "
                    "browser plays them, update yt-dlp and run again with --retry_gone, if not, "
                    "run again"
                )

    def failed(self, reason: str) -> None:
        """A clip failed for a reason that is not the clip's."""
        with self._lock:
            self._failures += 1
            if self._failures == self._limits.most_failed:
                self._close(
                    f"{self._failures} clips in a row failed, the last one with: {reason}; see to "
                    "the network, update yt-dlp, then run again"
                )

    def limited(self, asked_at: float, reason: str) -> None:
        """YouTube refused, as it does when it is asked too much: nobody asks for a while.

        Args:
            asked_at: what `turn` returned; of several refused at once only the first one counts.
            reason: YouTube's words.
        """
        limits = self._limits
        with self._lock:
            if asked_at <= self._held_at:
                return
            # Right at the start it is not our asking that was too much, and waiting would not help.
            if not self._answered or self._holds == limits.limit_waits:
                self._close(
                    f"YouTube refuses to answer ({reason}); wait an hour or give --cookies, then "
                    "run again"
                )
                return
            self._holds += 1
            self._held_at = time.monotonic()
            self._next = self._held_at + limits.limit_wait_s
            self._say(
                f"YouTube asks to slow down ({reason}): waiting {limits.limit_wait_s / 60:.0f} "
                f"minutes, {self._holds} of {limits.limit_waits} times"
            )

    def close(self, reason: str) -> None:
        """Nothing more is asked; the first reason counts."""
        with self._lock:
            self._close(reason)

    def _close(self, reason: str) -> None:
        self.closed = self.closed or reason
