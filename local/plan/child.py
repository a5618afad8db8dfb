"""The process of a stage: a script of the recipe that ends when the plan's process ends.

    python -c START ROOT FD SCRIPT ARGUMENTS ...

FD is its end of a pipe from the plan. When the other end closes, for whatever reason, the process
is killed with all that it has started, so that nothing writes beside the next start of the plan.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

# As `python -m` does, but from our folder: the current one may hold another package `local`.
START = """
import sys
sys.path[:] = [sys.argv.pop(1), *filter(None, sys.path)]
from local.plan.child import run_script
run_script()
"""
ROOT = Path(__file__).resolve().parents[2]


def run_script() -> None:
    """Run the script of the command line, as the main program."""
    pipe, script = int(sys.argv[1]), sys.argv[2]
    del sys.argv[:2]
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    runpy.run_path(script, run_name="__main__")


def _end_with(pipe: int) -> None:
    """Wait until the plan's end of the pipe closes, then kill this process and its children."""
    with suppress(OSError):
        while os.read(pipe, 1):
            pass
    os.killpg(os.getpgid(0), signal.SIGKILL)


class Child:
    """A script that runs, with all processes that it starts.

    Args:
        script: its path.
        arguments: of the script.
        log: file that receives what it prints.
        environment: its variables.
        held: a file that is locked for as long as any of its processes runs.
    """

    def __init__(
        self,
        script: Path,
        arguments: Sequence[str],
        log: IO[bytes],
        environment: Mapping[str, str],
        held: IO[str],
    ) -> None:
        theirs, self._ours = os.pipe()
        words = [sys.executable, "-c", START, str(ROOT), str(theirs), str(script), *arguments]
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                pass_fds=(theirs, held.fileno()),
                start_new_session=True,  # the plan handles Ctrl-C
            )
        finally:
            os.close(theirs)

    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def interrupt(self) -> None:
        """Ask it and its children to stop, as Ctrl-C does."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGINT)

    def close(self) -> None:
        """End what is left of it."""
        with suppress(ProcessLookupError, PermissionError):  # all of them have ended
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with suppress(OSError):
            os.close(self._ours)
        self._ours = -1
