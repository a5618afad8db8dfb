"""One-second segments of clips or of whole recordings: F-score, AUC and partial AUC.

Clips cut from a recording are named `{recording}-{onset}-{offset}`, times in centiseconds. Frame
scores become segment scores in one of two ways (docs/method.md, Validation and Test): a test
averages them in each segment and overlap-adds clips to recordings, a validation takes the maximum,
clip by clip.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from sed_scores_eval import segment_based
from sed_scores_eval.base_modules.precision_recall import best_fscore_from_intermediate_statistics
from sed_scores_eval.base_modules.roc import auroc_from_intermediate_statistics

from desed_task.dataio.annotations import EventTable
from desed_task.errors import InputError
from desed_task.evaluation.scores import (
    Detections,
    Floats,
    ScoreFrames,
    Scores,
    TruthEvents,
    check_durations,
)

SEGMENT_S = 1.0
# Decimals to which times of frames are rounded before they are compared with segments.
_DECIMALS = 6
_CLIP_NAME = re.compile(r"(?P<recording>.+)-(?P<onset>\d+)-(?P<offset>\d+)")


class ClipSpan(NamedTuple):
    """The part of a recording that a clip was cut from."""

    recording: str
    onset_s: float
    offset_s: float


def clip_span(clip_id: str) -> ClipSpan:
    """The recording and times that a clip's name states.

    Raises:
        InputError: for a name of another form.
    """
    match = _CLIP_NAME.fullmatch(clip_id)
    if match is None:
        raise InputError(
            f"clip {clip_id!r} is not named recording-onset-offset (centiseconds); cut recordings "
            "with generate_dcase_task4_2024.py"
        )
    return ClipSpan(match["recording"], int(match["onset"]) / 100, int(match["offset"]) / 100)


def segment_weights(boundaries_s: Floats, n_segments: int) -> npt.NDArray[np.float64]:
    """(segment, frame): the share of each frame in the time of a one-second segment."""
    start = np.arange(n_segments)[:, None] * SEGMENT_S
    overlap = np.minimum(boundaries_s[1:], start + SEGMENT_S) - np.maximum(boundaries_s[:-1], start)
    overlap = overlap.clip(min=0.0)
    total = overlap.sum(axis=1, keepdims=True)
    shares: Floats = np.divide(overlap, total, out=np.zeros_like(overlap), where=total > 0)
    return shares


def segments_of(scores: Scores) -> Floats:
    """(clip, segment, class): time-weighted means of the frame scores in each clip's segments."""
    n_segments = int(np.ceil(scores.boundaries_s[-1] / SEGMENT_S))
    weights = segment_weights(scores.boundaries_s, n_segments)
    segments: Floats = np.einsum("sf,cfk->csk", weights, scores.values.astype(np.float64))
    return segments


class Segments(NamedTuple):
    """Segments of several clips, one clip after the other."""

    values: Floats  # (segment, class), scores
    active: npt.NDArray[np.bool_]  # (segment, class), whether an event reaches into it


def clip_segments(scores: Scores, truth: Detections, duration_s: Floats) -> Segments:
    """Segments of each clip, as sed_scores_eval 0.0.4 derives them from frame scores.

    The score of a segment is the maximum over the frames that overlap it (in a clip's last segment
    including those after the clip's end), and 0 without any.

    Args:
        scores: of clips.
        truth: events, their indices those of `scores`.
        duration_s: (clip,) seconds; segments begin before it.
    """
    boundaries_s = np.round(scores.boundaries_s, _DECIMALS)
    n_segments = np.ceil(duration_s / SEGMENT_S).astype(np.int64)
    longest = int(n_segments.max(initial=0))
    n_clips, _, n_classes = scores.values.shape
    values = np.zeros((n_clips, longest, n_classes))
    active = np.zeros(values.shape, dtype=bool)
    for number in range(longest):
        onset_s, offset_s = number * SEGMENT_S, (number + 1) * SEGMENT_S
        frames = (boundaries_s[1:] > onset_s) & (boundaries_s[:-1] < offset_s)
        if frames.any():
            values[:, number] = scores.values[:, frames].max(axis=1)
        during = (truth.offset_s > onset_s) & (truth.onset_s < offset_s)
        active[truth.clip_index[during], number, truth.label_index[during]] = True
    there = np.arange(longest) < n_segments[:, None]
    return Segments(values[there], active[there])


def overlap_add(scores: Scores, durations: Mapping[str, float]) -> dict[str, Floats]:
    """Segment scores of recordings: the mean over the clips that cover a segment.

    Frame scores become segment scores inside each clip (mean weighted by time); clips begin on
    whole segments.

    Args:
        scores: of clips named by recording, onset and offset.
        durations: recording -> seconds.

    Returns:
        recording -> (segment, class); segments that no clip covers score 0.

    Raises:
        InputError: for a clip with another name, or a recording without a duration.
    """
    places = [clip_span(clip_id) for clip_id in scores.clip_ids]
    recordings = sorted({place.recording for place in places})
    check_durations(recordings, durations)
    sums, counts = {}, {}
    for name in recordings:
        n_segments = int(np.ceil(durations[name] / SEGMENT_S))
        sums[name] = np.zeros((n_segments, len(scores.vocabulary)))
        counts[name] = np.zeros((n_segments, 1))
    for place, values in zip(places, segments_of(scores), strict=True):
        first = int(place.onset_s / SEGMENT_S)
        rows = slice(first, first + len(values))
        room = len(sums[place.recording][rows])
        sums[place.recording][rows] += values[:room]
        counts[place.recording][rows] += 1
    return {name: sums[name] / np.maximum(counts[name], 1) for name in recordings}


