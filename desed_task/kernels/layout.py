"""Where kernels find their values; apart from them, because importing numba takes half a second."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Piece(NamedTuple):
    """Clips and frames of an image that are contiguous: frames of one clip, or whole clips."""

    first_clip: int
    end_clip: int
    first_frame: int
    end_frame: int

    @property
    def n_frames(self) -> int:
        """Frames of all its clips."""
        return (self.end_clip - self.first_clip) * (self.end_frame - self.first_frame)


class Pooling(NamedTuple):
    """Window of the average pooling, and channels of the image."""

    frames: int
    bands: int
    channels: int


class Dropout(NamedTuple):
    """Random numbers of a dropout."""

    seed: np.uint64
    dropped: int  # probability in 2^-16
    scale: np.float32  # factor of the kept values
