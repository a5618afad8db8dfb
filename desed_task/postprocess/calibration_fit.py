"""Fit the calibration of detected events on clips with annotations.

    events = scored_events(decoded, truth, thresholds)
    calibration = fit_calibration(events, labels, kind="isotonic")

Events are those at the thresholds in force, with the mean score as confidence. These have no mean
scores below the thresholds, so the lower part of an isotonic curve is fitted on events at lower
thresholds: from each of nine tenths, eight tenths ... of the thresholds, and 0, those whose mean
score is not above the next higher one. Each part of the range is thus seen once, and what is above
the thresholds in force comes from events as they are detected. A temperature has no parts: it is
fitted on the events at the thresholds in force only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from desed_task.errors import InputError, count_of
from desed_task.evaluation.boxes import Boxes, Decoded
from desed_task.evaluation.intersection import intersection_matches, overlaps_of
from desed_task.evaluation.scores import Detections, Floats, Ints, Scores, detect
from desed_task.postprocess.calibration import (
    ISOTONIC,
    KINDS,
    MIN_EVENTS,
    Calibration,
    Curve,
    IsotonicCurve,
    TemperatureCurve,
    logits,
)

# The criterion of a right event; shares are compared to the microsecond.
DTC: Final = 0.5
GTC: Final = 0.5
_DECIMALS: Final = 6
# Shares of the thresholds in force, from each of which events are taken.
_SHARES: Final = tuple(tenths / 10 for tenths in range(9, -1, -1))
_TEMPERATURES: Final = (0.05, 100.0)
_HALVINGS: Final = 60


class ScoredEvents(NamedTuple):
    """Detected events of clips with their mean scores, and which of them are right.

    Attributes:
        clip_index: (event,) index of the clip.
        label_index: (event,) index of the class.
        confidence: (event,) mean score, in [0, 1].
        right: (event,) whether it is right; see `right_events`.
        in_force: (event,) whether it is detected at the thresholds in force, not at lower ones.
    """

    clip_index: Ints
    label_index: Ints
    confidence: Floats
    right: npt.NDArray[np.bool_]
    in_force: npt.NDArray[np.bool_]

    def rows(self, index: npt.NDArray[np.bool_]) -> ScoredEvents:
        """The events at which `index` is True."""
        clip_index, label_index, confidence, right, in_force = self
        clip_index, label_index = clip_index[index], label_index[index]
        return ScoredEvents(
            clip_index, label_index, confidence[index], right[index], in_force[index]
        )


def scored_events(decoded: Decoded, truth: Detections, thresholds: Floats) -> ScoredEvents:
    """The events that a calibration is fitted on, from the lowest threshold to those in force.

    Args:
        decoded: finite, filtered scores or boxes.
        truth: annotated events, their indices those of `decoded`.
        thresholds: (class,) in force, in [0, 1).
    """
    n_classes, parts = len(decoded.vocabulary), []
    upper: Floats = np.full(n_classes, np.inf)
    for share in (1.0, *_SHARES):
        limits = np.asarray(thresholds, dtype=np.float64) * share
        found = detect(decoded, limits)
        confidence = confidences(decoded, found)
        right = right_events(found, truth, n_classes)
        in_force = np.full(len(found), share == 1)
        events = ScoredEvents(found.clip_index, found.label_index, confidence, right, in_force)
        parts.append(events.rows(confidence <= upper[found.label_index]))
        upper = limits
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return ScoredEvents(*columns)


def right_events(found: Detections, truth: Detections, n_classes: int) -> npt.NDArray[np.bool_]:
    """(event,) which detections are right by the intersection criterion.

    At least half of it lies in annotated events of its class, and at least half of one that it
    meets is covered by such detections.

    Args:
        found: detections at one set of thresholds.
        truth: annotated events.
        n_classes: classes.
    """
    matches = intersection_matches(
        found, truth, n_classes, dtc=DTC, gtc=GTC, cttc=None, decimals=_DECIMALS
    )
    pairs = overlaps_of(found, truth)
    same = found.label_index[pairs.found] == truth.label_index[pairs.true]
    meets = np.zeros(len(found), dtype=bool)
    meets[pairs.found[same & matches.hit[pairs.true]]] = True
    right: npt.NDArray[np.bool_] = meets & matches.tolerated
    return right


def confidences(decoded: Decoded, found: Detections) -> Floats:
    """(event,) mean scores of events that `detect` has found: over frames, or of the box.

    Args:
        decoded: filtered scores or boxes.
        found: events of `detect(decoded, ...)`.
    """
    return _of_boxes(decoded, found) if isinstance(decoded, Boxes) else _of_frames(decoded, found)


def _of_frames(scores: Scores, found: Detections) -> Floats:
    means = np.zeros(len(found))
    for first_clip, block in scores.blocks:
        clip = found.clip_index - first_clip
        own = np.flatnonzero((clip >= 0) & (clip < len(block.values)))
        first, last = (
            np.searchsorted(block.boundaries_s, times[own])
            for times in (found.onset_s, found.offset_s)
        )
        n_clips, n_frames, n_classes = block.values.shape
        sums = np.zeros((n_clips, n_frames + 1, n_classes))
        np.cumsum(block.values, axis=1, dtype=np.float64, out=sums[:, 1:])
        place = clip[own], found.label_index[own]
        total = sums[place[0], last, place[1]] - sums[place[0], first, place[1]]
        means[own] = total / (last - first)
    clipped: Floats = np.clip(means, 0, 1)  # sums are rounded
    return clipped


def _of_boxes(boxes: Boxes, found: Detections) -> Floats:
    """Boxes of a clip and class are told apart by their onsets."""
    columns = [
        np.concatenate([getattr(boxes, name), getattr(found, name)])
        for name in ("clip_index", "label_index", "onset_s")
    ]
    _, key = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    key = key.reshape(-1)
    of_key = np.full(key.max(initial=-1) + 1, np.nan)
    of_key[key[: len(boxes)]] = boxes.confidence
    means: Floats = of_key[key[len(boxes) :]]
    return means


def fit_calibration(
    events: ScoredEvents,
    labels: Sequence[str],
    *,
    kind: str = ISOTONIC,
    min_events: int = MIN_EVENTS,
    thresholds: Mapping[str, float] | None = None,
    decoder: str = "",
) -> Calibration:
    """Fit a curve per class, and one of all classes for those with too few events.

    Args:
        events: of clips that neither the network nor the thresholds have learned from.
        labels: the classes; each is calibrated.
        kind: "isotonic" (pool adjacent violators) or "temperature" (of the logit).
        min_events: events at the thresholds in force that a class needs for a curve of its own.
        thresholds: label -> threshold in force, which the result keeps.
        decoder: kind of the decoder, which the result keeps.

    Raises:
        InputError: for an unknown kind, mean scores outside [0, 1], and if there is no event at the
            thresholds in force.
    """
    _check(events, labels, kind)
    n_events = np.bincount(events.label_index[events.in_force], minlength=len(labels))
    fit = _isotonic if kind == ISOTONIC else _temperature
    curves: dict[str, Curve] = {
        label: fit(events.rows(events.label_index == number))
        for number, label in enumerate(labels)
        if n_events[number] >= max(min_events, 1)
    }
    return Calibration(
        kind=kind,
        curves=curves,
        pooled=fit(events),
        n_events=dict(zip(labels, n_events.tolist(), strict=True)),
        min_events=min_events,
        thresholds=dict(thresholds or {}),
        decoder=decoder,
    )


def _check(events: ScoredEvents, labels: Sequence[str], kind: str) -> None:
    if kind not in KINDS:
        raise InputError(f"calibration {kind!r}: give one of {', '.join(KINDS)}")
    if not events.in_force.any():
        raise InputError(
            "calibration: no event is detected at the thresholds, so there is nothing to fit; "
            "lower them, or give more clips"
        )
    if events.label_index.max() >= len(labels):
        raise InputError(
            f"calibration: events of class number {events.label_index.max()}, counted from 0, for "
            f"{count_of(len(labels), 'label')}"
        )
    wrong = ~((events.confidence >= 0) & (events.confidence <= 1))
    if wrong.any():
        raise InputError(
            f"calibration: a mean score of {events.confidence[wrong][0]:g}; scores must lie in "
            "[0, 1]"
        )


def _isotonic(events: ScoredEvents) -> IsotonicCurve:
    """The rising curve with the least squared error.

    A right event with the mean score 0 and a false one with 1 are added, so that no probability is
    exactly 0 or 1, and those of few events are not extreme.
    """
    confidence = np.concatenate([[0.0], events.confidence, [1.0]])
    right = np.concatenate([[1.0], events.right, [0.0]])
    scores, place = np.unique(confidence, return_inverse=True)
    weights = np.bincount(place).astype(np.float64)
    shares = np.bincount(place, right) / weights
    values = np.clip(isotonic_regression(shares, weights=weights).x, 0, 1)
    # Inside a block of equal values the curve is flat: its first and last point tell all.
    ends = np.append(True, values[1:] != values[:-1])
    ends |= np.append(values[1:] != values[:-1], True)
    return IsotonicCurve(tuple(scores[ends].tolist()), tuple(values[ends].tolist()))


def _temperature(events: ScoredEvents) -> TemperatureCurve:
    """The temperature with the least log loss, between 0.05 and 100.

    The loss is convex in its inverse, whose best value is found by halving.
    """
    chosen = events.rows(events.in_force)
    logit, right = logits(chosen.confidence), chosen.right
    low, high = (1 / bound for bound in reversed(_TEMPERATURES))

    def slope(inverse: float) -> float:
        probability = 1 / (1 + np.exp(-np.clip(logit * inverse, -700, 700)))
        return float(((probability - right) * logit).sum())

    if not np.any(logit):
        return TemperatureCurve(1.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return TemperatureCurve(min(max(2 / (low + high), _TEMPERATURES[0]), _TEMPERATURES[1]))
