"""Paths in the state of Lightning's `ModelCheckpoint`, stored as names.

Lightning stores absolute paths. With names, equal runs in different folders have equal checkpoints,
and a run can be resumed where its folder was moved to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_OWNER = "ModelCheckpoint"
_FOLDER, _RANKED = "dirpath", "best_k_models"
_FILES = ("best_model_path", "kth_best_model_path", "last_model_path")
_HERE = "."


def store_names(checkpoint: Mapping[str, Any]) -> None:
    """Replace paths of checkpoints, which all lie in one folder, by their names."""
    for state in _states(checkpoint):
        if not state.get(_FOLDER):
            continue
        for key in _FILES:
            if state.get(key):
                state[key] = Path(state[key]).name
        state[_RANKED] = {Path(path).name: score for path, score in state[_RANKED].items()}
        state[_FOLDER] = _HERE


def restore_paths(checkpoint: Mapping[str, Any], folder: str | None) -> None:
    """Replace names, and absolute paths as earlier versions stored them, by paths in `folder`."""
    if folder is None:
        return
    store_names(checkpoint)
    for state in _states(checkpoint):
        if state.get(_FOLDER) != _HERE:
            continue
        for key in _FILES:
            if state.get(key):
                state[key] = str(Path(folder) / state[key])
        state[_RANKED] = {str(Path(folder) / n): score for n, score in state[_RANKED].items()}
        state[_FOLDER] = folder


def _states(checkpoint: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, state in checkpoint.get("callbacks", {}).items():
        if str(name).startswith(_OWNER) and isinstance(state.get(_RANKED), dict):
            yield state
