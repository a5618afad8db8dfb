"""Find the checkpoint in a folder: of a run, of its checkpoints or of a download.

find_checkpoint("exp/mini/version_0")  # .../checkpoints/epoch=39-step=960.ckpt, its best one
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Final

from desed_task.atomic_files import PathLike
from desed_task.errors import InputError, count_of
from desed_task.file_names import escape_name

CHECKPOINT_FOLDER: Final = "checkpoints"
# Written after each epoch, and the one that a training is resumed from.
LAST_CHECKPOINT: Final = "last.ckpt"
_ENDING = ".ckpt"
_MOST_SHOWN = 8


def find_checkpoint(path: PathLike, *, last: bool = False) -> Path:
    """The checkpoint that a path stands for.

    A file stands for itself. A run folder, LOG_DIR/version_N, stands for its best checkpoint, and
    until a validation has chosen one for its last. A folder with a single run or a single .ckpt
    file stands for that.

    Args:
        path: a file or folder.
        last: prefer the last checkpoint of a run, from which its training is resumed.

    Returns:
        A file; or `path` itself if there is nothing, which loading reports.

    Raises:
        InputError: the folder contains no checkpoint, or several of which none is meant.
    """
    if not os.fspath(path):
        raise InputError("an empty path to a checkpoint; give a .ckpt file or a run folder")
    place = Path(path)
    if not place.is_dir():
        return place
    here = _files(place)
    if not here:
        runs = runs_in(place)
        if not runs:
            raise InputError(
                f"{escape_name(place)}: a folder without a checkpoint; give a .ckpt file or the "
                f"run folder of a training (LOG_DIR/version_N)"
            )
        if len(runs) > 1:
            raise InputError(
                f"{escape_name(place)}: contains {count_of(len(runs), 'run')} with checkpoints; "
                f"give one of them: {_listed(runs)}"
            )
        here = _files(runs[0])
    return _chosen(place, here, last)


def runs_in(log_dir: PathLike) -> list[Path]:
    """The run folders in LOG_DIR that have checkpoints, the one written last first."""
    if not Path(log_dir).is_dir():
        return []
    found = {run: _files(run) for run in Path(log_dir).iterdir() if run.is_dir()}
    written = {run: max(map(_written, files)) for run, files in found.items() if files}
    return sorted(written, key=lambda run: (written[run], run), reverse=True)


def _files(folder: Path) -> list[Path]:
    """The checkpoints of a run folder or in a folder, by name."""
    for place in (folder / CHECKPOINT_FOLDER, folder):
        try:
            # Hidden ones are being written.
            names = (name for name in os.listdir(place) if not name.startswith("."))
            found = [place / name for name in names if name.endswith(_ENDING)]
        except OSError:
            continue
        if files := sorted(path for path in found if path.is_file()):
            return files
    return []


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns


def _chosen(place: Path, here: list[Path], last: bool) -> Path:
    """The best or the last of the checkpoints in a folder."""
    newest = next((path for path in here if path.name == LAST_CHECKPOINT), None)
    others = [path for path in here if path != newest]
    if newest is not None and (last or not others):
        if not last:
            gone = sorted(_best_of(newest))
            why = "no validation of this run has chosen a checkpoint yet"
            if gone:
                why = f"the best checkpoint of this run, {escape_name(gone[0])}, is not there"
            text = f"{escape_name(newest)}: {why}; its last one is used"
            warnings.warn(text, UserWarning, stacklevel=3)
        return newest
    if len(others) == 1:
        return others[0]
    # A run killed while it replaced its best checkpoint keeps both.
    best = _best_of(newest) if newest is not None else set()
    chosen = [path for path in others if path.name in best]
    if len(chosen) != 1:
        raise InputError(
            f"{escape_name(place)}: contains {count_of(len(others), 'checkpoint')}; give one of "
            f"them: {_listed(others)}"
        )
    return chosen[0]


def _best_of(last: Path) -> set[str]:
    """Names of the checkpoints that a run's last one calls the best."""
    # torch takes seconds to import, and few folders need it.
    from desed_task.checkpoints.safe_load import load_safely

    try:
        states = load_safely(last).get("callbacks")
    except InputError:
        return set()  # Whoever uses it says why it cannot be loaded.
    states = states.values() if isinstance(states, dict) else ()
    paths = (state.get("best_model_path") for state in states if isinstance(state, dict))
    return {Path(path).name for path in paths if isinstance(path, str) and path} - {last.name}


def _listed(paths: list[Path]) -> str:
    shown = ", ".join(escape_name(path) for path in paths[:_MOST_SHOWN])
    more = len(paths) - _MOST_SHOWN
    return f"{shown}, and {more} more" if more > 0 else shown
