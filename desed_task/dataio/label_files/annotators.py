"""Labels of several annotators of the same clips, and how they become one.

Between two boundaries of any annotator's events nothing changes, so that rules are exact in time,
whatever the frames of a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from desed_task.dataio.annotations import EventTable

AggregationRule = Literal["mean", "weighted", "majority", "union", "intersection"]
Floats = npt.NDArray[np.float64]

# Agreement of two annotators is that of frames of this rate, a frame being active if its centre is.
FRAMES_PER_S: Final = 25.0
# Files that an annotator's own agreement must come from to count as much as the mean of all.
_PRIOR_FILES: Final = 5
_POWER: Final = 16
_HALF: Final = 0.5


@dataclass(frozen=True)
class AnnotatedEvents:
    """Events of several annotators.

    Attributes:
        table: the events of all.
        annotator: (event,) the annotator of each event, index into `names`.
        looked: clip -> annotators who looked at it, those who found nothing in it included.
        names: of the annotators.
    """

    table: EventTable
    annotator: npt.NDArray[np.int64]
    looked: Mapping[str, tuple[int, ...]]
    names: tuple[str, ...]

    def by(self, chosen: Mapping[str, int]) -> EventTable:
        """The events of one annotator of each clip.

        Args:
            chosen: clip -> annotator; clips that it lacks are left out.
        """
        clips = [chosen.get(clip_id, -1) for clip_id in self.table.clip_ids]
        wanted = np.array(clips, dtype=np.int64)[self.table.clip_index]
        rows = self.table.rows(self.annotator == wanted)
        table = rows.select(clip_id for clip_id in self.table.clip_ids if clip_id in chosen)
        return _without_events(table)

    def within(self, durations_s: Mapping[str, float]) -> AnnotatedEvents:
        """The same without events that begin after their clip's end.

        Args:
            durations_s: clip -> seconds; the end of others is not known.
        """
        ends = [durations_s.get(clip_id) or np.inf for clip_id in self.table.clip_ids]
        kept = self.table.onset_s < np.array(ends, dtype=np.float64)[self.table.clip_index]
        return replace(self, table=self.table.rows(kept), annotator=self.annotator[kept])

    def renamed(self, names: Mapping[str, str]) -> AnnotatedEvents:
        """The same with other clip ids; those that `names` lacks stay."""
        looked = {names.get(clip_id, clip_id): who for clip_id, who in self.looked.items()}
        return replace(self, table=self.table.renamed(names), looked=looked)

    def alternatives(self, clip_ids: Iterable[str]) -> tuple[EventTable, list[tuple[int, int]]]:
        """The labels of each annotator of some clips as clips of their own.

        Args:
            clip_ids: the clips.

        Returns:
            A table with one clip for each clip and annotator; and for each of `clip_ids`, the place
            of its first one there, and their number.
        """
        place = {clip_id: index for index, clip_id in enumerate(self.table.clip_ids)}
        first: dict[tuple[int, int], int] = {}
        spans: list[tuple[int, int]] = []
        names: list[str] = []
        for clip_id in clip_ids:
            looked = self.looked[clip_id]
            spans.append((len(names), len(looked)))
            for one in looked:
                first[place[clip_id], one] = len(names)
                names.append(f"{clip_id}\n{self.names[one]}")
        pairs = zip(self.table.clip_index.tolist(), self.annotator.tolist(), strict=True)
        moved = np.array([first.get(pair, -1) for pair in pairs], dtype=np.int64)
        rows = self.table.rows(moved >= 0)
        return replace(rows, clip_ids=tuple(names), clip_index=moved[moved >= 0]), spans

    def aggregated(self, rule: AggregationRule) -> EventTable:
        """One table of the labels of all annotators.

        Args:
            rule: union, intersection or majority (at least half) of the annotators of a clip; mean:
                events whose confidence is the share of annotators; weighted: the same with weights
                that come from their agreement with others (`annotator_weights`).

        Returns:
            Events in the order of clip, class and onset. A clip in which nobody, or too few, heard
            anything is there without events.
        """
        weights = annotator_weights(self) if rule == "weighted" else np.ones(len(self.names))
        found: list[tuple[int, float, float, int, float]] = []
        for clip, label, rows in _groups(self.table):
            looked = self.looked[self.table.clip_ids[clip]]
            share = weights[list(looked)]
            share = share / share.sum() if share.any() else np.full(len(looked), 1 / len(looked))
            of = dict(zip(looked, share.tolist(), strict=True))
            edges, values = self._shares(rows, of)
            found += (
                (clip, onset_s, offset_s, label, value)
                for onset_s, offset_s, value in _runs(edges, values, rule)
            )
        return self._table_of(found)

    def _shares(
        self, rows: npt.NDArray[np.int64], share: Mapping[int, float]
    ) -> tuple[Floats, Floats]:
        """Boundaries (edge,) in seconds, and the share of annotators (edge - 1,) between them."""
        edges = np.unique([self.table.onset_s[rows], self.table.offset_s[rows]])
        active: dict[int, npt.NDArray[np.bool_]] = {}
        for row in rows.tolist():
            first, last = np.searchsorted(
                edges, (self.table.onset_s[row], self.table.offset_s[row])
            )
            # An annotator's events may overlap, but count once.
            of = active.setdefault(int(self.annotator[row]), np.zeros(len(edges) - 1, dtype=bool))
            of[first:last] = True
        values = np.zeros(len(edges) - 1)
        for annotator, where in active.items():
            values += share[annotator] * where
        return edges, values

    def _table_of(self, events: Sequence[tuple[int, float, float, int, float]]) -> EventTable:
        columns = [np.array(column) for column in zip(*events, strict=True)]
        clip, onset_s, offset_s, label, value = columns or [np.empty(0)] * 5
        table = replace(
            self.table,
            clip_index=clip.astype(np.int64),
            onset_s=onset_s.astype(np.float64),
            offset_s=offset_s.astype(np.float64),
            label_index=label.astype(np.int64),
            confidence=value.astype(np.float32),
        )
        return _without_events(table)


def _without_events(table: EventTable) -> EventTable:
    """The table, which knows its clips without events."""
    eventful = set(table.clip_index.tolist())
    empty = (clip_id for clip, clip_id in enumerate(table.clip_ids) if clip not in eventful)
    return replace(table, eventless=frozenset(empty))


def _groups(table: EventTable) -> Iterable[tuple[int, int, npt.NDArray[np.int64]]]:
    """Clip, class and rows of each class in a clip, in this order."""
    order = np.lexsort((table.onset_s, table.label_index, table.clip_index))
    keys = np.stack([table.clip_index[order], table.label_index[order]])
    starts = np.flatnonzero(np.diff(keys, axis=1).any(axis=0)) + 1
    for rows in np.split(order, starts):
        if len(rows):
            yield int(table.clip_index[rows[0]]), int(table.label_index[rows[0]]), rows


def _runs(
    edges: Floats, values: Floats, rule: AggregationRule
) -> Iterable[tuple[float, float, float]]:
    """Onset, offset and confidence of each event of a rule."""
    # Sums of shares are not exact: 1 / 3 + 1 / 3 + 1 / 3.
    values = np.round(values, 9)
    if rule == "union":
        values = (values > 0).astype(float)
    elif rule == "intersection":
        values = (values >= 1).astype(float)
    elif rule == "majority":
        values = (values >= _HALF).astype(float)
    changes = np.flatnonzero(np.diff(values)) + 1
    for first, last in zip([0, *changes], [*changes, len(values)], strict=True):
        if values[first] > 0:
            yield float(edges[first]), float(edges[last]), min(float(values[first]), 1.0)


def annotator_weights(events: AnnotatedEvents) -> Floats:
    """(annotator,) weights, from the agreement with others on the clips that both looked at.

    Score = (n r + 5 m) / (n + 5), with r the mean over n clips of the agreement with each of the
    others, and m the mean of r over annotators; the weight is its 16th power. The agreement of two
    is the mean over classes of the Dice coefficient of frames; 1 if both heard nothing.
    """
    n_annotators = len(events.names)
    total, n_clips = np.zeros(n_annotators), np.zeros(n_annotators)
    rows_of = _rows_by_annotator(events)
    for clip, clip_id in enumerate(events.table.clip_ids):
        looked = events.looked[clip_id]
        if len(looked) < 2:
            continue
        frames = {one: _frames(events, rows_of.get((clip, one), ())) for one in looked}
        for one in looked:
            others = [_agreement(frames[one], frames[other]) for other in looked if other != one]
            total[one] += sum(others) / len(others)
            n_clips[one] += 1
    shared = n_clips > 0
    if not shared.any():
        return np.ones(n_annotators)
    own = np.divide(total, n_clips, out=np.zeros(n_annotators), where=shared)
    mean = own[shared].mean()
    score = (n_clips * own + _PRIOR_FILES * mean) / (n_clips + _PRIOR_FILES)
    # Relative to the largest, as powers of small scores vanish.
    weights: Floats = (score / score.max()) ** _POWER if score.max() > 0 else np.ones(n_annotators)
    return weights


def _rows_by_annotator(events: AnnotatedEvents) -> dict[tuple[int, int], list[int]]:
    found: dict[tuple[int, int], list[int]] = {}
    pairs = zip(events.table.clip_index.tolist(), events.annotator.tolist(), strict=True)
    for row, key in enumerate(pairs):
        found.setdefault(key, []).append(row)
    return found


def _frames(events: AnnotatedEvents, rows: Sequence[int]) -> dict[int, set[int]]:
    """Class -> active frames."""
    found: dict[int, set[int]] = {}
    for row in rows:
        times = np.array([events.table.onset_s[row], events.table.offset_s[row]])
        first, last = np.ceil(times * FRAMES_PER_S - _HALF).astype(int).tolist()
        found.setdefault(int(events.table.label_index[row]), set()).update(range(first, last))
    return found


def _agreement(one: Mapping[int, set[int]], other: Mapping[int, set[int]]) -> float:
    classes = [label for label in {*one, *other} if one.get(label) or other.get(label)]
    if not classes:
        return 1.0
    dice = [
        2
        * len(one.get(label, set()) & other.get(label, set()))
        / (len(one.get(label, ())) + len(other.get(label, ())))
        for label in classes
    ]
    return sum(dice) / len(dice)