def segment_frames(
    segments: Mapping[str, Floats], durations: Mapping[str, float], labels: Sequence[str]
) -> ScoreFrames:
    """The data frames that sed_scores_eval takes, one row per segment; the last may be shorter."""
    frames = {}
    for name, values in segments.items():
        edges = np.minimum(np.arange(len(values) + 1) * SEGMENT_S, durations[name])
        columns = np.column_stack([edges[:-1], edges[1:], values])
        frames[name] = pd.DataFrame(columns, columns=["onset", "offset", *labels])
    return frames


def on_recordings(table: EventTable) -> EventTable:
    """Events of clips as events of their recordings; overlaps between clips are left in.

    Raises:
        InputError: for a clip whose name states no recording.
    """
    places = [clip_span(clip_id) for clip_id in table.clip_ids]
    recordings = tuple(sorted({place.recording for place in places}))
    number = {name: index for index, name in enumerate(recordings)}
    clip_to_recording = np.array([number[place.recording] for place in places], dtype=np.int64)
    shift_s = np.array([place.onset_s for place in places])[table.clip_index]
    return replace(
        table,
        clip_ids=recordings,
        clip_index=clip_to_recording[table.clip_index],
        onset_s=table.onset_s + shift_s,
        offset_s=table.offset_s + shift_s,
        eventless=frozenset(),  # names clips
    )


class SegmentScores(NamedTuple):
    """Macro averages and the values of each class.

    A class that is active in every segment has no area (NaN) and is left out of the mean areas.
    """

    f1: float
    auc: float
    partial_auc: float
    f1_per_class: dict[str, float]
    auc_per_class: dict[str, float]
    partial_auc_per_class: dict[str, float]
    threshold_per_class: dict[str, float]  # at which F1 is best


def segment_scores(
    frames: ScoreFrames, truth: TruthEvents, durations: Mapping[str, float], *, max_fpr: float
) -> SegmentScores:
    """F1 at each class's best threshold, AUC and partial AUC over segments, by sed_scores_eval.

    Args:
        frames: recording or clip -> data frame of scores, of frames of any length: the maximum in
            each segment counts.
        truth: recording or clip -> events; every class of the frames occurs.
        durations: recording or clip -> seconds.
        max_fpr: false positive rate up to which the partial AUC is taken.
    """
    lengths = {name: durations[name] for name in frames}
    statistics, _ = segment_based.accumulated_intermediate_statistics(
        frames, truth, lengths, segment_length=SEGMENT_S, num_jobs=1
    )
    return _scores_of(statistics, max_fpr)


def scores_of_segments(
    segments: Segments, labels: Sequence[str], *, max_fpr: float
) -> SegmentScores:
    """`segment_scores` of segments in arrays, without sed_scores_eval's loop over clips.

    Args:
        segments: of all clips; every class is active in one.
        labels: of the classes.
        max_fpr: false positive rate up to which the partial AUC is taken.
    """
    changes = {
        label: (segments.values[:, column], {"tps": active, "fps": ~active})
        for column, (label, active) in enumerate(zip(labels, segments.active.T, strict=True))
    }
    # The package concatenates the segments of clips; these already are.
    statistics = segment_based.intermediate_statistics
    of_all = statistics.accumulated_intermediate_statistics_from_deltas({"all clips": changes})
    return _scores_of(of_all, max_fpr)


# sed_scores_eval's statistics of a class: scores, and by name the counts at each of them.
_Statistics = tuple[Floats, dict[str, Any]]


def _scores_of(statistics: dict[str, _Statistics], max_fpr: float) -> SegmentScores:
    """Metrics of sed_scores_eval's statistics of each class."""
    f1, _, _, threshold, _ = best_fscore_from_intermediate_statistics(statistics)
    labels = tuple(statistics)
    f1_of, threshold_of = ({label: float(of[label]) for label in labels} for of in (f1, threshold))
    auc_of = {label: _area(statistics[label], None) for label in labels}
    partial_of = {label: _area(statistics[label], max_fpr) for label in labels}
    return SegmentScores(
        f1=_mean(f1_of),
        auc=_mean(auc_of),
        partial_auc=_mean(partial_of),
        f1_per_class=f1_of,
        auc_per_class=auc_of,
        partial_auc_per_class=partial_of,
        threshold_per_class=threshold_of,
    )


def _area(statistics: _Statistics, max_fpr: float | None) -> float:
    """Area under one class's ROC curve; NaN without a segment in which the class is absent."""
    counts = statistics[1]
    if not (counts["fps"] + counts["tns"]).any():
        return float("nan")
    area, _ = auroc_from_intermediate_statistics(statistics, max_fpr=max_fpr)
    return float(area)


def _mean(per_class: Mapping[str, float]) -> float:
    """Mean over the classes that have a value; NaN if none has."""
    values = [value for value in per_class.values() if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")
