"""Frame scores of many clips, and detections at a threshold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from desed_task.dataio.annotations import EventTable
from desed_task.errors import InputError, agree, count_of
from desed_task.labels import Vocabulary

if TYPE_CHECKING:
    from typing_extensions import Self

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class FrameScores(NamedTuple):
    """Frame scores of one clip.

    Attributes:
        values: (frame, class) in [0, 1].
        boundaries_s: (frame + 1,) seconds; frame k lies between entries k and k + 1.
    """

    values: npt.NDArray[Any]
    boundaries_s: Floats


@dataclass(frozen=True)
class Scores:
    """Frame scores of clips: one array for those of one length, then those scored in windows.

    Attributes:
        clip_ids: the clips, those scored in windows last.
        values: (clip, frame, class) in [0, 1], of clips of one length.
        boundaries_s: (frame + 1,) seconds; frame k lies between entries k and k + 1.
        vocabulary: classes of the last axis.
        longer: scores of the last of `clip_ids`, which are longer.

    Raises:
        InputError: if the shapes do not fit together.
    """

    clip_ids: tuple[str, ...]
    values: npt.NDArray[Any]
    boundaries_s: Floats
    vocabulary: Vocabulary
    longer: tuple[FrameScores, ...] = ()

    def __post_init__(self) -> None:
        n_clips = len(self.clip_ids) - len(self.longer)
        self._check(self.values.shape, (n_clips, len(self.boundaries_s) - 1, len(self.vocabulary)))
        for values, boundaries_s in self.longer:
            whole = (1, *values.shape)
            self._check(whole, (1, len(boundaries_s) - 1, len(self.vocabulary)))

    @staticmethod
    def _check(found: tuple[int, ...], expected: tuple[int, int, int]) -> None:
        if found != expected:
            raise InputError(
                f"scores of shape {found} do not fit {count_of(expected[0], 'clip')}, "
                f"{count_of(expected[1], 'frame')} and "
                f"{count_of(expected[2], 'class', 'classes')}"
            )

    @property
    def blocks(self) -> Iterator[tuple[int, FrameScores]]:
        """Clips of one length: the index of the first one, and values (clip, frame, class)."""
        n_clips = len(self.values)
        if n_clips or not self.longer:
            yield 0, FrameScores(self.values, self.boundaries_s)
        for row, one in enumerate(self.longer, n_clips):
            yield row, one._replace(values=one.values[None])

    def each(self) -> Iterator[FrameScores]:
        """Scores of every clip, in order."""
        yield from (FrameScores(values, self.boundaries_s) for values in self.values)
        yield from self.longer

    def of(self, clip_id: str) -> FrameScores:
        """Scores of one clip."""
        row = self.clip_ids.index(clip_id)
        if row < len(self.values):
            return FrameScores(self.values[row], self.boundaries_s)
        return self.longer[row - len(self.values)]

    def map(self, function: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Scores:
        """A copy with `function` applied to the values: (..., frame, class) to the same shape."""
        longer = tuple(one._replace(values=function(one.values)) for one in self.longer)
        values = function(self.values) if len(self.values) or not longer else self.values
        return replace(self, values=values, longer=longer)

    def select(
        self, clip_ids: Sequence[str] | None = None, labels: Sequence[str] | None = None
    ) -> Scores:
        """Scores of some clips and classes, in the order given; None keeps all.

        Clips that are scored in windows come last, in the order given.

        Raises:
            InputError: naming clips without scores, or an unknown label.
        """
        chosen = self
        if clip_ids is not None:
            chosen = self._rows(places_of_clips(self.clip_ids, clip_ids))
        if labels is None:
            return chosen
        columns = [self.vocabulary.index(label) for label in labels]
        longer = tuple(one._replace(values=one.values[:, columns]) for one in chosen.longer)
        values = chosen.values[..., columns]
        return replace(chosen, values=values, vocabulary=Vocabulary(labels), longer=longer)

    def _rows(self, rows: Sequence[int]) -> Scores:
        n_clips = len(self.values)
        short, long = [r for r in rows if r < n_clips], [r for r in rows if r >= n_clips]
        return replace(
            self,
            clip_ids=tuple(self.clip_ids[row] for row in (*short, *long)),
            values=self.values[short],
            longer=tuple(self.longer[row - n_clips] for row in long),
        )

    @property
    def end_s(self) -> Floats:
        """(clip,) where the scores of each clip end, seconds."""
        return np.array([of_clip.boundaries_s[-1] for of_clip in self.each()])

    @property
    def finite(self) -> npt.NDArray[np.bool_]:
        """(clip,) whether all its scores are finite."""
        found = [np.isfinite(block.values).all(axis=(1, 2)) for _, block in self.blocks]
        whole: npt.NDArray[np.bool_] = np.concatenate(found)
        return whole

    def detect(self, threshold: float | Floats) -> Detections:
        """Runs of frames whose score is above the threshold: one for all, or one per class."""
        found = []
        for first_clip, block in self.blocks:
            signals = _between_walls(block.values > threshold, np.bool_)
            found.append(_runs_in(signals, block, first_clip))
        return _joined(found)

    def detect_at(self, thresholds: Floats) -> list[Detections]:
        """`detect` at each of several thresholds, which rise, in a tenth of the time."""
        found: list[list[Detections]] = [[] for _ in thresholds]
        for first_clip, block in self.blocks:
            # Scores as small numbers: how many of the thresholds they are above.
            n_below = np.searchsorted(thresholds, block.values, side="left")
            signals = _between_walls(n_below, np.min_scalar_type(len(thresholds)))
            for number, of_threshold in enumerate(found):
                of_threshold.append(_runs_in(signals > number, block, first_clip))
        return [_joined(of_threshold) for of_threshold in found]

    def arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """The scores as arrays to be stored together with those of `layout`.

        Args:
            name: of the array of clips of one length, (clip, frame, class); `long_{name}` has the
                frames (frame, class) of the clips scored in windows, one after the other.
        """
        found = {name: self.values}
        if self.longer:
            found[f"long_{name}"] = np.concatenate([one.values for one in self.longer])
        return found

    @property
    def layout(self) -> dict[str, npt.NDArray[Any]]:
        """Clips, classes and times as arrays: what `from_arrays` needs besides `arrays`."""
        found: dict[str, npt.NDArray[Any]] = {
            "clip_ids": np.array(self.clip_ids),
            "event_labels": np.array(self.vocabulary.labels),
            "boundaries_s": self.boundaries_s,
        }
        if self.longer:
            found["long_n_frames"] = np.array([len(one.values) for one in self.longer])
            found["long_boundaries_s"] = np.concatenate([one.boundaries_s for one in self.longer])
        return found

    @classmethod
    def from_arrays(cls, stored: Mapping[str, npt.NDArray[Any]], name: str) -> Scores:
        """The scores of `arrays` and `layout`; KeyError, ValueError or InputError for others."""
        longer: tuple[FrameScores, ...] = ()
        if "long_n_frames" in stored:
            n_frames = stored["long_n_frames"]
            values = np.split(stored[f"long_{name}"], np.cumsum(n_frames)[:-1])
            times_s = np.split(stored["long_boundaries_s"], np.cumsum(n_frames + 1)[:-1])
            longer = tuple(map(FrameScores, values, times_s))
        return cls(
            tuple(stored["clip_ids"].tolist()),
            stored[name],
            stored["boundaries_s"],
            Vocabulary(stored["event_labels"].tolist()),
            longer,
        )


class ScoredClips(Protocol):
    """What metrics need of scores or boxes (`desed_task.evaluation.boxes.Decoded`)."""

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """The clips."""

    @property
    def finite(self) -> npt.NDArray[np.bool_]:
        """(clip,) whether all its scores are finite."""

    def select(
        self, clip_ids: Sequence[str] | None = None, labels: Sequence[str] | None = None
    ) -> Self:
        """Those of some clips and classes."""

    def detect(self, threshold: float | Floats) -> Detections:
        """Events above a threshold."""

    def detect_at(self, thresholds: Floats) -> list[Detections]:
        """Events above each of several thresholds."""


OfClips = TypeVar("OfClips", bound=ScoredClips)


def places_of_clips(clip_ids: Sequence[str], chosen: Sequence[str]) -> list[int]:
    """The position of each chosen clip among those that have scores.

    Raises:
        InputError: naming clips without scores.
    """
    place = {clip_id: row for row, clip_id in enumerate(clip_ids)}
    absent = [clip_id for clip_id in chosen if clip_id not in place]
    if absent:
        raise InputError(
            f"no scores for {count_of(len(absent), 'clip')} (e.g. {', '.join(absent[:3])}); score "
            "them, or leave them out of the truth"
        )
    return [place[clip_id] for clip_id in chosen]


def match_clips(scores: OfClips, table: EventTable) -> tuple[OfClips, EventTable, int]:
    """Scores and truth of the clips that have both, in the table's order.

    Clips that are scored in windows come last.

    Returns:
        the scores, the events, and how many clips of the table have no scores.

    Raises:
        InputError: naming scored clips that the table does not list, or whose scores are not
            finite; if no clip of the table has scores.
    """
    listed, scored = set(table.clip_ids), set(scores.clip_ids)
    unknown = [clip_id for clip_id in scores.clip_ids if clip_id not in listed]
    if unknown:
        raise InputError(
            f"{count_of(len(unknown), 'scored clip')} (e.g. {', '.join(unknown[:3])}) "
            f"{agree(len(unknown), 'is', 'are')} not in {table.path or 'the truth'}; add a row "
            "for each (without onset, offset and label if nothing happens in it), or do not "
            "score them"
        )
    broken = np.flatnonzero(~scores.finite)
    if len(broken):
        names = ", ".join(scores.clip_ids[row] for row in broken[:3])
        raise InputError(
            f"scores of {count_of(len(broken), 'clip')} (e.g. {names}) are not finite; the "
            "network has diverged or the clips' features are broken"
        )
    common = [clip_id for clip_id in table.clip_ids if clip_id in scored]
    if not common:
        raise InputError(
            f"no scores for any of the {count_of(len(listed), 'clip')} of "
            f"{table.path or 'the truth'}; score them first"
        )
    scores = scores.select(common)
    return scores, table.select(scores.clip_ids), len(listed) - len(common)


@dataclass(frozen=True)
class Detections:
    """Detected or true events as columns, with one entry per event.

    Attributes:
        clip_index: (event,) index of the clip.
        label_index: (event,) index of the class.
        onset_s: (event,) seconds.
        offset_s: (event,) seconds.
    """

    clip_index: Ints
    label_index: Ints
    onset_s: Floats
    offset_s: Floats

    def __len__(self) -> int:
        return len(self.clip_index)

    def rows(self, index: npt.NDArray[np.bool_]) -> Detections:
        """The events at which `index` is True."""
        return Detections(*(getattr(self, field.name)[index] for field in fields(self)))

    def within(self, duration_s: Floats) -> Detections:
        """Events that begin before their clip ends, as psds_eval counts; others lie in its padding.

        Args:
            duration_s: (clip,) seconds.
        """
        return self.rows(self.onset_s < duration_s[self.clip_index])


def detect(scores: ScoredClips, threshold: float | Floats) -> Detections:
    """Events at a threshold: runs of frames with scores above it, or boxes with a confidence above.

    Args:
        scores: filtered frame scores, or boxes.
        threshold: one for all classes, or (class,).
    """
    return scores.detect(threshold)


def detect_at(scores: ScoredClips, thresholds: Floats) -> list[Detections]:
    """`detect` at each of several thresholds, which rise, in less time."""
    return scores.detect_at(thresholds)


def _between_walls(values: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The signals of each clip and class one after the other, a 0 before each and after the last.

    Args:
        values: (clip, frame, class).
        dtype: type of the result.
    """
    n_clips, n_frames, n_classes = values.shape
    signals = np.zeros(n_clips * n_classes * (n_frames + 1) + 1, dtype=dtype)
    inside = signals[:-1].reshape(n_clips, n_classes, n_frames + 1)
    inside[..., 1:] = values.transpose(0, 2, 1)
    return signals


