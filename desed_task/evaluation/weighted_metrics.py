"""Metrics from weighted sums of counts per clip, for bootstrap resampling.

Every metric of this package is a function of counts that are sums over clips (over recordings, for
segments). The contribution of each unit at each operating point is stored here, so that the
metric of any resample follows from sums weighted by how often each unit was drawn. The value is
that of a corpus in which the units are repeated: a class without an event in it is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from desed_task.evaluation.psds import (
    SECONDS_PER_HOUR,
    PsdsSpec,
    Roc,
    area,
    effective_roc,
    staircase,
)
from desed_task.evaluation.scores import Floats, Ints


class WeightedMetric(Protocol):
    """Values of one or several metrics for weights of the units."""

    def values(self, weights: Floats) -> tuple[float, ...]:
        """The metrics if unit i occurs `weights[i]` times; NaN for those that do not exist."""


class CountDeltas(NamedTuple):
    """How the counts of one class change as the threshold falls, unit by unit."""

    unit: Ints  # (change,) index of the clip or recording, by falling threshold
    last: Ints  # (operating point,) index of its last change
    amounts: Floats  # (kind, change): true positives, false positives, cross-triggers by class

    def at_points(self, weights: Floats, directions: Floats | None = None) -> Floats:
        """(kind, operating point): weighted counts at each threshold.

        Args:
            weights: (unit,) how often each occurs.
            directions: (m, kind) weights of m sums of kinds, returned instead of the kinds.
        """
        amounts = self.amounts if directions is None else directions @ self.amounts
        drawn = weights[self.unit]
        return np.stack([np.cumsum(row * drawn)[self.last] for row in amounts])


def count_deltas(score: Floats, unit: Ints, amounts: Floats) -> CountDeltas:
    """Order changes by falling score; those of one score make one operating point.

    Args:
        score: (change,) the counts change when the threshold falls below it.
        unit: (change,) whose counts.
        amounts: (change, kind) by how much; changes of 0 are dropped.
    """
    kept = np.flatnonzero(amounts.any(axis=1))
    order = kept[np.argsort(-score[kept], kind="stable")]
    ends = np.append(np.diff(score[order]) != 0, True) if len(order) else np.zeros(0, dtype=bool)
    rows = np.ascontiguousarray(amounts[order].T, dtype=np.float64)
    return CountDeltas(unit[order], np.flatnonzero(ends), rows)


@dataclass(frozen=True)
class WeightedPsds:
    """A PSDS.

    Attributes:
        classes: changes of each class.
        references: (clip, class) true events.
        class_s: (clip, class) seconds of true events.
        duration_s: (clip,) seconds; 0 for clips that are left out.
        spec: parameters of the PSDS.
    """

    classes: Sequence[CountDeltas]
    references: Floats
    class_s: Floats
    duration_s: Floats
    spec: PsdsSpec

    def values(self, weights: Floats) -> tuple[float, ...]:
        """The score."""
        return (self.area_of([staircase(*points) for points in self.points(weights)]),)

    def points(self, weights: Floats) -> list[Roc]:
        """Rates of each class that occurs, by falling threshold, where they are on the curve."""
        references = weights @ self.references
        present = np.flatnonzero(references)
        spec = self.spec.of_classes(len(present))
        hours = float(weights @ self.duration_s) / SECONDS_PER_HOUR
        triggers = self._triggers(weights @ self.class_s, present, spec)
        found = []
        for label in present.tolist():
            changes = self.classes[label]
            true, false = changes._replace(amounts=changes.amounts[:2]).at_points(weights)
            efpr = false / hours
            if triggers is not None:
                efpr = efpr + changes.at_points(weights, triggers)[0]
            # Points beyond, which are most of them, add no area.
            inside = efpr < spec.max_efpr
            found.append(Roc(efpr[inside], true[inside] / references[label]))
        return found

    def area_of(self, rocs: Sequence[Roc]) -> float:
        """The score of the curves of the classes that occur; NaN if none does."""
        if not rocs:
            return float("nan")
        spec = self.spec.of_classes(len(rocs))
        return area(effective_roc(rocs, spec), spec.max_efpr)

    def _triggers(self, class_s: Floats, present: Ints, spec: PsdsSpec) -> Floats | None:
        """(1, kind): what each cross-trigger adds to the rate; None if they do not count."""
        if not (spec.cttc is not None and spec.alpha_ct and len(present)):
            return None
        direction = np.zeros((1, 2 + len(class_s)))
        share = spec.alpha_ct / (len(present) - 1)
        direction[0, 2 + present] = share * SECONDS_PER_HOUR / class_s[present]
        return direction


@dataclass(frozen=True)
class WeightedF1:
    """A macro F-score of decisions.

    Attributes:
        true_positives: (clip, class).
        false_positives: (clip, class).
        references: (clip, class) true events.
        hit_only: whether classes without a true positive are left out of the mean, as psds_eval
            does (`FScore.as_psds_eval`), instead of counting as 0.
    """

    true_positives: Floats
    false_positives: Floats
    references: Floats
    hit_only: bool = False

    def values(self, weights: Floats) -> tuple[float]:
        """Mean over the classes that have events; with `hit_only` 0 if none of them was hit."""
        true, false, references = (
            weights @ counts
            for counts in (self.true_positives, self.false_positives, self.references)
        )
        present = references > 0
        f1 = 2 * true[present] / (true + false + references)[present]
        if self.hit_only and f1.any():
            f1 = f1[f1 > 0]
        return (_mean(f1),)


@dataclass(frozen=True)
class WeightedSegments:
    """F1 at each class's best threshold, area and partial area under the ROC curve, of segments.

    Attributes:
        classes: changes of each class: active and inactive segments that reach a score.
        active: (recording, class) segments with an event.
        segments: (recording,) all segments.
        max_fpr: false positive rate up to which the partial area is taken.
    """

    classes: Sequence[CountDeltas]
    active: Floats
    segments: Floats
    max_fpr: float

    def values(self, weights: Floats) -> tuple[float, float, float]:
        """F1, area, partial area: means over the classes that have events.

        A class that is active in every segment has no areas and is left out of their means.
        """
        active = weights @ self.active
        inactive = weights @ self.segments - active
        f1, areas, partial = [], [], []
        for label in np.flatnonzero(active).tolist():
            true, false = self.classes[label].at_points(weights)
            f1.append(float((2 * true / (true + false + active[label])).max()))
            if inactive[label]:
                roc = staircase(false / inactive[label], true / active[label])
                areas.append(area(roc, 1.0))
                partial.append(area(roc, self.max_fpr))
        return _mean(f1), _mean(areas), _mean(partial)


def _mean(values: Sequence[float] | Floats) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
