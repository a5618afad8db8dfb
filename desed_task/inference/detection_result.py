"""Events and scores of a recording, from what a decoder makes of its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from desed_task.evaluation.boxes import Boxes, Decoded
from desed_task.evaluation.scores import FrameScores, Scores
from desed_task.inference.overlap_add import ScoreRows
from desed_task.labels import Vocabulary
from desed_task.postprocess.calibration import MEAN_SCORE, Calibration, confidence_in_words
from desed_task.postprocess.ruled_events import ClassRules
from desed_task.postprocess.ruled_events import SoundEvent as SoundEvent


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
        events: what is above the threshold, by onset: runs of frames, or boxes, after event rules
            (`desed_task.postprocess.event_rules`), whose merged classes are not in `labels`.
        boxes: all boxes, whatever their confidence, by onset; none of the median filter. Neither
            rules nor a calibration have changed them.
        mean_scores: (event,) the mean scores that confidences were calibrated from, else equal to
            them; of an event of merged classes the highest of its parts.
        confidence_is: what the confidence of events is, in words.
    """

    duration_s: float
    labels: tuple[str, ...]
    boundaries_s: npt.NDArray[np.float64]
    unprocessed: ScoreRows
    scores: ScoreRows
    events: tuple[SoundEvent, ...]
    boxes: tuple[SoundEvent, ...] = ()
    mean_scores: tuple[float, ...] = ()
    confidence_is: str = MEAN_SCORE


def one_clip(scores: FrameScores, labels: Sequence[str]) -> Scores:
    """The scores (frame, class) of one recording as those of a set of clips."""
    return Scores(("",), scores.values[None], scores.boundaries_s, Vocabulary(labels))


def result_of(
    raw: FrameScores,
    decoded: Decoded,
    duration_s: float,
    rules: ClassRules,
    calibration: Calibration | None = None,
) -> DetectionResult:
    """The result of one recording.

    Args:
        raw: (frame, class) scores of the network and (frame + 1,) times, up to the recording's end.
        decoded: what a decoder makes of the same recording, alone; it may be longer.
        duration_s: of the recording.
        rules: thresholds and rules of the classes.
        calibration: of the confidence of events.
    """
    (clip_id,), labels = decoded.clip_ids, decoded.vocabulary.labels
    calibrate = None if calibration is None else calibration.of_known
    boxes: tuple[SoundEvent, ...] = ()
    if isinstance(decoded, Scores):
        scores = decoded.of(clip_id).values[: len(raw.values)]
        found = rules.events_of_scores(scores, raw.boundaries_s, calibrate)
    else:
        scores = decoded.on_frames(clip_id, raw.boundaries_s).astype(raw.values.dtype)
        boxes = _events_of(decoded, raw.boundaries_s[-1])
        found = rules.events_of_boxes(boxes, calibrate)
    return DetectionResult(
        duration_s=duration_s,
        labels=labels,
        boundaries_s=raw.boundaries_s,
        unprocessed=raw.values,
        scores=scores,
        events=found.events,
        boxes=boxes,
        mean_scores=found.mean_scores,
        confidence_is=confidence_in_words(calibration, labels),
    )


def _events_of(boxes: Boxes, end_s: float) -> tuple[SoundEvent, ...]:
    """The boxes of one recording that begin before its end, by onset."""
    columns = (boxes.onset_s, boxes.offset_s, boxes.label_index, boxes.confidence)
    found = [
        SoundEvent(onset_s, min(offset_s, float(end_s)), boxes.vocabulary[label], confidence)
        for onset_s, offset_s, label, confidence in zip(*(c.tolist() for c in columns), strict=True)
        if onset_s < end_s
    ]
    return tuple(sorted(found, key=_by_onset))


def _by_onset(event: SoundEvent) -> tuple[float, float, str]:
    return event.onset_s, event.offset_s, event.label
