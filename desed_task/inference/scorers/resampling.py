"""Frame scores on frames of another length: means over time, exact for what is constant in frames.

resampled = StepResampler(1024, 640)  # frames of 64 ms to frames of 40 ms, at 16 kHz
rows = np.concatenate([resampled.add(scores), resampled.finish(250)])
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from desed_task.inference.overlap_add import ScoreRows


class StepResampler:
    """Each new frame gets the mean of the old ones, weighted by the time that they share.

    Args:
        source: samples of an old frame.
        target: samples of a new frame.
    """

    def __init__(self, source: int, target: int) -> None:
        self.source, self.target = source, target
        # Old frames from number `_first` on, which new frames may still need.
        self._kept: npt.NDArray[Any] | None = None
        self._first, self._done = 0, 0

    def add(self, rows: ScoreRows) -> ScoreRows:
        """Take the next old frames (frame, class), and return the new ones that are final."""
        self._kept = rows if self._kept is None else np.concatenate([self._kept, rows])
        return self._rows((self._first + len(self._kept)) * self.source // self.target)

    def finish(self, n_frames: int) -> ScoreRows:
        """The new frames up to number `n_frames`.

        Those that the old ones cover in part get the mean over that part, later ones the last old
        frame.
        """
        return self._rows(max(n_frames, self._done))

    def _rows(self, stop: int) -> ScoreRows:
        """New frames from the first that has not been returned, up to `stop`."""
        assert self._kept is not None, "rows must have been added"
        start = np.arange(self._done, stop)[:, None] * self.target
        old = (self._first + np.arange(len(self._kept))) * self.source
        shared = np.minimum(start + self.target, old + self.source) - np.maximum(start, old)
        weights = np.maximum(shared, 0).astype(np.float64)
        if len(old):
            weights[weights.sum(axis=1) == 0, -1] = 1.0
        weights /= weights.sum(axis=1, keepdims=True)
        found: ScoreRows = (weights @ self._kept.astype(np.float64)).astype(np.float32)
        self._done = stop
        # The last one stays, which frames after its end are filled with.
        unneeded = min(stop * self.target // self.source - self._first, len(self._kept) - 1)
        if unneeded > 0:
            self._kept, self._first = self._kept[unneeded:], self._first + unneeded
        return found
