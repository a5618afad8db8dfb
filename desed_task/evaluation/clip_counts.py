"""Counts that each clip or recording contributes to a metric (see `weighted_metrics`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import sed_scores_eval

from desed_task.evaluation.fscores import collar_matches
from desed_task.evaluation.intersection import intersection_matches
from desed_task.evaluation.psds import PsdsSpec
from desed_task.evaluation.scores import Detections, Floats, Ints, ScoreFrames, TruthEvents
from desed_task.evaluation.segments import SEGMENT_S
from desed_task.evaluation.weighted_metrics import (
    CountDeltas,
    WeightedF1,
    WeightedPsds,
    WeightedSegments,
    count_deltas,
)

# Of one clip and class: scores at which counts change, and by how much, by sed_scores_eval's names.
Deltas = Mapping[str, Mapping[str, tuple[Floats, Mapping[str, Floats]]]]


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
    return WeightedPsds(classes, *_truth_sums(truth, shape[:2]), duration_s, spec)


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


def _truth_sums(truth: Detections, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """(clip, class): number and seconds of true events."""
    references, class_s = np.zeros(shape), np.zeros(shape)
    place = (truth.clip_index, truth.label_index)
    np.add.at(references, place, 1.0)
    np.add.at(class_s, place, truth.offset_s - truth.onset_s)
    return references, class_s


def psds_by_score(
    frames: ScoreFrames,
    truth: TruthEvents,
    clip_ids: Sequence[str],
    durations: Mapping[str, float],
    spec: PsdsSpec,
) -> WeightedPsds:
    """The exact PSDS of `psds_from_scores`, from sed_scores_eval's changes of each clip.

    Args:
        frames: clip -> data frame of scores, of the clips that have events.
        truth: clip -> events; every class of the frames occurs.
        clip_ids: the units; those without events add nothing.
        durations: clip -> seconds.
        spec: parameters of the PSDS.
    """
    labels = _labels(frames)
    spec = spec.of_classes(len(labels))
    deltas = sed_scores_eval.intersection_based.intermediate_statistics_deltas(
        frames,
        truth,
        dtc_threshold=spec.dtc,
        gtc_threshold=spec.gtc,
        cttc_threshold=spec.cttc,
        num_jobs=1,
    )
    kinds = [["tps", "fps"] for _ in labels]
    if spec.alpha_ct:
        kinds = [
            ["tps", "fps", *("" if other == label else f"cts\\{other}" for other in labels)]
            for label in labels
        ]
    classes = [
        _deltas_of(deltas, clip_ids, label, names)
        for label, names in zip(labels, kinds, strict=True)
    ]
    duration_s = np.array([durations[c] if c in frames else 0.0 for c in clip_ids])
    return WeightedPsds(classes, *_event_sums(truth, clip_ids, labels), duration_s, spec)


def _labels(frames: ScoreFrames) -> list[str]:
    return list(next(iter(frames.values())).columns[2:])


def _deltas_of(
    deltas: Deltas, clip_ids: Sequence[str], label: str, kinds: Sequence[str]
) -> CountDeltas:
    """Changes of one class; a kind without a name stays 0."""
    parts = [
        (row, *deltas[clip_id][label]) for row, clip_id in enumerate(clip_ids) if clip_id in deltas
    ]
    score = np.concatenate([found for _, found, _ in parts])
    unit = np.repeat([row for row, _, _ in parts], [len(found) for _, found, _ in parts])
    amounts = np.zeros((len(score), len(kinds)))
    for column, kind in enumerate(kinds):
        if kind:
            amounts[:, column] = np.concatenate([by[kind] for _, _, by in parts])
    return count_deltas(score, unit, amounts)


def _event_sums(
    truth: TruthEvents, clip_ids: Sequence[str], labels: Sequence[str]
) -> tuple[Floats, Floats]:
    """(clip, class): number and seconds of true events."""
    place = {label: column for column, label in enumerate(labels)}
    references = np.zeros((len(clip_ids), len(labels)))
    class_s = np.zeros_like(references)
    for row, clip_id in enumerate(clip_ids):
        for onset_s, offset_s, label in truth.get(clip_id, ()):
            references[row, place[label]] += 1
            class_s[row, place[label]] += offset_s - onset_s
    return references, class_s


def weighted_intersection_f1(
    found: Detections, truth: Detections, shape: tuple[int, int], *, dtc: float, gtc: float
) -> WeightedF1:
    """The macro value of `intersection_fscore(...).as_psds_eval()`; `shape` is (clips, classes)."""
    verdicts = intersection_matches(found, truth, shape[1], dtc=dtc, gtc=gtc, cttc=None)
    false = found.rows(~verdicts.tolerated)
    return WeightedF1(
        _truth_sums(truth.rows(verdicts.hit), shape)[0],
        _truth_sums(false, shape)[0],
        _truth_sums(truth, shape)[0],
        hit_only=True,
    )


def weighted_collar_f1(
    found: Detections, truth: Detections, shape: tuple[int, int], **collars: float
) -> WeightedF1:
    """The macro value of `collar_fscore`; `shape` is (clips, classes)."""
    matched = collar_matches(found, truth, decimals=None, **collars)
    hit = _truth_sums(truth.rows(matched), shape)[0]
    return WeightedF1(hit, _truth_sums(found, shape)[0] - hit, _truth_sums(truth, shape)[0])


def f1_by_score(
    deltas: Deltas,
    truth: TruthEvents,
    clip_ids: Sequence[str],
    labels: Sequence[str],
    threshold: float,
) -> WeightedF1:
    """A macro F-score at a threshold, from sed_scores_eval's changes of each clip."""
    found = np.zeros((2, len(clip_ids), len(labels)))
    for row, clip_id in enumerate(clip_ids):
        for column, label in enumerate(labels):
            score, by = deltas[clip_id][label] if clip_id in deltas else (np.zeros(0), {})
            above = score > threshold
            if above.any():
                found[:, row, column] = by["tps"][above].sum(), by["fps"][above].sum()
    return WeightedF1(found[0], found[1], _event_sums(truth, clip_ids, labels)[0])


