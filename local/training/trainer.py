"""The trainer of a run: loggers, callbacks and settings, from its configuration and options."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from local.checkpoints.resume import LAST_CHECKPOINT
from local.cli.devices import CPU, Device
from local.cli.progress import progress_bar
from local.cli.threads import ThreadChoice
from local.config import RecipeConfig
from local.processes.strategy import end_after_first, process_arguments
from local.training.callbacks import EarlyStop, RandomStates, RunDescription
from local.training.checkpoint_files import AtomicCheckpoints
from local.training.energy import EnergyMeter
from local.training.finetuning.memory import StepCostReport
from local.training.result_writers import ResultWriter
from local.training.tracking.hparams import RunHyperparameters
from local.training.tracking.loggers import run_loggers

FAST_TRAIN_BATCHES = 20
PRECISIONS = {"32": "32-true", "tf32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}


class RunOptions(NamedTuple):
    """Run folder, device and overrides of a run."""

    log_dir: str
    device: Device = CPU
    fast_dev_run: bool = False
    overrides: tuple[str, ...] = ()  # `section.key=value`; also override a checkpoint's values
    name: str | None = None  # of the run folder; a named run logs its hyperparameters itself
    verify_metrics: bool = False  # compare a test's metrics with those of sed_scores_eval itself
    threads: ThreadChoice | None = None  # of the command; None: as set
    asked_precision: str | None = None  # that the device replaced; None: the configuration's
    moves: bool = False  # whether a run of another folder that is resumed moves to `log_dir`
    facts: Mapping[str, Any] = MappingProxyType({})  # more for run.yaml
    kept: Mapping[str, Any] = MappingProxyType({})  # more for run.yaml and checkpoints
    own_stores: bool = False  # whether checkpoints have embeddings where their trainings had them


def make_trainer(
    config: RecipeConfig, options: RunOptions, folder: Path, more: Sequence[Callback]
) -> pl.Trainer:
    """The trainer of a run.

    Args:
        config: the configuration.
        options: device and overrides.
        folder: the run folder.
        more: callbacks beside those of every run.

    Raises:
        InputError: a logger cannot be used.
    """
    _silence()
    training = config.training
    on_gpu = options.device.accelerator == "gpu"
    rough = training.precision == "tf32" and on_gpu
    torch.set_float32_matmul_precision("high" if rough else "highest")
    of_processes, plugins = process_arguments(options.device.accelerator)
    trainer = pl.Trainer(
        **of_processes,
        accelerator=options.device.accelerator,
        devices=options.device.devices,
        logger=run_loggers(config, folder),
        default_root_dir=str(folder),
        callbacks=[*_callbacks(config, folder, options), *more],
        plugins=[AtomicCheckpoints(), *plugins],
        precision=PRECISIONS.get(str(training.precision), training.precision),
        max_epochs=training.n_epochs,
        limit_train_batches=FAST_TRAIN_BATCHES if options.fast_dev_run else None,
        check_val_every_n_epoch=training.validation_interval,
        gradient_clip_val=training.gradient_clip or None,
        accumulate_grad_batches=training.accumulate_batches,
        deterministic=training.deterministic,
        enable_progress_bar=training.enable_progress_bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=10,
    )
    if of_processes:
        end_after_first(trainer)
    return trainer


def _callbacks(config: RecipeConfig, folder: Path, options: RunOptions) -> list[Callback]:
    checkpoints = folder / "checkpoints"
    return [
        RunDescription(config, options.asked_precision, options.facts, options.kept),
        RunHyperparameters(config, table=options.name is None),
        RandomStates(),
        *([StepCostReport(config)] if config.runs_encoders else []),
        EnergyMeter(config.energy),
        EarlyStop("val/obj_metric", mode="max", patience=config.training.early_stop_patience),
        # A run killed between writing its two checkpoints overwrites the first one when resumed.
        ModelCheckpoint(
            checkpoints, monitor="val/obj_metric", mode="max", enable_version_counter=False
        ),
        ModelCheckpoint(
            checkpoints,
            filename=Path(LAST_CHECKPOINT).stem,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
        ResultWriter(verify=options.verify_metrics),
        *([progress_bar()] if config.training.enable_progress_bar else []),
    ]


def _silence() -> None:
    """Hide only those of Lightning's warnings that do not apply here."""
    # The latter tells a line about LOCAL_RANK, as if there were several processes.
    for name in ("utilities.rank_zero", "accelerators.cuda"):
        logging.getLogger(f"pytorch_lightning.{name}").setLevel(logging.WARNING)
    for text in (
        "does not have many workers",
        "LeafSpec",
        "in eval mode at the start of training",  # frozen encoders are
        "smaller than the logging interval",
        "exists and is not empty",  # of a resumed run
        "Grad strides do not match bucket view strides",  # of the first block's one channel
        "It is recommended to use .*sync_dist=True",  # all processes log the same numbers
    ):
        warnings.filterwarnings("ignore", f".*{text}")
