"""Add the recipe's own metrics of a test (docs/metrics.md, Our own metrics)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from desed_task.dataio.annotations import EventTable
from desed_task.evaluation import segments
from desed_task.evaluation.boxes import Decoded
from desed_task.evaluation.curves import timing
from desed_task.evaluation.curves.collars import Collars, collar_changes
from desed_task.evaluation.curves.independent_psds import (
    non_oracle_psds,
    post_processing_independent_psds,
)
from desed_task.evaluation.curves.precision_recall import (
    BestF1,
    average_precision,
    best_f1,
    intersection_criteria,
    points_of,
    points_of_values,
)
from desed_task.evaluation.curves.weighted import AREAS, further_areas
from desed_task.evaluation.exact_psds import changes_of, found_of_classes, several_exact_psds
from desed_task.evaluation.psds import PSDS1, PSDS2, Psds
from desed_task.evaluation.scores import Detections, Floats, Scores, as_detections, detect
from desed_task.postprocess import ClassMedianFilter
from local.scoring.own.criteria import (
    COLLAR,
    F1_THRESHOLD,
    INTERSECTION,
    MAX_FPR,
    OWN,
    PI_LENGTHS,
)
from local.scoring.own.groups import ClipGroups
from local.scoring.report import MetricTable, format_best_f1

SPECS = {"psds1": PSDS1, "psds2": PSDS2}
BEST_F1_FILE = "best_f1_oracle.txt"


class EventInput(NamedTuple):
    """Input of the event-based metrics.

    Attributes:
        scores: what the decoder gives, of the clips and classes to count.
        events: events of the same clips.
        with_events: the clips with events.
        durations: clip -> seconds.
    """

    scores: Decoded
    events: EventTable
    with_events: Sequence[str]
    durations: Mapping[str, float]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes."""
        return self.scores.vocabulary.labels

    def truth(self, clip_ids: Sequence[str]) -> Detections:
        """True events of some clips, in this order."""
        return as_detections(self.events.select(clip_ids), self.scores.vocabulary)

    def psds(self, scores: Decoded) -> dict[str, Psds]:
        """PSDS1 and PSDS2 of scores of some of the clips, for all classes."""
        seconds = sum(self.durations[clip_id] for clip_id in scores.clip_ids)
        specs = list(SPECS.values())
        truth = self.truth(scores.clip_ids)
        found = several_exact_psds(scores, truth, dataset_s=seconds, specs=specs)
        return dict(zip(SPECS, found, strict=True))


def add_event_metrics(
    table: MetricTable, found: EventInput, curves: Mapping[str, Psds], raw: Scores | None
) -> dict[str, str]:
    """Add all event-based metrics but those of groups; return text tables.

    Args:
        table: gets the metrics.
        found: what is scored.
        curves: its exact PSDS1 and PSDS2, of the clips with events.
        raw: scores before the decoder, of any clips and classes; without them there is no piPSDS.
    """
    for name, psds in curves.items():
        value = non_oracle_psds(psds, SPECS[name])
        table.put(f"{name}_nonoracle", OWN, value.value, value.per_class)
    if raw is not None:
        chosen = raw.select(found.with_events).select(labels=found.labels)
        members = [found.psds(filtered(chosen, n)) for n in PI_LENGTHS]
        for name, psds in curves.items():
            decoded = [psds, *(one[name] for one in members)]
            union = post_processing_independent_psds(decoded, SPECS[name])
            table.put(f"pi{name}", OWN, union.value, union.per_class)
    best = _add_precision(table, found)
    _add_times(table, found)
    return {BEST_F1_FILE: format_best_f1(best, F1_THRESHOLD)}


def filtered(scores: Scores, length: int) -> Scores:
    """Scores after a median filter of one length for all classes."""
    return scores.map(ClassMedianFilter([length] * len(scores.vocabulary)))


