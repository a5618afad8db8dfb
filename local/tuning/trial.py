"""Run a trial of stage one in a worker process: train, and score the best checkpoint.

By default the test sets are not used: the objective is the teacher's PSDS1 of events + mean pAUC of
segments on the clips that validations score, at the epoch of the best `val/obj_metric`. With `test`
it is the same sum on the test sets, as published, which flatters what is reported there afterwards.
A task that scores only one of them has that one, one that scores only tags their F1.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from desed_task.errors import InputError
from local import run
from local.checkpoints.resume import LAST_CHECKPOINT, data_of_training
from local.checkpoints.run_claims import RunInUseError
from local.cli.devices import choose_device
from local.config import check_config
from local.data.digests import overall_digest
from local.scoring import results
from local.task.task import Stage, Task
from local.training.tracking.hparams import MONITOR, write_row
from local.tuning.workers.messages import (
    DATA_FACT,
    Objective,
    PrunedError,
    RefusedError,
    ReportProgress,
    TrialJob,
    TrialOutcome,
)
from local.tuning.workers.objective_metrics import objective_metrics

STAGE_OF_OBJECTIVE: dict[Objective, Stage] = {"held_out": "val", "test": "test"}
VALUE_KEY = "objective"


# BCE's errors for NaN scores, on the CPU and on a GPU, raised before the loss can be checked.
NO_SCORES = ("all elements of input should be between 0 and 1", "device-side assert")


class LossError(Exception):
    """The loss became NaN."""


class TrialWatch(Callback):
    """Report validations to the tuner, keep the best one's metrics, and end hopeless trials.

    Args:
        job: the trial.
        report: reports a validation; returns whether to continue.
    """

    def __init__(self, job: TrialJob, report: ReportProgress) -> None:
        self.job = job
        self.report = report
        self.started = False
        self.best_value = -math.inf
        self.best: dict[str, float] = {}
        self._loss = torch.zeros(())
        self._told: list[tuple[int, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """State that a resumed trial needs."""
        return {"best_value": self.best_value, "best": self.best, "told": self._told}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume; earlier validations are reported again, as this is a new trial to the tuner."""
        self.best_value, self.best = state_dict["best_value"], state_dict["best"]
        self._told = [(int(epoch), float(value)) for epoch, value in state_dict["told"]]
        for epoch, value in self._told:
            self.report(epoch, value)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write a row of TensorBoard's table with the sampled values."""
        self.started = True
        write_row(self.job.folder, self.job.overrides, {})

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any
    ) -> None:
        """Sum the loss; it is checked once per epoch, as the check synchronises a GPU."""
        loss = outputs["loss"].detach()
        self._loss = self._loss.to(loss.device) + loss

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End a training with a NaN loss before it is validated."""
        self._check_loss(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End a training with a NaN loss."""
        self._check_loss(trainer)

    def _check_loss(self, trainer: pl.Trainer) -> None:
        if not math.isfinite(float(self._loss)):
            raise LossError(f"NaN loss in epoch {trainer.current_epoch}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the validation to the tuner, which may prune the trial."""
        if not self.started or trainer.sanity_checking:
            return
        value = float(trainer.callback_metrics[MONITOR])
        if value > self.best_value:  # compared as in ModelCheckpoint
            self.best_value = value
            self.best = {name: float(v) for name, v in trainer.callback_metrics.items()}
        epoch = trainer.current_epoch
        self._told.append((epoch, value))
        if not self.report(epoch, value):
            raise PrunedError(
                f"{MONITOR} {value:.4f} in epoch {epoch} is clearly worse than in other trials"
            )


def train(job: TrialJob, report: ReportProgress) -> TrialOutcome:
    """Run a trial; a retry resumes from the last checkpoint.

    Args:
        job: the trial.
        report: reports a validation to the tuner.

    Raises:
        PrunedError: if the tuner prunes it.
        RefusedError: if no training is possible because data or embeddings are invalid.
        LossError: if the loss is NaN.
    """
    watch = TrialWatch(job, report)
    tree = {**job.tree, "training": {**job.tree["training"], "enable_progress_bar": False}}
    config = check_config(tree, f"trial {job.number}")
    options = run.RunOptions(
        job.log_dir, choose_device(None), job.fast_dev_run, name=job.folder.name
    )
    task = config.detection_task
    tested = job.objective == "test"
    last = job.folder / "checkpoints" / LAST_CHECKPOINT
    try:
        folder = run.fit(
            config,
            options,
            resume_from=str(last) if last.is_file() else None,
            callbacks=[watch],
            test=tested,
        )
    except RunInUseError:
        raise  # this trial alone fails
    except InputError as error:
        if watch.started:
            raise
        raise RefusedError(str(error)) from None
    except RuntimeError as error:
        if any(text in str(error) for text in NO_SCORES):
            raise LossError(f"NaN loss: the network's scores are not finite ({error})") from error
        raise
    metrics = _tested(folder) if tested else watch.best
    value, facts = objective_value(metrics, task, job.objective)
    data = {DATA_FACT: overall_digest(data_of_training(folder))}
    write_row(folder, job.overrides, {VALUE_KEY: value, MONITOR: watch.best_value})
    return TrialOutcome("complete", value, facts=facts | data)


def objective_value(
    metrics: dict[str, float], task: Task, objective: Objective
) -> tuple[float, dict[str, float]]:
    """Compute the objective and the metrics that it is the sum of.

    Raises:
        InputError: for a metric that is undefined on the data.
    """
    stage = STAGE_OF_OBJECTIVE[objective]
    names = [f"{stage}/{name}" for name in objective_metrics(task, stage).values()]
    facts = {name: metrics.get(name, math.nan) for name in names}
    undefined = [name for name, value in facts.items() if not math.isfinite(value)]
    if undefined:
        raise InputError(
            f"{', '.join(undefined)}: not defined on this data, so trials cannot be compared; a "
            "class has to occur, and in segments no class may be present, or absent, throughout"
        )
    return sum(facts.values()), facts


def _tested(folder: Path) -> dict[str, float]:
    content = json.loads((folder / results.RESULTS_FILE).read_text(encoding="utf-8"))
    return {n: math.nan if v is None else v for n, v in content["metrics"].items()}
