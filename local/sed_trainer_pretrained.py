"""Lightning module of the mean-teacher training (docs/method.md, Training to Test).

The hooks delegate to `desed_task` for the computations and to `local.scoring` for the metrics.
"""

from __future__ import annotations

import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from desed_task.augment import WHOLE_BATCH, BatchShare, Mixup
from desed_task.augment.chain import StepAugmentation
from desed_task.augment.step import AugmentedStep, StepInputs
from desed_task.batch import SedBatch
from desed_task.checkpoints.spec import SPEC_KEY
from desed_task.distributed.collectives import n_processes, summed
from desed_task.features import LogMel, Scaler
from desed_task.mean_teacher import DetectionLosses, detection_losses, ema_update
from desed_task.nnet.CRNN import CRNN, Detection
from desed_task.schedules import RampedScheduler, consistency_weight
from local.checkpoints.callback_paths import restore_paths, store_names
from local.checkpoints.restore import detector_spec
from local.checkpoints.revision import REVISION, REVISION_KEY
from local.cli.versions import versions
from local.config import RecipeConfig
from local.data.digests import DATA_KEY
from local.scoring.accumulator import ScoreAccumulator
from local.scoring.own.tuned import tuned_thresholds
from local.stores.size import with_embedding_size
from local.training.augmentation import augmentation_of


