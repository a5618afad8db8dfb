"""Figures of decoded clips, with intervals and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from desed_task.errors import InputError
from desed_task.evaluation.boxes import Decoded
from desed_task.evaluation.clip_counts import (
    exact_psds_by_clip,
    weighted_collar_f1,
    weighted_intersection_f1,
)
from desed_task.evaluation.exact_psds import several_exact_psds
from desed_task.evaluation.fscores import SED_SCORES_EVAL_DECIMALS
from desed_task.evaluation.psds import PSDS1, PSDS2
from desed_task.evaluation.scores import Detections, Floats, as_detections, detect
from desed_task.evaluation.weighted_metrics import WeightedF1, WeightedMetric
from desed_task.parallel import Progress
from desed_task.postprocess import ClassMedianFilter, class_thresholds
from local.scoring.metrics import event_part
from local.scoring.own.criteria import COLLAR, F1_THRESHOLD, INTERSECTION
from local.scoring.segment_metrics import segment_part
from local.summary import bootstrap
from local.tuning.decoders.candidates import decoded_events
from local.tuning.decoders.fit import Fit
from local.tuning.decoders.parts import Part, joined_clips, joined_scores

PSDS_NAMES: Final = ("psds1", "psds2")
# At the threshold 0.5, and at tuned ones.
F1_NAMES: Final = ("collar_f1", "intersection_f1")
TUNED_NAMES: Final = ("collar_f1_tuned", "intersection_f1_tuned")
MPAUC: Final = "mpauc"
NAMES: Final = (*PSDS_NAMES, *F1_NAMES, *TUNED_NAMES, MPAUC)


@dataclass(frozen=True)
class Figures:
    """Figures of one way of decoding a set.

    Attributes:
        values: name -> figure, of the clips with events; NaN where it is not defined.
        per_class: class -> PSDS1.
        metrics: name -> figure of weighted clips, of those that get intervals.
        clip_ids: the clips with events, in the order of the weights.
    """

    values: dict[str, float]
    per_class: dict[str, float]
    metrics: dict[str, WeightedMetric]
    clip_ids: tuple[str, ...]


@dataclass
class DrawnFigures:
    """Figures of resampled clips.

    Attributes:
        values: name -> (resample,).
    """

    values: dict[str, Floats] = field(default_factory=dict)


def figures_of(part: Part, pieces: Sequence[tuple[Fit, Part]]) -> Figures:
    """Figures of a set whose pieces are decoded with fits of their own.

    Args:
        part: the whole set.
        pieces: fits, and the clips of the set that are decoded with them.
    """
    truth = part.truth
    decoded = joined_clips([decoded_events(fit.config, one.events[0]) for fit, one in pieces])
    chosen = event_part(decoded, truth)
    scores: Decoded = chosen.scores.select(chosen.with_events)
    events = chosen.events.select(scores.clip_ids)
    true, labels = as_detections(events, scores.vocabulary), scores.vocabulary.labels
    duration_s = np.array([truth.durations[clip_id] for clip_id in scores.clip_ids])
    found = several_exact_psds(
        scores, true, dataset_s=float(sum(duration_s.tolist())), specs=[PSDS1, PSDS2]
    )
    values = {name: psds.value for name, psds in zip(PSDS_NAMES, found, strict=True)}
    metrics: dict[str, WeightedMetric] = {}
    (metrics["psds1"],) = exact_psds_by_clip(scores, true, duration_s=duration_s, specs=[PSDS1])
    shape = len(scores.clip_ids), len(labels)
    half = detect(scores, F1_THRESHOLD)
    metrics.update(zip(F1_NAMES, _f1(half, true, shape), strict=True))
    if all(fit.thresholds for fit, _ in pieces):
        at_tuned = _detected(scores, pieces)
        metrics.update(zip(TUNED_NAMES, _f1(at_tuned, true, shape), strict=True))
    ones = np.ones(len(scores.clip_ids))
    for name, metric in metrics.items():
        if name not in values:
            (values[name],) = metric.values(ones)
    if part.scores.of("segments") is not None:
        values[MPAUC] = _mpauc(part, pieces)
    return Figures(values, found[0].per_class, metrics, scores.clip_ids)


def _f1(
    found: Detections, true: Detections, shape: tuple[int, int]
) -> tuple[WeightedF1, WeightedF1]:
    decimals = SED_SCORES_EVAL_DECIMALS
    return (
        weighted_collar_f1(found, true, shape, decimals=decimals, **COLLAR),
        weighted_intersection_f1(found, true, shape, decimals=decimals, **INTERSECTION),
    )


def _detected(scores: Decoded, pieces: Sequence[tuple[Fit, Part]]) -> Detections:
    """Events of clips at the thresholds of the fits that they are decoded with."""
    parts = []
    labels = scores.vocabulary.labels
    place = {clip_id: row for row, clip_id in enumerate(scores.clip_ids)}
    for fit, part in pieces:
        own = set(part.events[0].clip_ids)
        chosen = scores.select([clip_id for clip_id in scores.clip_ids if clip_id in own])
        of_labels = {label: fit.thresholds[label] for label in labels}
        found = detect(chosen, class_thresholds(of_labels, labels))
        rows = np.array([place[clip_id] for clip_id in chosen.clip_ids], dtype=np.int64)
        parts.append((rows[found.clip_index], found.label_index, found.onset_s, found.offset_s))
    return Detections(*map(np.concatenate, zip(*parts, strict=True)))


def _mpauc(part: Part, pieces: Sequence[tuple[Fit, Part]]) -> float:
    """Mean partial area of segments; NaN where it is not defined."""
    found = part.scores.of("segments")
    assert found is not None, part.name
    smoothed = []
    for fit, one in pieces:
        own = one.scores.of("segments")
        if own is not None and own[0].clip_ids:
            smoothed.append(own[0].map(ClassMedianFilter(fit.config.net.median_filter)))
    try:
        whole = segment_part(joined_scores(smoothed), found[1], part.scores.stage)
    except InputError:
        return float("nan")
    return whole.metrics(whole.scores).partial_auc


def resample(
    figures: Figures, clip_ids: Sequence[str], weights: Floats, bar: Progress
) -> DrawnFigures:
    """The figures of resampled clips.

    Args:
        figures: of the clips.
        clip_ids: the same clips, in the order of the weights.
        weights: (resample, clip) how often each occurs.
        bar: progress.
    """
    place = {clip_id: column for column, clip_id in enumerate(clip_ids)}
    columns = [place[clip_id] for clip_id in figures.clip_ids]
    found = {name: np.empty(len(weights)) for name in figures.metrics}
    for row, drawn in enumerate(weights):
        own = drawn[columns]
        for name, metric in figures.metrics.items():
            (found[name][row],) = metric.values(own)
        bar.update()
    return DrawnFigures(found)


def interval_of(values: Floats, estimate: float, least: float = 0.0) -> tuple[float, float]:
    """The interval of a figure, or of a difference, which may be below 0."""
    return bootstrap.interval(values, estimate, (least, 1.0))


def difference(
    one: tuple[Figures, DrawnFigures], other: tuple[Figures, DrawnFigures], name: str
) -> Mapping[str, float]:
    """The first figure less the second one, on the same resamples."""
    value = one[0].values[name] - other[0].values[name]
    drawn = one[1].values[name] - other[1].values[name]
    low, high = interval_of(drawn, value, -1.0)
    return {"value": value, "low": low, "high": high, "p": bootstrap.p_value(drawn, value)}
