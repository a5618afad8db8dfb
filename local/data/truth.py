"""The truth that scores are compared with, and which classes of it are scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from desed_task.batch import Source
from desed_task.dataio.annotations import EventTable
from desed_task.errors import InputError

Stage = Literal["val", "test"]
# An annotated soft label above this counts as an event.
TRUE_CONFIDENCE = 0.5
# What to do where no scored class has an event.
MAESTRO_REMEDIES: dict[Stage, str] = {
    "test": "check the table",
    "val": (
        "check the table, or hold out other recordings for validation (training.maestro_split, "
        "training.seed)"
    ),
}


class Truth(NamedTuple):
    """What the scores of a corpus are held against.

    Attributes:
        source: of the clips.
        events: of the clips that are scored.
        durations: clip (or MAESTRO recording) -> seconds.
        left_out: clips of the table without events, which are not scored.
    """

    source: Source
    events: EventTable
    durations: dict[str, float]
    left_out: tuple[str, ...] = ()

    @property
    def left_out_s(self) -> float:
        """Seconds of the clips left out, as far as their durations are known."""
        return sum(self.durations.get(clip_id, 0.0) for clip_id in self.left_out)


def scored_classes(
    events: EventTable, classes: Sequence[str], remedy: str = "check the table"
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes that occur in the truth, and those that do not.

    Raises:
        InputError: if none occurs, with the remedy.
    """
    there = {events.vocabulary[index] for index in np.unique(events.label_index)}
    labels = tuple(label for label in classes if label in there)
    if not labels:
        raise InputError(
            f"{events.path or 'the truth'}: none of the scored classes ({', '.join(classes)}) has "
            f"an event above {TRUE_CONFIDENCE} in its {len(events.clip_ids)} clips; {remedy}"
        )
    return labels, tuple(label for label in classes if label not in there)
