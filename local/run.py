"""Fit, test and evaluate: the entry points of the training script and the tuner."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger

from desed_task.checkpoints.safe_load import load_safely
from local.checkpoints.restore import config_of_checkpoint, load_networks, warn_of_other_embeddings
from local.checkpoints.resume import (
    LAST_CHECKPOINT,
    changes_since_training,
    check_resumable,
    check_same_data,
    continued_run,
    find_resumable,
    resume_hint,
)
from local.checkpoints.revision import revision_of
from local.checkpoints.run_claims import check_log_dir, hold_run, new_run
from local.cli.devices import CPU, Device
from local.cli.exit_status import StoppedError
from local.cli.progress import progress_bar
from local.cli.threads import ThreadChoice
from local.config import RecipeConfig, check_config
from local.data.datamodule import SedDataModule
from local.data.summary_lines import data_summary, left_out_line
from local.scoring import results
from local.sed_trainer_pretrained import SEDTask4
from local.training.callbacks import EarlyStop, RandomStates, RunDescription
from local.training.checkpoint_files import AtomicCheckpoints
from local.training.computation import computation_of, with_usable_precision
from local.training.energy import EnergyMeter
from local.training.feature_statistics import prepare_scaler
from local.training.freed_memory import keep_freed_memory
from local.training.macs import count_macs
from local.training.result_writers import ResultWriter, ScoreWriter

FAST_TRAIN_BATCHES = 20
FAST_EPOCHS = 2
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


def fit(
    config: RecipeConfig,
    options: RunOptions,
    *,
    resume_from: str | None = None,
    callbacks: Sequence[Callback] = (),
    test: bool = True,
) -> Path:
    """Train, then test the best checkpoint.

    Args:
        config: the validated configuration.
        options: run folder and device.
        resume_from: checkpoint to resume from, or "auto" (see `find_resumable`).
        callbacks: additional callbacks.
        test: whether to test the best checkpoint.

    Returns:
        The run folder, LOG_DIR/version_N or LOG_DIR/NAME.

    Raises:
        InputError: data or embeddings cannot be used; raised before training starts.
        StoppedError: after Ctrl-C, also in `test` and `evaluate`.
    """
    if options.fast_dev_run:
        config = shortened(config)
    finished, checkpoint = _resume_point(resume_from, config, options)
    if finished is not None:
        _tell_finished(finished, config)
        return finished
    computation = computation_of(config, options.device.accelerator, options.threads, checkpoint)
    with computation as (config, asked):
        options = options._replace(asked_precision=asked)
        auto = resume_from == "auto"
        return _fit(config, options, checkpoint, callbacks, auto=auto, test=test)


def _fit(
    config: RecipeConfig,
    options: RunOptions,
    checkpoint: Path | None,
    callbacks: Sequence[Callback],
    *,
    auto: bool,
    test: bool,
) -> Path:
    """Train from a checkpoint or from scratch; the arguments are those of `fit`."""
    trained_on = None if checkpoint is None else check_resumable(checkpoint, config)
    data, module = _prepare(config, options)
    data.check("fit")
    if checkpoint is not None:
        check_same_data(checkpoint, trained_on, data.digests("fit"))
    _announce(data, "fit", module)
    continued = continued_run(Path(options.log_dir), config, checkpoint, auto=auto)
    with _run_folder(config, options, continued, alone=auto) as folder:
        if checkpoint is None:
            loader, digests = data.train_dataloader, data.digests("fit")
            prepare_scaler(module.mel_spec, module.scaler, loader, config, digests)
        trainer = _trainer(config, options, folder, callbacks)
        best = _train(trainer, module, data, checkpoint)
        if test:
            _test(trainer, module, data, best)
    return folder


def test(config: RecipeConfig, path: str, options: RunOptions) -> Path:
    """Test a checkpoint with its own hyperparameters on the data of `config`.

    Returns:
        The new run folder.

    Raises:
        InputError: for a checkpoint or data that cannot be used.
    """
    config, data, module = _of_checkpoint(config, path, options, "test")
    with _run_folder(config, options) as folder:
        trainer = _trainer(config, options, folder, ())
        _test(trainer, module, data, Path(path), loaded=True)
    return folder


def evaluate(config: RecipeConfig, path: str, options: RunOptions) -> Path:
    """Score the evaluation set, which has no labels, with a checkpoint.

    Returns:
        The new run folder; scores lie in its `metrics_test/{student,teacher}_scores`.

    Raises:
        InputError: for a checkpoint or data that cannot be used.
    """
    config, data, module = _of_checkpoint(config, path, options, "predict")
    module.tested_checkpoint = Path(path)
    with _run_folder(config, options) as folder, _stoppable(lambda: "start again"):
        trainer = _trainer(config, options, folder, (ScoreWriter(),))
        trainer.predict(module, datamodule=data, return_predictions=False)
    print(f"scores: {folder / 'metrics_test'}")
    return folder


def shortened(config: RecipeConfig) -> RecipeConfig:
    """The configuration of a fast_dev_run: two epochs, a validation after each."""
    tree = config.dump()
    tree["training"].update(
        n_epochs=FAST_EPOCHS, n_epochs_warmup=1, epoch_decay=1, validation_interval=1
    )
    return check_config(tree, "fast_dev_run")


def _resume_point(
    resume_from: str | None, config: RecipeConfig, options: RunOptions
) -> tuple[Path | None, Path | None]:
    """The folder of a finished run or None, and the checkpoint to resume from or None."""
    if resume_from is None:
        return None, None
    checkpoint: Path | None = Path(resume_from)
    if resume_from == "auto":
        return find_resumable(Path(options.log_dir), config)
    return None, checkpoint


def _tell_finished(folder: Path, config: RecipeConfig) -> None:
    """Print the results of a finished run, and whether its data has changed since."""
    print(f"{folder} is a finished run of this configuration; nothing to do")
    results.print_results(folder)
    data = SedDataModule(config)
    problems = [problem for found in data.problems("fit").values() for problem in found]
    if problems:
        print(
            f"{folder}: whether its data has changed since is not known, as the data cannot be "
            f"used: {problems[0]}"
        )
        return
    for line in changes_since_training(folder, data.digests("fit")):
        print(line)


@contextmanager
def _run_folder(
    config: RecipeConfig,
    options: RunOptions,
    continued: Path | None = None,
    *,
    alone: bool = False,
) -> Iterator[Path]:
    """The run folder, which no other process writes to meanwhile.

    Args:
        config: configuration of the run.
        options: where it lies.
        continued: folder of the run that is continued; None for a new one.
        alone: refuse to start beside a process with the same configuration.
    """
    if continued is not None:
        check_log_dir(continued)
        place = hold_run(continued)
    elif options.name is not None:
        place = hold_run(Path(options.log_dir) / options.name)
    else:
        place = new_run(Path(options.log_dir), config, alone=alone)
    with place as folder:
        # Lightning writes it only if it is missing, and not atomically.
        (folder / "hparams.yaml").unlink(missing_ok=True)
        yield folder


def _prepare(config: RecipeConfig, options: RunOptions) -> tuple[SedDataModule, SEDTask4]:
    check_log_dir(Path(options.log_dir))
    keep_freed_memory()
    pl.seed_everything(config.training.seed, workers=True, verbose=False)
    return SedDataModule(config), SEDTask4(config)


def _of_checkpoint(
    config: RecipeConfig, path: str, options: RunOptions, stage: str
) -> tuple[RecipeConfig, SedDataModule, SEDTask4]:
    """Configuration and networks of a checkpoint, and the data of a stage."""
    if options.threads is not None:
        options.threads.begin()
    checkpoint = load_safely(Path(path))
    config = config_of_checkpoint(checkpoint, config, options.overrides, path)
    config = with_usable_precision(config, options.device.accelerator)
    data, module = _prepare(config, options)
    load_networks(module, checkpoint["state_dict"], path)
    module.training_revision = revision_of(checkpoint)
    data.check(stage)
    _announce(data, stage)
    readers = [loaded.embeddings for loaded in data.loaded.values()]
    warn_of_other_embeddings(checkpoint, readers, path)
    return config, data, module


def _announce(data: SedDataModule, stage: str, module: SEDTask4 | None = None) -> None:
    """Print a summary of the data of a stage and, for a training, of the network."""
    print(data_summary(data.loaded))
    lines = (left_out_line(data.loaded), data.late_ends_line(), *data.long_clip_lines(stage))
    for line in lines:
        if line is not None:
            print(line)
    if module is not None:
        cost = count_macs(module.sed_student, module.config)
        print(
            f"network: {cost.parameters / 1e6:.2f} M parameters, "
            f"{cost.macs / 1e9:.2f} GMACs for {cost.clip_s:g} s of audio"
        )


def _trainer(
    config: RecipeConfig, options: RunOptions, folder: Path, more: Sequence[Callback]
) -> pl.Trainer:
    _silence()
    log_dir = folder.parent
    logger = TensorBoardLogger(
        str(log_dir.parent),
        log_dir.name,
        version=folder.name,
        default_hp_metric=options.name is None,
    )
    training = config.training
    on_gpu = options.device.accelerator == "gpu"
    rough = training.precision == "tf32" and on_gpu
    torch.set_float32_matmul_precision("high" if rough else "highest")
    return pl.Trainer(
        accelerator=options.device.accelerator,
        devices=options.device.devices,
        logger=logger,
        callbacks=[*_callbacks(config, folder, options), *more],
        plugins=[AtomicCheckpoints()],
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


def _callbacks(config: RecipeConfig, folder: Path, options: RunOptions) -> list[Callback]:
    checkpoints = folder / "checkpoints"
    return [
        RunDescription(config, options.asked_precision),
        RandomStates(),
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


def _train(
    trainer: pl.Trainer, module: SEDTask4, data: SedDataModule, checkpoint: Path | None
) -> Path:
    """Train and return the best checkpoint."""
    last = Path(str(trainer.log_dir)) / "checkpoints" / LAST_CHECKPOINT
    with _stoppable(lambda: resume_hint(last)):
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    best = Path(trainer.checkpoint_callback.best_model_path)
    print(f"best checkpoint: {best}")
    return best


def _test(
    trainer: pl.Trainer, module: SEDTask4, data: SedDataModule, path: Path, loaded: bool = False
) -> None:
    module.tested_checkpoint = path
    ckpt: dict[str, Any] = {} if loaded else {"ckpt_path": path, "weights_only": True}
    with _stoppable(lambda: f"test it with --test_from_checkpoint {path}"):
        trainer.test(module, datamodule=data, verbose=False, **ckpt)
    folder = Path(str(trainer.log_dir))
    print(f"run folder: {folder}\nlook at it with: tensorboard --logdir {folder.parent}")
    results.print_results(folder)


@contextmanager
def _stoppable(remedy: Callable[[], str]) -> Iterator[None]:
    """Turn Ctrl-C, or the exit that Lightning turns it into, into a message with the remedy."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise StoppedError(f"stopped; {remedy()}") from None


def _silence() -> None:
    """Hide only those of Lightning's warnings that do not apply here."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    for text in (
        "does not have many workers",
        "LeafSpec",
        "smaller than the logging interval",
        "exists and is not empty",  # of a resumed run
    ):
        warnings.filterwarnings("ignore", f".*{text}")
