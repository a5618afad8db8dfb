"""Estimate the energy of each stage with codecarbon."""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytorch_lightning as pl
import torch
from codecarbon import OfflineEmissionsTracker
from codecarbon.output_methods.emissions_data import EmissionsData
from codecarbon.output_methods.file import FileOutput
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

from desed_task.distributed.collectives import gathered
from local.config_schema import Energy
from local.processes.world import world_here
from local.scoring.results import emissions_file


class EnergyMeter(Callback):
    """Estimates the energy of each stage with codecarbon, offline, and logs it in kWh.

    The first process of each machine measures the machine and all GPUs of the command there; the
    first one of all adds them up.

    Writes `codecarbon/emissions_baseline_{training,test,eval}.csv` (columns for CPU, GPU and RAM)
    into the run folder; each further machine and a resumed training add a line.

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
        self._file: Path | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Start measuring, in the first process of each machine."""
        # Collective calls: every process must reach them.
        run_folder = trainer.log_dir or trainer.default_root_dir
        gpus = {"gpu_ids": _gpus_here(trainer)} if is_on_gpu(trainer) else {}
        if (
            not self.config.enabled
            or not world_here().is_first_here
            or TrainerFn(stage) not in self.STAGES
        ):
            return
        file = emissions_file(Path(run_folder), self.STAGES[TrainerFn(stage)])
        self._file = file
        if trainer.is_global_zero:
            file.parent.mkdir(parents=True, exist_ok=True)
        # codecarbon logs before it applies `log_level`, which would break the progress bar.
        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
        # Without a GPU, codecarbon must not be given any id.
        self._tracker = OfflineEmissionsTracker(
            country_iso_code=self.config.country_iso_code,
            output_dir=str(file.parent),
            output_file=file.name,
            save_to_file=trainer.is_global_zero,
            log_level="critical",
            allow_multiple_runs=True,
            **gpus,
        )
        self._tracker.start()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stop measuring and log the energy of all machines."""
        own = self._stop()
        if self.config.enabled and TrainerFn(stage) in self.STAGES:
            found = [one for one in gathered(own) if one is not None]
            self._tell(trainer, TrainerFn(stage), found)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Log the energy of a run that ends early; of this machine, as others may have ended."""
        own = self._stop()
        if own is not None and trainer.is_global_zero:
            self._tell(trainer, trainer.state.fn or TrainerFn.FITTING, [own])

    def _stop(self) -> EmissionsData | None:
        """Stop measuring; what this process has measured since `setup`, if it has."""
        tracker, self._tracker = self._tracker, None
        if tracker is None:
            return None
        tracker.stop()
        measured: EmissionsData = tracker.final_emissions_data
        return measured

    def _tell(self, trainer: pl.Trainer, stage: TrainerFn, found: Sequence[EmissionsData]) -> None:
        """Log the sum of what machines have measured, this one first, and add the others' rows."""
        if not trainer.is_global_zero or not found:
            return
        name = self.STAGES[stage]
        energy_kwh = sum(float(one.energy_consumed) for one in found)
        self.energy_kwh[name] = energy_kwh
        for logger in trainer.loggers:
            logger.log_metrics({f"energy/{name}_kwh": energy_kwh}, trainer.global_step)
        machines = f" on {len(found)} machines" if len(found) > 1 else ""
        print(f"energy of {name}{machines}: {energy_kwh:.6f} kWh (codecarbon's estimate)")
        if self._file is not None:
            for one in found[1:]:
                FileOutput(self._file.name, str(self._file.parent)).out(one, one)


def is_on_gpu(trainer: pl.Trainer) -> bool:
    """Whether the trainer computes on a GPU."""
    return trainer.strategy.root_device.type == "cuda"


def _gpus_here(trainer: pl.Trainer) -> list[int] | list[str]:
    """The GPUs of all processes of this machine; every process must call it."""
    if trainer.world_size == 1:
        ids: list[int] = trainer.device_ids
        return ids
    # Their numbers differ where each process sees its own GPU only.
    uuid = str(torch.cuda.get_device_properties(trainer.strategy.root_device).uuid)
    here = platform.node()
    return sorted({f"GPU-{one}" for node, one in gathered((here, uuid)) if node == here})
