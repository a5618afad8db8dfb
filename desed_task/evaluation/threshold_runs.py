"""Runs of frames that are detected at any threshold (component tree).

A run of frames is detected at the thresholds that are below all its scores but not below its
neighbours'. As a threshold falls runs grow and merge, so that each signal has at most as many of
them as frames: the nodes of its component tree.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from desed_task.evaluation.scores import Ints


class Runs(NamedTuple):
    """Every run of frames that some threshold separates; detected where low <= threshold < high.

    Thresholds and scores are levels, which are their ranks.

    Attributes:
        signal: (run,) index of the signal.
        first: (run,) its first frame.
        last: (run,) the frame after its last.
        low: (run,) the higher level of its two neighbours; -1 for a whole signal.
        high: (run,) its lowest level.
    """

    signal: Ints
    first: Ints
    last: Ints
    low: Ints
    high: Ints

    def chosen(self, index: npt.NDArray[np.bool_]) -> Runs:
        """The runs at which `index` is True."""
        return Runs(*(column[index] for column in self))


def find_runs(signals: Ints) -> Runs:
    """The runs of levels (signal, frame), which are at least 0."""
    n_frames = signals.shape[1]
    # A wall before each signal and one after the last keep the signals apart.
    walls = np.full((len(signals), 1), -1)
    levels = np.append(np.concatenate([walls, signals], axis=1), walls[:1])
    inside = np.flatnonzero(levels >= 0)
    before = _nearest(levels, inside, step=-1, beyond=np.greater)
    after = _nearest(levels, inside, step=1, beyond=np.greater_equal)
    # Of several frames with a run's lowest level, the first one represents it.
    first_of_run = levels[before] < levels[inside]
    node, before, after = inside[first_of_run], before[first_of_run], after[first_of_run]
    signal, place = np.divmod(node, n_frames + 1)
    start = node - place + 1
    low = np.maximum(levels[before], levels[after])
    return Runs(signal, before + 1 - start, after - start, low, levels[node])


def _nearest(levels: Ints, nodes: Ints, *, step: int, beyond: np.ufunc) -> Ints:
    """For each node the next place to one side whose level is not `beyond` its own."""
    place = np.arange(len(levels)) + step
    left = nodes[beyond(levels[place[nodes]], levels[nodes])]
    while len(left):
        # Pointer doubling: what a place skips, those that point to it skip too.
        place[left] = place[place[left]]
        left = left[beyond(levels[place[left]], levels[left])]
    found: Ints = place[nodes]
    return found


def sums_below(
    levels: npt.NDArray[Any], n_levels: int, weights: npt.NDArray[Any] | None = None
) -> npt.NDArray[Any]:
    """Sums of what counts at the threshold just below each of the levels 0 ... n_levels - 1.

    Args:
        levels: (entry,) level of each entry, which counts at thresholds below it; one below 0
            never counts.
        n_levels: number of levels.
        weights: (entry,) what it counts; None for 1.

    Returns:
        (level,) sums.
    """
    counted = levels >= 0
    if weights is not None:
        weights = weights[counted]
    at = np.bincount(levels[counted], weights=weights, minlength=n_levels)
    return at[::-1].cumsum()[::-1]
