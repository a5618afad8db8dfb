"""Event boxes from frame scores by change points (cSEBBs), for many curves at once.

Ebbers et al., "Sound event bounding boxes", arXiv 2406.04212. A box has an onset, an offset and one
confidence: a threshold chooses boxes and never moves their borders. Scores are taken as a step
function of time, 0 outside the clip. Its step filter, delta(t), is the mean of the half filter
after t minus that before t. Boxes begin at maxima of delta and end at minima; a box and the next
one become one where the scores hardly fall between them.

Numbers are compared after rounding (to 1e-9; float32 scores to 1e-7 first), so that ties do not
depend on the order of sums: equal scores always give equal boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from desed_task.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Step filter of half a second and a merge threshold of 2 are a usual choice without tuning.
DEFAULT_STEP_FILTER_S: Final = 0.5
DEFAULT_MERGE_REL: Final = 2.0
_DECIMALS: Final = 9
# What a float32 between 0 and 1 can tell.
_FLOAT32_DECIMALS: Final = 7
# Frames that share less time with a box or gap do not belong to it.
_SHORTEST_S: Final = 1e-7
# Keeps ratios of silence to silence finite.
_FLOOR: Final = 1e-3
# Added to the duration that the mean is taken over, as in the published boxes, whose confidences
# are lower by up to a share of 6e-5 for it.
_ADDED_S: Final = 1e-6
# Curves at a time, so that intermediate results stay in the caches.
_CHUNK: Final = 512


class EventBox(NamedTuple):
    """One event of a class; `confidence` is the mean score over its time."""

    onset_s: float
    offset_s: float
    confidence: float


def event_boxes(
    scores: npt.ArrayLike,
    *,
    hop_s: float,
    step_filter_s: float,
    merge_abs: float | None = None,
    merge_rel: float | None = None,
) -> list[EventBox]:
    """The event boxes of one class in one clip, in order of time.

    Two neighbours become one box if p - v < `merge_abs` and (p + .001) / (v + .001) < `merge_rel`,
    where v is the lowest frame score between them and p the higher one of their highest frame
    scores. If only one of the two is given, it decides; without both, nothing is merged. Every clip
    has at least one box: silence gives one of confidence 0.

    Args:
        scores: (frame,) scores of the class, finite.
        hop_s: length of a frame in seconds.
        step_filter_s: length of the step filter in seconds; it need not be a whole number of
            frames.
        merge_abs: largest fall of the scores, exclusive; None for no limit.
        merge_rel: largest ratio of the scores, exclusive; None for no limit.

    Returns:
        (onset_s, offset_s, confidence) of each box.

    Raises:
        InputError: for scores of another shape or not finite, and lengths or merge thresholds out
            of range.
    """
    values = np.asarray(scores)
    if values.ndim != 1 or not len(values):
        raise InputError(
            f"scores of shape {values.shape}: give those of one class, one per frame (and "
            "`decoder_of` whole clips)"
        )
    if not np.isfinite(values).all():
        raise InputError("the scores are not finite; the network has diverged")
    if not (_is_number(hop_s) and 0 < hop_s < np.inf):
        raise InputError(f"hop_s is {hop_s!r}; give the length of a frame in seconds, above 0")
    settings = BoxSettings(step_filter_s, merge_abs, merge_rel)
    boundaries_s = np.arange(len(values) + 1, dtype=np.float64) * hop_s
    found = settings.merge(find_step_boxes(values[None], boundaries_s, step_filter_s))
    return [EventBox(*box) for box in zip(*(column.tolist() for column in found[1:]), strict=True)]


@dataclass(frozen=True)
class BoxSettings:
    """How the boxes of a class are found; see `event_boxes`.

    Raises:
        InputError: for values out of range.
    """

    step_filter_s: float = DEFAULT_STEP_FILTER_S
    merge_abs: float | None = None
    merge_rel: float | None = DEFAULT_MERGE_REL

    def __post_init__(self) -> None:
        if not (_is_number(self.step_filter_s) and 0 < self.step_filter_s < np.inf):
            raise InputError(
                f"step_filter_s is {self.step_filter_s!r}; give the length of the step filter in "
                "seconds, above 0"
            )
        for name in ("merge_abs", "merge_rel"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value >= 0):
                raise InputError(
                    f"{name} is {value!r}; give a number from 0 on, or none (null) for no limit"
                )

    def merge(self, boxes: StepBoxes) -> MergedBoxes:
        """Merge the boxes of curves of this class."""
        begins = np.ones(len(boxes.signal), dtype=bool)
        if self.merge_abs is not None or self.merge_rel is not None:
            begins[1:] = ~self._joins(boxes)[:-1]
        first = np.flatnonzero(begins)
        last = np.append(first[1:], len(begins)) - 1 if len(first) else first
        onset_s, offset_s = boxes.onset_s[first], boxes.offset_s[last]
        sums = boxes.offset_sum[last] - boxes.onset_sum[first]
        confidence = np.round(sums / (offset_s - onset_s + _ADDED_S), _DECIMALS)
        return MergedBoxes(boxes.signal[first], onset_s, offset_s, confidence)

    def _joins(self, boxes: StepBoxes) -> npt.NDArray[np.bool_]:
        """(box,) whether it and the next one become one."""
        # By the boxes as found: a chain of them does not depend on the order of merging.
        peak = np.maximum(boxes.peak[:-1], boxes.peak[1:])
        low = boxes.gap_low[:-1]
        joins = np.zeros(len(boxes.signal), dtype=bool)
        joins[:-1] = boxes.signal[1:] == boxes.signal[:-1]
        if self.merge_abs is not None:
            joins[:-1] &= np.round(peak - low, _DECIMALS) < self.merge_abs
        if self.merge_rel is not None:
            ratio = (peak + _FLOOR) / (low + _FLOOR)
            joins[:-1] &= np.round(ratio, _DECIMALS) < self.merge_rel
        return joins


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


class MergedBoxes(NamedTuple):
    """Boxes of many curves, by curve and time."""

    signal: Ints  # (box,) index of the curve
    onset_s: Floats
    offset_s: Floats
    confidence: Floats


class StepBoxes(NamedTuple):
    """Boxes of many curves before any are merged, by curve and time.

    Attributes:
        signal: (box,) index of the curve.
        onset_s: seconds.
        offset_s: seconds.
        onset_sum: integral of the scores up to the onset.
        offset_sum: integral of the scores up to the offset.
        peak: highest frame score in the box.
        gap_low: lowest frame score between it and the next one; of the last box of a curve without
            meaning.
    """

    signal: Ints
    onset_s: Floats
    offset_s: Floats
    onset_sum: Floats
    offset_sum: Floats
    peak: Floats
    gap_low: Floats


def find_step_boxes(
    scores: npt.NDArray[Any], boundaries_s: Floats, step_filter_s: float
) -> StepBoxes:
    """The boxes of each curve before merging.

    Args:
        scores: (curve, frame), finite.
        boundaries_s: (frame + 1,) seconds, rising from 0; frame k lies between entries k and k + 1.
        step_filter_s: length of the step filter in seconds.
    """
    grid = _StepGrid(boundaries_s, step_filter_s)
    parts = list(_parts(scores, grid))
    columns = zip(*parts, strict=True) if parts else [[np.zeros(0)]] * len(StepBoxes._fields)
    found = StepBoxes(*map(np.concatenate, columns))
    return found._replace(signal=found.signal.astype(np.int64))


def _parts(scores: npt.NDArray[Any], grid: _StepGrid) -> Iterator[StepBoxes]:
    """The boxes of some curves at a time."""
    exact = scores.dtype == np.float64
    for start in range(0, len(scores), _CHUNK):
        values = scores[start : start + _CHUNK].astype(np.float64)
        found = grid.boxes(values if exact else np.round(values, _FLOAT32_DECIMALS))
        yield found._replace(signal=found.signal + start)


class _StepGrid:
    """The points of time at which curves on common frames can have their extrema of delta.

    Args:
        boundaries_s: see `find_step_boxes`.
        step_filter_s: length of the step filter.
    """

    def __init__(self, boundaries_s: Floats, step_filter_s: float) -> None:
        self.boundaries_s, self.half_s = boundaries_s, step_filter_s / 2
        # delta is linear between a border of frames and its distances of half a filter.
        shifted = [boundaries_s + shift for shift in (0.0, -self.half_s, self.half_s)]
        self.points_s = _distinct(np.concatenate(shifted), float(boundaries_s[-1]))
        self._width_s = np.diff(boundaries_s)
        self._places = [
            self._place(self.points_s + shift) for shift in (-self.half_s, 0, +self.half_s)
        ]
        # The frames of a box from point i to point j: first[i] to before stop[j].
        self._first = np.searchsorted(boundaries_s, self.points_s + _SHORTEST_S, side="right") - 1
        self._stop = np.searchsorted(boundaries_s, self.points_s - _SHORTEST_S, side="left")

    def _place(self, times_s: Floats) -> tuple[Ints, Floats]:
        """Index of the frame that each time lies in, and the seconds since it began."""
        frame = np.searchsorted(self.boundaries_s, times_s, side="right") - 1
        frame = frame.clip(0, len(self._width_s) - 1)
        inside_s = (times_s - self.boundaries_s[frame]).clip(0.0, self._width_s[frame])
        return frame, inside_s

    def boxes(self, scores: Floats) -> StepBoxes:
        """The boxes of (curve, frame) scores."""
        sums = np.zeros((len(scores), len(self.boundaries_s)))
        np.cumsum(scores * self._width_s, axis=1, out=sums[:, 1:])
        before, here, after = (
            sums[:, frame] + scores[:, frame] * inside_s for frame, inside_s in self._places
        )
        delta = np.round((after - 2 * here + before) / self.half_s, _DECIMALS)
        onset, offset = _extrema(delta)
        signal, begin = np.nonzero(onset)
        _, end = np.nonzero(offset)
        return StepBoxes(
            signal,
            self.points_s[begin],
            self.points_s[end],
            here[signal, begin],
            here[signal, end],
            *self._heights(scores, signal, begin, end),
        )

    def _heights(
        self, scores: Floats, signal: Ints, begin: Ints, end: Ints
    ) -> tuple[Floats, Floats]:
        """(box,) the highest frame score in each box, and the lowest one in the gap after it."""
        n_columns = scores.shape[1] + 1
        # Indices of a range's end may be one beyond the curve.
        flat = np.concatenate([scores, scores[:, -1:]], axis=1).ravel()
        row = signal * n_columns
        peak = np.maximum.reduceat(flat, _ranges(row + self._first[begin], row + self._stop[end]))
        gap_low = np.full(len(signal), -np.inf)
        inner = np.flatnonzero(signal[1:] == signal[:-1])
        if len(inner):
            first, stop = self._first[end[inner]], self._stop[begin[inner + 1]]
            ranges = _ranges(row[inner] + first, row[inner] + stop)
            gap_low[inner] = np.minimum.reduceat(flat, ranges)[::2]
        return peak[::2], gap_low


def _distinct(times_s: Floats, end_s: float) -> Floats:
    """Times from 0 to the end, rising; of those that differ by rounding only the first one."""
    # Not rounded themselves, as delta is steep.
    rising = np.sort(times_s[(times_s > -_SHORTEST_S) & (times_s < end_s + _SHORTEST_S)])
    rising = rising.clip(0.0, end_s)
    kept: Floats = rising[np.append(True, np.diff(rising) > _SHORTEST_S)]
    return kept


def _extrema(delta: Floats) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(curve, point) where boxes begin and end; in each curve they alternate."""
    rises = np.diff(delta, axis=1)
    n_curves = len(delta)
    # Before the first point delta is minus infinity, after the last one infinity.
    above_before = np.concatenate([np.ones((n_curves, 1), dtype=bool), rises > 0], axis=1)
    below_next = np.concatenate([rises > 0, np.ones((n_curves, 1), dtype=bool)], axis=1)
    onset: npt.NDArray[np.bool_] = above_before & ~below_next
    offset: npt.NDArray[np.bool_] = ~above_before & below_next
    return onset, offset


def _ranges(first: Ints, stop: Ints) -> Ints:
    """Indices for `ufunc.reduceat`, of whose results every second one is that of a range."""
    return np.stack([first, stop], axis=1).ravel()
