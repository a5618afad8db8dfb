"""Frame scores of many clips in one array, and detections at a threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from desed_task.dataio.annotations import EventTable
from desed_task.errors import InputError
from desed_task.labels import Vocabulary

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """Frame scores of clips.

    Attributes:
        clip_ids: file stems.
        values: (clip, frame, class) in [0, 1].
        boundaries_s: (frame + 1,) seconds; frame k lies between entries k and k + 1.
        vocabulary: classes of the last axis.

    Raises:
        InputError: if the shapes do not fit together.
    """

    clip_ids: tuple[str, ...]
    values: npt.NDArray[Any]
    boundaries_s: Floats
    vocabulary: Vocabulary

    def __post_init__(self) -> None:
        expected = (len(self.clip_ids), len(self.boundaries_s) - 1, len(self.vocabulary))
        if self.values.shape != expected:
            raise InputError(
                f"scores of shape {self.values.shape} do not fit {expected[0]} clips, "
                f"{expected[1]} frames and {expected[2]} classes"
            )

    def map(self, function: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Scores:
        """A copy with `function` applied to the values."""
        return replace(self, values=function(self.values))

    def select(
        self, clip_ids: Sequence[str] | None = None, labels: Sequence[str] | None = None
    ) -> Scores:
        """Scores of some clips and classes, in the order given; None keeps all.

        Raises:
            InputError: naming clips without scores, or an unknown label.
        """
        chosen = self
        if clip_ids is not None:
            place = {clip_id: row for row, clip_id in enumerate(self.clip_ids)}
            absent = [clip_id for clip_id in clip_ids if clip_id not in place]
            if absent:
                raise InputError(
                    f"no scores for {len(absent)} clips (e.g. {', '.join(absent[:3])}); score "
                    "them, or leave them out of the truth"
                )
            values = self.values[[place[clip_id] for clip_id in clip_ids]]
            chosen = replace(self, clip_ids=tuple(clip_ids), values=values)
        if labels is None:
            return chosen
        columns = [self.vocabulary.index(label) for label in labels]
        return replace(chosen, values=chosen.values[..., columns], vocabulary=Vocabulary(labels))


def match_clips(scores: Scores, table: EventTable) -> tuple[Scores, EventTable, int]:
    """Scores and truth of the clips that have both, in the table's order.

    Returns:
        the scores, the events, and how many clips of the table have no scores.

    Raises:
        InputError: naming scored clips that the table does not list, or whose scores are not
            finite; if no clip of the table has scores.
    """
    listed, scored = set(table.clip_ids), set(scores.clip_ids)
    unknown = [clip_id for clip_id in scores.clip_ids if clip_id not in listed]
    if unknown:
        raise InputError(
            f"{len(unknown)} scored clips (e.g. {', '.join(unknown[:3])}) are not in "
            f"{table.path or 'the truth'}; add a row for each (without onset, offset and label if "
            "nothing happens in it), or do not score them"
        )
    broken = np.flatnonzero(~np.isfinite(scores.values).all(axis=(1, 2)))
    if len(broken):
        names = ", ".join(scores.clip_ids[row] for row in broken[:3])
        raise InputError(
            f"scores of {len(broken)} clips (e.g. {names}) are not finite; the network has "
            "diverged or the clips' features are broken"
        )
    common = [clip_id for clip_id in table.clip_ids if clip_id in scored]
    if not common:
        raise InputError(
            f"no scores for any of the {len(listed)} clips of {table.path or 'the truth'}; score "
            "them first"
        )
    return scores.select(common), table.select(common), len(listed) - len(common)


@dataclass(frozen=True)
class Detections:
    """Detected or true events as columns, with one entry per event.

    Attributes:
        clip_index: (event,) index of the clip.
        label_index: (event,) index of the class.
        onset_s: (event,) seconds.
        offset_s: (event,) seconds.
    """

    clip_index: Ints
    label_index: Ints
    onset_s: Floats
    offset_s: Floats

    def __len__(self) -> int:
        return len(self.clip_index)

    def rows(self, index: npt.NDArray[np.bool_]) -> Detections:
        """The events at which `index` is True."""
        return Detections(*(getattr(self, field.name)[index] for field in fields(self)))

    def within(self, duration_s: Floats) -> Detections:
        """Events that begin before their clip ends, as psds_eval counts; others lie in its padding.

        Args:
            duration_s: (clip,) seconds.
        """
        return self.rows(self.onset_s < duration_s[self.clip_index])


def detect(scores: Scores, threshold: float) -> Detections:
    """Runs of frames whose score is above `threshold`."""
    n_clips, n_frames, n_classes = scores.values.shape
    padded = np.zeros((n_clips, n_classes, n_frames + 2), dtype=np.int8)
    padded[..., 1:-1] = (scores.values > threshold).transpose(0, 2, 1)
    change = np.diff(padded, axis=-1)
    clip_index, label_index, first = np.nonzero(change == 1)
    last = np.nonzero(change == -1)[2]
    return Detections(
        clip_index, label_index, scores.boundaries_s[first], scores.boundaries_s[last]
    )


def as_detections(table: EventTable, vocabulary: Vocabulary) -> Detections:
    """The events of a table with labels in `vocabulary`, counted in its classes; others dropped."""
    renumbered = np.array([_position(vocabulary, label) for label in table.vocabulary])
    label_index = renumbered[table.label_index] if len(table) else table.label_index
    kept = label_index >= 0
    return Detections(
        table.clip_index[kept], label_index[kept], table.onset_s[kept], table.offset_s[kept]
    )


def _position(vocabulary: Vocabulary, label: str) -> int:
    return vocabulary.index(label) if label in vocabulary else -1


ScoreFrames = dict[str, pd.DataFrame]
TruthEvents = dict[str, list[tuple[float, float, str]]]


def as_sed_scores_eval(scores: Scores) -> ScoreFrames:
    """The data frames that sed_scores_eval takes; no other code creates them."""
    columns = ["onset", "offset", *scores.vocabulary]
    times = np.stack([scores.boundaries_s[:-1], scores.boundaries_s[1:]], axis=1)
    whole = np.broadcast_to(times, (len(scores.clip_ids), *times.shape))
    stacked = np.concatenate([whole, scores.values.astype(np.float64)], axis=-1)
    return {
        clip_id: pd.DataFrame(values, columns=columns)
        for clip_id, values in zip(scores.clip_ids, stacked, strict=True)
    }


def truth_events(table: EventTable, vocabulary: Vocabulary) -> TruthEvents:
    """Clip -> (onset, offset, label) of events in `vocabulary`, as sed_scores_eval takes them."""
    found: TruthEvents = {clip_id: [] for clip_id in table.clip_ids}
    events = as_detections(table, vocabulary)
    rows = zip(events.clip_index, events.onset_s, events.offset_s, events.label_index, strict=True)
    for clip, onset_s, offset_s, label in rows:
        event = (float(onset_s), float(offset_s), vocabulary[label])
        found[table.clip_ids[clip]].append(event)
    return found


def check_durations(clip_ids: Sequence[str], durations: Mapping[str, float]) -> None:
    """Check that every clip has a known duration.

    Raises:
        InputError: naming them.
    """
    absent = [clip_id for clip_id in clip_ids if clip_id not in durations]
    if absent:
        raise InputError(
            f"no duration for {len(absent)} clips (e.g. {', '.join(absent[:3])}); add them to the "
            "durations table, or delete it and prepare the data again"
        )
