"""Stands in for a training in a worker process: does what LOG_DIR/script.json says, in no time."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from local.tuning.workers.messages import (
    PrunedError,
    RefusedError,
    ReportProgress,
    TrialJob,
    TrialOutcome,
)

TARGET = "fake_training:train"  # for processes that have this folder in PYTHONPATH
WAIT_S = 30


def train(job: TrialJob, report: ReportProgress) -> TrialOutcome:
    """Leaves the environment in the trial's folder, then acts its part."""
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "RANK", "WORLD_SIZE", "MASTER_ADDR")
    variables = {name: os.environ.get(name) for name in names}
    (job.folder / "environment.json").write_text(json.dumps({**variables, "process": os.getpid()}))
    (job.folder / "checkpoints").mkdir(exist_ok=True)
    for name in ("best.ckpt", "last.ckpt"):
        (job.folder / "checkpoints" / name).touch()
    script = Path(job.log_dir) / "script.json"
    parts = json.loads(script.read_text()) if script.is_file() else {}
    part = parts.get(str(job.number), parts.get("every", ""))
    print(f"{job.number} plays {part}")
    if part:
        PARTS[part](job, report)
    value = job.overrides["opt.lr"]
    for epoch, share in enumerate((0.1, 0.2, 0.3, 0.4)):
        if not report(epoch, share + (-9.0 if part == "bad" else value)):
            raise PrunedError(f"bad in epoch {epoch}")
    return TrialOutcome("complete", value, facts={"val/psds": value / 2})


def _together(job: TrialJob, report: ReportProgress) -> None:
    """Wait until as many trials as script.json says are at it."""
    wanted = json.loads((Path(job.log_dir) / "script.json").read_text())["together"]
    end = time.monotonic() + WAIT_S
    while len(list(Path(job.log_dir).glob("trial-*/environment.json"))) < wanted:
        assert time.monotonic() < end, "the others do not come"
        time.sleep(0.02)


def _held(job: TrialJob, report: ReportProgress) -> None:
    """Wait for the file LOG_DIR/go, then a moment."""
    end = time.monotonic() + 4 * WAIT_S
    while not (Path(job.log_dir) / "go").exists():
        assert time.monotonic() < end, "it is not let go"
        time.sleep(0.02)
    time.sleep(0.3)


def _out_of_memory(job: TrialJob, report: ReportProgress) -> None:
    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has no more.")


def _die(job: TrialJob, report: ReportProgress) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _leave(job: TrialJob, report: ReportProgress) -> None:
    os._exit(3)


def _refuse(job: TrialJob, report: ReportProgress) -> None:
    raise RefusedError("no such folder of clips")


def _worthless(job: TrialJob, report: ReportProgress) -> None:
    job.overrides["opt.lr"] = float("nan")


def _interrupt(job: TrialJob, report: ReportProgress) -> None:
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(WAIT_S)


def _terminate(job: TrialJob, report: ReportProgress) -> None:
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(WAIT_S)


PARTS = {
    "together": _together,
    "held": _held,
    "out of memory": _out_of_memory,
    "die": _die,
    "leave": _leave,
    "refuse": _refuse,
    "worthless": _worthless,
    "interrupt": _interrupt,
    "terminate": _terminate,
    "bad": lambda job, report: None,
}
