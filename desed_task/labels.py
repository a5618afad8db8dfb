"""Class labels and the grid of label frames (docs/method.md, Audio and labels)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, overload

import numpy as np
import numpy.typing as npt

from desed_task import published_classes
from desed_task.errors import InputError

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]


def __getattr__(name: str) -> Any:
    """The names of `desed_task.published_classes`, which stood here in earlier versions."""
    if not name.startswith("_") and name.isupper() and hasattr(published_classes, name):
        return getattr(published_classes, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
            near = near_labels(label, self.labels)
            raise InputError(f"unknown label {label!r}; {near}") from None

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
        hop_samples: samples from one STFT frame to the next.
        net_subsample: STFT frames per label frame.
        sample_rate: samples per second.
        clip_s: length of a clip in seconds; no boundary lies beyond it.
    """

    n_frames: int = 156
    hop_samples: int = 256
    net_subsample: int = 4
    sample_rate: int = 16000
    clip_s: float = 10.0

    @classmethod
    def for_clip(
        cls, clip_s: float, sample_rate: int, hop_samples: int, net_subsample: int
    ) -> FrameGrid:
        """The grid of a network that averages `net_subsample` frames of a centred STFT."""
        mel_frames = int(clip_s * sample_rate) // hop_samples + 1
        n_frames = mel_frames // net_subsample
        return cls(n_frames, hop_samples, net_subsample, sample_rate, clip_s)

    @property
    def frame_samples(self) -> int:
        """Length of a frame in samples."""
        return self.hop_samples * self.net_subsample

    @property
    def frame_s(self) -> float:
        """Length of a frame in seconds; see `boundaries_s` for where frames begin."""
        return self.frame_samples / self.sample_rate

    @property
    def boundaries_s(self) -> npt.NDArray[np.float64]:
        """(frame + 1,) seconds: frame k lies between entries k and k + 1."""
        frame = np.arange(self.n_frames + 1)
        # As published, to the last bit: not k * frame_s, which differs in 22 of 157. Whether an
        # event that ends exactly a collar away from the truth is matched depends on that bit.
        time_s = frame * self.net_subsample / (self.sample_rate / self.hop_samples)
        within: npt.NDArray[np.float64] = np.minimum(time_s, self.clip_s)
        return within

    def _frames(self, time_s: Floats) -> Floats:
        # Through samples: 6.592 s is frame 103 exactly, but 6.592 / 0.064 falls just below it.
        return time_s * self.sample_rate / self.frame_samples

    def encode(
        self,
        onset_s: Floats,
        offset_s: Floats,
        label_index: Ints,
        confidence: Floats,
        n_classes: int,
        first_frame: int = 0,
    ) -> npt.NDArray[np.float32]:
        """Strong target (class, frame) of events, one array entry per event.

        An event fills the frames from the one with its onset to the one with its offset; a later
        event overwrites an earlier one of its class.

        Args:
            onset_s, offset_s: (event,) seconds from the beginning of the recording.
            label_index: (event,) classes.
            confidence: (event,) values.
            n_classes: number of classes.
            first_frame: the frame of the recording that the target begins with.
        """
        target = np.zeros((n_classes, self.n_frames), dtype=np.float32)
        first = np.clip(self._frames(onset_s).astype(int) - first_frame, 0, self.n_frames)
        last = np.ceil(self._frames(offset_s)).astype(int) - first_frame
        last = np.clip(last, 0, self.n_frames)
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
        """Events of an activity matrix (frame, class): each run of active frames is one event.

        Returns:
            onset_s, offset_s (seconds) and label_index, one entry per event, by class then onset.
        """
        first, last, label_index = active_runs(active)
        return self.boundaries_s[first], self.boundaries_s[last], label_index


def active_runs(
    active: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Runs of active frames in an activity matrix (frame, class).

    Returns:
        first frame, the frame after the last, and label_index, one entry per run, by class then
        frame.
    """
    padded = np.zeros((active.shape[1], active.shape[0] + 2), dtype=np.int8)
    padded[:, 1:-1] = active.T
    change = np.diff(padded, axis=1)
    label_index, first = np.nonzero(change == 1)
    return first, np.nonzero(change == -1)[1], label_index


# More classes than this are not listed in a message.
_MOST_LISTED: Final = 40


def near_labels(label: str, known: Sequence[str]) -> str:
    """For a message about an unknown label: those that are known, or of many the similar ones."""
    if len(known) <= _MOST_LISTED:
        return f"known: {', '.join(known)}"
    folded = {one.casefold(): one for one in reversed(known)}
    # "Accelerating" is how one remembers "Accelerating, revving, vroom".
    for one in known:
        for part in one.casefold().split(", "):
            folded.setdefault(part, one)
    text = label.casefold()
    close = [folded[one] for one in difflib.get_close_matches(text, folded, 3)]
    close += [one for one in known if text and text in one.casefold()][:3]
    if not close:
        return f"none of the {len(known)} known ones is similar"
    return f"similar: {'; '.join(dict.fromkeys(close))} (of {len(known)})"


def split_labels(text: str, known: Sequence[str]) -> list[str]:
    """The labels in a text with commas between, which labels may contain too.

    At each place the longest known label counts; what is none ends at the next comma.
    """
    longest = sorted(known, key=len, reverse=True)
    found, rest = [], text.strip()
    while rest:
        for label in longest:
            after = rest[len(label) :].lstrip()
            if rest.startswith(label) and after[:1] in ("", ","):
                break
        else:
            label, comma, after = rest.partition(",")
            label, after = label.strip(), comma + after
        if label:
            found.append(label)
        rest = after[1:].lstrip()
    return found