class SEDTask4(pl.LightningModule):
    """Student and teacher CRNN, their losses, optimizer and scores.

    Args:
        config: the configuration; stored in checkpoints as `hyper_parameters`.
    """

    def __init__(self, config: RecipeConfig) -> None:
        super().__init__()
        config = with_embedding_size(config)
        self.config = config
        # The loggers get them from `local.training.tracking.hparams`.
        self.save_hyperparameters(config.dump_public(), logger=False)
        feats = config.feats
        self.mel_spec = LogMel(
            feats.sample_rate,
            feats.n_window,
            feats.n_window,
            feats.hop_length,
            feats.n_mels,
            feats.f_min,
            feats.f_max,
        )
        scaler = config.scaler
        self.scaler = Scaler(scaler.statistic, scaler.normtype, scaler.dims)
        self.sed_student = CRNN(**config.net.model_dump(exclude={"median_filter"}))
        self.sed_teacher = copy.deepcopy(self.sed_student).requires_grad_(False)
        task = config.detection_task
        self.roles = task.roles
        self.rows_per_batch = sum(part.rows for part in task.batch)
        self.mixup = mixup_of(config)
        # For mixup and masks; seeded for each batch, so no state has to be saved.
        self.draws = torch.Generator()
        self.score_accumulator = ScoreAccumulator(config)
        # The checkpoint under test or evaluation; None in training.
        self.tested_checkpoint: Path | None = None
        # The training rules of the weights.
        self.training_revision = REVISION

    @property
    def networks(self) -> dict[str, CRNN]:
        """Role -> network."""
        return {"student": self.sed_student, "teacher": self.sed_teacher}

    @cached_property
    def augmentation(self) -> StepAugmentation | None:
        """The configured one; made in training only, as it reads device responses."""
        return augmentation_of(self.config, getattr(self, "encoder_student", None))

    # ---- training

    def training_step(self, batch: SedBatch, batch_idx: int) -> Tensor:
        """Mel -> augmentation -> student and teacher -> losses."""
        step = self._augmented(self._inputs(batch), batch.source)
        student = self._scores("student", step.student)
        with torch.no_grad():
            teacher = self._scores("teacher", step.teacher)
        losses = detection_losses(
            student,
            teacher,
            step.student.target,
            step.student.known,
            batch.source,
            self.roles,
            weight=self._consistency_weight(),
            self_sup_loss=self.config.training.self_sup_loss,
        )
        self._log_losses(losses, len(batch.clip_id))
        return losses.loss

    def _inputs(self, batch: SedBatch) -> StepInputs:
        """What the networks are given, with augmentation of waveforms alone."""
        waveform, target = batch.waveform, batch.target
        if self.augmentation is not None:
            waveform, (target,) = self.augmentation.waveforms(
                waveform, (target,), batch.source, self.draws, self.rows
            )
        mel = self.mel_spec(waveform)
        return StepInputs(mel, (), batch.embedding, target, None, batch.known)

    def _augmented(self, inputs: StepInputs, source: Tensor) -> AugmentedStep:
        """What student and teacher are given."""
        if self.mixup is not None:
            tensors = inputs.mel, inputs.embedding, inputs.target
            mel, embedding, target = self.mixup(*tensors, source, self.draws, self.rows)
            inputs = inputs._replace(mel=mel, embedding=embedding, target=target)
        if self.augmentation is not None:
            return self.augmentation(inputs, source, self.draws, self.rows)
        return AugmentedStep(inputs, inputs)

    def _scores(self, role: str, inputs: StepInputs) -> Detection:
        """Scores of a network in training."""
        features = self.scaler(self.mel_spec.to_db(inputs.mel))
        draws = {"generator": self.draws, "rows": self.rows}
        found: Detection = self.networks[role](features, inputs.embedding, inputs.known, **draws)
        return found

    @property
    def rows(self) -> BatchShare:
        """The rows of a training batch that this process has."""
        training, size = self.config.training, n_processes()
        if size == 1 or training.batch_scope == "process":
            return WHOLE_BATCH
        return BatchShare(self.global_rank, size, self.rows_per_batch)

    def on_train_batch_start(self, batch: SedBatch, batch_idx: int) -> None:
        """Make random numbers depend only on seed, epoch and batch, and in several processes on
        the process; processes that share a batch draw mixup and masks together.
        """
        rank, place = self.global_rank, (self.current_epoch, batch_idx)
        shares = self.rows is not WHOLE_BATCH
        self.draws.manual_seed(self._seed(0 if shares else rank, *place))
        if n_processes() > 1:
            # Dropout; so a training can be resumed with another number of processes.
            torch.manual_seed(self._seed(rank, *place, 1))

    def _seed(self, *place: int) -> int:
        sequence = np.random.SeedSequence((self.config.training.seed, *place))
        return int(sequence.generate_state(1)[0])

    def _consistency_weight(self) -> float:
        training = self.config.training
        return consistency_weight(
            self.lr_schedulers().ramp,
            self.current_epoch,
            const_max=training.const_max,
            epoch_decay=training.epoch_decay,
        )

    def _log_losses(self, losses: DetectionLosses, batch_size: int) -> None:
        terms = losses._asdict()
        if n_processes() > 1:
            # The mean over the processes is that over the rows.
            names = [name for name in terms if name != "weight"]
            means = summed(torch.stack([terms[name].detach() for name in names]))
            terms |= dict(zip(names, means / n_processes(), strict=True))
        rate = self.lr_schedulers().get_last_lr()[0]
        for name, value in (("weight", terms.pop("weight")), ("lr", rate)):
            # Filled there: a number that is copied to a GPU waits for it.
            number = torch.full((), value, device=self.device)
            self.log(f"train/{name}", number, batch_size=batch_size)
        loss = terms.pop("loss")
        self.log("train/student/loss", loss, prog_bar=True, batch_size=batch_size)
        named = {f"train/student/{name}": value for name, value in terms.items()}
        self.log_dict(named, batch_size=batch_size)

    def on_before_zero_grad(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the teacher, after the forward passes of a step and before its backward pass.

        Lightning calls this once per optimizer step, also when batches are accumulated.
        """
        step = self.lr_schedulers().step_num
        ema_update(self.sed_student, self.sed_teacher, step, self.config.training.ema_factor)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam on the student; each step sets the learning rate: warm-up, plateau, annealing."""
        training = self.config.training
        steps = self.trainer.estimated_stepping_batches // self.trainer.max_epochs
        # One kernel for all parameters. In mixed precision Lightning does not clip gradients for
        # it, as a fused Adam might unscale them itself.
        fused = not self.trainer.precision.endswith("-mixed")
        optimizer = torch.optim.Adam(self.sed_student.parameters(), self.config.opt.lr, fused=fused)
        scheduler = RampedScheduler(
            optimizer,
            warmup_steps=training.n_epochs_warmup * steps,
            start_annealing=training.epoch_decay * steps,
            max_steps=training.n_epochs * steps,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the detector specification, versions, training revision and digests of the data."""
        readers = [loaded.embeddings for loaded in self.trainer.datamodule.loaded.values()]
        checkpoint[SPEC_KEY] = detector_spec(self.config, readers).to_dict()
        checkpoint["versions"] = versions()
        checkpoint[REVISION_KEY] = REVISION
        checkpoint[DATA_KEY] = self.trainer.datamodule.digests("fit")
        store_names(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let stored names of checkpoints point into the folder of this run, and tell the data the
        epoch to go on with.
        """
        saver = self.trainer.checkpoint_callback
        restore_paths(checkpoint, None if saver is None else saver.dirpath)
        epochs = checkpoint.get("loops", {}).get("fit_loop", {}).get("epoch_progress", {})
        if self.trainer.datamodule is not None:
            self.trainer.datamodule.first_epoch = epochs.get("current", {}).get("processed", 0)

    # ---- validation, test and evaluation set

    def on_validation_epoch_start(self) -> None:
        """Clear the scores of the previous epoch."""
        self.score_accumulator.clear()

    on_test_epoch_start = on_validation_epoch_start
    on_predict_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: SedBatch, batch_idx: int) -> None:
        """Score a batch; classes that its corpus does not annotate are masked."""
        self._detect(batch, batch.known)

    def test_step(self, batch: SedBatch, batch_idx: int) -> None:
        """Score a batch without a mask, as the corpus of a clip is unknown at inference."""
        self._detect(batch, None)

    def predict_step(self, batch: SedBatch, batch_idx: int) -> None:
        """Score a batch without labels."""
        self._detect(batch, None)

    def _detect(self, batch: SedBatch, classes_mask: Tensor | None) -> None:
        features = self.scaler(self.mel_spec.to_db(self.mel_spec(batch.waveform)))
        for role, network in self.networks.items():
            found = network(features, batch.embedding, classes_mask)
            self.score_accumulator.add(role, batch, found)

    def on_validation_epoch_end(self) -> None:
        """Log validation metrics of both networks and the one that selects the best checkpoint."""
        metrics = self.score_accumulator.validation_metrics(self.trainer.datamodule.truths("val"))
        self.log("val/obj_metric", metrics.pop("val/obj_metric"), prog_bar=True)
        self.log_dict(metrics)

    def on_test_epoch_end(self) -> None:
        """Log test metrics of both networks; the accumulator keeps the reports for callbacks."""
        truths = self.trainer.datamodule.truths("test")
        self.score_accumulator.tuned = tuned_thresholds(self.config, self.tested_checkpoint)
        self.log_dict(self.score_accumulator.test_metrics(truths))


def mixup_of(config: RecipeConfig) -> Mixup | None:
    """The configured mixup; None if it is off."""
    training = config.training
    if training.mixup is None:
        return None
    return Mixup(
        config.detection_task.roles,
        probability=training.mixup_prob,
        labels=training.mixup,
        draw=training.mixup_draw,
    )
