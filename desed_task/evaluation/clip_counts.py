"""Counts that each clip or recording contributes to a metric (see `weighted_metrics`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from desed_task.evaluation.boxes import Decoded
from desed_task.evaluation.exact_psds import Changes, class_changes
from desed_task.evaluation.fscores import collar_matches
from desed_task.evaluation.intersection import intersection_matches
from desed_task.evaluation.psds import PsdsSpec
from desed_task.evaluation.scores import Detections, Floats, Ints
from desed_task.evaluation.segments import Segments
from desed_task.evaluation.weighted_metrics import (
    CountDeltas,
    WeightedF1,
    WeightedPsds,
    WeightedSegments,
    count_deltas,
)


def psds_by_threshold(
    operating_points: Sequence[Detections],
    truth: Detections,
    n_classes: int,
    *,
    duration_s: Floats,
    spec: PsdsSpec,
) -> WeightedPsds:
    """The PSDS of `psds_from_thresholds`, weighted.

    Args:
        operating_points: detections at each threshold, in rising order.
        truth: true events; every class occurs.
        n_classes: classes.
        duration_s: (clip,) seconds.
        spec: parameters of the PSDS.
    """
    spec = spec.of_classes(n_classes)
    shape = (len(duration_s), n_classes, 2 + (n_classes if spec.alpha_ct else 0))
    before = np.zeros(shape, dtype=np.int64)
    parts = []
    # By falling threshold, as the changes are summed.
    for number, found in reversed(list(enumerate(operating_points))):
        counts = _intersection_counts(found, truth, shape, spec)
        clip, label = np.nonzero((counts != before).any(axis=-1))
        score = np.full(len(clip), float(number))
        parts.append((score, clip, label, (counts - before)[clip, label]))
        before = counts
    score, clip, label, amounts = (np.concatenate(column) for column in zip(*parts, strict=True))
    classes = [
        count_deltas(score[label == k], clip[label == k], amounts[label == k])
        for k in range(n_classes)
    ]
    return WeightedPsds(classes, *truth_sums(truth, shape[:2]), duration_s, spec)


def _intersection_counts(
    found: Detections, truth: Detections, shape: tuple[int, int, int], spec: PsdsSpec
) -> Ints:
    """(clip, class, kind): true and false positives, and cross-triggers by the class triggered."""
    verdicts = intersection_matches(
        found, truth, shape[1], dtc=spec.dtc, gtc=spec.gtc, cttc=spec.cttc
    )
    counts = np.zeros(shape, dtype=np.int64)
    hit, false = truth.rows(verdicts.hit), found.rows(~verdicts.tolerated)
    np.add.at(counts[..., 0], (hit.clip_index, hit.label_index), 1)
    np.add.at(counts[..., 1], (false.clip_index, false.label_index), 1)
    if spec.alpha_ct:
        which = verdicts.trigger
        place = (found.clip_index[which], found.label_index[which], 2 + verdicts.triggered)
        np.add.at(counts, place, 1)
    return counts


def truth_sums(truth: Detections, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """(clip, class): number and seconds of true events."""
    references, class_s = np.zeros(shape), np.zeros(shape)
    place = (truth.clip_index, truth.label_index)
    np.add.at(references, place, 1.0)
    np.add.at(class_s, place, truth.offset_s - truth.onset_s)
    return references, class_s


def exact_psds_by_clip(
    scores: Decoded, truth: Detections, *, duration_s: Floats, specs: Sequence[PsdsSpec]
) -> list[WeightedPsds]:
    """The PSDS of `several_exact_psds`, weighted.

    Args:
        scores: post-processed, finite scores, or boxes.
        truth: true events, their indices those of `scores`; every class occurs.
        duration_s: (clip,) seconds, 0 for clips that are left out, whose scores do not count.
        specs: parameters, one set per PSDS.
    """
    n_classes = len(scores.vocabulary)
    specs = [spec.of_classes(n_classes) for spec in specs]
    classes: list[list[CountDeltas]] = [[] for _ in specs]
    for changes in class_changes(scores, truth, specs):
        for of_spec, spec, found in zip(classes, specs, changes, strict=True):
            n_kinds = 2 + (n_classes if spec.alpha_ct else 0)
            of_spec.append(count_changes(found, n_kinds, len(duration_s), duration_s > 0))
    sums = truth_sums(truth, (len(duration_s), n_classes))
    return [
        WeightedPsds(of_spec, *sums, duration_s, spec)
        for of_spec, spec in zip(classes, specs, strict=True)
    ]


def count_changes(
    changes: Changes, n_kinds: int, n_clips: int, counts: npt.NDArray[np.bool_]
) -> CountDeltas:
    """Changes of the clips that count, those of one clip and score added up."""
    changes = Changes(*(column[counts[changes.clip]] for column in changes))
    levels, level = np.unique(changes.score, return_inverse=True)
    cells, cell = np.unique(level * n_clips + changes.clip, return_inverse=True)
    amounts = np.bincount(
        cell * n_kinds + changes.kind, changes.amount, minlength=len(cells) * n_kinds
    )
    score, clip = np.divmod(cells, n_clips)
    by_cell = amounts.reshape(-1, n_kinds).astype(np.float64)
    return count_deltas(levels[score], clip, by_cell)


def weighted_intersection_f1(
    found: Detections,
    truth: Detections,
    shape: tuple[int, int],
    *,
    dtc: float,
    gtc: float,
    decimals: int | None = None,
) -> WeightedF1:
    """The macro value of `intersection_fscore`, without `decimals` of its `as_psds_eval`.

    Args:
        found: detections.
        truth: true events.
        shape: numbers of clips and classes.
        dtc: detection tolerance criterion.
        gtc: ground truth intersection criterion.
        decimals: see `intersection_fscore`.
    """
    verdicts = intersection_matches(
        found, truth, shape[1], dtc=dtc, gtc=gtc, cttc=None, decimals=decimals
    )
    false = found.rows(~verdicts.tolerated)
    return WeightedF1(
        truth_sums(truth.rows(verdicts.hit), shape)[0],
        truth_sums(false, shape)[0],
        truth_sums(truth, shape)[0],
        hit_only=decimals is None,
    )


def weighted_collar_f1(
    found: Detections,
    truth: Detections,
    shape: tuple[int, int],
    *,
    decimals: int | None = None,
    **collars: float,
) -> WeightedF1:
    """The macro value of `collar_fscore`; `shape` is (clips, classes)."""
    matched = collar_matches(found, truth, decimals=decimals, **collars)
    hit = truth_sums(truth.rows(matched), shape)[0]
    return WeightedF1(hit, truth_sums(found, shape)[0] - hit, truth_sums(truth, shape)[0])


def segments_by_unit(segments: Segments, n_units: int, *, max_fpr: float) -> WeightedSegments:
    """The macro values of `segment_scores`, weighted by clip or recording."""
    classes = [
        count_deltas(values, segments.unit, np.stack([active, ~active], axis=1))
        for values, active in zip(segments.values.T, segments.active.T, strict=True)
    ]
    active = np.zeros((n_units, segments.active.shape[1]))
    np.add.at(active, segments.unit, segments.active)
    n_segments = np.bincount(segments.unit, minlength=n_units).astype(np.float64)
    return WeightedSegments(classes, active, n_segments, max_fpr)
