"""Fit, test and evaluate: the entry points of the training script and the tuner."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from desed_task.checkpoints.safe_load import load_safely
from desed_task.distributed.collectives import process_rank, told_by_first
from desed_task.encoders.interface import EmbeddingModel
from desed_task.file_names import escape_name
from local.checkpoints.encoders.fine_tuned import check_given_back, encoder_in_checkpoint
from local.checkpoints.encoders.initial import initial_encoder
from local.checkpoints.encoders.stored_embeddings import warn_of_other_embeddings
from local.checkpoints.initial_weights import (
    as_begun,
    check_origin,
    load_initial_weights,
    with_initial_weights,
)
from local.checkpoints.restore import config_of_checkpoint, load_networks
from local.checkpoints.resume import (
    FAST_KEY,
    LAST_CHECKPOINT,
    ResumePoint,
    check_resumable,
    check_same_data,
    find_resumable,
    resume_hint,
)
from local.checkpoints.revision import revision_of
from local.checkpoints.run_claims import check_log_dir, hold_run, new_run
from local.checkpoints.run_places import begun_run, best_beside, resumed_run, take_along
from local.cli.exit_status import StoppedError
from local.config import RecipeConfig, check_config
from local.data.datamodule import SedDataModule
from local.processes.decisions import decided_by_first
from local.processes.strategy import is_stopping
from local.scoring import results
from local.scoring.own.groups import check_groups
from local.scoring.tested import TestedFiles
from local.scoring.verification import NO_TEST, check_scorable, check_verifiable
from local.sed_trainer_pretrained import SEDTask4
from local.stores.size import with_embedding_size
from local.training.announcements import announce, tell_finished
from local.training.computation import computation_of, with_usable_precision
from local.training.ensemble.module import (
    EnsembleData,
    EnsembleModule,
    OpenedCheckpoint,
    open_together,
)
from local.training.feature_statistics import prepare_scaler
from local.training.finetuning.encoders import load_step_encoder
from local.training.finetuning.memory import explaining_memory
from local.training.finetuning.optimizer import check_warm_up
from local.training.freed_memory import keep_freed_memory
from local.training.result_writers import ScoreWriter, check_evaluated
from local.training.tracking.loggers import check_loggers, closing
from local.training.trainer import RunOptions, make_trainer

FAST_EPOCHS = 2


def fit(
    config: RecipeConfig,
    options: RunOptions,
    *,
    resume_from: str | None = None,
    init_from: Path | None = None,
    callbacks: Sequence[Callback] = (),
    test: bool = True,
) -> Path:
    """Train, then test the best checkpoint.

    Args:
        config: the validated configuration.
        options: run folder and device.
        resume_from: checkpoint to resume from, or "auto" (see `find_resumable`).
        init_from: checkpoint whose weights a new training starts from. With "auto", a training that
            started from them is resumed, if there is one.
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
        options = options._replace(kept={**options.kept, FAST_KEY: True})
    check_loggers(config)
    if options.verify_metrics:
        check_verifiable(config.detection_task)
    config = decided_by_first(partial(with_embedding_size, config))
    if init_from is not None:
        config = with_initial_weights(config, init_from)
    # By the first process, as others may see a shared disk's folders later.
    finished, checkpoint = decided_by_first(lambda: _resume_point(resume_from, config, options))
    if finished is not None:
        tell_finished(finished, config)
        return finished
    if checkpoint is not None:
        config = as_begun(config, checkpoint)
    elif init_from is None:
        check_origin(config)
    computation = computation_of(config, options.device.accelerator, options.threads, checkpoint)
    with computation as (config, asked):
        options = options._replace(asked_precision=asked)
        auto = resume_from == "auto"
        if checkpoint is None:
            return _begin(config, options, callbacks, auto=auto, test=test)
        return _resume(config, options, checkpoint, callbacks, auto=auto, test=test)


def _begin(
    config: RecipeConfig,
    options: RunOptions,
    callbacks: Sequence[Callback],
    *,
    auto: bool,
    test: bool,
) -> Path:
    """Train from random or initial weights; the arguments are those of `fit`."""
    initial = initial_encoder(config)
    encoder = load_step_encoder(config) if initial is None else initial
    data, module = _prepare(config, options, encoder)
    check_given_back(module.encoder_student)
    data.check("fit")
    check_warm_up(config, data.train_dataloader)
    check_groups(config, data.truths("test"))
    announce(data, "fit", module)
    if config.initial_weights.checkpoint:
        stored, readers = load_initial_weights(module, config), data.embedding_readers
        warn_of_other_embeddings(stored, readers, config.initial_weights.checkpoint)
    log_dir, fast = Path(options.log_dir), options.fast_dev_run
    begun = begun_run(log_dir, config, fast_dev_run=fast) if auto else None
    with _run_folder(config, options, begun, alone=auto) as folder:
        loader, digests = data.train_dataloader, data.digests("fit")
        if process_rank() == 0:
            prepare_scaler(module.mel_spec, module.scaler, loader, config, digests)
        module.scaler.load_state_dict(told_by_first(module.scaler.state_dict()))
        _train_and_test(config, options, folder, callbacks, data, module, None, test=test)
    return folder


