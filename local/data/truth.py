"""Ground truth of a corpus and the classes that are scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from desed_task.batch import Source
from desed_task.dataio.annotations import EventTable
from desed_task.errors import InputError, count_of

Stage = Literal["val", "test"]
# An annotated soft label above this counts as an event.
TRUE_CONFIDENCE = 0.5
# Remedy if no scored class has an event.
MAESTRO_REMEDIES: dict[Stage, str] = {
    "test": "check the table",
    "val": (
        "check the table, or hold out other recordings for validation (training.maestro_split, "
        "training.seed)"
    ),
}


class Truth(NamedTuple):
    """Ground truth of a corpus.

    Attributes:
        source: corpus of the clips.
        events: events of the clips that are scored.
        durations: clip (or MAESTRO recording) -> seconds.
        left_out: listed clips without events, which are not scored.
    """

    source: Source
    events: EventTable
    durations: dict[str, float]
    left_out: tuple[str, ...] = ()

    @property
    def left_out_s(self) -> float:
        """Total duration of left-out clips whose durations are known."""
        return sum(self.durations.get(clip_id, 0.0) for clip_id in self.left_out)


def scored_classes(
    events: EventTable, classes: Sequence[str], remedy: str = "check the table"
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split classes into those with events in the truth and those without.

    Raises:
        InputError: no class has an event; the message ends with `remedy`.
    """
    there = {events.vocabulary[index] for index in np.unique(events.label_index)}
    labels = tuple(label for label in classes if label in there)
    if not labels:
        raise InputError(
            f"{events.path or 'the truth'}: none of the scored classes ({', '.join(classes)}) "
            f"has an event above {TRUE_CONFIDENCE} in its "
            f"{count_of(len(events.clip_ids), 'clip')}; {remedy}"
        )
    return labels, tuple(label for label in classes if label not in there)
