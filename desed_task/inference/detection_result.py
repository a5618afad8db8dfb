"""Events and scores of a recording, from what a decoder makes of its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from desed_task.evaluation.boxes import Boxes, Decoded
from desed_task.evaluation.scores import FrameScores, Scores
from desed_task.inference.overlap_add import ScoreRows
from desed_task.labels import Vocabulary, active_runs


class SoundEvent(NamedTuple):
    """One event; `confidence` is the mean of its class's scores over its time."""

    onset_s: float
    offset_s: float
    label: str
    confidence: float


@dataclass(frozen=True)
class DetectionResult:
    """Scores and events of a recording.

    Attributes:
        duration_s: of the recording.
        labels: classes, in the order of the score columns.
        boundaries_s: (frame + 1,) seconds; frame k lies between entries k and k + 1.
        unprocessed: (frame, class), the network's scores in [0, 1].
        scores: (frame, class), decoded: after the median filter, or the confidence of the box that
            the middle of a frame lies in, 0 outside boxes.
        events: what is above the threshold, by onset: runs of frames, or boxes.
        boxes: all boxes, whatever their confidence, by onset; none of the median filter.
    """

    duration_s: float
    labels: tuple[str, ...]
    boundaries_s: npt.NDArray[np.float64]
    unprocessed: ScoreRows
    scores: ScoreRows
    events: tuple[SoundEvent, ...]
    boxes: tuple[SoundEvent, ...] = ()


def one_clip(scores: FrameScores, labels: Sequence[str]) -> Scores:
    """The scores (frame, class) of one recording as those of a set of clips."""
    return Scores(("",), scores.values[None], scores.boundaries_s, Vocabulary(labels))


def result_of(
    raw: FrameScores, decoded: Decoded, duration_s: float, limits: npt.NDArray[np.float64]
) -> DetectionResult:
    """The result of one recording.

    Args:
        raw: (frame, class) scores of the network and (frame + 1,) times, up to the recording's end.
        decoded: what a decoder makes of the same recording, alone; it may be longer.
        duration_s: of the recording.
        limits: (class,) thresholds.
    """
    (clip_id,), labels = decoded.clip_ids, decoded.vocabulary.labels
    if isinstance(decoded, Scores):
        scores = decoded.of(clip_id).values[: len(raw.values)]
        events = events_above(scores, raw.boundaries_s, labels, limits)
        return DetectionResult(duration_s, labels, raw.boundaries_s, raw.values, scores, events)
    scores = decoded.on_frames(clip_id, raw.boundaries_s).astype(raw.values.dtype)
    boxes = _events_of(decoded, raw.boundaries_s[-1])
    limit_of = dict(zip(labels, limits.tolist(), strict=True))
    events = tuple(box for box in boxes if box.confidence > limit_of[box.label])
    return DetectionResult(duration_s, labels, raw.boundaries_s, raw.values, scores, events, boxes)


def _events_of(boxes: Boxes, end_s: float) -> tuple[SoundEvent, ...]:
    """The boxes of one recording that begin before its end, by onset."""
    columns = (boxes.onset_s, boxes.offset_s, boxes.label_index, boxes.confidence)
    found = [
        SoundEvent(onset_s, min(offset_s, float(end_s)), boxes.vocabulary[label], confidence)
        for onset_s, offset_s, label, confidence in zip(*(c.tolist() for c in columns), strict=True)
        if onset_s < end_s
    ]
    return tuple(sorted(found, key=_by_onset))


def events_above(
    scores: ScoreRows,
    boundaries_s: npt.NDArray[np.float64],
    labels: Sequence[str],
    limits: npt.NDArray[np.float64],
) -> tuple[SoundEvent, ...]:
    """Runs of frames whose score is above the threshold of its class, by onset.

    Args:
        scores: (frame, class).
        boundaries_s: (frame + 1,) seconds.
        labels: the classes.
        limits: (class,) thresholds.
    """
    events = []
    for first, last, label in zip(*active_runs(scores > limits), strict=True):
        onset_s, offset_s = float(boundaries_s[first]), float(boundaries_s[last])
        confidence = float(scores[first:last, label].mean(dtype=np.float64))
        events.append(SoundEvent(onset_s, offset_s, labels[label], confidence))
    return tuple(sorted(events, key=_by_onset))


def _by_onset(event: SoundEvent) -> tuple[float, float, str]:
    return event.onset_s, event.offset_s, event.label
