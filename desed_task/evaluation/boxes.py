"""Scored events of many clips: what a decoder of event boxes makes of frame scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from desed_task.errors import InputError, count_of
from desed_task.evaluation.scores import (
    Detections,
    Floats,
    FrameScores,
    Ints,
    Scores,
    places_of_clips,
)
from desed_task.labels import Vocabulary

# Times that are nearer to each other are the same.
_SAME_S = 1e-6
_COLUMNS = ("clip_index", "label_index", "onset_s", "offset_s", "confidence")


def distinct_times(times_s: Floats) -> Floats:
    """Times, rising; of those that differ by rounding the first one."""
    rising = np.sort(times_s)
    kept: Floats = rising[np.append(True, np.diff(rising) > _SAME_S)]
    return kept


@dataclass(frozen=True)
class Boxes:
    """Event boxes of clips, one entry per box.

    A box is detected at the thresholds below its confidence, and its borders do not depend on the
    threshold. Boxes of one class and clip do not touch.

    Attributes:
        clip_ids: the clips.
        vocabulary: the classes.
        end_s: (clip,) where the scores of each clip end, seconds.
        clip_index: (box,) index of the clip.
        label_index: (box,) index of the class.
        onset_s: (box,) seconds.
        offset_s: (box,) seconds.
        confidence: (box,) in [0, 1]; NaN where the scores were not finite.

    Raises:
        InputError: if the columns do not fit together.
    """

    clip_ids: tuple[str, ...]
    vocabulary: Vocabulary
    end_s: Floats
    clip_index: Ints
    label_index: Ints
    onset_s: Floats
    offset_s: Floats
    confidence: Floats

    def __post_init__(self) -> None:
        lengths = {len(getattr(self, name)) for name in _COLUMNS}
        if len(lengths) > 1 or len(self.end_s) != len(self.clip_ids):
            raise InputError(
                f"columns of lengths {sorted(lengths)} and {count_of(len(self.end_s), 'end')} for "
                f"{count_of(len(self.clip_ids), 'clip')} do not fit together"
            )

    def __len__(self) -> int:
        return len(self.clip_index)

    def rows(self, index: npt.NDArray[np.bool_]) -> Boxes:
        """The boxes at which `index` is True, of the same clips and classes."""
        return replace(self, **{name: getattr(self, name)[index] for name in _COLUMNS})

    def select(
        self, clip_ids: Sequence[str] | None = None, labels: Sequence[str] | None = None
    ) -> Boxes:
        """Boxes of some clips and classes, in the order given; None keeps all.

        Raises:
            InputError: naming clips without boxes, or an unknown label.
        """
        chosen = self
        if clip_ids is not None:
            places = places_of_clips(self.clip_ids, clip_ids)
            chosen = replace(
                chosen._renumbered("clip_index", places, len(self.clip_ids)),
                clip_ids=tuple(clip_ids),
                end_s=self.end_s[places],
            )
        if labels is not None:
            columns = [self.vocabulary.index(label) for label in labels]
            chosen = replace(
                chosen._renumbered("label_index", columns, len(self.vocabulary)),
                vocabulary=Vocabulary(labels),
            )
        return chosen

    def _renumbered(self, column: str, places: Sequence[int], n_before: int) -> Boxes:
        """The boxes whose index is one of `places`, with the index's position in it."""
        number = np.full(n_before, -1)
        number[list(places)] = np.arange(len(places))
        index = number[getattr(self, column)]
        chosen = self.rows(index >= 0)
        return replace(chosen, **{column: index[index >= 0]})

    @property
    def finite(self) -> npt.NDArray[np.bool_]:
        """(clip,) whether the scores that its boxes come from are finite."""
        found = np.ones(len(self.clip_ids), dtype=bool)
        found[self.clip_index[~np.isfinite(self.confidence)]] = False
        return found

    def detect(self, threshold: float | Floats) -> Detections:
        """The boxes with a confidence above the threshold: one for all, or one per class."""
        limits = np.broadcast_to(np.asarray(threshold, dtype=np.float64), len(self.vocabulary))
        return self._detections(self.confidence > limits[self.label_index])

    def detect_at(self, thresholds: Floats) -> list[Detections]:
        """`detect` at each of several thresholds."""
        return [self._detections(self.confidence > threshold) for threshold in thresholds]

    def _detections(self, index: npt.NDArray[np.bool_]) -> Detections:
        return Detections(*(getattr(self, name)[index] for name in _COLUMNS[:-1]))

    def of(self, clip_id: str, outside: float = 0.0) -> FrameScores:
        """A clip's boxes as scores: a class has its box's confidence inside it.

        Elsewhere it has the score `outside`. With minus infinity no threshold joins boxes.

        A frame lies between two borders of boxes of any class that follow each other.
        """
        clip = self.clip_ids.index(clip_id)
        own = self.rows(self.clip_index == clip)
        borders = np.concatenate([own.onset_s, own.offset_s, [0.0, self.end_s[clip]]])
        boundaries_s = distinct_times(borders)
        values = np.full((len(boundaries_s) - 1, len(self.vocabulary)), outside)
        first, last = (
            np.searchsorted(boundaries_s, times_s - _SAME_S)
            for times_s in (own.onset_s, own.offset_s)
        )
        columns = zip(first, last, own.label_index, own.confidence, strict=True)
        for start, stop, label, confidence in columns:
            values[start:stop, label] = confidence
        return FrameScores(values, boundaries_s)

    def on_frames(self, clip_id: str, boundaries_s: Floats) -> Floats:
        """(frame, class): the confidence of the box that the middle of each frame lies in, or 0.

        Args:
            clip_id: the clip.
            boundaries_s: (frame + 1,) times of frames.
        """
        own = self.rows(self.clip_index == self.clip_ids.index(clip_id))
        middle_s = (boundaries_s[1:] + boundaries_s[:-1]) / 2
        values = np.zeros((len(middle_s), len(self.vocabulary)))
        for label in np.unique(own.label_index).tolist():
            of_class = own.rows(own.label_index == label)
            order = np.argsort(of_class.onset_s)
            box = np.searchsorted(of_class.onset_s[order], middle_s, side="right") - 1
            place = order[box.clip(0)]
            inside = (box >= 0) & (middle_s < of_class.offset_s[place])
            values[inside, label] = of_class.confidence[place[inside]]
        return values

    def arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """The boxes as arrays to be stored: `{name}_boxes_...`."""
        stored = {f"{name}_boxes_{column}": getattr(self, column) for column in _COLUMNS}
        return {
            **stored,
            f"{name}_boxes_end_s": self.end_s,
            f"{name}_boxes_clip_ids": np.array(self.clip_ids),
        }

    @classmethod
    def from_arrays(cls, stored: Mapping[str, npt.NDArray[Any]], name: str) -> Boxes:
        """The boxes of `arrays`, with classes `event_labels`; KeyError, ValueError for others."""
        return cls(
            tuple(stored[f"{name}_boxes_clip_ids"].tolist()),
            Vocabulary(stored["event_labels"].tolist()),
            stored[f"{name}_boxes_end_s"],
            *(stored[f"{name}_boxes_{column}"] for column in _COLUMNS),
        )


# What a decoder gives: filtered frame scores, or boxes.
Decoded = Scores | Boxes


def decoded_from_arrays(stored: Mapping[str, npt.NDArray[Any]], name: str) -> Decoded:
    """Scores or boxes, whichever were stored under the name."""
    if f"{name}_boxes_clip_ids" in stored:
        return Boxes.from_arrays(stored, name)
    return Scores.from_arrays(stored, name)
