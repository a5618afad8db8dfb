"""Deprecated alias of `desed_task.inference`, to be removed in 0.3.0."""

import warnings

from desed_task.inference.detector import SoundEvent as SoundEvent
from desed_task.inference.detector import SoundEventDetector as SoundEventDetector

warnings.warn(
    "desed_task.detector has moved: from desed_task.inference import SoundEventDetector",
    DeprecationWarning,
    stacklevel=2,
)
