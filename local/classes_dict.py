"""The classes of the 2024 task: aliases, the scored subset and the classes each corpus annotates.

See docs/method.md, Classes and corpora. Labels are spelled as in the annotation tables.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from desed_task.labels import CLASSES as CLASSES
from desed_task.labels import DESED_CLASSES as DESED_CLASSES
from desed_task.labels import MAESTRO_REAL_CLASSES, Vocabulary

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
    sources = [np.arange(len(table.label_index))]
    labels = [table.label_index]
    # Alias by alias, in the order of the published tables: later rows of a class overwrite earlier.
    for maestro, desed in MAESTRO_ALIASES.items():
        if maestro in table.vocabulary:
            rows = np.flatnonzero(table.label_index == table.vocabulary.index(maestro))
            sources.append(rows)
            labels.append(np.full(len(rows), table.vocabulary.index(desed)))
    order = np.concatenate(sources)
    return replace(
        table,
        clip_index=table.clip_index[order],
        onset_s=table.onset_s[order],
        offset_s=table.offset_s[order],
        label_index=np.concatenate(labels),
        confidence=table.confidence[order],
    )
