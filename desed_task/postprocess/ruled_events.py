"""Events from frame scores or boxes, by checked rules of each class (`event_rules`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from desed_task.errors import InputError
from desed_task.labels import active_runs

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# A class and (event,) mean scores -> (event,) confidences.
Calibrate = Callable[[str, Floats], Floats]
_DECIMALS: Final = 6


class SoundEvent(NamedTuple):
    """One event; `confidence` is the mean of its class's scores over its frames."""

    onset_s: float
    offset_s: float
    label: str
    confidence: float


class RuledEvents(NamedTuple):
    """Events, by onset.

    Attributes:
        events: the events.
        mean_scores: (event,) what their confidences were calibrated from; else equal to them.
    """

    events: tuple[SoundEvent, ...]
    mean_scores: tuple[float, ...]


class _Found(NamedTuple):
    """Events of classes, by class, then onset; columns with one entry per event."""

    label_index: Ints
    onset_s: Floats
    offset_s: Floats
    confidence: Floats

    def rows(self, index: npt.NDArray[np.bool_]) -> _Found:
        """The events at which `index` is True."""
        label_index, onset_s, offset_s, confidence = self
        return _Found(label_index[index], onset_s[index], offset_s[index], confidence[index])


@dataclass(frozen=True)
class ClassRules:
    """Checked rules of each class; see `EventRules`.

    Attributes:
        labels: the classes.
        thresholds: (class,).
        low: (class,) thresholds of hysteresis, equal to `thresholds` for classes without it.
        min_duration_s: (class,).
        merge_gap_s: (class,).
        names: the classes, then the merged ones.
        goes_to: (class,) index in `names` of the label that its events get.
    """

    labels: tuple[str, ...]
    thresholds: Floats
    low: Floats
    min_duration_s: Floats
    merge_gap_s: Floats
    names: tuple[str, ...]
    goes_to: Ints

    def events_of_scores(
        self,
        scores: npt.NDArray[Any],
        boundaries_s: Floats,
        calibrate: Calibrate | None = None,
    ) -> RuledEvents:
        """The events of a recording's frame scores.

        Args:
            scores: (frame, class), filtered.
            boundaries_s: (frame + 1,) seconds.
            calibrate: turns mean scores into confidences.
        """
        first, last, label = active_runs(scores > self.low)
        if (self.low < self.thresholds).any():
            peaks = np.zeros((len(scores) + 1, len(self.labels)), dtype=np.int64)
            np.cumsum(scores > self.thresholds, axis=0, out=peaks[1:])
            kept = peaks[last, label] > peaks[first, label]
            first, last, label = first[kept], last[kept], label[kept]
        starts = self._starts(label, boundaries_s[first], boundaries_s[last])
        first, last, label = first[starts], last[_ends(starts)], label[starts]
        means = [
            float(scores[start:stop, one].mean(dtype=np.float64))
            for start, stop, one in zip(first, last, label, strict=True)
        ]
        found = _Found(label, boundaries_s[first], boundaries_s[last], np.array(means, np.float64))
        return self._finish(found, calibrate)

    def events_of_boxes(
        self, boxes: Sequence[SoundEvent], calibrate: Calibrate | None = None
    ) -> RuledEvents:
        """The events of a recording's boxes.

        Args:
            boxes: of all classes; those of one class do not touch.
            calibrate: turns mean scores into confidences.

        Raises:
            InputError: for a box of an unknown class.
        """
        places = {label: place for place, label in enumerate(self.labels)}
        if unknown := sorted({box.label for box in boxes} - set(places)):
            raise InputError(f"boxes of unknown classes: {', '.join(unknown)}")
        rows = sorted(
            (places[box.label], box.onset_s, box.offset_s, box.confidence) for box in boxes
        )
        columns = np.array(rows, dtype=np.float64).reshape(-1, 4).T
        label, onset_s, offset_s, score = columns[0].astype(np.int64), *columns[1:]
        kept = score > self.thresholds[label]
        label, onset_s, offset_s, score = label[kept], onset_s[kept], offset_s[kept], score[kept]
        starts = self._starts(label, onset_s, offset_s)
        means = _weighted_means(score, offset_s - onset_s, starts)
        found = _Found(label[starts], onset_s[starts], offset_s[_ends(starts)], means)
        return self._finish(found, calibrate)

    def _starts(self, label: Ints, onset_s: Floats, offset_s: Floats) -> npt.NDArray[np.bool_]:
        """(event,) whether it begins an event after gaps are joined."""
        starts = np.ones(len(label), dtype=bool)
        gap_s = np.round(onset_s[1:] - offset_s[:-1], _DECIMALS)
        joined = gap_s < np.round(self.merge_gap_s[label[1:]], _DECIMALS)
        starts[1:] = (label[1:] != label[:-1]) | ~joined
        return starts

    def _finish(self, found: _Found, calibrate: Calibrate | None) -> RuledEvents:
        """Drop short events, calibrate the others, and merge classes."""
        length_s = np.round(found.offset_s - found.onset_s, _DECIMALS)
        kept = length_s >= np.round(self.min_duration_s[found.label_index], _DECIMALS)
        found = found.rows(kept)
        confidence = found.confidence
        if calibrate is not None:
            confidence = confidence.copy()
            for place in np.unique(found.label_index):
                own = found.label_index == place
                confidence[own] = calibrate(self.labels[place], found.confidence[own])
        columns = (found.onset_s, found.offset_s, self.goes_to[found.label_index], confidence)
        rows = [
            (SoundEvent(onset_s, offset_s, self.names[name], value), mean)
            for onset_s, offset_s, name, value, mean in zip(
                *(column.tolist() for column in (*columns, found.confidence)), strict=True
            )
        ]
        rows.sort(key=lambda row: row[0][:3])
        if len(self.names) > len(self.labels):
            rows = _united(rows, self.names[len(self.labels) :])
            rows.sort(key=lambda row: row[0][:3])
        return RuledEvents(tuple(event for event, _ in rows), tuple(mean for _, mean in rows))


def _ends(starts: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(event,) whether it ends what `starts` begins."""
    return np.append(starts[1:], True)[: len(starts)]


def _weighted_means(values: Floats, weights: Floats, starts: npt.NDArray[np.bool_]) -> Floats:
    """Means over the entries that each of `starts` begins; those of one entry are that value."""
    first = np.flatnonzero(starts)
    means: Floats = values[first].copy()
    several = np.flatnonzero(np.diff(np.append(first, len(values))) > 1)
    for row in several:
        own = slice(first[row], first[row + 1] if row + 1 < len(first) else None)
        means[row] = np.average(values[own], weights=weights[own])
    return means


def _united(
    rows: Sequence[tuple[SoundEvent, float]], merged: Sequence[str]
) -> list[tuple[SoundEvent, float]]:
    """Events by onset, those of each merged class joined where they overlap or touch."""
    united: list[tuple[SoundEvent, float]] = []
    place: dict[str, int] = {}
    for event, mean in rows:
        before = place.get(event.label)
        if before is not None:
            last, last_mean = united[before]
            if round(event.onset_s, _DECIMALS) <= round(last.offset_s, _DECIMALS):
                offset_s = max(last.offset_s, event.offset_s)
                confidence = max(last.confidence, event.confidence)
                joined = last._replace(offset_s=offset_s, confidence=confidence)
                united[before] = joined, max(last_mean, mean)
                continue
        if event.label in merged:
            place[event.label] = len(united)
        united.append((event, mean))
    return united
