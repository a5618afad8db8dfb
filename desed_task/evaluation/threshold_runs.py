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

    Attributes:
        signal: (run,) index of the signal.
        first: (run,) its first frame.
        last: (run,) the frame after its last.
        low: (run,) the higher score of its two neighbours; minus infinity if no other frame that is
            detected at any threshold is beside it.
        high: (run,) its lowest score.
    """

    signal: Ints
    first: Ints
    last: Ints
    low: npt.NDArray[Any]
    high: npt.NDArray[Any]


def find_runs(signals: npt.NDArray[Any]) -> Runs:
    """The runs of scores (signal, frame); frames of minus infinity are detected at no threshold."""
    n_signals, n_frames = signals.shape
    # A wall before each signal and one after the last keep the signals apart.
    walled = np.full(n_signals * (n_frames + 1) + 1, -np.inf, np.result_type(signals, np.float32))
    walled[:-1].reshape(n_signals, n_frames + 1)[:, 1:] = signals
    # Neighbours of one score, of which filtered signals have many, count as one place.
    begins = np.flatnonzero(np.append(True, walled[1:] != walled[:-1]))
    scores = walled[begins]
    inside = np.flatnonzero(scores > -np.inf)
    before = _nearest(scores, inside, step=-1, beyond=np.greater)
    after = _nearest(scores, inside, step=1, beyond=np.greater_equal)
    # Of several places with a run's lowest score, the first one represents it.
    first_of_run = scores[before] < scores[inside]
    node, before, after = inside[first_of_run], before[first_of_run], after[first_of_run]
    signal, first = np.divmod(begins[before + 1] - 1, n_frames + 1)
    last = begins[after] - 1 - signal * (n_frames + 1)
    return Runs(signal, first, last, np.maximum(scores[before], scores[after]), scores[node])


def _nearest(
    scores: npt.NDArray[Any], nodes: Ints, *, step: int, beyond: np.ufunc
) -> npt.NDArray[np.int64]:
    """For each node the next place to one side whose score is not `beyond` its own."""
    place = np.arange(len(scores)) + step
    left = nodes[beyond(scores[place[nodes]], scores[nodes])]
    while len(left):
        # Pointer doubling: what a place skips, those that point to it skip too.
        place[left] = place[place[left]]
        left = left[beyond(scores[place[left]], scores[left])]
    found: Ints = place[nodes]
    return found


class Rises(NamedTuple):
    """Where a signal rises: one more event is detected where low <= threshold < high.

    The detected events of a threshold are thus counted without their times.
    """

    signal: Ints
    low: npt.NDArray[Any]  # minus infinity if a signal begins
    high: npt.NDArray[Any]


def find_rises(signals: npt.NDArray[Any]) -> Rises:
    """The rises of scores (signal, frame); frames of minus infinity are never detected."""
    before = np.full_like(signals, -np.inf)
    before[:, 1:] = signals[:, :-1]
    signal, frame = np.nonzero(signals > before)
    return Rises(signal, before[signal, frame], signals[signal, frame])
