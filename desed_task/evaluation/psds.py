"""The polyphonic sound detection score (PSDS): its parameters, curves, and a set of thresholds.

Bilen et al., "A framework for the robust evaluation of sound event detection", ICASSP 2020;
Ebbers et al., "Threshold independent evaluation of sound event detection scores", ICASSP 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from desed_task.evaluation.intersection import IntersectionCounts, intersection_counts
from desed_task.evaluation.scores import Detections, Floats

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class PsdsSpec:
    """The parameters of a PSDS.

    Attributes:
        dtc: detection tolerance criterion.
        gtc: ground truth intersection criterion.
        cttc: cross-trigger tolerance criterion; None if cross-triggers do not count.
        alpha_ct: weight of cross-triggers in the effective false positive rate.
        alpha_st: weight of the deviation between classes in the effective true positive rate.
        max_efpr: false positives per hour up to which the area is taken.
    """

    dtc: float
    gtc: float
    cttc: float | None
    alpha_ct: float
    alpha_st: float
    max_efpr: float = 100.0

    def of_classes(self, n_classes: int) -> PsdsSpec:
        """A copy for `n_classes`: a single class has no cross-triggers."""
        return self if n_classes > 1 else replace(self, cttc=None, alpha_ct=0.0)


PSDS1 = PsdsSpec(dtc=0.7, gtc=0.7, cttc=None, alpha_ct=0.0, alpha_st=1.0)
PSDS2 = PsdsSpec(dtc=0.1, gtc=0.1, cttc=0.3, alpha_ct=0.5, alpha_st=1.0)


class Roc(NamedTuple):
    """A staircase: the rate `tpr[i]` holds from `efpr[i]` on."""

    efpr: Floats  # per hour
    tpr: Floats


class Psds(NamedTuple):
    """A PSDS with the ROC curves it is computed from."""

    value: float
    per_class: dict[str, float]
    roc: Roc  # effective true positive rate over all classes
    class_rocs: dict[str, Roc]
    # Operating points up to `max_efpr` by falling threshold, of the exact PSDS only.
    class_points: dict[str, Roc] = {}  # noqa: RUF012


def psds_from_thresholds(
    operating_points: Sequence[Detections],
    truth: Detections,
    labels: Sequence[str],
    *,
    dataset_s: float,
    spec: PsdsSpec,
) -> Psds:
    """PSDS of detections at several thresholds, as psds_eval 0.5.3 computes it.

    Args:
        operating_points: detections at each threshold.
        truth: true events; every class occurs.
        labels: classes, in the order of the label indices.
        dataset_s: total length of all clips, seconds.
        spec: parameters of the PSDS.
    """
    spec = spec.of_classes(len(labels))
    counts = [
        intersection_counts(found, truth, len(labels), dtc=spec.dtc, gtc=spec.gtc, cttc=spec.cttc)
        for found in operating_points
    ]
    rocs = _class_rocs(counts, seconds_of_classes(truth, len(labels)), dataset_s, spec)
    return psds_of_rocs(rocs, labels, spec)


def seconds_of_classes(truth: Detections, n_classes: int) -> Floats:
    """(class,) total length of the true events of a class."""
    length_s = truth.offset_s - truth.onset_s
    seconds = np.bincount(truth.label_index, weights=length_s, minlength=n_classes)
    return seconds.astype(np.float64)


def psds_of_rocs(rocs: Sequence[Roc], labels: Sequence[str], spec: PsdsSpec) -> Psds:
    """The PSDS of the curves of all classes.

    Args:
        rocs: curve of each class, from `staircase`.
        labels: their names.
        spec: parameters of the PSDS.
    """
    total = effective_roc(rocs, spec)
    return Psds(
        area(total, spec.max_efpr),
        {label: area(roc, spec.max_efpr) for label, roc in zip(labels, rocs, strict=True)},
        total,
        dict(zip(labels, rocs, strict=True)),
    )


def _class_rocs(
    counts: Sequence[IntersectionCounts], class_s: Floats, dataset_s: float, spec: PsdsSpec
) -> list[Roc]:
    """Staircase of each class over its operating points."""
    stacked = IntersectionCounts(*(np.stack(column) for column in zip(*counts, strict=True)))
    tpr = (stacked.true_positives / stacked.references).astype(np.float64)
    efpr = (stacked.false_positives * SECONDS_PER_HOUR / dataset_s).astype(np.float64)
    if spec.alpha_ct:
        rate = stacked.cross_triggers * SECONDS_PER_HOUR / class_s
        # The diagonal is empty: a detection does not cross-trigger its own class.
        efpr = efpr + spec.alpha_ct * rate.sum(axis=-1) / (len(class_s) - 1)
    return [staircase(efpr[:, label], tpr[:, label]) for label in range(len(class_s))]


def staircase(efpr: Floats, tpr: Floats) -> Roc:
    """The best rate reached up to each false positive rate: where it rises, from (0, 0) on.

    Args:
        efpr: (operating point,) false positive rates, in any order.
        tpr: (operating point,) true positive rates.
    """
    order = np.argsort(efpr, kind="stable")
    best = np.maximum.accumulate(np.concatenate([[0.0], tpr[order]]))
    rises = np.flatnonzero(np.diff(best) > 0)
    edges = np.concatenate([[0.0], efpr[order[rises]]])
    return Roc(edges, np.concatenate([[0.0], best[rises + 1]]))


def effective_roc(rocs: Sequence[Roc], spec: PsdsSpec) -> Roc:
    """The effective curve: mean over classes less `alpha_st` standard deviations, at least 0."""
    edges = np.unique(np.concatenate([roc.efpr for roc in rocs]))
    tpr = np.stack([_at(roc, edges) for roc in rocs])
    return Roc(edges, (tpr.mean(axis=0) - spec.alpha_st * tpr.std(axis=0)).clip(min=0.0))


def _at(roc: Roc, efpr: Floats) -> Floats:
    return roc.tpr[np.searchsorted(roc.efpr, efpr, side="right") - 1]


def area(roc: Roc, max_efpr: float) -> float:
    """Area under a staircase up to `max_efpr`, as a share of the largest possible one."""
    kept = roc.efpr < max_efpr
    width = np.diff(np.append(roc.efpr[kept], max_efpr))
    return float((width * roc.tpr[kept]).sum() / max_efpr)
