"""Decoders: from a network's frame scores to what events are detected in.

    decoder = decoder_of(settings, labels, median_filter=lengths)
    decoded = decoder(scores)              # filtered `Scores`, or `Boxes`
    events = detect(decoded, threshold)

- `median`: scores filtered with a length per class, as published.
- `boxes`: change-point event boxes of the unfiltered scores (`desed_task.postprocess.event_boxes`).
- `threshold_boxes`: runs of frames whose filtered score is above a threshold per class, each with
  the mean of its filtered scores as confidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from desed_task.errors import InputError, count_of
from desed_task.evaluation.boxes import Boxes, Decoded
from desed_task.evaluation.scores import Floats, FrameScores, Scores
from desed_task.labels import Vocabulary
from desed_task.postprocess.event_boxes import (
    DEFAULT_MERGE_REL,
    DEFAULT_STEP_FILTER_S,
    BoxSettings,
    find_step_boxes,
)
from desed_task.postprocess.median_filter import ClassMedianFilter
from desed_task.postprocess.thresholds import DEFAULT_THRESHOLD, class_thresholds

MEDIAN: Final = "median"
BOXES: Final = "boxes"
THRESHOLD_BOXES: Final = "threshold_boxes"
KINDS: Final = (MEDIAN, BOXES, THRESHOLD_BOXES)
# Key -> value of the classes that are not named.
DEFAULTS: Final[Mapping[str, Any]] = {
    "kind": MEDIAN,
    "step_filter_s": DEFAULT_STEP_FILTER_S,
    "merge_abs": None,
    "merge_rel": DEFAULT_MERGE_REL,
    "threshold": DEFAULT_THRESHOLD,
}

# Kind -> keys that it reads, beside the median filters.
READ_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    MEDIAN: (),
    BOXES: ("step_filter_s", "merge_abs", "merge_rel"),
    THRESHOLD_BOXES: ("threshold",),
}

ScoreDecoder = Callable[[Scores], Decoded]
# One for all classes, or label -> value, the default for others.
ClassValue = float | None | Mapping[str, float | None]


@dataclass(frozen=True)
class DecoderSettings:
    """Plain settings of a decoder, as a configuration or a checkpoint contains them.

    Attributes:
        kind: one of `KINDS`.
        step_filter_s: length of the step filter in seconds (boxes).
        merge_abs: see `event_boxes`.
        merge_rel: see `event_boxes`.
        threshold: above which the filtered scores of a box are (threshold_boxes).
    """

    kind: str = MEDIAN
    step_filter_s: ClassValue = DEFAULT_STEP_FILTER_S
    merge_abs: ClassValue = None
    merge_rel: ClassValue = DEFAULT_MERGE_REL
    threshold: ClassValue = DEFAULT_THRESHOLD

    @classmethod
    def from_plain(cls, stored: Mapping[str, Any], labels: Sequence[str]) -> DecoderSettings:
        """The settings of a section of a file, checked for these classes.

        Raises:
            InputError: for unknown keys, kinds and labels, and values out of range; all of them in
                one message.
        """
        if problems := decoder_problems(stored, labels):
            raise InputError.collect(problems, "the decoder's settings cannot be used:")
        return cls(**stored)

    def to_plain(self) -> dict[str, Any]:
        """Plain values: the inverse of `from_plain`."""
        plain = {key: getattr(self, key) for key in DEFAULTS}
        return {k: dict(v) if isinstance(v, Mapping) else v for k, v in plain.items()}

    def problems(self, labels: Sequence[str]) -> list[str]:
        """What is wrong with the settings, one line each."""
        found = []
        if self.kind not in KINDS:
            found.append(f"decoder.kind: {self.kind!r}; give one of {', '.join(KINDS)}")
        for key in DEFAULTS:
            value = getattr(self, key)
            named = value if isinstance(value, Mapping) else {}
            unknown = [str(label) for label in named if label not in labels]
            if unknown:
                found.append(f"decoder.{key}: names unknown classes: {', '.join(unknown)}")
        if not found:
            try:
                self.of_boxes(labels)
                self.thresholds(labels)
            except (InputError, TypeError, ValueError) as error:
                found.append(f"decoder: {error}")
        return found

    def of_boxes(self, labels: Sequence[str]) -> list[BoxSettings]:
        """The settings of the boxes of each class."""
        keys = ("step_filter_s", "merge_abs", "merge_rel")
        columns = [self._values(key, labels) for key in keys]
        return [BoxSettings(*values) for values in zip(*columns, strict=True)]

    def thresholds(self, labels: Sequence[str]) -> Floats:
        """(class,) thresholds of the boxes of `threshold_boxes`."""
        found: dict[str, float] = dict(zip(labels, self._values("threshold", labels), strict=True))
        return class_thresholds(found, labels)

    def _values(self, key: str, labels: Sequence[str]) -> list[Any]:
        value = getattr(self, key)
        if isinstance(value, Mapping):
            return [value.get(label, DEFAULTS[key]) for label in labels]
        return [value] * len(labels)


def decoder_problems(stored: object, labels: Sequence[str]) -> list[str]:
    """What is wrong with the settings of a section of a file, one line each."""
    if not isinstance(stored, Mapping):
        return [f"decoder: {stored!r} is not a section of keys"]
    unknown = [key for key in stored if key not in DEFAULTS]
    found = [f"decoder.{key}: unknown key; known: {', '.join(DEFAULTS)}" for key in unknown]
    known = DecoderSettings(**{key: stored[key] for key in DEFAULTS if key in stored})
    return found + known.problems(labels)


def decoder_of(
    settings: DecoderSettings, labels: Sequence[str], *, median_filter: Sequence[int]
) -> ScoreDecoder:
    """The decoder of given settings.

    Args:
        settings: kind and values per class.
        labels: the classes of the scores, in the order of their columns.
        median_filter: lengths in frames, one per class.

    Raises:
        InputError: for settings that do not fit the classes.
    """
    if problems := settings.problems(labels):
        raise InputError.collect(problems, "the decoder's settings cannot be used:")
    smooth = ClassMedianFilter(median_filter)
    if settings.kind == BOXES:
        return BoxDecoder(settings.of_boxes(labels))
    if settings.kind == THRESHOLD_BOXES:
        return ThresholdBoxDecoder(smooth, settings.thresholds(labels))
    return MedianDecoder(smooth)


class MedianDecoder:
    """Filters the scores of each class.

    Args:
        smooth: the filter.
    """

    def __init__(self, smooth: ClassMedianFilter) -> None:
        self.smooth = smooth

    def __call__(self, scores: Scores) -> Scores:
        """The filtered scores."""
        return scores.map(self.smooth)


class BoxDecoder:
    """Finds change-point boxes.

    Args:
        settings: of each class.
    """

    def __init__(self, settings: Sequence[BoxSettings]) -> None:
        self.settings = tuple(settings)

    def __call__(self, scores: Scores) -> Boxes:
        """The boxes of all classes and clips.

        Raises:
            InputError: if there are not settings for each class.
        """
        if len(self.settings) != len(scores.vocabulary):
            raise InputError(
                f"settings of {count_of(len(self.settings), 'class', 'classes')} for scores of "
                f"{len(scores.vocabulary)}"
            )
        return boxes_of(scores, self._of_block)

    def _of_block(self, block: FrameScores) -> _Columns:
        columns = [self._of_class(label, block) for label in range(len(self.settings))]
        clip, label, onset_s, offset_s, confidence = map(np.concatenate, zip(*columns, strict=True))
        return clip, label, onset_s, offset_s, confidence

    def _of_class(self, label: int, block: FrameScores) -> _Columns:
        settings = self.settings[label]
        found = find_step_boxes(
            block.values[..., label], block.boundaries_s, settings.step_filter_s
        )
        merged = settings.merge(found)
        return merged.signal, np.full(len(merged.signal), label), *merged[1:]


class ThresholdBoxDecoder:
    """Finds runs of frames above a threshold.

    Args:
        smooth: filter of the scores.
        thresholds: (class,).
    """

    def __init__(self, smooth: ClassMedianFilter, thresholds: Floats) -> None:
        self.smooth, self.thresholds = smooth, thresholds

    def __call__(self, scores: Scores) -> Boxes:
        """The boxes of all classes and clips; a class may have none in a clip."""
        return boxes_of(scores.map(self.smooth), self._of_block)

    def _of_block(self, block: FrameScores) -> _Columns:
        n_clips, n_frames, n_classes = block.values.shape
        signals = block.values.transpose(0, 2, 1).reshape(-1, n_frames).astype(np.float64)
        active = np.zeros((len(signals), n_frames + 2), dtype=np.int8)
        active[:, 1:-1] = signals > np.tile(self.thresholds, n_clips)[:, None]
        signal, first = np.nonzero(np.diff(active, axis=1) == 1)
        _, last = np.nonzero(np.diff(active, axis=1) == -1)
        sums = np.zeros((len(signals), n_frames + 1))
        np.cumsum(signals * np.diff(block.boundaries_s), axis=1, out=sums[:, 1:])
        onset_s, offset_s = block.boundaries_s[first], block.boundaries_s[last]
        total = sums[signal, last] - sums[signal, first]
        clip, label = np.divmod(signal, n_classes)
        return clip, label, onset_s, offset_s, np.round(total / (offset_s - onset_s), 9)


_Columns = tuple[
    npt.NDArray[np.int64],
    npt.NDArray[np.int64],
    Floats,
    Floats,
    Floats,
]


def boxes_of(scores: Scores, find: Callable[[FrameScores], _Columns]) -> Boxes:
    """The boxes of all clips, those of one length together.

    Args:
        scores: of the clips.
        find: gives clip, class, onset, offset and confidence of the boxes of clips (clip, frame,
            class) of one length. A clip with a score that is not finite gets one box for each class
            instead, whose confidence is NaN.
    """
    parts, ends_s = [], []
    for first_clip, block in scores.blocks:
        end_s = float(block.boundaries_s[-1])
        finite = np.isfinite(block.values).all(axis=(1, 2))
        fine = np.flatnonzero(finite)
        clip, *columns = find(block._replace(values=block.values[fine]))
        parts.append((fine[clip] + first_clip, *columns))
        broken = np.repeat(np.flatnonzero(~finite), len(scores.vocabulary))
        label = np.arange(len(broken)) % len(scores.vocabulary)
        values = (np.full(len(broken), value) for value in (0.0, end_s, np.nan))
        parts.append((broken + first_clip, label, *values))
        ends_s.append(np.full(len(block.values), end_s))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.lexsort((columns[2], columns[1], columns[0]))
    clip_index, label_index, onset_s, offset_s, confidence = (one[order] for one in columns)
    vocabulary = Vocabulary(scores.vocabulary.labels)
    return Boxes(
        scores.clip_ids,
        vocabulary,
        np.concatenate(ends_s),
        clip_index.astype(np.int64),
        label_index.astype(np.int64),
        onset_s.astype(np.float64),
        offset_s.astype(np.float64),
        confidence.astype(np.float64),
    )
