"""Lightning module of the mean-teacher training (docs/method.md, Training to Test).

The hooks delegate to `desed_task` for the computations and to `local.scoring` for the metrics.
"""

from __future__ import annotations

import copy
from functools import cached_property
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
from desed_task.encoders.interface import EmbeddingModel
from desed_task.features import LogMel, Scaler
from desed_task.losses.step_losses import LossTerms
from desed_task.mean_teacher import DetectionLosses, ema_update
from desed_task.nnet.CRNN import CRNN, Detection
from desed_task.schedules import RampedScheduler
from local.checkpoints.callback_paths import restore_paths, store_names
from local.checkpoints.restore import detector_spec
from local.checkpoints.revision import REVISION, REVISION_KEY
from local.cli.versions import versions
from local.config import RecipeConfig
from local.data.digests import DATA_KEY
from local.schema.schedules import schedule_of, weight_of_consistency
from local.scoring.accumulator import ScoreAccumulator
from local.scoring.own.tuned import tuned_thresholds
from local.scoring.tested import TestedFiles
from local.stores.size import with_embedding_size
from local.training.finetuning.encoders import StepEncoders, for_both_roles
from local.training.finetuning.optimizer import check_schedule, make_optimizer, rates_by_part
from local.training.steps.augmentation import augmentation_of
from local.training.steps.losses import losses_of