def _runs_in(active: npt.NDArray[np.bool_], block: FrameScores, first_clip: int) -> Detections:
    """Runs of True in the signals of clips of one length."""
    _, n_frames, n_classes = block.values.shape
    # Walls make each run begin and end inside its signal.
    edges = np.flatnonzero(active[1:] != active[:-1])
    signal, first = np.divmod(edges[::2], n_frames + 1)
    last = edges[1::2] - signal * (n_frames + 1)
    clip_index, label_index = np.divmod(signal, n_classes)
    return Detections(
        clip_index + first_clip, label_index, block.boundaries_s[first], block.boundaries_s[last]
    )


def _joined(found: Sequence[Detections]) -> Detections:
    columns = ([getattr(one, field.name) for one in found] for field in fields(Detections))
    return Detections(*map(np.concatenate, columns))


def as_detections(table: EventTable, vocabulary: Vocabulary) -> Detections:
    """The events of a table with labels in `vocabulary`, counted in its classes; others dropped."""
    renumbered = np.array([_position(vocabulary, label) for label in table.vocabulary])
    label_index = renumbered[table.label_index] if len(table) else table.label_index
    kept = label_index >= 0
    return Detections(
        table.clip_index[kept], label_index[kept], table.onset_s[kept], table.offset_s[kept]
    )


def _position(vocabulary: Vocabulary, label: str) -> int:
    return vocabulary.index(label) if label in vocabulary else -1


def clips_with_events(table: EventTable, vocabulary: Vocabulary) -> list[str]:
    """The clips of a table that have an event with a label in `vocabulary`, in its order."""
    found = np.unique(as_detections(table, vocabulary).clip_index)
    return [table.clip_ids[clip] for clip in found]


def check_durations(clip_ids: Sequence[str], durations: Mapping[str, float]) -> None:
    """Check that every clip has a known duration.

    Raises:
        InputError: naming them.
    """
    absent = [clip_id for clip_id in clip_ids if clip_id not in durations]
    if absent:
        raise InputError(
            f"no duration for {count_of(len(absent), 'clip')} (e.g. {', '.join(absent[:3])}); "
            "add them to the durations table, or delete it and prepare the data again"
        )
