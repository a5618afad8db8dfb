"""Callbacks that store random states in checkpoints and a description of the run."""

from __future__ import annotations

import platform
import random
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn

from desed_task.atomic_files import write_text_atomic
from local.checkpoints.revision import REVISION, REVISION_KEY
from local.cli.redaction import redact
from local.cli.versions import versions
from local.config import RecipeConfig
from local.data.digests import DATA_KEY
from local.scoring.tested import tested_by
from local.training.computation import Computation
from local.training.macs import count_macs

ROOT = Path(__file__).resolve().parents[2]


class RandomStates(Callback):
    """Stores the states of random generators in checkpoints, so that resuming changes no result.

    States are restored just before training continues, since setting up loaders and loggers may
    draw from them. They are plain lists and tensors, for `weights_only` loading.
    """

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """States of torch (CPU and GPUs, a Mac's too), NumPy and Python."""
        name, keys, *rest = np.random.get_state()
        version, internal, gauss = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            "mps": [torch.mps.get_rng_state()] if torch.backends.mps.is_available() else [],
            "numpy": [name, [int(key) for key in keys], *rest],  # type: ignore[union-attr]
            "python": [version, list(internal), gauss],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Receive the states of a checkpoint, which are restored when training starts."""
        self._restored = state_dict

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the states of the checkpoint."""
        state, self._restored = self._restored, None
        if state is None:
            return
        torch.set_rng_state(state["torch"].cpu())
        if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
        for of_mac in state.get("mps", []) if torch.backends.mps.is_available() else []:
            torch.mps.set_rng_state(of_mac.cpu())
        name, keys, *rest = state["numpy"]
        np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))


class EarlyStop(EarlyStopping):
    """Early stopping that a resumed training keeps to, with the patience that it is resumed with.

    Lightning stores the count of validations without improvement, but not that training has ended:
    a run killed during its test would train another epoch when it is resumed.

    Attributes:
        longest_wait: the most validations in a row without a better value before a better one;
            with less patience, training would have ended there (`local.checkpoints.changes`).
    """

    longest_wait = 0

    @property
    def state_key(self) -> str:
        """The key of Lightning's class, which checkpoints of earlier versions have."""
        return super().state_key.replace(type(self).__name__, EarlyStopping.__name__, 1)

    def state_dict(self) -> dict[str, Any]:
        """Lightning's state and the longest wait."""
        return {**super().state_dict(), "longest_wait": self.longest_wait}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Receive the state of a checkpoint; the patience stays that of the configuration."""
        patience = self.patience
        super().load_state_dict(state_dict)
        # Earlier versions did not store it: at most, it is just below the patience of then.
        self.longest_wait = int(state_dict.get("longest_wait", max(self.patience - 1, 0)))
        if self.wait_count >= self.patience:
            self.stopped_epoch = 0  # the new patience decides whether training has ended
        self.patience = patience

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train no epoch if training had ended."""
        diverged = self.stopping_reason == EarlyStoppingReason.NON_FINITE_METRIC
        if diverged or self.stopped_epoch or self.wait_count >= self.patience:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count, if Lightning checks here."""
        with self._noting():
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count, if Lightning checks here."""
        with self._noting():
            super().on_validation_end(trainer, pl_module)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Note the wait that a better value ends in the block."""
        before = self.wait_count
        yield
        if self.wait_count < before:
            self.longest_wait = max(self.longest_wait, before)


class RunDescription(Callback):
    """Writes what is needed to reproduce a run: configuration, versions, commit, command, seed,
    digests of the data and, for a test or evaluation, the identity of the checkpoint; and the size
    of the network; and how it computes, which checkpoints keep too, as resuming needs it.

    Args:
        config: the configuration.
        asked_precision: precision that the device replaced; None: the configuration's.
        facts: more to write of this session.
        kept: more to write, which checkpoints keep too.
    """

    def __init__(
        self,
        config: RecipeConfig,
        asked_precision: str | None = None,
        facts: Mapping[str, Any] = MappingProxyType({}),
        kept: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.config = config
        self.facts, self.kept = dict(facts), dict(kept)
        asked = str(config.training.precision) if asked_precision is None else asked_precision
        self.computation = Computation(config, asked)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store how the training computes."""
        checkpoint.update({**self.computation.record(), **self.kept})

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write config.yaml and run.yaml into the run folder; a resumed run adds to run.yaml."""
        run_folder = trainer.log_dir  # collective call: every process must reach it
        if not trainer.is_global_zero or not run_folder:
            return
        folder = Path(run_folder)
        config = yaml.safe_dump(self.config.dump_public(), sort_keys=False)
        write_text_atomic(folder / "config.yaml", config)
        # Batches of a program of one's own come without embedding files.
        readers = getattr(trainer.datamodule, "embedding_readers", ())
        tested = tested_by(pl_module)
        network = tested.cost if tested is not None else None
        if network is None:
            encoder = getattr(pl_module, "encoder_student", None)
            student = pl_module.sed_student
            cost = count_macs(student, self.config, readers=readers, encoder=encoder)
            network = cost._asdict()
        record = {
            "stage": str(TrainerFn(stage).value),
            "command": redact(shlex.join(sys.argv)),
            "commit": git_commit(),
            "host": platform.node(),
            "device": str(trainer.strategy.root_device),
            **self.computation.record(),
            "seed": self.config.training.seed,
            REVISION_KEY: REVISION,
            "network": network,
            "versions": versions(),
            DATA_KEY: trainer.datamodule.digests(stage),
            **self.kept,
            **(self.facts if TrainerFn(stage) is TrainerFn.FITTING else {}),
        }
        if tested is not None:
            record |= tested.record()
        log = folder / "run.yaml"
        before = log.read_text(encoding="utf-8") if log.is_file() else ""
        write_text_atomic(log, before + yaml.safe_dump([record], sort_keys=False))


def git_commit() -> str:
    """The checked-out commit, with "+" if files are modified; "" outside git, and where it is git's
    of another project, in whose folder we are installed."""
    if not (ROOT / ".git").exists():
        return ""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()


def tensorboard_writer(trainer: pl.Trainer) -> Any:
    """The TensorBoard writer of the trainer, or None."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            return logger.experiment
    return None
