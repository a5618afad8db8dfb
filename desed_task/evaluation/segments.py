"""One-second segments of clips or of whole recordings: F-score, AUC and partial AUC.

Frame scores become segment scores in one of two ways (docs/method.md, Validation and Test): a test
averages them in each segment, a validation takes the maximum, clip by clip. Clips that were cut
from recordings are overlap-added in a test; they are named `{recording}-{onset}-{offset}`, times in
centiseconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from desed_task.dataio.annotations import EventTable
from desed_task.errors import InputError, command_name
from desed_task.evaluation.psds import area, staircase
from desed_task.evaluation.scores import (
    Detections,
    Floats,
    FrameScores,
    Ints,
    Scores,
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
            f"with {command_name('generate_dcase_task4_2024.py')}"
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
    segments: Floats = weights @ scores.values.astype(np.float64)
    return segments


class Segments(NamedTuple):
    """Segments of several clips or recordings, one after the other."""

    values: Floats  # (segment, class), scores
    active: npt.NDArray[np.bool_]  # (segment, class), whether an event reaches into it
    unit: Ints  # (segment,) index of the clip or recording


def touched_segments(events: Detections, segment_s: float = SEGMENT_S) -> tuple[Ints, Ints]:
    """Index of an event and number of a segment of its clip, for each segment it reaches into."""
    first = np.floor(events.onset_s / segment_s).astype(np.int64)
    count = np.ceil(events.offset_s / segment_s).astype(np.int64) - first
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(np.arange(len(events)), count), np.repeat(first, count) + within


def clip_segments(scores: Scores, truth: Detections, duration_s: Floats) -> Segments:
    """Segments of each clip, as sed_scores_eval 0.0.4 derives them from frame scores.

    The score of a segment is the maximum over the frames that overlap it (in a clip's last segment
    including those after the clip's end), and 0 without any.

    Args:
        scores: of clips.
        truth: events, their indices those of `scores`.
        duration_s: (clip,) seconds; segments begin before it.
    """
    n_segments = np.ceil(duration_s / SEGMENT_S).astype(np.int64)
    values = [
        _maxima(block, n_segments[first : first + len(block.values)])
        for first, block in scores.blocks
    ]
    return _annotated(np.concatenate(values), truth, n_segments)


def _maxima(block: FrameScores, n_segments: Ints) -> Floats:
    """(segment, class): of clips of one length (clip, frame, class), one after the other."""
    boundaries_s = np.round(block.boundaries_s, _DECIMALS)
    longest = int(n_segments.max(initial=0))
    n_clips, _, n_classes = block.values.shape
    values = np.zeros((n_clips, longest, n_classes))
    for number in range(longest):
        onset_s, offset_s = number * SEGMENT_S, (number + 1) * SEGMENT_S
        frames = (boundaries_s[1:] > onset_s) & (boundaries_s[:-1] < offset_s)
        if frames.any():
            values[:, number] = block.values[:, frames].max(axis=1)
    found: Floats = values[np.arange(longest) < n_segments[:, None]]
    return found


def clip_means(scores: Scores, duration_s: Floats) -> list[Floats]:
    """(segment, class) of each clip: time-weighted means of the frame scores in its segments.

    A clip's last segment ends with the clip. Segments without a frame score 0.

    Args:
        scores: of clips of any lengths.
        duration_s: (clip,) seconds.
    """
    return [
        _means(*of_clip, float(end_s))
        for of_clip, end_s in zip(scores.each(), duration_s, strict=True)
    ]


def _means(values: npt.NDArray[Any], boundaries_s: Floats, end_s: float) -> Floats:
    """Means of a step function between whole seconds, from its integral."""
    end_s = round(end_s, _DECIMALS)
    edges_s = np.append(np.arange(int(np.ceil(end_s / SEGMENT_S))) * SEGMENT_S, end_s)
    # Between boundaries the integral rises evenly; before the first and after the last, it stays.
    steps = values.astype(np.float64) * np.diff(boundaries_s)[:, None]
    integral = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(steps, axis=0)])
    at_edges = np.stack([np.interp(edges_s, boundaries_s, one) for one in integral.T], axis=1)
    heard_s = np.diff(np.clip(edges_s, boundaries_s[0], boundaries_s[-1]))[:, None]
    sums = np.diff(at_edges, axis=0)
    means: Floats = np.divide(sums, heard_s, out=np.zeros_like(sums), where=heard_s > 0)
    return means


def recording_segments(pieces: Sequence[Floats], truth: Detections, duration_s: Floats) -> Segments:
    """Segments of recordings, or clips, whose scores are known by segment.

    Args:
        pieces: (segment, class) of each, from `overlap_add` or `clip_means`.
        truth: events, their clips the recordings in this order.
        duration_s: (recording,) seconds.
    """
    values = [values.copy() for values in pieces]
    # sed_scores_eval rounds times: a last segment of less than a microsecond has no frame.
    for scores, heard_s in zip(values, np.round(duration_s, _DECIMALS), strict=True):
        scores[int(np.ceil(heard_s / SEGMENT_S)) :] = 0.0
    n_segments = np.array([len(scores) for scores in values])
    return _annotated(np.concatenate(values), truth, n_segments)


def _annotated(values: Floats, truth: Detections, n_segments: Ints) -> Segments:
    """Scores with the truth of their segments, of which each unit has `n_segments`."""
    active = np.zeros(values.shape, dtype=bool)
    event, segment = touched_segments(truth)
    clip = truth.clip_index[event]
    inside = segment < n_segments[clip]
    start = np.cumsum(n_segments) - n_segments
    row = start[clip[inside]] + segment[inside]
    active[row, truth.label_index[event[inside]]] = True
    return Segments(values, active, np.repeat(np.arange(len(n_segments)), n_segments))


def pausing(truth: Detections, duration_s: Floats, n_classes: int) -> npt.NDArray[np.bool_]:
    """(class,) whether any segment is without the class, so that an area is defined.

    Args:
        truth: events of clips.
        duration_s: (clip,) seconds.
        n_classes: that label indices count.
    """
    n_segments = np.ceil(duration_s / SEGMENT_S).astype(np.int64)
    scores = np.zeros((int(n_segments.sum()), n_classes))
    active = _annotated(scores, truth, n_segments).active
    found: npt.NDArray[np.bool_] = np.any(~active, axis=0)
    return found


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


def segment_scores(segments: Segments, labels: Sequence[str], *, max_fpr: float) -> SegmentScores:
    """F1 at each class's best threshold, AUC and partial AUC over segments, as sed_scores_eval.

    Args:
        segments: of all clips or recordings; every class is active in one.
        labels: of the classes.
        max_fpr: false positive rate up to which the partial AUC is taken, as a share of it.
    """
    found = [
        _class_scores(values, active, max_fpr)
        for values, active in zip(segments.values.T, segments.active.T, strict=True)
    ]
    f1, threshold, auc, partial_auc = (
        dict(zip(labels, column, strict=True)) for column in zip(*found, strict=True)
    )
    return SegmentScores(
        f1=_mean(f1),
        auc=_mean(auc),
        partial_auc=_mean(partial_auc),
        f1_per_class=f1,
        auc_per_class=auc,
        partial_auc_per_class=partial_auc,
        threshold_per_class=threshold,
    )


class _ClassScores(NamedTuple):
    """Values of one class."""

    f1: float
    threshold: float
    auc: float
    partial_auc: float


def _class_scores(values: Floats, active: npt.NDArray[np.bool_], max_fpr: float) -> _ClassScores:
    """Metrics of the segments of one class, whose areas are NaN if it is active in all."""
    levels, place = np.unique(values, return_inverse=True)
    # (level,) segments that reach it, those with an event and those without.
    true, false = (
        np.bincount(place[chosen], minlength=len(levels))[::-1].cumsum()[::-1]
        for chosen in (active, ~active)
    )
    precision, recall = true / (true + false), true / true[0]
    # Written as in the package, so that of equal values the same one is the best.
    f1 = 2.0 * precision * recall / np.maximum(precision + recall, 1e-15)
    best = len(f1) - 1 - int(np.argmax(f1[::-1]))
    threshold = float(levels[best] + levels[best - 1]) / 2 if best else -np.inf
    if not false[0]:
        return _ClassScores(float(f1[best]), threshold, np.nan, np.nan)
    roc = staircase(false / false[0], recall)
    return _ClassScores(float(f1[best]), threshold, area(roc, 1.0), area(roc, max_fpr))


def _mean(per_class: Mapping[str, float]) -> float:
    """Mean over the classes that have a value; NaN if none has."""
    values = [value for value in per_class.values() if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")
