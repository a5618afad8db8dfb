"""Average precision, and the best F-score, over all thresholds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from desed_task.evaluation.exact_psds import FALSE, TRUE, Changes
from desed_task.evaluation.psds import PsdsSpec
from desed_task.evaluation.scores import Floats


def intersection_criteria(dtc: float, gtc: float) -> PsdsSpec:
    """Criteria for `class_changes` of true and false positives only."""
    return PsdsSpec(dtc=dtc, gtc=gtc, cttc=None, alpha_ct=0.0, alpha_st=0.0)


class Points(NamedTuple):
    """Counts of one class at every threshold, by falling threshold.

    Attributes:
        score: (point,) the counts hold below it, down to the next.
        true: (point,) true positives.
        false: (point,) false positives.
    """

    score: npt.NDArray[Any]
    true: Floats
    false: Floats


def points_of(changes: Changes) -> Points:
    """The counts of one class after each change."""
    order = np.argsort(-changes.score)
    score, kind, amount = changes.score[order], changes.kind[order], changes.amount[order]
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)[: len(score)])
    true, false = (np.cumsum(np.where(kind == one, amount, 0))[last] for one in (TRUE, FALSE))
    return Points(score[last], true.astype(np.float64), false.astype(np.float64))


def average_precision(points: Points, n_true: float) -> float:
    """The sum over rising recalls of (R_n - R_{n-1}) P_n, without interpolation.

    Of operating points of one recall, that of the highest precision counts. Recalls that no
    threshold reaches add nothing.

    Args:
        points: counts at every threshold.
        n_true: number of true events (or active segments).
    """
    found = points.true > 0
    true, false = points.true[found], points.false[found]
    if not len(true):
        return 0.0
    # Of a row of points of one recall, that of the fewest false positives: few are left to sort.
    first = np.flatnonzero(np.append(True, true[1:] != true[:-1]))
    true, false = true[first], np.minimum.reduceat(false, first)
    precision = true / (true + false)
    order = np.lexsort((precision, true))
    true, precision = true[order], precision[order]
    last = np.append(true[1:] != true[:-1], True)
    steps = np.diff(np.append(0.0, true[last]))
    return float((steps * precision[last]).sum() / n_true)


class BestF1(NamedTuple):
    """The highest F1 over all thresholds, and the threshold.

    The threshold lies midway between the score that it must be below and the next one at which
    counts change; -inf if there is none. Without a true positive, F1 is 0 at +inf.
    """

    value: float
    threshold: float


def best_f1(points: Points, n_true: float) -> BestF1:
    """The best F1, at the highest of the thresholds that reach it; arguments as above."""
    if not len(points.score):
        return BestF1(0.0, np.inf)
    f1 = 2 * points.true / (points.true + points.false + n_true)
    best = int(np.argmax(f1))
    if f1[best] == 0:
        return BestF1(0.0, np.inf)
    other = (points.true != points.true[best]) | (points.false != points.false[best])
    later = np.flatnonzero(other[best:]) + best
    following = float(points.score[later[0]]) if len(later) else -np.inf
    return BestF1(float(f1[best]), (float(points.score[best]) + following) / 2)


def points_of_values(values: Floats, active: npt.NDArray[np.bool_]) -> Points:
    """The counts of one class of segments: those that have at least each score.

    Args:
        values: (segment,) scores.
        active: (segment,) whether the class is there.
    """
    order = np.argsort(-values)
    score, there = values[order], active[order]
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)[: len(score)])
    true, all_of = np.cumsum(there)[last], last + 1
    return Points(score[last], true.astype(np.float64), (all_of - true).astype(np.float64))
