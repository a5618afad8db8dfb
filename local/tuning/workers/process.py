"""A worker process: runs trials one at a time.

    python -m local.tuning.workers.process FD MODULE:FUNCTION

FD is its end of a pipe to the tuner. When the other end closes, for whatever reason, the worker
exits with all of its processes, so none outlives the tuner. The output of trials goes to their
folders.
"""

from __future__ import annotations

import importlib
import math
import os
import queue
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any, cast

from desed_task.errors import disk_full
from local.cli.exit_status import hide_secrets
from local.cli.redaction import redact
from local.tuning.workers.messages import (
    PrunedError,
    RefusedError,
    ReportProgress,
    TrainFunction,
    TrialJob,
    TrialOutcome,
    ValidationProgress,
)

OUTPUT_FILE = "output.txt"


def main(fd: int, target: str) -> None:
    """Run trials until the pipe closes or one fails: a failed trial may leave memory allocated."""
    hide_secrets()
    pipe: Connection[Any, Any] = Connection(fd)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, inbox), daemon=True).start()

    def report(epoch: int, value: float) -> bool:
        pipe.send(ValidationProgress(epoch, value))
        return bool(inbox.get())

    broken = False
    while not broken:
        job: TrialJob = inbox.get()
        outcome = run_job(job, target, report)
        pipe.send(outcome)
        broken = outcome.kind in ("failed", "refused")


def _listen(pipe: Connection[Any, Any], inbox: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            inbox.put(pipe.recv())
    except (EOFError, OSError):
        kill_process_group()


def kill_process_group() -> None:
    """Terminate this process and its children, which form a process group."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


def run_job(job: TrialJob, target: str, report: ReportProgress) -> TrialOutcome:
    """Run a trial; exceptions become its outcome."""
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        _redirect(job)
        module, _, name = target.partition(":")
        train: TrainFunction = getattr(importlib.import_module(module), name)
        outcome = train(job, report)
    except PrunedError as pruned:
        return TrialOutcome("pruned", reason=str(pruned))
    except RefusedError as refused:
        return TrialOutcome("refused", reason=redact(str(refused)))
    except (Exception, SystemExit) as error:
        if full := disk_full(error, job.log_dir):
            # Other trials would meet it too; this one is retried when there is room.
            again = "free some space, then run the same command again to resume"
            return TrialOutcome("refused", reason=redact(f"{full}; {again}"))
        print(redact(traceback.format_exc()), end="", file=sys.stderr)
        return TrialOutcome("failed", reason=failure_reason(error))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    if outcome.value is None or not math.isfinite(outcome.value):
        return TrialOutcome(
            "failed", reason=f"the objective is {outcome.value}", facts=outcome.facts
        )
    return outcome


def failure_reason(error: BaseException) -> str:
    """Describe an exception on one line."""
    text = " ".join(redact(str(error)).split())
    name = type(error).__name__
    memory = ("out of memory", "not enough memory", "can't allocate memory", "Cannot allocate")
    if (
        isinstance(error, MemoryError)
        or name == "OutOfMemoryError"
        or any(m in text for m in memory)
    ):
        return f"out of memory: {text or name}"
    return f"{name}: {text}" if text else name


def _redirect(job: TrialJob) -> None:
    """Redirect all further output to the trial's folder."""
    sys.stdout.flush()
    sys.stderr.flush()
    fd = os.open(job.folder / OUTPUT_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


if __name__ == "__main__":
    main(int(sys.argv[1]), cast("str", sys.argv[2]))