def _resume(
    config: RecipeConfig,
    options: RunOptions,
    checkpoint: Path,
    callbacks: Sequence[Callback],
    *,
    auto: bool,
    test: bool,
) -> Path:
    """Train from a checkpoint on; the arguments are those of `fit`."""
    found = check_resumable(checkpoint, config, fast_dev_run=options.fast_dev_run)
    best_beside(checkpoint, found.content)
    for line in found.changes.accepted:
        print(f"{escape_name(checkpoint)}: {line}")
    data, module = _prepare(
        config, options, encoder_in_checkpoint(config, found.content, str(checkpoint))
    )
    data.check("fit")
    check_same_data(checkpoint, found.digests, data.digests("fit"), data.task)
    check_groups(config, data.truths("test"))
    announce(data, "fit", module)
    log_dir, moves = Path(options.log_dir), options.moves
    place = decided_by_first(lambda: resumed_run(checkpoint, found, log_dir, elsewhere=moves))
    options = options._replace(facts={"resumed": found.record(checkpoint)})
    with _run_folder(config, options, place, alone=auto) as folder:
        if place is None:
            first = process_rank() == 0
            checkpoint = told_by_first(take_along(checkpoint, found, folder) if first else Path())
        _train_and_test(config, options, folder, callbacks, data, module, checkpoint, test=test)
    return folder


def _train_and_test(
    config: RecipeConfig,
    options: RunOptions,
    folder: Path,
    callbacks: Sequence[Callback],
    data: SedDataModule,
    module: SEDTask4,
    checkpoint: Path | None,
    *,
    test: bool,
) -> None:
    trainer = make_trainer(config, options, folder, callbacks)
    with closing(trainer.loggers):
        best = _train(trainer, module, data, checkpoint)
        if test and data.task.test:
            _test(trainer, module, data, TestedFiles((best,)))
        elif test:
            print(f"run folder: {escape_name(folder)}\nno test: {NO_TEST}")


def test(config: RecipeConfig, paths: str | Sequence[str], options: RunOptions) -> Path:
    """Test a checkpoint with its own hyperparameters on the data of `config`.

    Args:
        config: of the command.
        paths: the checkpoint, or several whose scores are averaged.
        options: run folder and device.

    Returns:
        The new run folder.

    Raises:
        InputError: for a checkpoint or data that cannot be used, and checkpoints whose scores
            cannot be averaged.
    """
    config, options, data, module = _opened(config, paths, options, "test")
    with _run_folder(config, options) as folder:
        trainer = make_trainer(config, options, folder, ())
        with closing(trainer.loggers):
            _test(trainer, module, data, module.tested_checkpoint, loaded=True)
    return folder


def evaluate(config: RecipeConfig, paths: str | Sequence[str], options: RunOptions) -> Path:
    """Score the evaluation set, which has no labels, with a checkpoint or several; as `test`.

    Returns:
        The new run folder; scores lie in its `metrics_test/{student,teacher}_scores`.
    """
    config, options, data, module = _opened(config, paths, options, "predict")
    check_evaluated(data)
    with _run_folder(config, options) as folder:
        trainer = make_trainer(config, options, folder, (ScoreWriter(),))
        with _stoppable(trainer, lambda: "start again"), closing(trainer.loggers):
            trainer.predict(module, datamodule=data, return_predictions=False)
    print(f"scores: {escape_name(folder / 'metrics_test')}")
    return folder


def shortened(config: RecipeConfig) -> RecipeConfig:
    """The configuration of a fast_dev_run: two epochs, a validation after each, and a warm-up that
    fits them."""
    tree = config.dump()
    tree["opt"]["warmup_steps"] = None
    tree["training"].update(
        n_epochs=FAST_EPOCHS, n_epochs_warmup=1, epoch_decay=1, validation_interval=1
    )
    return check_config(tree, "fast_dev_run")


