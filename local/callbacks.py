"""What happens beside training: random states, energy, run description, results on disk."""

from __future__ import annotations

import logging
import platform
import random
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
import yaml
from codecarbon import OfflineEmissionsTracker
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn

from desed_task.files import sha256_of, write_text_atomic
from local.config import RecipeConfig
from local.macs import count_macs
from local.revision import REVISION, REVISION_KEY
from local.sections import Energy
from local.versions import versions

ROOT = Path(__file__).resolve().parents[1]


class RandomStates(Callback):
    """Keeps the random generators' states in checkpoints, so that a resumed run is the same run.

    States are put back at the last moment before training goes on, since setting up loaders and
    loggers may draw from them. Plain lists and tensors only, for `weights_only` loading.
    """

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """States of torch (CPU and GPUs), NumPy and Python."""
        name, keys, *rest = np.random.get_state()
        version, internal, gauss = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            "numpy": [name, [int(key) for key in keys], *rest],  # type: ignore[union-attr]
            "python": [version, list(internal), gauss],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take states of a checkpoint; they are set when training starts."""
        self._restored = state_dict

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the states of the checkpoint back."""
        state, self._restored = self._restored, None
        if state is None:
            return
        torch.set_rng_state(state["torch"].cpu())
        if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
        name, keys, *rest = state["numpy"]
        np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))


class EnergyMeter(Callback):
    """Estimates the energy of each stage with codecarbon, offline, and logs it in kWh.

    Writes `codecarbon/emissions_baseline_{training,test,eval}.csv` (columns for CPU, GPU and RAM)
    into the run folder; a resumed training adds a line.

    Args:
        config: `enabled` switches it off; the country is told, never looked up.
    """

    STAGES: ClassVar = {
        TrainerFn.FITTING: "training",
        TrainerFn.TESTING: "test",
        TrainerFn.PREDICTING: "eval",
    }

    def __init__(self, config: Energy) -> None:
        self.config = config
        self.energy_kwh: dict[str, float] = {}
        self._tracker: OfflineEmissionsTracker | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Start measuring, in the first process only."""
        run_folder = trainer.log_dir or trainer.default_root_dir  # a question to all processes
        if (
            not self.config.enabled
            or not trainer.is_global_zero
            or TrainerFn(stage) not in self.STAGES
        ):
            return
        file = emissions_file(Path(run_folder), self.STAGES[TrainerFn(stage)])
        file.parent.mkdir(parents=True, exist_ok=True)
        # It speaks before it has read its own log level; nothing may stand over the progress bar.
        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
        # Without a GPU its own detection must not be given any id.
        gpus = {"gpu_ids": trainer.device_ids} if on_gpu(trainer) else {}
        self._tracker = OfflineEmissionsTracker(
            country_iso_code=self.config.country_iso_code,
            output_dir=str(file.parent),
            output_file=file.name,
            log_level="critical",
            allow_multiple_runs=True,
            **gpus,
        )
        self._tracker.start()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stop measuring and log the figure."""
        self._stop(trainer, TrainerFn(stage))

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Keep the figure of a run that ends early."""
        self._stop(trainer, trainer.state.fn or TrainerFn.FITTING)

    def _stop(self, trainer: pl.Trainer, stage: TrainerFn) -> None:
        if self._tracker is None:
            return
        tracker, self._tracker = self._tracker, None
        tracker.stop()
        name = self.STAGES[stage]
        self.energy_kwh[name] = float(tracker.final_emissions_data.energy_consumed)
        for logger in trainer.loggers:
            logger.log_metrics({f"energy/{name}_kwh": self.energy_kwh[name]}, trainer.global_step)
        print(f"energy of {name}: {self.energy_kwh[name]:.6f} kWh (codecarbon's estimate)")


def emissions_file(run_folder: Path, stage: str) -> Path:
    """codecarbon's table of a stage (training, test or eval) in a run folder (SPEC section 7)."""
    return run_folder / "codecarbon" / f"emissions_baseline_{stage}.csv"


def on_gpu(trainer: pl.Trainer) -> bool:
    """Whether the trainer computes on a GPU."""
    return trainer.strategy.root_device.type == "cuda"


class RunDescription(Callback):
    """Writes what the run was made from: resolved config, versions, commit and command; the seed,
    what the network costs and, of a test or evaluation, the identity of its checkpoint.
    """

    def __init__(self, config: RecipeConfig) -> None:
        self.config = config

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write config.yaml and run.yaml into the run folder; a resumed run adds to run.yaml."""
        run_folder = trainer.log_dir  # a question to all processes
        if not trainer.is_global_zero or not run_folder:
            return
        folder = Path(run_folder)
        config = yaml.safe_dump(self.config.dump(), sort_keys=False)
        write_text_atomic(folder / "config.yaml", config)
        record = {
            "stage": str(TrainerFn(stage).value),
            "command": shlex.join(sys.argv),
            "commit": commit(),
            "host": platform.node(),
            "device": str(trainer.strategy.root_device),
            "seed": self.config.training.seed,
            REVISION_KEY: REVISION,
            "network": count_macs(pl_module.sed_student, self.config)._asdict(),
            "versions": versions(),
        }
        if pl_module.tested_checkpoint is not None:
            path = pl_module.tested_checkpoint.resolve()
            record["checkpoint"] = {"path": str(path), "sha256": sha256_of(path)}
        log = folder / "run.yaml"
        before = log.read_text(encoding="utf-8") if log.is_file() else ""
        write_text_atomic(log, before + yaml.safe_dump([record], sort_keys=False))


def commit() -> str:
    """The checked-out commit of the recipe, "+" behind it if files were changed; "" outside git."""
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


def tensorboard(trainer: pl.Trainer) -> Any:
    """The TensorBoard writer of the trainer, or None."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            return logger.experiment
    return None