def intersection_f1_by_score(
    frames: ScoreFrames,
    truth: TruthEvents,
    clip_ids: Sequence[str],
    *,
    threshold: float,
    dtc: float,
    gtc: float,
) -> WeightedF1:
    """The macro value of `intersection_fscore_from_scores`; units are `clip_ids`."""
    deltas = sed_scores_eval.intersection_based.intermediate_statistics_deltas(
        frames, truth, dtc_threshold=dtc, gtc_threshold=gtc, num_jobs=1
    )
    return f1_by_score(deltas, truth, clip_ids, _labels(frames), threshold)


def collar_f1_by_score(
    frames: ScoreFrames,
    truth: TruthEvents,
    clip_ids: Sequence[str],
    *,
    threshold: float,
    onset_collar_s: float,
    offset_collar_s: float,
    offset_collar_rate: float,
) -> WeightedF1:
    """The macro value of `collar_fscore_from_scores`; units are `clip_ids`."""
    deltas = sed_scores_eval.collar_based.intermediate_statistics_deltas(
        frames,
        truth,
        onset_collar=onset_collar_s,
        offset_collar=offset_collar_s,
        offset_collar_rate=offset_collar_rate,
        num_jobs=1,
    )
    return f1_by_score(deltas, truth, clip_ids, _labels(frames), threshold)


def segment_metrics(
    frames: ScoreFrames, truth: TruthEvents, durations: Mapping[str, float], *, max_fpr: float
) -> WeightedSegments:
    """The macro values of `segment_scores`; units are the frames' recordings, in their order."""
    labels, names = _labels(frames), list(frames)
    deltas = sed_scores_eval.segment_based.intermediate_statistics.intermediate_statistics_deltas(
        frames, truth, {name: durations[name] for name in names}, segment_length=SEGMENT_S
    )
    classes = [_deltas_of(deltas, names, label, ("tps", "fps")) for label in labels]
    active = np.array([[deltas[name][label][1]["tps"].sum() for label in labels] for name in names])
    segments = np.array([float(len(frames[name])) for name in names])
    return WeightedSegments(classes, active.astype(np.float64), segments, max_fpr)