def _resume_point(
    resume_from: str | None, config: RecipeConfig, options: RunOptions
) -> ResumePoint:
    """A finished run, or the checkpoint to resume from; nothing for a new training."""
    if resume_from == "auto":
        fast = options.fast_dev_run
        return find_resumable(Path(options.log_dir), config, fast_dev_run=fast)
    return ResumePoint(checkpoint=None if resume_from is None else Path(resume_from))


@contextmanager
def _run_folder(
    config: RecipeConfig,
    options: RunOptions,
    continued: Path | None = None,
    *,
    alone: bool = False,
) -> Iterator[Path]:
    """The run folder, which no other command writes to meanwhile.

    The first process of several makes it and holds it for all.

    Args:
        config: configuration of the run.
        options: where it lies.
        continued: folder of the run that is continued; None for a new one.
        alone: refuse to start beside a process with the same configuration.
    """
    if process_rank() > 0:
        yield told_by_first(Path())
        return
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
        yield told_by_first(folder)


def _prepare(
    config: RecipeConfig, options: RunOptions, encoder: EmbeddingModel | None
) -> tuple[SedDataModule, SEDTask4]:
    check_log_dir(Path(options.log_dir))
    keep_freed_memory()
    pl.seed_everything(config.training.seed, workers=True, verbose=False)
    return SedDataModule(config), SEDTask4(config, encoder)


def _opened(
    config: RecipeConfig, paths: str | Sequence[str], options: RunOptions, stage: str
) -> OpenedCheckpoint:
    given = [paths] if isinstance(paths, str) else paths
    return open_together(
        config, given, options, stage, _of_checkpoint, own_stores=options.own_stores
    )


def _of_checkpoint(
    config: RecipeConfig, path: str, options: RunOptions, stage: str, *, tell: bool = True
) -> tuple[RecipeConfig, RunOptions, SedDataModule, SEDTask4]:
    """Configuration and networks of a checkpoint, and the data of a stage."""
    if options.threads is not None:
        options.threads.begin()
    check_loggers(config)
    checkpoint = load_safely(Path(path))
    config = config_of_checkpoint(checkpoint, config, options.overrides, path)
    config = with_usable_precision(config, options.device.accelerator)
    check_scorable(config.detection_task, path, stage, verified=options.verify_metrics)
    data, module = _prepare(config, options, encoder_in_checkpoint(config, checkpoint, path))
    load_networks(module, checkpoint["state_dict"], path)
    module.training_revision = revision_of(checkpoint)
    module.tested_checkpoint = TestedFiles((Path(path),))
    data.check(stage)
    if stage == "test":
        check_groups(config, data.truths("test"))
    if tell:
        announce(data, stage)
    warn_of_other_embeddings(checkpoint, data.embedding_readers, path)
    if checkpoint.get(FAST_KEY):
        options = options._replace(kept={**options.kept, FAST_KEY: True})
    return config, options, data, module


def _train(
    trainer: pl.Trainer, module: SEDTask4, data: SedDataModule, checkpoint: Path | None
) -> Path:
    """Train and return the best checkpoint."""
    last = Path(str(trainer.log_dir)) / "checkpoints" / LAST_CHECKPOINT
    with _stoppable(trainer, lambda: resume_hint(last)), explaining_memory(module.config):
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    best = Path(trainer.checkpoint_callback.best_model_path)
    print(f"best checkpoint: {escape_name(best)}")
    return best


def _test(
    trainer: pl.Trainer,
    module: SEDTask4 | EnsembleModule,
    data: SedDataModule | EnsembleData,
    tested: TestedFiles,
    loaded: bool = False,
) -> None:
    module.tested_checkpoint = tested
    ckpt: dict[str, Any] = {}
    if not loaded:
        ckpt = {"ckpt_path": tested.paths[0], "weights_only": True}
    shown = shlex.join(map(str, tested.paths))
    with _stoppable(trainer, lambda: f"test it with --test_from_checkpoint {shown}"):
        trainer.test(module, datamodule=data, verbose=False, **ckpt)
    folder = Path(str(trainer.log_dir))
    if process_rank() > 0:
        return
    print(f"run folder: {escape_name(folder)}")
    if "tensorboard" in module.config.logging.loggers:
        print(f"look at it with: tensorboard --logdir {escape_name(folder.parent)}")
    results.print_results(folder)


@contextmanager
def _stoppable(trainer: pl.Trainer, remedy: Callable[[], str]) -> Iterator[None]:
    """Turn Ctrl-C, or the exit that Lightning turns it into, into a message with the remedy."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise StoppedError(f"stopped; {remedy()}") from None
    except RuntimeError:
        # SIGTERM has ended what this process works with: a loader's worker, or a partner.
        if not is_stopping(trainer):
            raise
        raise StoppedError(f"stopped; {remedy()}") from None
