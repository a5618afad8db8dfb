"""Estimate the energy of each stage with codecarbon."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar

import pytorch_lightning as pl
from codecarbon import OfflineEmissionsTracker
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

from local.config_schema import Energy
from local.scoring.results import emissions_file


class EnergyMeter(Callback):
    """Estimates the energy of each stage with codecarbon, offline, and logs it in kWh.

    Writes `codecarbon/emissions_baseline_{training,test,eval}.csv` (columns for CPU, GPU and RAM)
    into the run folder; a resumed training adds a line.

    Args:
        config: whether it is enabled, and the country, which is not looked up online.
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
        # Collective call: every process must reach it.
        run_folder = trainer.log_dir or trainer.default_root_dir
        if (
            not self.config.enabled
            or not trainer.is_global_zero
            or TrainerFn(stage) not in self.STAGES
        ):
            return
        file = emissions_file(Path(run_folder), self.STAGES[TrainerFn(stage)])
        file.parent.mkdir(parents=True, exist_ok=True)
        # codecarbon logs before it applies `log_level`, which would break the progress bar.
        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
        # Without a GPU, codecarbon must not be given any id.
        gpus = {"gpu_ids": trainer.device_ids} if is_on_gpu(trainer) else {}
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
        """Stop measuring and log the energy."""
        self._stop(trainer, TrainerFn(stage))

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Log the energy of a run that ends early."""
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


def is_on_gpu(trainer: pl.Trainer) -> bool:
    """Whether the trainer computes on a GPU."""
    return trainer.strategy.root_device.type == "cuda"
