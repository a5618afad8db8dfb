"""Measure what a calibration gains, on other clips than it is fitted on.

for row in measure_calibration(events, labels, units, kind="isotonic"):
    print(row.label, row.error, row.calibrated_error)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from desed_task.errors import InputError, count_of
from desed_task.evaluation.boxes import Decoded
from desed_task.evaluation.scores import Detections, Floats, Ints
from desed_task.postprocess.calibration import ISOTONIC, LEAST_SCORE, MIN_EVENTS, Calibration
from desed_task.postprocess.calibration_fit import ScoredEvents, fit_calibration, scored_events

N_FOLDS: Final = 5
# Of the expected calibration error.
N_BINS: Final = 10


class MeasuredCalibration(NamedTuple):
    """A calibration fitted on all clips, and what those of parts of them gain on the others."""

    calibration: Calibration
    rows: list[CalibrationRow]


def fit_and_measure(
    decoded: Decoded,
    truth: Detections,
    thresholds: Floats,
    units: Sequence[str],
    *,
    kind: str = ISOTONIC,
    min_events: int = MIN_EVENTS,
    decoder: str = "",
) -> MeasuredCalibration:
    """Fit a calibration on clips with annotations, and measure it cross-fitted over them.

    Args:
        decoded: finite, filtered scores or boxes of the clips and classes to count.
        truth: annotated events, their indices those of `decoded`.
        thresholds: (class,) in force, in [0, 1).
        units: see `cross_fitted`.
        kind: see `fit_calibration`.
        min_events: see `fit_calibration`.
        decoder: see `fit_calibration`.

    Raises:
        InputError: see `fit_calibration` and `cross_fitted`.
    """
    events, labels = scored_events(decoded, truth, thresholds), decoded.vocabulary.labels
    in_force = dict(zip(labels, np.asarray(thresholds, np.float64).tolist(), strict=True))
    fitted = fit_calibration(
        events, labels, kind=kind, min_events=min_events, thresholds=in_force, decoder=decoder
    )
    rows = measure_calibration(events, labels, units, kind=kind, min_events=min_events)
    return MeasuredCalibration(fitted, rows)


def cross_fitted(
    events: ScoredEvents,
    labels: Sequence[str],
    units: Sequence[str],
    *,
    kind: str = ISOTONIC,
    min_events: int = MIN_EVENTS,
    n_folds: int = N_FOLDS,
) -> Floats:
    """(event,) calibrated confidences, each fitted on other clips than that of its event.

    Args:
        events: the events.
        labels: the classes.
        units: (clip,) what is never split between folds: clips, or recordings of several clips.
        kind: see `fit_calibration`.
        min_events: see `fit_calibration`.
        n_folds: number of parts, which the units are dealt to in random order (seed 0), whatever
            their order here.

    Raises:
        InputError: see `fit_calibration`; for fewer than two units.
    """
    fold = folds_of(units, n_folds)[events.clip_index]
    values = np.zeros(len(events.confidence))
    for number in np.unique(fold):
        fitted = fit_calibration(
            events.rows(fold != number), labels, kind=kind, min_events=min_events
        )
        for label_index, label in enumerate(labels):
            own = (fold == number) & (events.label_index == label_index)
            values[own] = fitted.apply(label, events.confidence[own])
    return values


def folds_of(units: Sequence[str], n_folds: int) -> Ints:
    """(clip,) numbers of near-equal parts, equal for clips of one unit.

    Raises:
        InputError: for fewer than two units or parts.
    """
    names = sorted(set(units))
    n_folds = min(n_folds, len(names))
    if n_folds < 2:
        raise InputError(
            f"calibration: {count_of(len(names), 'clip or recording', 'clips or recordings')} in "
            f"{count_of(n_folds, 'part')} cannot be split into what is fitted on and what is "
            "measured; give at least two"
        )
    order = np.random.default_rng(0).permutation(len(names))
    part = dict(zip((names[row] for row in order), np.arange(len(names)) % n_folds, strict=True))
    folds: Ints = np.array([part[unit] for unit in units], dtype=np.int64)
    return folds


class CalibrationRow(NamedTuple):
    """How far confidences of events at the thresholds in force are from the truth.

    Attributes:
        label: the class; "" for all.
        n_events: events.
        right: share of right ones; NaN without events, as are the others.
        error: expected calibration error of mean scores: the mean difference between confidence and
            share of right events over ten bins of equal width, weighted by events.
        calibrated_error: that of probabilities fitted on other clips.
        log_loss: mean log loss of mean scores, which count as at least 1e-6 from 0 and 1.
        calibrated_log_loss: that of probabilities fitted on other clips.
    """

    label: str
    n_events: int
    right: float
    error: float
    calibrated_error: float
    log_loss: float
    calibrated_log_loss: float


def measure_calibration(
    events: ScoredEvents,
    labels: Sequence[str],
    units: Sequence[str],
    *,
    kind: str = ISOTONIC,
    min_events: int = MIN_EVENTS,
) -> list[CalibrationRow]:
    """Errors before and after calibration, cross-fitted over clips: one row for all, then classes.

    Args:
        events: see `fit_calibration`.
        labels: the classes.
        units: see `cross_fitted`.
        kind: see `fit_calibration`.
        min_events: see `fit_calibration`.

    Raises:
        InputError: see `cross_fitted`.
    """
    calibrated = cross_fitted(events, labels, units, kind=kind, min_events=min_events)
    rows = []
    for number, label in [(-1, ""), *enumerate(labels)]:
        own = events.in_force & ((number < 0) | (events.label_index == number))
        right = events.right[own]
        pairs = events.confidence[own], calibrated[own]
        errors = [calibration_error(values, right) for values in pairs]
        losses = [log_loss(values, right) for values in pairs]
        share = float(right.mean()) if len(right) else float("nan")
        rows.append(CalibrationRow(label, len(right), share, *errors, *losses))
    return rows


def calibration_error(confidence: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error; NaN without events (see `CalibrationRow`)."""
    if not len(right):
        return float("nan")
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    differences = np.bincount(bins, confidence - right, N_BINS)
    return float(np.abs(differences).sum() / len(right))


def log_loss(confidence: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Mean log loss; NaN without events (see `CalibrationRow`)."""
    if not len(right):
        return float("nan")
    values = np.clip(confidence, LEAST_SCORE, 1 - LEAST_SCORE)
    return float(-np.log(np.where(right, values, 1 - values)).mean())
