"""Metrics of events, for student and teacher (docs/method.md, Validation, Test)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from desed_task.dataio.annotations import EventTable
from desed_task.evaluation import fscores, segments
from desed_task.evaluation.boxes import Decoded
from desed_task.evaluation.exact_psds import several_exact_psds
from desed_task.evaluation.psds import PSDS1, PSDS2, Psds, PsdsSpec, psds_from_thresholds
from desed_task.evaluation.scores import (
    Scores,
    as_detections,
    check_durations,
    clips_with_events,
    detect,
    detect_at,
    match_clips,
)
from local.data.truth import Truth, scored_classes
from local.scoring.own import metrics as own
from local.scoring.own.criteria import COLLAR, F1_THRESHOLD, INTERSECTION
from local.scoring.own.groups import ClipGroups
from local.scoring.own.tuned import TunedThresholds, add_tuned_metrics
from local.scoring.report import CorpusMetrics, MetricTable, format_fscore
from local.task.task import ScoredPart

# In this metric a class without a true positive has no value; in the others it has 0.
HIT_ONLY = "intersection_f1_macro_thres05/psds_eval"


def event_validation_metrics(scores: Decoded, truth: Truth, *, role: str) -> CorpusMetrics:
    """PSDS1 and event-based F-scores over the scored classes, on clips with events.

    Args:
        scores: post-processed scores of clips in the truth.
        truth: of the events part of a validation.
        role: "student" or "teacher".

    Raises:
        InputError: clips lack truth or duration, scores are not finite, or the truth has no event
            of a scored class.
    """
    part = event_part(scores, truth)
    table = MetricTable("val", role, truth.part.classes)
    curves = _from_scores(table, part, truth.durations, {"psds1": PSDS1})
    return part.report(table.metrics, table.per_class, curves)


def event_test_metrics(
    scores: Decoded,
    truth: Truth,
    *,
    role: str,
    n_thresholds: int,
    raw: Scores | None = None,
    groups: ClipGroups | None = None,
    tuned: TunedThresholds | None = None,
) -> CorpusMetrics:
    """PSDS1, PSDS2 and event-based F-scores over the scored classes, as defined by each package;
    then our own metrics (docs/metrics.md).

    Metrics of sed_scores_eval leave out clips without events; those of psds_eval and sed_eval use
    all scored clips.

    Args:
        scores: post-processed scores of clips in the truth.
        truth: of the events part of a test. The duration of clips that it leaves out is included
            in the hours of psds_eval's false positive rates.
        role: "student" or "teacher".
        n_thresholds: number of thresholds of psds_eval's PSDS.
        raw: scores before the decoder, for piPSDS, which is left out without them.
        groups: of the clips, for PSDS by group.
        tuned: thresholds for a further F1.

    Raises:
        InputError: see `event_validation_metrics`.
    """
    part, durations = event_part(scores, truth), truth.durations
    detected, table, further = (MetricTable("test", role, truth.part.classes) for _ in range(3))
    curves = _from_scores(table, part, durations, {"psds1": PSDS1, "psds2": PSDS2})
    texts = _from_detections(detected, part, durations, n_thresholds, truth.left_out_s)
    told = {}
    found = own.EventInput(part.scores, part.events, part.with_events, durations)
    texts |= own.add_event_metrics(further, found, curves, raw)
    if tuned is not None:
        add_tuned_metrics(further, found, tuned)
    if groups is not None:
        told = own.add_group_metrics(further, found, groups)
    metrics = table.metrics | detected.metrics | further.metrics
    per_class = table.per_class | detected.per_class | further.per_class
    return replace(part.report(metrics, per_class, curves, texts), groups=told)


class EventPart(NamedTuple):
    """Input of the metrics of events.

    Attributes:
        part: what is scored.
        scores: filtered scores or boxes of the clips with truth, for the classes that occur in it.
        events: events of the same clips.
        with_events: the clips with events, which metrics of sed_scores_eval take.
        not_scored: classes that do not occur.
        unscored_clips: number of clips with truth but without scores.
    """

    part: ScoredPart
    scores: Decoded
    events: EventTable
    with_events: list[str]
    not_scored: tuple[str, ...]
    unscored_clips: int

    def report(
        self,
        metrics: dict[str, float],
        per_class: dict[str, dict[str, float | None]],
        curves: dict[str, Psds],
        texts: dict[str, str] | None = None,
    ) -> CorpusMetrics:
        """The report of the given metrics."""
        return CorpusMetrics(
            self.part,
            metrics,
            per_class,
            self.not_scored,
            curves,
            texts or {},
            n_clips=len(self.scores.clip_ids),
            unscored_clips=self.unscored_clips,
        )


def event_part(scores: Decoded, truth: Truth) -> EventPart:
    """Choose clips, events and classes for metrics; arguments as of `event_validation_metrics`.

    Raises:
        InputError: see `event_validation_metrics`.
    """
    scores, events, unscored = match_clips(scores, truth.certain)
    check_durations(events.clip_ids, truth.durations)
    events = events.within(truth.durations).merged()
    labels, not_scored = scored_classes(events, truth.part.classes)
    scores = scores.select(labels=labels)
    with_events = clips_with_events(events, scores.vocabulary)
    return EventPart(truth.part, scores, events, with_events, not_scored, unscored)


def _from_scores(
    table: MetricTable,
    part: EventPart,
    durations: Mapping[str, float],
    specs: Mapping[str, PsdsSpec],
) -> dict[str, Psds]:
    """Add sed_scores_eval's metrics of the clips with events; return the PSDS of the specs.

    They equal the package's to 1e-9, its rounding included (docs/metrics.md, Verification).
    """
    scores, events = part.scores.select(part.with_events), part.events.select(part.with_events)
    truth, labels = as_detections(events, scores.vocabulary), scores.vocabulary.labels
    dataset_s = sum(durations[clip_id] for clip_id in part.with_events)
    found = several_exact_psds(scores, truth, dataset_s=dataset_s, specs=list(specs.values()))
    curves = dict(zip(specs, found, strict=True))
    for name, psds in curves.items():
        table.put(name, "sed_scores_eval", psds.value, psds.per_class)
    half = detect(scores, F1_THRESHOLD)
    rounded = {"decimals": fscores.SED_SCORES_EVAL_DECIMALS}
    by_intersection = fscores.intersection_fscore(half, truth, labels, **INTERSECTION, **rounded)
    by_collar = fscores.collar_fscore(half, truth, labels, **COLLAR, **rounded)
    for kind, score in (("intersection", by_intersection), ("collar", by_collar)):
        table.put(f"{kind}_f1_macro_thres05", "sed_scores_eval", score.macro, score.per_class)
    return curves


def _from_detections(
    table: MetricTable,
    part: EventPart,
    durations: Mapping[str, float],
    n_thresholds: int,
    left_out_s: float,
) -> dict[str, str]:
    """Add psds_eval's and sed_eval's metrics of all clips; return text tables of F-scores."""
    scores, events = part.scores, part.events
    labels = scores.vocabulary.labels
    truth = as_detections(events, scores.vocabulary)
    duration_s = np.array([durations[clip_id] for clip_id in scores.clip_ids])
    dataset_s = float(duration_s.sum()) + left_out_s
    found_at = detect_at(scores, fscores.threshold_grid(n_thresholds))
    points = [found.within(duration_s) for found in found_at]
    for name, spec in (("psds1", PSDS1), ("psds2", PSDS2)):
        psds = psds_from_thresholds(points, truth, labels, dataset_s=dataset_s, spec=spec)
        table.put(name, "psds_eval", psds.value, psds.per_class)
    found = detect(scores, F1_THRESHOLD)
    inside = found.within(duration_s)
    by_intersection = fscores.intersection_fscore(inside, truth, labels, **INTERSECTION)
    by_intersection = by_intersection.as_psds_eval()
    by_collar = fscores.collar_fscore(found, truth, labels, **COLLAR)
    table.put(
        "intersection_f1_macro_thres05",
        "psds_eval",
        by_intersection.macro,
        by_intersection.per_class,
    )
    table.put("collar_f1_macro_thres05", "sed_eval", by_collar.macro, by_collar.per_class)
    by_segment = fscores.segment_fscore(found, truth, labels, segment_s=segments.SEGMENT_S)
    at = f", threshold {F1_THRESHOLD}"
    return {
        "event_f1.txt": format_fscore(f"Event-based F1, collars 0.2 s{at}", by_collar),
        "intersection_f1.txt": format_fscore(
            f"Intersection-based F1, dtc = gtc = 0.5{at}; macro over the classes with a true "
            "positive, as psds_eval",
            by_intersection,
        ),
        "segment_f1.txt": format_fscore(f"Segment-based F1, 1 s segments{at}", by_segment),
    }
