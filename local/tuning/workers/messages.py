"""Messages between the tuner and its workers; without heavy imports, as both use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

# Key of a trial's facts: a digest of the data that it ran on.
DATA_FACT = "data_sha256"
Objective = Literal["held_out", "test"]
# complete: has a value; pruned: clearly bad; failed: its own error; refused: failed before it
# began or for want of space, as every trial would; lost: its process exited; stopped: by the user.
OutcomeKind = Literal["complete", "pruned", "failed", "refused", "lost", "stopped"]


@dataclass(frozen=True)
class TrialJob:
    """A trial to run.

    Attributes:
        number: number of the trial.
        home: number of the folder; a retry uses that of the first attempt, to resume where that
            ended.
        overrides: dotted path -> sampled value.
        tree: the complete configuration with these values.
        log_dir: parent of the trial's folder.
        objective: data that its value is computed on.
        fast_dev_run: whether only a few batches are trained.
    """

    number: int
    home: int
    overrides: dict[str, Any]
    tree: dict[str, Any]
    log_dir: str
    objective: Objective = "held_out"
    fast_dev_run: bool = False

    @property
    def folder(self) -> Path:
        """Folder of all files of the trial."""
        return trial_folder(Path(self.log_dir), self.home)


@dataclass(frozen=True)
class TrialOutcome:
    """How a trial ended.

    Attributes:
        kind: see `OutcomeKind`.
        value: the objective; None unless complete.
        reason: why it did not complete, on one line.
        facts: further results: metrics, checkpoint.
    """

    kind: OutcomeKind
    value: float | None = None
    reason: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


class ValidationProgress(NamedTuple):
    """A validation's metric, used for pruning; the answer True means continue."""

    epoch: int
    value: float


ReportProgress = Callable[[int, float], bool]  # epoch, val/obj_metric -> whether to continue
TrainFunction = Callable[[TrialJob, ReportProgress], TrialOutcome]


class PrunedError(Exception):
    """The trial is clearly worse than others."""


class RefusedError(Exception):
    """No trial can be trained, for example because the data is invalid."""


def trial_folder(log_dir: Path, number: int) -> Path:
    """Path of a trial's folder."""
    return log_dir / f"trial-{number}"
