"""Where a resumed training is written: its own run folder, or a new one that it moves to.

It moves where another log folder was named, where its checkpoint lies in no run folder, and where
other values continue a finished run, whose results are kept as they are.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from desed_task.atomic_files import atomic_path
from desed_task.checkpoints.run_folders import CHECKPOINT_FOLDER, LAST_CHECKPOINT
from desed_task.errors import InputError
from local.checkpoints.resume import (
    Resumption,
    find_begun,
    is_finished,
)
from local.config import RecipeConfig


def begun_run(log_dir: Path, config: RecipeConfig, *, fast_dev_run: bool) -> Path | None:
    """As `find_begun`, with a line that says so."""
    folder = find_begun(log_dir, config, fast_dev_run=fast_dev_run)
    if folder is not None:
        print(f"{folder} ended before its first checkpoint; its training begins again")
    return folder


def resumed_run(
    checkpoint: Path, resumption: Resumption, log_dir: Path, *, elsewhere: bool
) -> Path | None:
    """The run folder in which a training is continued; None for a new one.

    Args:
        checkpoint: where it is resumed from.
        resumption: its content and what has changed.
        log_dir: where runs lie.
        elsewhere: whether a run of another log folder moves to `log_dir`.
    """
    if checkpoint.parent.name != CHECKPOINT_FOLDER:
        return None
    run = checkpoint.parents[1]
    if elsewhere and run.parent.resolve() != log_dir.resolve():
        return None
    return None if resumption.changes.of_result and is_finished(run) else run


def take_along(checkpoint: Path, resumption: Resumption, folder: Path) -> Path:
    """Copy the best and the last checkpoint of a training into its new run folder.

    Returns:
        The copy of `checkpoint`, from which the new run is resumed.
    """
    to = folder / CHECKPOINT_FOLDER
    to.mkdir(parents=True, exist_ok=True)
    best = best_beside(checkpoint, resumption.content)
    if best is not None and best.name != LAST_CHECKPOINT:
        _copy(best, to / best.name)
    # The run can be resumed in its new folder once this is there.
    _copy(checkpoint, to / LAST_CHECKPOINT)
    print(f"{checkpoint}: its training goes on in {folder}, with copies of its checkpoints")
    return to / LAST_CHECKPOINT


def best_beside(checkpoint: Path, content: Mapping[str, Any]) -> Path | None:
    """The best checkpoint of a training so far, in the folder of another; None before the first.

    Raises:
        InputError: it is not there.
    """
    for state in content.get("callbacks", {}).values():
        if isinstance(state, dict) and state.get("monitor") and state.get("best_model_path"):
            best = checkpoint.parent / Path(str(state["best_model_path"])).name
            if not best.is_file():
                raise InputError(
                    f"{checkpoint}: the best checkpoint of its training so far, {best.name}, is "
                    "not beside it; copy it there too, or start a new training from the weights "
                    f"with --init_from_checkpoint {checkpoint}"
                )
            return best
    return None


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
