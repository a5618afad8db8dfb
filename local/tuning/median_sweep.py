"""Compute the objective of median filter lengths, and find the best lengths.

A class's filter changes the curve of that class alone, so a curve is computed once per class
and length; any combination of lengths is then a matter of milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from desed_task.evaluation.exact_psds import exact_psds
from desed_task.evaluation.psds import PSDS1, Roc, psds_of_rocs
from desed_task.evaluation.scores import Scores, as_detections, clips_with_events, match_clips
from desed_task.postprocess import ClassMedianFilter
from local.classes_dict import CLASSES, DESED_CLASSES
from local.data.truth import scored_classes
from local.scoring import metrics
from local.tuning.cached_scores import TeacherScores
from local.tuning.trial import OBJECTIVE_METRICS

MAX_PASSES = 20
Lengths = tuple[int, ...]  # frames, one per class


class ObjectiveValue(NamedTuple):
    """The objective of lengths on a part."""

    psds1: float
    mpauc: float

    @property
    def total(self) -> float:
        """The objective."""
        return self.psds1 + self.mpauc


class MedianFilterObjective:
    """Compute the objective of lengths on a part of the data.

    Args:
        part: its unfiltered scores and ground truths.
    """

    def __init__(self, part: TeacherScores) -> None:
        self.part = part
        desed, maestro = part.truths
        scores, events, _ = match_clips(part.desed, desed.events)
        events = events.within(desed.durations).merged()
        self.desed_labels, _ = scored_classes(events, DESED_CLASSES)
        chosen = scores.select(labels=self.desed_labels)
        # Clips with events only, as in the score-based metrics.
        clips = clips_with_events(events, chosen.vocabulary)
        self._desed, self._events = chosen.select(clips), events.select(clips)
        self._dataset_s = sum(desed.durations[clip_id] for clip_id in clips)
        self._segments = metrics.segment_part(
            part.maestro, maestro.events, maestro.durations, part.stage
        )
        self.maestro_labels = self._segments.scores.vocabulary.labels
        self._rocs: dict[tuple[str, int], Roc] = {}
        self._areas: dict[tuple[str, int], float] = {}

    def __call__(self, lengths: Sequence[int]) -> ObjectiveValue:
        """Return the teacher's PSDS1 and mean pAUC for these lengths, one per class of the task."""
        of = dict(zip(CLASSES, lengths, strict=True))
        rocs = [self.roc(label, of[label]) for label in self.desed_labels]
        areas = [self.area(label, of[label]) for label in self.maestro_labels]
        psds = psds_of_rocs(rocs, self.desed_labels, PSDS1)
        return ObjectiveValue(psds.value, float(np.nanmean(areas)) if areas else float("nan"))

    def facts(self, value: ObjectiveValue) -> dict[str, float]:
        """Return them by the names of the metrics."""
        return {f"{self.part.stage}/{n}": v for n, v in zip(OBJECTIVE_METRICS, value, strict=True)}

    def roc(self, label: str, length: int) -> Roc:
        """PSD-ROC of a DESED class, filtered with a length."""
        if (label, length) not in self._rocs:
            scores = _filtered(self._desed, label, length)
            truth = as_detections(self._events, scores.vocabulary)
            psds = exact_psds(scores, truth, dataset_s=self._dataset_s, spec=PSDS1)
            self._rocs[label, length] = psds.class_rocs[label]
        return self._rocs[label, length]

    def area(self, label: str, length: int) -> float:
        """Partial AUC of a MAESTRO class, filtered with a length."""
        if (label, length) not in self._areas:
            found = self._segments.metrics(_filtered(self._segments.scores, label, length))
            self._areas[label, length] = found.partial_auc_per_class[label]
        return self._areas[label, length]

    def alone(self, label: str, length: int) -> float:
        """Value of a length for its class alone: PSDS1 or partial AUC."""
        if label in self.maestro_labels:
            return self.area(label, length)
        return psds_of_rocs([self.roc(label, length)], [label], PSDS1).value


def _filtered(scores: Scores, label: str, length: int) -> Scores:
    return scores.select(labels=[label]).map(ClassMedianFilter([length]))


def sweep_lengths(
    objective: MedianFilterObjective, start: Sequence[int], candidates: Mapping[str, Sequence[int]]
) -> Lengths:
    """Find the best lengths by trying all candidates of all classes.

    Mean pAUC is the mean over classes, so each class's best length is the best. PSDS1 also
    subtracts how far classes lie apart, so there a class's best length depends on the others': from
    several starting points each class in turn is set to its best length until none changes.

    Args:
        objective: objective of the part that is tuned on.
        start: lengths, one per class of the task; a class without candidates keeps its own.
        candidates: class -> lengths to try.
    """
    of = dict(zip(CLASSES, start, strict=True))
    for label in objective.maestro_labels:
        areas = {n: objective.area(label, n) for n in (of[label], *candidates.get(label, ()))}
        if not all(np.isnan(value) for value in areas.values()):
            of[label] = max(areas, key=lambda n: areas[n])
    begin = {label: of[label] for label in objective.desed_labels}
    tried = {label: (of[label], *candidates.get(label, ())) for label in begin}
    beginnings = [begin, {label: _best_alone(objective, label, tried[label]) for label in begin}]
    for length in sorted({n for lengths in tried.values() for n in lengths}):
        alike = {label: length if length in tried[label] else begin[label] for label in begin}
        beginnings.append(alike)
    found = [_ascend(objective, each, tried) for each in beginnings]
    of.update(max(found, key=lambda each: _psds(objective, each)))
    return tuple(of[label] for label in CLASSES)


def _best_alone(objective: MedianFilterObjective, label: str, lengths: Sequence[int]) -> int:
    values = {n: objective.alone(label, n) for n in lengths}
    return max(values, key=lambda n: values[n])


def _psds(objective: MedianFilterObjective, of: Mapping[str, int]) -> float:
    return psds_of_rocs([objective.roc(label, n) for label, n in of.items()], list(of), PSDS1).value


def _ascend(
    objective: MedianFilterObjective, begin: Mapping[str, int], tried: Mapping[str, Sequence[int]]
) -> dict[str, int]:
    """Lengths that no single change improves (a local optimum)."""
    of = dict(begin)
    best = _psds(objective, of)
    for _ in range(MAX_PASSES):
        before = best
        for label in of:
            values = {n: _psds(objective, {**of, label: n}) for n in tried[label]}
            length = max(values, key=lambda n: values[n])
            if values[length] > best:
                of[label], best = length, values[length]
        if best == before:
            break
    return of
