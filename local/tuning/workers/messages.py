"""What the tuner and its workers say to each other; imports nothing heavy, as both read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

Objective = Literal["held_out", "devtest"]
# complete: has a value; pruned: clearly bad; failed: broke by itself; refused: broke before it
# began, as every trial would; lost: its process died; stopped: by the user.
OutcomeKind = Literal["complete", "pruned", "failed", "refused", "lost", "stopped"]


@dataclass(frozen=True)
class TrialJob:
    """A trial to be run.

    Attributes:
        number: of the trial.
        home: number of the folder: of a trial that is tried again, its first try's, so that it
            goes on where that one ended.
        overrides: dotted path -> value that was drawn.
        tree: the whole configuration, these values in it.
        log_dir: holds the trial's folder.
        objective: what its value is computed on.
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
        """Where everything of the trial is kept."""
        return trial_folder(Path(self.log_dir), self.home)


@dataclass(frozen=True)
class TrialOutcome:
    """How a trial ended.

    Attributes:
        kind: see `OutcomeKind`.
        value: the objective; None unless complete.
        reason: why it did not complete, in one line.
        facts: what else is kept of it: metrics, checkpoint.
    """

    kind: OutcomeKind
    value: float | None = None
    reason: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


class ValidationProgress(NamedTuple):
    """A validation's metric, which a trial is pruned by; answered with True to go on."""

    epoch: int
    value: float


ReportProgress = Callable[[int, float], bool]  # epoch, val/obj_metric -> whether to go on
TrainFunction = Callable[[TrialJob, ReportProgress], TrialOutcome]


class PrunedError(Exception):
    """The trial is clearly worse than others."""


class RefusedError(Exception):
    """Nothing was trained, and no other trial could be: the data is wrong, for example."""


def trial_folder(log_dir: Path, number: int) -> Path:
    """The folder of a trial."""
    return log_dir / f"trial-{number}"
