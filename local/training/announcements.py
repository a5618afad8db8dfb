"""What a command prints about its data and network, and about a run that is finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from local.checkpoints.resume import changes_since_training
from local.config import RecipeConfig
from local.data.datamodule import SedDataModule
from local.data.summary_lines import data_summary, left_out_line
from local.scoring import results
from local.training.macs import count_macs


def announce(data: SedDataModule, stage: str, module: Any = None) -> None:
    """Print a summary of the data of a stage and, for a training, of the network.

    Args:
        data: the data of the stage, loaded.
        stage: as of `SedDataModule.check`.
        module: the Lightning module of a training.
    """
    print(data_summary(data.loaded))
    lines = (left_out_line(data.loaded), data.late_ends_line(), *data.long_clip_lines(stage))
    for line in lines:
        if line is not None:
            print(line)
    if module is not None:
        cost = count_macs(module.sed_student, module.config, readers=data.embedding_readers)
        print(
            f"network: {cost.parameters / 1e6:.2f} M parameters, "
            f"{cost.macs / 1e9:.2f} GMACs for {cost.clip_s:g} s of audio"
        )


def tell_finished(folder: Path, config: RecipeConfig) -> None:
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
    for line in changes_since_training(folder, data.digests("fit"), data.task):
        print(line)
