"""Windows over a recording: where they lie, and the recordings of a corpus that need them.

A network scores clips of one length. A longer recording is cut into windows of that length that
overlap (`desed_task.inference.overlap_add` joins their scores):

- Windows begin on whole frames, so that their frames are the recording's frames.
- The last window ends where the recording ends; it overlaps the one before it by more than the
  others do, instead of being padded with silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from desed_task.errors import InputError
from desed_task.labels import FrameGrid

Waveform = npt.NDArray[np.float32]
# A recording that is at most this much longer than a clip is cropped, as published.
CROPPED_S: Final = 0.5


class Window(NamedTuple):
    """A part of a recording, as input of the network.

    Attributes:
        first: index of its first frame in the recording.
        n_frames: frames that begin within the recording; fewer than the window's in a recording
            shorter than a window, which is padded with zeros, or by one in the last window.
        last: whether the recording ends with it.
        waveform: (sample,), of a clip's length.
    """

    first: int
    n_frames: int
    last: bool
    waveform: Waveform


class Span(NamedTuple):
    """Where a window lies in a recording of known length.

    Attributes:
        first: index of its first frame in the recording.
        n_frames: frames that begin within the recording.
        last: whether the recording ends with it.
        n_samples: length of the recording.
    """

    first: int
    n_frames: int
    last: bool
    n_samples: int


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
    def with_hop(cls, grid: FrameGrid, hop_s: float, key: str = "predict.hop_s") -> WindowGrid:
        """Windows about `hop_s` seconds apart, rounded to whole frames.

        Args:
            grid: frames of a window.
            hop_s: seconds from one window to the next.
            key: where the configuration gives them, for messages.

        Raises:
            InputError: for a hop below one frame or longer than the frames of a window.
        """
        hop_frames = round(hop_s / grid.frame_s)
        if not 1 <= hop_frames <= grid.n_frames:
            raise InputError(
                f"{key} = {hop_s:g}: windows must be at least one frame "
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
        return min(n_frames, self.grid.n_frames) if n_samples <= self.n_samples else n_frames

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
        last = self._last(kept, first_kept)
        if last.first - first_kept > self.grid.n_frames:
            waveform = kept[(first - first_kept) * self.grid.frame_samples :]
            waveform = self.filled(waveform, longer=True)
            yield Window(first, self.grid.n_frames, False, waveform)
        yield last

    def _last(self, kept: Waveform, first_kept: int) -> Window:
        if not len(kept):
            raise InputError("the recording contains no samples; give at least one")
        first = self._first_of_last(len(kept))
        waveform = kept[first * self.grid.frame_samples :]
        waveform = self.filled(waveform, longer=len(kept) > self.n_samples)
        return Window(first_kept + first, self.n_frames(len(kept)) - first, True, waveform)

    def _first_of_last(self, n_samples: int) -> int:
        """The first frame of the window that ends with a recording of `n_samples`."""
        if n_samples <= self.n_samples:
            return 0
        # On some grids a window's last frame extends past the window's end, and may then begin at
        # the recording's: it is in the window, but not in the recording.
        beyond = max(self.grid.n_frames * self.grid.frame_samples - self.n_samples, 0)
        return math.ceil((n_samples + beyond) / self.grid.frame_samples) - self.grid.n_frames

    def filled(self, samples: npt.NDArray[Any], *, longer: bool) -> npt.NDArray[Any]:
        """The samples (sample,) of a window, continued to the window's length.

        Args:
            samples: those that the recording has.
            longer: whether the recording is longer than a window.
        """
        # Up to a frame is missing where windows ended on the grid: silence in it would change what
        # the features of the whole window are scaled by. Shorter recordings end in zeros, as clips
        # do in training.
        mode: Any = "reflect" if longer else "constant"
        return np.pad(samples, (0, self.n_samples - len(samples)), mode=mode)

    def spans(self, n_samples: int) -> list[Span]:
        """The windows that `cut` yields of a recording of `n_samples`."""
        surplus = math.ceil((n_samples - self.n_samples) / self.grid.frame_samples)
        first = self._first_of_last(n_samples)
        # Windows that do not overlap could leave out a frame before the last one.
        end = surplus if self.hop_frames < self.grid.n_frames else first
        before = [
            Span(start, self.grid.n_frames, False, n_samples)
            for start in range(0, end, self.hop_frames)
        ]
        return [*before, Span(first, self.n_frames(n_samples) - first, True, n_samples)]

    def start(self, span: Span) -> int:
        """The first sample of a window."""
        return span.first * self.grid.frame_samples

    def boundaries_s(self, n_samples: int) -> npt.NDArray[np.float64]:
        """(frame + 1,) seconds: boundaries of the frames of a recording, up to its end."""
        duration_s = n_samples / self.grid.sample_rate
        return replace(self.grid, n_frames=self.n_frames(n_samples), clip_s=duration_s).boundaries_s


class WindowKey(NamedTuple):
    """A window of a clip, as files name it.

    Attributes:
        clip_id: the clip.
        start: the window's first sample; above 0, as a clip's first window is the clip itself,
            cropped.
    """

    clip_id: str
    start: int

    def __str__(self) -> str:
        """As messages name it."""
        return f"{self.clip_id!r} from sample {self.start}"


# Row of a file with one row per clip and window: a clip (its first window) or a further window.
RowName = str | WindowKey


@dataclass(frozen=True)
class LongClips:
    """The clips of a corpus that are scored in windows.

    Attributes:
        windows: positions of the windows.
        spans: clip -> its windows, in order.
    """

    windows: WindowGrid
    spans: Mapping[str, Sequence[Span]]

    @classmethod
    def among(
        cls, durations_s: Mapping[str, float], clip_s: float, windows: Callable[[], WindowGrid]
    ) -> LongClips | None:
        """Those of some clips; None if there are none.

        Args:
            durations_s: clip -> seconds.
            clip_s: length of a clip.
            windows: gives the positions of windows; called if a clip needs them.
        """
        long = {c: length_s for c, length_s in durations_s.items() if is_long(length_s, clip_s)}
        if not long:
            return None
        of = windows()
        rate = of.grid.sample_rate
        return cls(of, {c: of.spans(round(length_s * rate)) for c, length_s in long.items()})

    def name(self, clip_id: str, span: Span) -> RowName:
        """The row of a window."""
        start = self.windows.start(span)
        return WindowKey(clip_id, start) if start else clip_id

    @property
    def further(self) -> dict[WindowKey, Span]:
        """Every window but the clips' first ones."""
        named = (
            (self.name(clip_id, one), one) for clip_id in self.spans for one in self.spans[clip_id]
        )
        return {key: span for key, span in named if isinstance(key, WindowKey)}


def is_long(duration_s: float, clip_s: float) -> bool:
    """Whether a recording is so much longer than a clip that it is scored in windows."""
    return duration_s > clip_s + CROPPED_S


def scored_s(duration_s: float, clip_s: float) -> float:
    """The seconds of a recording that are scored."""
    return duration_s if is_long(duration_s, clip_s) else min(duration_s, clip_s)
