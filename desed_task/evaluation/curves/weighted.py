"""The metrics of this package as functions of weights of clips or recordings, for resampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from desed_task.evaluation.curves.independent_psds import non_oracle_roc, union_roc
from desed_task.evaluation.curves.precision_recall import Points, average_precision, best_f1
from desed_task.evaluation.curves.roc_areas import mcclish, staircase_area, trapezoid_area
from desed_task.evaluation.curves.timing import TimeErrors, per_hour, weighted_median
from desed_task.evaluation.psds import SECONDS_PER_HOUR, staircase
from desed_task.evaluation.scores import Floats, Ints
from desed_task.evaluation.weighted_metrics import (
    CountDeltas,
    WeightedMetric,
    WeightedPsds,
    WeightedSegments,
)


@dataclass(frozen=True)
class WithNonOracle:
    """A PSDS and its non-oracle value, from the same operating points."""

    psds: WeightedPsds

    def values(self, weights: Floats) -> tuple[float, float]:
        """PSDS, non-oracle PSDS."""
        points = self.psds.points(weights)
        return (
            self.psds.area_of([staircase(*one) for one in points]),
            self.psds.area_of([non_oracle_roc(one) for one in points]),
        )


@dataclass(frozen=True)
class PartialPsds:
    """A PSDS that leaves out low thresholds, and whether weights allow that.

    Attributes:
        psds: without the counts at thresholds with many false positives.
        detected: (class, clip) clips without an event of the class that have a detection at every
            threshold left out: as many false positives at least.
        complete: (class,) whether nothing is left out.
    """

    psds: WeightedPsds
    detected: Floats
    complete: npt.NDArray[np.bool_]

    def allows(self, weights: Floats) -> bool:
        """Whether the thresholds left out are beyond the curve of every class."""
        hours = float(weights @ self.psds.duration_s) / SECONDS_PER_HOUR
        enough = self.detected @ weights > self.psds.spec.max_efpr * hours
        present = (weights @ self.psds.references) > 0
        return bool((enough | self.complete)[present].all())


@dataclass(frozen=True)
class WeightedUnion:
    """A PSDS over the operating points of several decoders (`post_processing_independent_psds`).

    Attributes:
        members: the PSDS of each decoder.
        whole: gives a member's PSDS with every threshold; called for weights that the members do
            not allow.
    """

    members: Sequence[PartialPsds]
    whole: Callable[[int], WeightedPsds]

    def values(self, weights: Floats) -> tuple[float]:
        """The score."""
        found = [
            member.psds if member.allows(weights) else self.whole(number)
            for number, member in enumerate(self.members)
        ]
        curves = zip(*(one.points(weights) for one in found), strict=True)
        return (found[0].area_of([union_roc(of_class) for of_class in curves]),)


@dataclass(frozen=True)
class WeightedPrecision:
    """Mean average precision, and the macro F1 at each class's best threshold.

    Attributes:
        classes: changes of each class: true and false positives.
        references: (unit, class) true events, or active segments.
    """

    classes: Sequence[CountDeltas]
    references: Floats

    def values(self, weights: Floats) -> tuple[float, float]:
        """Means over the classes that occur; NaN if none does."""
        references = weights @ self.references
        found = []
        for label in np.flatnonzero(references).tolist():
            true, false = self.classes[label].at_points(weights)
            points = Points(np.zeros(len(true)), true, false)
            n_true = float(references[label])
            found.append((average_precision(points, n_true), best_f1(points, n_true).value))
        precision, f1 = np.mean(found, axis=0) if found else (np.nan, np.nan)
        return float(precision), float(f1)


@dataclass(frozen=True)
class WeightedAreas:
    """Average precision and areas of segments that `WeightedSegments` lacks, in this order:

    mean average precision; area by trapezoids; partial area by trapezoids; partial areas by steps
    and by trapezoids with McClish's correction.
    """

    segments: WeightedSegments

    def values(self, weights: Floats) -> tuple[float, ...]:
        """Means over the classes that occur; areas over those that are also absent somewhere."""
        active = weights @ self.segments.active
        inactive = weights @ self.segments.segments - active
        precisions, areas = [], []
        for label in np.flatnonzero(active).tolist():
            true, false = self.segments.classes[label].at_points(weights)
            points = Points(np.zeros(len(true)), true, false)
            precisions.append(average_precision(points, float(active[label])))
            if inactive[label]:
                rates = false / inactive[label], true / active[label]
                areas.append(further_areas(*rates, self.segments.max_fpr))
        means = np.mean(areas, axis=0) if areas else np.full(len(AREAS), np.nan)
        precision = float(np.mean(precisions)) if precisions else float("nan")
        return (precision, *map(float, means))


# Names of `further_areas`, and of what `segment_mauc` and `segment_mpauc` are without them.
AREAS = ("mauc_trapezoid", "mpauc_trapezoid", "mpauc_mcclish", "mpauc_trapezoid_mcclish")


def further_areas(fpr: Floats, tpr: Floats, max_fpr: float) -> tuple[float, float, float, float]:
    """The areas named by `AREAS`, of rates by falling threshold."""
    partial = trapezoid_area(fpr, tpr, max_fpr)
    return (
        trapezoid_area(fpr, tpr),
        partial,
        mcclish(staircase_area(fpr, tpr, max_fpr), max_fpr),
        mcclish(partial, max_fpr),
    )


@dataclass(frozen=True)
class WeightedTimeErrors:
    """Medians of the errors of onsets and offsets over all matches."""

    errors: TimeErrors

    def values(self, weights: Floats) -> tuple[float, float]:
        """Onset, offset: seconds; NaN without a match."""
        drawn = weights[self.errors.clip]
        return (
            weighted_median(self.errors.onset_s, drawn),
            weighted_median(self.errors.offset_s, drawn),
        )


@dataclass(frozen=True)
class WeightedRate:
    """Events per hour.

    Attributes:
        counts: (clip,)
        duration_s: (clip,) seconds.
    """

    counts: Floats
    duration_s: Floats

    def values(self, weights: Floats) -> tuple[float]:
        """The rate; NaN in no time."""
        seconds = float(weights @ self.duration_s)
        return (float(per_hour(weights @ self.counts, seconds)) if seconds else float("nan"),)


@dataclass(frozen=True)
class OfUnits:
    """A metric of some of the units."""

    metric: WeightedMetric
    chosen: npt.NDArray[np.bool_]

    def values(self, weights: Floats) -> tuple[float, ...]:
        """The metric if the others are left out."""
        return self.metric.values(np.where(self.chosen, weights, 0.0))


@dataclass(frozen=True)
class Reordered:
    """A metric whose units are in another order.

    Attributes:
        metric: the metric.
        order: (unit,) index of each of its units in the weights.
    """

    metric: WeightedMetric
    order: Ints

    def values(self, weights: Floats) -> tuple[float, ...]:
        """The metric if unit i of the other order occurs `weights[i]` times."""
        return self.metric.values(weights[self.order])
