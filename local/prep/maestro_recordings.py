"""MAESTRO's published recordings, as the supplied description of the 2024 task names them."""

from __future__ import annotations

from typing import Final

from local.data.splits import group_of
from local.task.reading import default_description

_TRAIN, _VALIDATION = (
    default_description()["corpora"][name]["recordings"]
    for name in ("maestro_real_train", "maestro_real_dev")
)

SCENES: Final[tuple[str, ...]] = tuple(_TRAIN["groups"])
"""Beginnings of the recordings' names, in the order in which splits shuffle them."""
MAESTRO_TRAIN_RECORDINGS: Final[tuple[str, ...]] = tuple(_TRAIN["expected"])
MAESTRO_VALIDATION_RECORDINGS: Final[tuple[str, ...]] = tuple(_VALIDATION["expected"])


def scene_of(name: str) -> str:
    """The scene that a recording's or clip's name begins with.

    Raises:
        InputError: the name begins with no known scene.
    """
    return group_of(name, SCENES)
