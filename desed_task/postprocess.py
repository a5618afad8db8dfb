"""Post-processing of frame scores: the median filter, and thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from desed_task.errors import InputError, count_of
from desed_task.labels import Vocabulary

DEFAULT_THRESHOLD: Final = 0.5
# One for all classes, or label -> threshold.
Threshold = float | Mapping[str, float]


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
        # Classes of one length are filtered together.
        for length in set(self.lengths) - {1}:
            rows = np.flatnonzero(np.equal(self.lengths, length))
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


def class_thresholds(threshold: Threshold, labels: Sequence[str]) -> npt.NDArray[np.float64]:
    """(class,) thresholds from one for all classes, or from label -> threshold (0.5 for others).

    Raises:
        InputError: for an unknown label or a threshold outside [0, 1).
    """
    vocabulary = Vocabulary(labels)
    limits = np.full(len(vocabulary), DEFAULT_THRESHOLD)
    if isinstance(threshold, Mapping):
        for label, value in threshold.items():
            limits[vocabulary.index(label)] = value
    else:
        limits[:] = threshold
    for label, limit in zip(vocabulary, limits, strict=True):
        if not 0 <= limit < 1:
            raise InputError(f"a threshold of {limit:g} for {label}: give one from 0 to below 1")
    return limits
