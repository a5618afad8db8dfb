"""Class-wise thresholds of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from desed_task.errors import InputError
from desed_task.labels import Vocabulary

DEFAULT_THRESHOLD: Final = 0.5
# One for all classes, or label -> threshold.
Threshold = float | Mapping[str, float]


def class_thresholds(threshold: Threshold, labels: Sequence[str]) -> npt.NDArray[np.float64]:
    """(class,) thresholds from one for all classes, or from label -> threshold (0.5 for others).

    Raises:
        InputError: for an unknown label, and for a threshold that is not a number from 0 to
            below 1.
    """
    vocabulary = Vocabulary(labels)
    limits = np.full(len(vocabulary), DEFAULT_THRESHOLD)
    try:
        if isinstance(threshold, Mapping):
            for label, value in threshold.items():
                limits[vocabulary.index(label)] = value
        else:
            limits[:] = threshold
    except InputError:
        raise
    except (TypeError, ValueError):
        raise InputError(
            f"thresholds {threshold!r}: give a number from 0 to below 1, or one per class"
        ) from None
    for label, limit in zip(vocabulary, limits, strict=True):
        if not 0 <= limit < 1:
            raise InputError(f"a threshold of {limit:g} for {label}: give one from 0 to below 1")
    return limits
