"""Classes and the label grid: names to indices, seconds to frames and back (SPEC section 2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from desed_task.errors import InputError

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]


class Vocabulary(Sequence[str]):
    """An ordered, immutable set of class labels; the position of a label is its class index.

    Raises:
        InputError: if a label occurs twice.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self.labels: tuple[str, ...] = tuple(labels)
        self._index = {label: index for index, label in enumerate(self.labels)}
        if len(self._index) != len(self.labels):
            twice = sorted({label for label in self.labels if self.labels.count(label) > 1})
            raise InputError(f"vocabulary: labels given twice: {', '.join(twice)}")

    def index(self, label: str, start: int = 0, stop: int | None = None) -> int:
        """The class index of `label`.

        Raises:
            InputError: for a label that is not in the vocabulary; the message lists those that are.
        """
        try:
            return self._index[label]
        except KeyError:
            raise InputError(f"unknown label {label!r}; known: {', '.join(self.labels)}") from None

    def mask(self, labels: Iterable[str]) -> npt.NDArray[np.bool_]:
        """(class,) array, True at the classes named in `labels`."""
        mask = np.zeros(len(self.labels), dtype=bool)
        mask[[self.index(label) for label in labels]] = True
        return mask

    @overload
    def __getitem__(self, item: int) -> str: ...
    @overload
    def __getitem__(self, item: slice) -> tuple[str, ...]: ...
    def __getitem__(self, item: int | slice) -> str | tuple[str, ...]:
        return self.labels[item]

    def __contains__(self, label: object) -> bool:
        return label in self._index

    def __iter__(self) -> Iterator[str]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.labels == other.labels

    def __hash__(self) -> int:
        return hash(self.labels)

    def __repr__(self) -> str:
        return f"Vocabulary({list(self.labels)!r})"


@dataclass(frozen=True)
class FrameGrid:
    """The grid of label frames of one clip.

    Attributes:
        n_frames: frames in a clip.
        frame_samples: length of a frame in samples.
        sample_rate: samples per second.
        clip_s: length of a clip in seconds; the last boundary is clipped to it.
    """

    n_frames: int = 156
    frame_samples: int = 1024
    sample_rate: int = 16000
    clip_s: float = 10.0

    @classmethod
    def for_clip(
        cls, clip_s: float, sample_rate: int, hop_samples: int, net_subsample: int
    ) -> FrameGrid:
        """The grid of a network that averages `net_subsample` hops of a centred STFT a frame."""
        mel_frames = int(clip_s * sample_rate) // hop_samples + 1
        frame_samples = hop_samples * net_subsample
        return cls(mel_frames // net_subsample, frame_samples, sample_rate, clip_s)

    @property
    def frame_s(self) -> float:
        """Length of a frame in seconds."""
        return self.frame_samples / self.sample_rate

    @property
    def boundaries_s(self) -> npt.NDArray[np.float64]:
        """(frame + 1,) seconds: frame k lies between entries k and k + 1."""
        return self._seconds(np.arange(self.n_frames + 1))

    def to_frame(self, onset_s: float) -> int:
        """Index of the frame that contains `onset_s` (seconds), clipped to [0, n_frames]."""
        return int(np.clip(int(self._frames(np.array(onset_s))), 0, self.n_frames))

    def _frames(self, time_s: Floats) -> Floats:
        # Through samples: 6.592 s is frame 103 exactly, but 6.592 / 0.064 falls just below it.
        return time_s * self.sample_rate / self.frame_samples

    def _seconds(self, frame: Ints) -> npt.NDArray[np.float64]:
        time_s: npt.NDArray[np.float64] = np.minimum(frame * self.frame_s, self.clip_s)
        return time_s

    def encode(
        self,
        onset_s: Floats,
        offset_s: Floats,
        label_index: Ints,
        confidence: Floats,
        n_classes: int,
    ) -> npt.NDArray[np.float32]:
        """Strong target (class, frame) of events, one array entry an event.

        An event fills the frames from the one holding its onset up to the one holding its offset;
        a later event overwrites an earlier one of its class.
        """
        target = np.zeros((n_classes, self.n_frames), dtype=np.float32)
        first = np.clip(self._frames(onset_s).astype(int), 0, self.n_frames)
        last = np.clip(np.ceil(self._frames(offset_s)).astype(int), 0, self.n_frames)
        for row, start, stop, value in zip(label_index, first, last, confidence, strict=True):
            target[row, start:stop] = value
        return target

    def encode_weak(self, label_index: Ints, n_classes: int) -> npt.NDArray[np.float32]:
        """Target (class, frame) of a clip-level label: 1 in frame 0 of each class present."""
        target = np.zeros((n_classes, self.n_frames), dtype=np.float32)
        target[label_index, 0] = 1.0
        return target

    def decode(
        self, active: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Events of an activity matrix (frame, class): each run of active frames is one.

        Returns:
            onset_s, offset_s (seconds) and label_index, one entry an event, by class then onset.
        """
        padded = np.zeros((active.shape[1], active.shape[0] + 2), dtype=np.int8)
        padded[:, 1:-1] = active.T
        change = np.diff(padded, axis=1)
        label_index, first = np.nonzero(change == 1)
        last = np.nonzero(change == -1)[1]
        return (
            self._seconds(first),
            self._seconds(last),
            label_index,
        )