def _add_precision(table: MetricTable, found: EventInput) -> dict[str, dict[str, BestF1]]:
    """Add average precision and best F1; return the latter, by kind and class."""
    scores, truth = found.scores.select(found.with_events), found.truth(found.with_events)
    criteria, collars = intersection_criteria(**INTERSECTION), Collars(**COLLAR)
    n_true = np.bincount(truth.label_index, minlength=len(found.labels))
    precision: dict[str, dict[str, float]] = {"intersection": {}, "collar": {}}
    best: dict[str, dict[str, BestF1]] = {"intersection": {}, "collar": {}}
    for label, number, of_class in zip(
        found.labels, n_true.tolist(), found_of_classes(scores, truth), strict=True
    ):
        changes = changes_of(of_class, criteria), collar_changes(of_class, collars)
        for kind, one in zip(precision, changes, strict=True):
            points = points_of(one)
            precision[kind][label] = average_precision(points, number)
            best[kind][label] = best_f1(points, number)
    for kind, values in precision.items():
        table.put(f"{kind}_map", OWN, _mean(values.values()), values)
        f1 = {label: one.value for label, one in best[kind].items()}
        table.put(f"{kind}_f1_macro_oracle", OWN, _mean(f1.values()), f1)
    return best


def _add_times(table: MetricTable, found: EventInput) -> None:
    """Add errors of onsets and offsets, and the rate of false events."""
    clip_ids = found.scores.clip_ids
    truth, half = found.truth(clip_ids), detect(found.scores, F1_THRESHOLD)
    errors = timing.time_errors(half, truth)
    for name, values in (("onset", errors.onset_s), ("offset", errors.offset_s)):
        of_class = {
            label: _median(values[errors.label == number])
            for number, label in enumerate(found.labels)
        }
        table.put(f"{name}_error_s_thres05", OWN, _median(values), of_class)
    duration_s = np.array([found.durations[clip_id] for clip_id in clip_ids])
    counts = timing.false_events(
        half.within(duration_s), truth, (len(clip_ids), len(found.labels)), INTERSECTION["dtc"]
    )
    rates = timing.per_hour(counts.sum(axis=0), float(duration_s.sum()))
    per_class = dict(zip(found.labels, rates.tolist(), strict=True))
    table.put("false_events_per_hour_thres05", OWN, float(rates.sum()), per_class)


def _median(values: Floats) -> float:
    return timing.weighted_median(values, np.ones(len(values)))


def add_group_metrics(table: MetricTable, found: EventInput, groups: ClipGroups) -> dict[str, Any]:
    """Add PSDS1 and PSDS2 of the groups in which every class occurs; return a report of all.

    Args:
        table: gets the metrics.
        found: what is scored.
        groups: of at least the same clips.
    """
    left_out = {}
    for value in groups.values:
        clip_ids, absent = group_clips(found, groups, value)
        if absent:
            left_out[value] = absent
            continue
        for name, psds in found.psds(found.scores.select(clip_ids)).items():
            full = groups.metric_name(name, value)
            table.put(full, OWN, psds.value, psds.per_class)
    return groups.report(left_out)


def group_clips(found: EventInput, groups: ClipGroups, value: str) -> tuple[list[str], list[str]]:
    """The clips with events of a group, and the scored classes that have no event in it."""
    own = set(groups.clips(value))
    clip_ids = [clip_id for clip_id in found.with_events if clip_id in own]
    there = set(found.truth(clip_ids).label_index.tolist())
    return clip_ids, [one for number, one in enumerate(found.labels) if number not in there]


def add_segment_metrics(
    table: MetricTable, pieces: segments.Segments, labels: Sequence[str]
) -> None:
    """Add average precision and further areas of segments.

    Args:
        table: gets the metrics.
        pieces: segments of recordings.
        labels: the classes.
    """
    precision: dict[str, float] = {}
    areas: dict[str, tuple[float, ...]] = {}
    for label, values, active in zip(labels, pieces.values.T, pieces.active.T, strict=True):
        points, n_active = points_of_values(values, active), int(active.sum())
        precision[label] = average_precision(points, n_active)
        if n_active < len(active):
            rates = points.false / (len(active) - n_active), points.true / n_active
            areas[label] = further_areas(*rates, MAX_FPR)
    table.put("segment_map", OWN, _mean(precision.values()), precision)
    for number, name in enumerate(AREAS):
        of_class = {label: values[number] for label, values in areas.items()}
        table.put(f"segment_{name}", OWN, _mean(of_class.values()), of_class)


def _mean(values: Any) -> float:
    values = list(values)
    return float(np.mean(values)) if values else float("nan")