class SEDTask4(pl.LightningModule):
    """Student and teacher CRNN, their losses, optimizer and scores.

    Args:
        config: the configuration; stored in checkpoints as `hyper_parameters`.
        encoder: what gives embeddings inside the step, with `pretrained.e2e`; None otherwise
            (`load_step_encoder` loads that of the configured files).

    Attributes:
        encoder_student: the encoder of the student; None without `pretrained.e2e`.
        encoder_teacher: that of the teacher, a copy.

    Raises:
        InputError: the encoder is not one that the configuration asks for.
    """

    def __init__(self, config: RecipeConfig, encoder: EmbeddingModel | None = None) -> None:
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
        student, teacher = for_both_roles(config, encoder)
        self.encoder_student, self.encoder_teacher = student, teacher
        self.step_encoders: StepEncoders | None = None
        if student is not None and teacher is not None:
            frozen, kind = config.pretrained.freezed, config.net.embedding_type
            self.step_encoders = StepEncoders(student, teacher, kind, frozen=frozen)
        self.train()
        task = config.detection_task
        self.losses = losses_of(config)
        self.rows_per_batch = sum(part.rows for part in task.batch)
        self.mixup = mixup_of(config)
        # For mixup and masks; seeded for each batch, so no state has to be saved.
        self.draws = torch.Generator()
        self.score_accumulator = ScoreAccumulator(config)
        # The checkpoint of a test or evaluation; None in training.
        self.tested_checkpoint: TestedFiles | None = None
        # The training rules of the weights.
        self.training_revision = REVISION

    @property
    def networks(self) -> dict[str, CRNN]:
        """Role -> network."""
        return {"student": self.sed_student, "teacher": self.sed_teacher}

    def train(self, mode: bool = True) -> SEDTask4:
        """Set the mode of both networks; frozen encoders stay in that of inference."""
        super().train(mode)
        if self.step_encoders is not None and self.step_encoders.frozen:
            for encoder in self.step_encoders.of_role.values():
                encoder.eval()
        return self

    @cached_property
    def augmentation(self) -> StepAugmentation | None:
        """The configured one; made in training only, as it reads device responses."""
        return augmentation_of(self.config, self.encoder_student)

    # ---- training

    def training_step(self, batch: SedBatch, batch_idx: int) -> Tensor:
        """The loss of a batch, all of whose terms are logged."""
        found = self.terms_of(batch)
        self._log_losses(found, len(batch.clip_id))
        return found.losses.loss

    def losses_of(self, batch: SedBatch) -> DetectionLosses:
        """The losses of a batch, without what only some trainings log."""
        return self.terms_of(batch).losses

    def terms_of(self, batch: SedBatch) -> LossTerms:
        """Mel and encoders' front ends -> augmentation -> student and teacher -> losses."""
        step = self._augmented(self._inputs(batch), batch.source)
        if self.step_encoders is not None:
            step = self.step_encoders.embedded(step)
        features = self._features(step.student.mel)
        student = self._scores("student", step.student, features)
        if step.teacher.mel is not step.student.mel:
            features = self._features(step.teacher.mel)
        with torch.no_grad():
            teacher = self._scores("teacher", step.teacher, features)
        weight = self._consistency_weight()
        return self.losses(student, teacher, step, batch.source, weight=weight)

    def _inputs(self, batch: SedBatch) -> StepInputs:
        """What the networks are given, with augmentation of waveforms alone."""
        waveform, target, pseudo = batch.waveform, batch.target, batch.pseudo
        if self.augmentation is not None:
            labels = (target,) if pseudo is None else (target, pseudo)
            more = batch.source, self.draws, self.rows
            waveform, (target, *others) = self.augmentation.waveforms(waveform, labels, *more)
            pseudo = others[0] if others else None
        encoders = self.step_encoders
        features = () if encoders is None else encoders.front_ends(waveform)
        mel = self.mel_spec(waveform)
        return StepInputs(mel, features, batch.embedding, target, pseudo, batch.known)

    def _augmented(self, inputs: StepInputs, source: Tensor) -> AugmentedStep:
        """What student and teacher are given."""
        if self.mixup is not None:
            inputs = self.mixup.of_step(inputs, source, self.draws, self.rows)
        if self.augmentation is not None:
            return self.augmentation(inputs, source, self.draws, self.rows)
        return AugmentedStep(inputs, inputs)

    def _features(self, mel: Tensor) -> Tensor:
        """Scaled decibel of mel magnitudes."""
        features: Tensor = self.scaler(self.mel_spec.to_db(mel))
        return features

    def _scores(self, role: str, inputs: StepInputs, features: Tensor) -> Detection:
        """Scores of a network in training."""
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
        scheduler, sections = self.lr_schedulers(), (self.config.training, self.config.losses)
        place = scheduler.step_num, scheduler.ramp, self.current_epoch
        return weight_of_consistency(*map(vars, sections), *place)

    def _log_losses(self, found: LossTerms, batch_size: int) -> None:
        terms = {**found.losses._asdict(), **found.others}
        if n_processes() > 1:
            # The mean over the processes is that over the rows.
            names = [name for name in terms if name != "weight"]
            means = summed(torch.stack([terms[name].detach() for name in names]))
            terms |= dict(zip(names, means / n_processes(), strict=True))
        for name, value in {"weight": terms.pop("weight"), **self._logged_rates()}.items():
            # Filled there: a number that is copied to a GPU waits for it.
            number = torch.full((), value, device=self.device)
            self.log(f"train/{name}", number, batch_size=batch_size)
        loss = terms.pop("loss")
        self.log("train/student/loss", loss, prog_bar=True, batch_size=batch_size)
        named = {f"train/student/{name}": value for name, value in terms.items()}
        self.log_dict(named, batch_size=batch_size)

    def _logged_rates(self) -> dict[str, float]:
        """The learning rate, of the first group, and those of parts that have their own."""
        scheduler = self.lr_schedulers()
        rates = scheduler.get_last_lr()
        found = {"lr": rates[0]}
        if len(rates) > 1:
            parts = rates_by_part(scheduler.optimizer.param_groups, rates)
            found |= {f"lr_{part}": rate for part, rate in parts.items()}
        return found

    def on_before_zero_grad(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the teacher, after the forward passes of a step and before its backward pass.

        Lightning calls this once per optimizer step, also when batches are accumulated.
        """
        step = self.lr_schedulers().step_num
        factor = self.config.training.ema_factor
        ema_update(self.sed_student, self.sed_teacher, step, factor)
        if self.step_encoders is not None and not self.step_encoders.frozen:
            ema_update(*self.step_encoders.of_role.values(), step, factor)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer of the student, whose learning rates each step sets: they rise and fall.

        Raises:
            InputError: the warm-up is longer than the training allows.
        """
        steps = self.trainer.estimated_stepping_batches // self.trainer.max_epochs
        config, network = self.config, self.sed_student
        training, opt = config.training.model_dump(), config.opt.model_dump()
        schedule = check_schedule(config, schedule_of(training, opt, steps))
        # One kernel for all parameters. In mixed precision Lightning does not clip gradients for
        # it, as a fused Adam might unscale them itself.
        fused = not self.trainer.precision.endswith("-mixed")
        optimizer = make_optimizer(config, network, self.encoder_student, fused=fused)
        scheduler = RampedScheduler(optimizer, **schedule._asdict())
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the detector specification, versions, training revision and digests of the data."""
        readers = [loaded.embeddings for loaded in self.trainer.datamodule.loaded.values()]
        spec = detector_spec(self.config, readers, self.encoder_student)
        checkpoint[SPEC_KEY] = spec.to_dict()
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
        features = self._features(self.mel_spec(batch.waveform))
        embeddings = dict.fromkeys(self.networks, batch.embedding)
        if self.step_encoders is not None:
            of_encoders = self.step_encoders.front_ends(batch.waveform)
            embeddings = self.step_encoders.of_both(dict.fromkeys(self.networks, of_encoders))
        for role, network in self.networks.items():
            found = network(features, embeddings[role], classes_mask)
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
