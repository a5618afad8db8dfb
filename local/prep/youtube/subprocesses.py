"""Other people's programs: run with a time limit, and ended together with all that they started.

yt-dlp starts a JavaScript engine of its own; ending only the program that was started would leave
that one running and its pipe open. So each program gets a process group, which Ctrl-C in the
terminal does not reach: `stop` ends them.
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

STOPPED_MESSAGE = "stopped; run the same command again to go on"
# For what a killed group has written to arrive; a program that left its group may hold the pipe.
_LAST_WORDS_S = 5.0


class CompletedRun(NamedTuple):
    """How a program ended: its status and what it wrote."""

    status: int
    out: str
    err: str


class TimeLimitError(Exception):
    """A program ran longer than it may, and was killed."""


class Subprocesses:
    """Programs that several threads run, and that `stop` ends.

    Attributes:
        stopped: set by `stop`; nothing is started afterwards.
    """

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()

    def run(
        self, command: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None
    ) -> CompletedRun:
        """Run a program to its end.

        Args:
            command: the program and its arguments.
            timeout_s: after which it is killed.
            env: its environment; None for ours.

        Raises:
            TimeLimitError: it was killed for taking too long.
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
        """End every program and start no other."""
        with self._lock:
            self.stopped.set()
            for process in self._running:
                _kill_group(process)

    def wait(self, seconds: float) -> None:
        """Sleep.

        Raises:
            StoppedError: `stop` was called.
        """
        if self.stopped.wait(seconds):
            raise StoppedError(STOPPED_MESSAGE)

    def _start(
        self, command: Sequence[str], env: Mapping[str, str] | None
    ) -> subprocess.Popen[str]:
        # Within the lock, so that `stop` misses none.
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
    """End what is left of a program's group, and collect the program."""
    if process.returncode is not None:
        return
    _kill_group(process)
    try:
        process.communicate(timeout=_LAST_WORDS_S)
    except subprocess.TimeoutExpired:
        process.wait()


def _kill_group(process: subprocess.Popen[str]) -> None:
    # Not once it was waited for: its number may be another's by then.
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
