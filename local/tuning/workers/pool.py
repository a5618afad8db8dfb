"""The tuner's pool of worker processes: one per job, restarted after a failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from local.tuning.workers.device_slots import DeviceSlot
from local.tuning.workers.messages import TrialJob, TrialOutcome, ValidationProgress

ROOT = Path(__file__).resolve().parents[3]
# As `python -m` does, but from our folder: the current one may hold another package `local`.
START = """
import runpy, sys
sys.path[:] = [sys.argv.pop(1), *filter(None, sys.path)]
runpy.run_module("local.tuning.workers.process", run_name="__main__", alter_sys=True)
"""
TRAIN_TARGET = "local.tuning.trial:train"
KILLED = "killed by the system, usually for lack of memory"


class Worker:
    """A process that runs trials in a device slot.

    Args:
        slot: its device slot.
        target: `module:function` that it runs trials with.
    """

    def __init__(self, slot: DeviceSlot, target: str) -> None:
        self.slot = slot
        self.target = target
        self.job: TrialJob | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection[Any, Any] | None = None

    @property
    def pipe(self) -> Connection[Any, Any]:
        """This process's end of the pipe."""
        assert self._pipe is not None
        return self._pipe

    def give(self, job: TrialJob) -> None:
        """Send a trial; the process is started if necessary."""
        if self._process is None:
            self._start()
        self.job = job
        self._send(job)

    def answer(self, go_on: bool) -> None:
        """Answer whether the trial continues."""
        self._send(go_on)

    def _send(self, content: TrialJob | bool) -> None:
        with suppress(OSError):  # it has exited in the meantime, which `next_message` reports
            self.pipe.send(content)

    def next_message(self) -> ValidationProgress | TrialOutcome:
        """Return its next message; its exit is an outcome too."""
        try:
            message: ValidationProgress | TrialOutcome = self.pipe.recv()
        except (EOFError, OSError):
            message = TrialOutcome("lost", reason=self._cause_of_death())
        if isinstance(message, TrialOutcome):
            self.job = None
            if message.kind in ("failed", "refused", "lost"):
                self.close()
        return message

    def close(self) -> None:
        """Terminate the process and its children."""
        if self._process is None:
            return
        self.pipe.close()
        with suppress(ProcessLookupError, PermissionError):  # all of them have ended
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = self._pipe = None

    def _start(self) -> None:
        self._pipe, theirs = Pipe()
        fd = theirs.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(ROOT), str(fd), self.target],
            env=self.slot.environment(os.environ),
            pass_fds=(fd,),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # the tuner handles Ctrl-C
        )
        theirs.close()

    def _cause_of_death(self) -> str:
        assert self._process is not None
        try:
            status = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "its process does not respond"
        if status >= 0:
            return f"its process ended with status {status}"
        name = signal.Signals(-status).name
        hint = f" ({KILLED})" if -status == signal.SIGKILL else ""
        return f"its process was terminated by {name}{hint}"


class WorkerMessage(NamedTuple):
    """A worker's message on its trial."""

    worker: Worker
    job: TrialJob
    content: ValidationProgress | TrialOutcome


class WorkerPool:
    """One worker per device slot.

    Args:
        slots: their device slots.
        target: `module:function` that they run trials with.
    """

    def __init__(self, slots: Sequence[DeviceSlot], target: str = TRAIN_TARGET) -> None:
        self._workers = [Worker(slot, target) for slot in slots]

    @property
    def idle(self) -> list[Worker]:
        """Workers without a trial."""
        return [worker for worker in self._workers if worker.job is None]

    @property
    def busy(self) -> list[Worker]:
        """Workers with a trial."""
        return [worker for worker in self._workers if worker.job is not None]

    def messages(self, timeout_s: float) -> list[WorkerMessage]:
        """Wait for messages of busy workers; none after `timeout_s`."""
        by_pipe = {worker.pipe: worker for worker in self.busy}
        found = []
        for pipe in wait(list(by_pipe), timeout_s):
            worker = by_pipe[pipe]  # type: ignore[index]
            assert worker.job is not None
            found.append(WorkerMessage(worker, worker.job, worker.next_message()))
        return found

    def close(self) -> None:
        """Terminate all workers."""
        for worker in self._workers:
            worker.close()
