"""A training whose test alone runs again: its run folder is copied to that of the new key."""

from __future__ import annotations

import shutil
from pathlib import Path

from desed_task.checkpoints.run_folders import CHECKPOINT_FOLDER
from local.checkpoints.run_claims import LOCK_FILE, numbered_runs
from local.scoring.results import ERROR_REPORT, RESULTS_FILE, emissions_file

# What a test writes, and who writes the run.
_LEFT_OUT = (
    RESULTS_FILE,
    "metrics_test",
    f"{ERROR_REPORT}*",
    emissions_file(Path(), "test").name,
    LOCK_FILE,
)


def trained_run(folder: Path) -> Path | None:
    """The newest run of a training in the folder of a stage; None if there is none."""
    runs = numbered_runs(folder)
    return next((run for run in runs if (run / CHECKPOINT_FOLDER).is_dir()), None)


def copy_training(run: Path, folder: Path) -> None:
    """Copy a run without its test, from where the training is resumed at its end, and tested.

    Args:
        run: of a training that has ended.
        folder: of the stage that runs now.
    """
    part = folder / f".{run.name}.part"
    shutil.rmtree(part, ignore_errors=True)  # of a plan that was killed
    shutil.copytree(run, part, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    part.rename(folder / run.name)
