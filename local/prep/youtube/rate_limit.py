"""Rate limiting for YouTube: pacing, back-off, giving up.

Without an account, YouTube allows about 300 videos per hour and refuses everything for up to an
hour afterwards (yt-dlp's wiki, "Extractors"). Requests of all threads therefore go
through one `RateLimiter`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from desed_task.errors import count_of
from local.prep.youtube.subprocesses import Subprocesses

_LOOK_S = 0.5


@dataclass(frozen=True)
class RateLimits:
    """Request rate, retries and limits of giving up.

    Attributes:
        pause_s: seconds between two requests; 12 s are 300 per hour.
        tries: attempts at a clip whose failure may be temporary.
        first_wait_s: wait before the second attempt; it doubles with each further one.
        timeout_s: limit of one run of yt-dlp or ffmpeg.
        limit_wait_s: back-off after YouTube has asked to slow down.
        limit_waits: back-offs in a row before giving up.
        most_failed: consecutive clips that may fail before giving up.
        most_gone: consecutive clips that may be gone before the first success.
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
    """Further requests are pointless; the message gives the reason and the remedy."""


class RateLimiter:
    """The rate limiter shared by all threads.

    Attributes:
        closed: why no further requests are made; None while they are.
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
        """Wait for the next permitted request.

        Returns:
            The time of the request, for `limited`.

        Raises:
            GaveUpError: no further requests are made.
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
        """Record a fetched clip."""
        with self._lock:
            self._answered = self._fetched = True
            self._holds = self._failures = 0

    def gone(self) -> None:
        """Record that a video is gone."""
        with self._lock:
            self._answered = True
            self._holds = self._failures = 0
            self._gone += not self._fetched
            if self._gone == self._limits.most_gone:
                self._close(
                    "the first "
                    f"{count_of(self._gone, 'requested clip is', 'requested clips are')} all gone "
                    "according to yt-dlp; if a browser plays them, update yt-dlp and run again "
                    "with --retry_gone, if not, run again"
                )

    def failed(self, reason: str) -> None:
        """Record a failure that is not due to the clip."""
        with self._lock:
            self._failures += 1
            if self._failures == self._limits.most_failed:
                self._close(
                    f"{count_of(self._failures, 'clip')} in a row failed, the last one with: "
                    f"{reason}; check the network, update yt-dlp, then run again"
                )

    def limited(self, asked_at: float, reason: str) -> None:
        """Back off: YouTube refused a request because of too many before it.

        Args:
            asked_at: result of `turn`; of several simultaneous refusals only the first one counts.
            reason: YouTube's message.
        """
        limits = self._limits
        with self._lock:
            if asked_at <= self._held_at:
                return
            # At the very start our requests are not the cause, and waiting would not help.
            if not self._answered or self._holds == limits.limit_waits:
                self._close(
                    f"YouTube refuses requests ({reason}); wait an hour or give --cookies, then "
                    "run again"
                )
                return
            self._holds += 1
            self._held_at = time.monotonic()
            self._next = self._held_at + limits.limit_wait_s
            self._say(
                f"YouTube asks to slow down ({reason}): waiting {limits.limit_wait_s / 60:.0f} "
                f"minutes, {self._holds} of {count_of(limits.limit_waits, 'time')}"
            )

    def close(self, reason: str) -> None:
        """End all requests; the first reason counts."""
        with self._lock:
            self._close(reason)

    def _close(self, reason: str) -> None:
        self.closed = self.closed or reason
