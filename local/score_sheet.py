"""What a network scores on a corpus: metrics under their full names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from desed_task.evaluation.psds import Psds


@dataclass(frozen=True)
class Report:
    """What one network scores on one corpus.

    Attributes:
        metrics: full name -> value.
        per_class: full name -> class -> value; None where the class is not scored, or where the
            metric defines no value for it (psds_eval's F-score without a true positive, an area
            without a negative segment).
        not_scored: classes without any event in the truth; they are left out of every mean.
        curves: name of a PSDS -> its curves.
        texts: file name -> a table to read.
        n_clips: clips that the metrics are computed of.
        unscored_clips: clips of the truth that have no scores; they are left out.
    """

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float | None]]
    not_scored: tuple[str, ...] = ()
    curves: dict[str, Psds] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    n_clips: int = 0
    unscored_clips: int = 0


class Sheet:
    """Collects metrics under their full names.

    Args:
        stage: "val" or "test".
        role: "student" or "teacher".
        classes: all that a table of single classes lists.
    """

    def __init__(self, stage: str, role: str, classes: Sequence[str]) -> None:
        self.prefix = f"{stage}/{role}"
        self.classes = classes
        self.metrics: dict[str, float] = {}
        self.per_class: dict[str, dict[str, float | None]] = {}

    def put(self, name: str, package: str, value: float, per_class: Mapping[str, float]) -> None:
        """A metric and its single classes, as `package` counts them; NaN is no value."""
        full = f"{self.prefix}/{name}/{package}"
        self.metrics[full] = float(value)
        self.per_class[full] = {label: _existing(per_class.get(label)) for label in self.classes}


def _existing(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
