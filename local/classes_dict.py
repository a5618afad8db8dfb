"""The classes of the 2024 task: aliases, the scored subset and the classes each corpus annotates.

See docs/method.md, Classes and corpora. Labels are spelled as in the annotation tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from desed_task.dataio.label_files.aliases import add_aliases
from desed_task.labels import Vocabulary
from desed_task.published_classes import CLASSES as CLASSES
from desed_task.published_classes import DESED_CLASSES as DESED_CLASSES
from desed_task.published_classes import MAESTRO_REAL_CLASSES

if TYPE_CHECKING:
    from desed_task.dataio.annotations import EventTable

# The other 6 are too rare in the validation recordings to be scored.
MAESTRO_SCORED_CLASSES: tuple[str, ...] = (
    "birds_singing",
    "car",
    "people talking",
    "footsteps",
    "children voices",
    "wind_blowing",
    "brakes_squeaking",
    "large_vehicle",
    "cutlery and dishes",
    "metro approaching",
    "metro leaving",
)

# Downloaded with MAESTRO synth, which the recipe does not train on.
MAESTRO_SYNTH_CLASSES: tuple[str, ...] = (
    "car_horn",
    "children_voices",
    "engine_idling",
    "siren",
    "street_music",
    "dog_bark",
)

VOCABULARY = Vocabulary(CLASSES)

# MAESTRO label -> the DESED class that contains it; no MAESTRO class contains a DESED class.
MAESTRO_ALIASES: dict[str, str] = {
    "people talking": "Speech",
    "children voices": "Speech",
    "announcement": "Speech",
    "cutlery and dishes": "Dishes",
    "dog_bark": "Dog",
}

# MAESTRO was not annotated with DESED classes; aliases supply three of them.
MAESTRO_REAL_KNOWN: tuple[str, ...] = (*MAESTRO_REAL_CLASSES, "Speech", "Dog", "Dishes")


def apply_aliases(table: EventTable) -> EventTable:
    """A MAESTRO training table with a DESED-labelled copy of each aliased event behind its events.

    Args:
        table: events whose vocabulary contains the DESED labels of the aliases.
    """
    return add_aliases(table, tuple(MAESTRO_ALIASES.items()))
