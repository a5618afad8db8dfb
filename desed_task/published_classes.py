"""Class names of the DCASE 2024 task, whose published checkpoints store none.

The outputs of such a checkpoint are `CLASSES`, in this order. Spelling (spaces, slash, underscores)
is that of the annotation tables.
"""

from __future__ import annotations

from typing import Final

DESED_CLASSES: Final[tuple[str, ...]] = (
    "Alarm_bell_ringing",
    "Blender",
    "Cat",
    "Dishes",
    "Dog",
    "Electric_shaver_toothbrush",
    "Frying",
    "Running_water",
    "Speech",
    "Vacuum_cleaner",
)

MAESTRO_REAL_CLASSES: Final[tuple[str, ...]] = (
    "cutlery and dishes",
    "furniture dragging",
    "people talking",
    "children voices",
    "coffee machine",
    "footsteps",
    "large_vehicle",
    "car",
    "brakes_squeaking",
    "cash register beeping",
    "announcement",
    "shopping cart",
    "metro leaving",
    "metro approaching",
    "door opens/closes",
    "wind_blowing",
    "birds_singing",
)

CLASSES: Final[tuple[str, ...]] = DESED_CLASSES + MAESTRO_REAL_CLASSES
