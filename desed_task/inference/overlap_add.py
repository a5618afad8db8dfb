"""Overlap-add the frame scores of the windows of a recording (`desed_task.audio.windows`).

Every frame gets the weighted mean of the scores of the windows over it:

- The weight of a window rises linearly over the frames that it shares with the one before (over at
  most half of its frames), is 1 in between, and falls in the same way: scores are least reliable at
  the edges of a window. Where the recording itself begins or ends, the first window begins and the
  last one ends with weight 1.
- Weights are divided by their sum, so they sum to 1 at every frame. A recording of one window has
  exactly the network's scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from desed_task.audio.windows import Span, Window, WindowGrid

ScoreRows = npt.NDArray[np.float32]


class OverlapAdd:
    """Overlap-adds the scores of windows, and returns frames as soon as they are final.

    Args:
        windows: positions of the windows.
        n_classes: classes of the scores.
    """

    def __init__(self, windows: WindowGrid, n_classes: int) -> None:
        self.windows = windows
        n_frames = windows.grid.n_frames
        self._first = 0
        self._sum = np.zeros((n_frames, n_classes))
        self._weight = np.zeros((n_frames, 1))

    def add(self, window: Window | Span, scores: npt.NDArray[Any]) -> ScoreRows:
        """Add the scores (frame, class) of a window; windows must come in order.

        Returns:
            (frame, class), the next final scores of the recording: up to this window's first frame;
            for the last window, up to the recording's end.
        """
        done = window.first - self._first
        finished = self._mean(slice(done))
        for kept in (self._sum, self._weight):
            kept[: len(kept) - done] = kept[done:].copy()
            kept[len(kept) - done :] = 0.0
        weight = self.windows.weights(first=window.first == 0, last=window.last)[:, None]
        self._sum += weight * scores
        self._weight += weight
        self._first = window.first
        if window.last:
            finished = np.concatenate([finished, self._mean(slice(window.n_frames))])
        return finished

    def _mean(self, rows: slice) -> ScoreRows:
        return (self._sum[rows] / self._weight[rows]).astype(np.float32)
