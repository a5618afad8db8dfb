"""Ground truth of a corpus and the classes that are scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from desed_task.dataio.annotations import EventTable, WeakTable
from desed_task.errors import InputError, count_of
from desed_task.evaluation.segments import clip_span
from local.schema.task import ScoreKind
from local.task.task import ScoredPart
from local.task.task import Stage as Stage

# An annotated soft label above this counts as an event.
TRUE_CONFIDENCE = 0.5


class Truth(NamedTuple):
    """Ground truth of what a stage scores with events or segments.

    Attributes:
        part: the corpus, the kind of scores and the classes.
        events: events of the clips that are scored.
        durations: clip (or recording, of clips that are scored by recording) -> seconds.
        left_out: listed clips without events, which are not scored.
    """

    part: ScoredPart
    events: EventTable
    durations: dict[str, float]
    left_out: tuple[str, ...] = ()

    @property
    def certain(self) -> EventTable:
        """The events that count as true."""
        return self.events.rows(self.events.confidence > TRUE_CONFIDENCE)

    @property
    def left_out_s(self) -> float:
        """Total duration of left-out clips whose durations are known."""
        return sum(self.durations.get(clip_id, 0.0) for clip_id in self.left_out)


def truth_of(truths: Sequence[Truth], kind: ScoreKind) -> Truth | None:
    """The truth of a kind of scores; None if a stage has none."""
    return next((truth for truth in truths if truth.part.kind == kind), None)


def true_classes(labels: EventTable | WeakTable | None) -> set[str]:
    """The classes of labels that count as true."""
    if labels is None:
        return set()
    if isinstance(labels, WeakTable):
        used = np.flatnonzero(labels.target.any(axis=0))
    else:
        used = np.unique(labels.label_index[labels.confidence > TRUE_CONFIDENCE])
    return {labels.vocabulary[int(index)] for index in used}


def no_event_remedy(part: ScoredPart, stage: Stage) -> str:
    """Remedy if no scored class has an event."""
    if stage == "val" and part.corpus.is_divided:
        return (
            "check the table, or hold out other clips for validation (the split of the corpus, "
            "training.seed)"
        )
    return "check the table"


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


def recording_name(clip_id: str) -> str:
    """The recording that a clip was cut from; the clip itself if its name tells none."""
    try:
        return clip_span(clip_id).recording
    except ValueError:
        return clip_id
