"""One-second segments: clips overlap-added to recordings, F-score, AUC and partial AUC.

Clips cut from a recording are named `{recording}-{onset}-{offset}`, times in centiseconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import sed_scores_eval
from sed_scores_eval.base_modules.precision_recall import best_fscore_from_intermediate_statistics
from sed_scores_eval.base_modules.roc import auroc_from_intermediate_statistics

from desed_task.dataio.annotations import EventTable
from desed_task.errors import InputError
from desed_task.evaluation.scores import Floats, ScoreFrames, Scores, TruthEvents, check_durations

SEGMENT_S = 1.0
_CLIP_NAME = re.compile(r"(?P<recording>.+)-(?P<onset>\d+)-(?P<offset>\d+)")


class ClipPlace(NamedTuple):
    """Where a clip was cut."""

    recording: str
    onset_s: float
    offset_s: float


def place_of(clip_id: str) -> ClipPlace:
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
    return ClipPlace(match["recording"], int(match["onset"]) / 100, int(match["offset"]) / 100)


def segment_weights(boundaries_s: Floats, n_segments: int) -> npt.NDArray[np.float64]:
    """(segment, frame): the share that each frame has in the time of a one-second segment."""
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


def clip_segments(scores: Scores, durations: Mapping[str, float]) -> dict[str, Floats]:
    """Segment scores of each clip by itself, up to its end.

    Args:
        scores: of clips.
        durations: clip -> seconds; longer clips are scored as far as they were read.

    Returns:
        clip -> (segment, class).

    Raises:
        InputError: for a clip without a duration.
    """
    check_durations(scores.clip_ids, durations)
    return {
        clip_id: values[: int(np.ceil(durations[clip_id] / SEGMENT_S))]
        for clip_id, values in zip(scores.clip_ids, segments_of(scores), strict=True)
    }


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
    places = [place_of(clip_id) for clip_id in scores.clip_ids]
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
    """The data frames that sed_scores_eval takes, one row a segment; the last may be shorter."""
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
    places = [place_of(clip_id) for clip_id in table.clip_ids]
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
    """Macro values with those of each class.

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
        frames: recording or clip -> data frame of scores.
        truth: likewise -> events; every class of the frames occurs.
        durations: likewise -> seconds.
        max_fpr: false positive rate up to which the partial AUC is taken.
    """
    lengths = {name: durations[name] for name in frames}
    statistics, _ = sed_scores_eval.segment_based.accumulated_intermediate_statistics(
        frames, truth, lengths, segment_length=SEGMENT_S, num_jobs=1
    )
    f1, _, _, threshold, _ = best_fscore_from_intermediate_statistics(statistics)
    labels = next(iter(frames.values())).columns[2:]
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


def _area(statistics: tuple[Floats, dict[str, Any]], max_fpr: float | None) -> float:
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
