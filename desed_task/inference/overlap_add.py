"""Cut a recording into overlapping windows, and overlap-add their frame scores.

A network scores clips of one length. A longer recording is cut into windows of that length that
overlap, and every frame gets the weighted mean of the scores of the windows over it:

- Windows begin on whole frames, so that their frames are the recording's frames.
- The weight of a window rises linearly over the frames that it shares with the one before (over at
  most half of its frames), is 1 in between, and falls in the same way: scores are least reliable at
  the edges of a window. Where the recording itself begins or ends, the first window begins and the
  last one ends with weight 1.
- Weights are divided by their sum, so they sum to 1 at every frame. A recording of one window has
  exactly the network's scores.
- The last window ends where the recording ends; it overlaps the one before it by more than the
  others do, instead of being padded with silence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from desed_task.errors import InputError
from desed_task.labels import FrameGrid

Waveform = npt.NDArray[np.float32]
ScoreRows = npt.NDArray[np.float32]


class Window(NamedTuple):
    """A part of a recording, as input of the network.

    Attributes:
        first: index of its first frame in the recording.
        n_frames: frames within the recording; fewer than the window's only in a recording shorter
            than a window, which is padded with zeros.
        last: whether the recording ends with it.
        waveform: (sample,), of a clip's length.
    """

    first: int
    n_frames: int
    last: bool
    waveform: Waveform


@dataclass(frozen=True)
class WindowGrid:
    """Positions of windows in recordings.

    Attributes:
        grid: frames of a window.
        hop_frames: frames from one window to the next.
    """

    grid: FrameGrid
    hop_frames: int

    @classmethod
    def with_hop(cls, grid: FrameGrid, hop_s: float) -> WindowGrid:
        """Windows about `hop_s` seconds apart, rounded to whole frames.

        Raises:
            InputError: for a hop below one frame or longer than the frames of a window.
        """
        hop_frames = round(hop_s / grid.frame_s)
        if not 1 <= hop_frames <= grid.n_frames:
            raise InputError(
                f"predict.hop_s = {hop_s:g}: windows must be at least one frame "
                f"({grid.frame_s:g} s) and at most {grid.n_frames * grid.frame_s:g} s apart"
            )
        return cls(grid, hop_frames)

    @property
    def n_samples(self) -> int:
        """Samples of a window."""
        return round(self.grid.clip_s * self.grid.sample_rate)

    @property
    def hop_samples(self) -> int:
        """Samples from one window to the next."""
        return self.hop_frames * self.grid.frame_samples

    def n_frames(self, n_samples: int) -> int:
        """Frames that begin in a recording of `n_samples`; in one window at most the window's.

        Networks ignore the samples after the last whole frame of a clip (16 ms of 10 s), and so
        does a recording of one clip.
        """
        n_frames = math.ceil(n_samples / self.grid.frame_samples)
        if n_samples <= self.n_samples:
            return min(n_frames, self.grid.n_frames)
        # On some grids the last frame extends past the window's end; no window may be empty then.
        beyond = max(self.grid.n_frames * self.grid.frame_samples - self.n_samples, 0)
        return math.ceil((n_samples + beyond) / self.grid.frame_samples)

    def weights(self, *, first: bool, last: bool) -> npt.NDArray[np.float64]:
        """(frame,) weights in (0, 1] of a window, before they are divided by their sum.

        Args:
            first: the recording begins with the window.
            last: the recording ends with it.
        """
        n_frames = self.grid.n_frames
        ramp = min(max(n_frames - self.hop_frames, 1), n_frames / 2)
        rising = np.minimum((np.arange(n_frames) + 0.5) / ramp, 1.0)
        ones = np.ones(n_frames)
        return np.minimum(ones if first else rising, ones if last else rising[::-1])

    def cut(self, blocks: Iterable[Waveform]) -> Iterator[Window]:
        """The windows of a recording that is streamed in blocks; only a few seconds are buffered.

        Args:
            blocks: (sample,) each, of any length, at the grid's rate.

        Raises:
            InputError: if they contain no samples.
        """
        # From the beginning of the window before, out of which the last one may have to be cut.
        kept, first_kept, first = np.empty(0, dtype=np.float32), 0, 0
        for block in blocks:
            kept = np.concatenate([kept, block])
            # Only if a sample is left over, this window is certainly not the last.
            while len(kept) - (start := (first - first_kept) * self.grid.frame_samples) > (
                self.n_samples
            ):
                waveform = kept[start : start + self.n_samples]
                yield Window(first, self.grid.n_frames, False, waveform)
                kept, first_kept, first = kept[start:], first, first + self.hop_frames
        yield self._last(kept, first_kept)

    def _last(self, kept: Waveform, first_kept: int) -> Window:
        if not len(kept):
            raise InputError("the recording contains no samples; give at least one")
        n_frames = self.n_frames(len(kept))
        first = max(n_frames - self.grid.n_frames, 0)
        waveform = kept[first * self.grid.frame_samples :]
        missing = self.n_samples - len(waveform)
        # Up to a frame is missing where windows ended on the grid: silence in it would change what
        # the features of the whole window are scaled by. Shorter recordings end in zeros, as clips
        # do in training.
        mode: Any = "reflect" if len(kept) > self.n_samples else "constant"
        waveform = np.pad(waveform, (0, missing), mode=mode)
        return Window(first_kept + first, min(n_frames, self.grid.n_frames), True, waveform)


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

    def add(self, window: Window, scores: npt.NDArray[Any]) -> ScoreRows:
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
