"""Run external programs with a timeout; terminate their process groups.

yt-dlp starts a JavaScript engine; terminating yt-dlp alone would leave the engine running and its
pipe open. So each program gets a process group, which Ctrl-C in the terminal does not reach: `stop`
ends them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from local.cli.exit_status import StoppedError

STOPPED_MESSAGE = "stopped; run the same command again to resume"
# Time for a killed group's output to arrive; a program outside the group may keep the pipe open.
_LAST_WORDS_S = 5.0


class CompletedRun(NamedTuple):
    """Exit status and output of a program."""

    status: int
    out: str
    err: str


class TimeLimitError(Exception):
    """A program exceeded its time limit and was killed."""


class Subprocesses:
    """Programs run by several threads and ended by `stop`.

    Attributes:
        stopped: set by `stop`; no program is started afterwards.
    """

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()

    def run(
        self, command: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None
    ) -> CompletedRun:
        """Run a program until it exits.

        Args:
            command: the program and its arguments.
            timeout_s: seconds after which it is killed.
            env: its environment; None for this process's.

        Raises:
            TimeLimitError: it exceeded the timeout and was killed.
            StoppedError: `stop` was called.
            OSError: it cannot be started.
        """
        process = self._start(command, env)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeLimitError from None
        finally:
            _kill(process)
            with self._lock:
                self._running.discard(process)
        if self.stopped.is_set():
            raise StoppedError(STOPPED_MESSAGE)
        return CompletedRun(process.returncode, out, err)

    def stop(self) -> None:
        """End all programs and start no more."""
        with self._lock:
            self.stopped.set()
            for process in self._running:
                _kill_group(process)

    def wait(self, seconds: float) -> None:
        """Sleep until the time is over or `stop` is called.

        Raises:
            StoppedError: `stop` was called.
        """
        if self.stopped.wait(seconds):
            raise StoppedError(STOPPED_MESSAGE)

    def _start(
        self, command: Sequence[str], env: Mapping[str, str] | None
    ) -> subprocess.Popen[str]:
        # Within the lock, so that `stop` misses no program.
        with self._lock:
            if self.stopped.is_set():
                raise StoppedError(STOPPED_MESSAGE)
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
                env=env,
            )
            self._running.add(process)
            return process


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill the rest of a program's group and reap the program."""
    if process.returncode is not None:
        return
    _kill_group(process)
    try:
        process.communicate(timeout=_LAST_WORDS_S)
    except subprocess.TimeoutExpired:
        process.wait()


def _kill_group(process: subprocess.Popen[str]) -> None:
    # Not after it was reaped: its process ID may have been reused.
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
