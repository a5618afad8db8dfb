"""What each clip contributes to the metrics of this package (see `weighted`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from desed_task.evaluation.boxes import Decoded
from desed_task.evaluation.clip_counts import count_changes, truth_sums
from desed_task.evaluation.curves.collars import Collars, collar_changes
from desed_task.evaluation.curves.precision_recall import intersection_criteria
from desed_task.evaluation.curves.weighted import PartialPsds, WeightedPrecision, WeightedUnion
from desed_task.evaluation.exact_psds import (
    FALSE,
    Changes,
    changes_of,
    class_changes,
    found_of_classes,
)
from desed_task.evaluation.psds import SECONDS_PER_HOUR, PsdsSpec
from desed_task.evaluation.scores import Detections, Floats
from desed_task.evaluation.weighted_metrics import CountDeltas, WeightedPsds

# How many more clips with a false detection a class must have where thresholds are left out than
# fit into the curve, so that few resamples need all thresholds.
MARGIN = 1.3


def precision_by_clip(
    scores: Decoded,
    truth: Detections,
    *,
    duration_s: Floats,
    dtc: float,
    gtc: float,
    collars: Collars,
) -> tuple[WeightedPrecision, WeightedPrecision]:
    """Average precision and best F1, weighted: intersection-based, collar-based.

    Args:
        scores: see `exact_psds_by_clip`.
        truth: see `exact_psds_by_clip`.
        duration_s: see `exact_psds_by_clip`.
        dtc: detection tolerance criterion.
        gtc: ground truth intersection criterion.
        collars: the collars.
    """
    n_clips, there = len(duration_s), duration_s > 0
    criteria = intersection_criteria(dtc, gtc)
    classes: tuple[list[CountDeltas], list[CountDeltas]] = ([], [])
    for found in found_of_classes(scores, truth):
        changes = changes_of(found, criteria), collar_changes(found, collars)
        for into, one in zip(classes, changes, strict=True):
            into.append(count_changes(one, 2, n_clips, there))
    references = truth_sums(truth, (n_clips, len(scores.vocabulary)))[0]
    return WeightedPrecision(classes[0], references), WeightedPrecision(classes[1], references)


def unions_by_clip(
    members: Sequence[Callable[[], Decoded]],
    truth: Detections,
    *,
    duration_s: Floats,
    specs: Sequence[PsdsSpec],
) -> list[WeightedUnion]:
    """The piPSDS of each spec, weighted.

    Low thresholds are left out, without which a resample takes a fraction of the time; weights for
    which they matter are given all.

    Args:
        members: give what each decoder makes of the same scores (see `exact_psds_by_clip`), which
            is not kept: once, and once more for weights that need all thresholds.
        truth: see `exact_psds_by_clip`.
        duration_s: see `exact_psds_by_clip`.
        specs: parameters.
    """

    @cache
    def whole(member: int) -> list[WeightedPsds]:
        return [one.psds for one in _partial(members[member](), truth, duration_s, specs, np.inf)]

    hours = float(duration_s.sum()) / SECONDS_PER_HOUR
    limit = MARGIN * max(spec.max_efpr for spec in specs) * hours
    found = [_partial(member(), truth, duration_s, specs, limit) for member in members]

    def whole_of(spec: int) -> Callable[[int], WeightedPsds]:
        return lambda member: whole(member)[spec]

    return [
        WeightedUnion([partial[number] for partial in found], whole_of(number))
        for number in range(len(specs))
    ]


def _partial(
    scores: Decoded,
    truth: Detections,
    duration_s: Floats,
    specs: Sequence[PsdsSpec],
    most_clips: float,
) -> list[PartialPsds]:
    """The PSDS of one decoder, without low thresholds at which more clips than that have a false
    positive; the other arguments are those of `unions_by_clip`.
    """
    n_clips, n_classes = len(duration_s), len(scores.vocabulary)
    specs = [spec.of_classes(n_classes) for spec in specs]
    there = duration_s > 0
    classes: list[list[CountDeltas]] = [[] for _ in specs]
    detected = np.zeros((n_classes, n_clips))
    complete = np.zeros(n_classes, dtype=bool)
    found = class_changes(scores, truth, specs, most_clips, by_clip=True)
    for label, changes in enumerate(found):
        false = _clips_detected(changes[0], truth, label, n_clips)
        complete[label] = false.sum() <= most_clips
        detected[label] = np.where(there, false, 0.0)
        for of_spec, spec, one in zip(classes, specs, changes, strict=True):
            n_kinds = 2 + (n_classes if spec.alpha_ct else 0)
            of_spec.append(count_changes(one, n_kinds, n_clips, there))
    sums = truth_sums(truth, (n_clips, n_classes))
    return [
        PartialPsds(WeightedPsds(of_spec, *sums, duration_s, spec), detected, complete)
        for of_spec, spec in zip(classes, specs, strict=True)
    ]


def _clips_detected(changes: Changes, truth: Detections, label: int, n_clips: int) -> Floats:
    """(clip,) 1 for those with a detection but no event of the class."""
    found = np.zeros(n_clips)
    found[changes.clip[changes.kind == FALSE]] = 1.0
    found[truth.clip_index[truth.label_index == label]] = 0.0
    return found
