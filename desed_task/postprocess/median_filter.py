"""The class-wise median filter of frame scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from desed_task.errors import InputError, count_of

# Scores that are filtered at a time, 16 MB, of which there are three copies meanwhile.
_MOST_VALUES: Final = 1 << 22


class ClassMedianFilter:
    """A median filter along frames, with one length per class (docs/method.md, Validation).

    Args:
        lengths: frames, one per class; 1 leaves a class unchanged.

    Raises:
        InputError: for a length below 1.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        if any(length < 1 for length in lengths):
            raise InputError(f"net.median_filter: lengths must be at least 1, got {list(lengths)}")
        self.lengths = tuple(lengths)

    def __call__(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Filtered scores (..., frame, class); reflected at both ends (scipy's default mode).

        Raises:
            InputError: if there is not one length per class.
        """
        if values.shape[-1] != len(self.lengths):
            raise InputError(
                f"net.median_filter has {count_of(len(self.lengths), 'length')}, the scores "
                f"{count_of(values.shape[-1], 'class', 'classes')}; give one length per class"
            )
        filtered = np.array(values)
        n_values = max(1, values.size // max(1, len(self.lengths)))
        n_at_once = max(1, _MOST_VALUES // n_values)
        # Classes of one length are filtered together, but not all of an hour's: copies are made.
        for length in set(self.lengths) - {1}:
            alike = np.flatnonzero(np.equal(self.lengths, length))
            for first in range(0, len(alike), n_at_once):
                rows = alike[first : first + n_at_once]
                signals = np.moveaxis(values[..., rows], -2, -1)
                filtered[..., rows] = np.moveaxis(_median_filtered(signals, length), -1, -2)
        return filtered


def _median_filtered(signals: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    """Signals (..., frame), filtered as one long signal: scipy is much faster at that."""
    reach = length // 2
    padded = np.pad(signals, [(0, 0)] * (signals.ndim - 1) + [(reach, reach)], mode="symmetric")
    whole = median_filter(padded.ravel(), size=length).reshape(padded.shape)
    inside: npt.NDArray[Any] = whole[..., reach : reach + signals.shape[-1]]
    return inside
