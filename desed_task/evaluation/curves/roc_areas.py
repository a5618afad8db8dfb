"""Areas under ROC curves by steps or trapezoids, in part, and McClish's correction."""

from __future__ import annotations

import numpy as np

from desed_task.evaluation.psds import area, staircase
from desed_task.evaluation.scores import Floats


def staircase_area(fpr: Floats, tpr: Floats, max_fpr: float = 1.0) -> float:
    """Area by steps up to `max_fpr`, as a share of it: the rate holds from each point on.

    Args:
        fpr: (point,) false positive rates by falling threshold.
        tpr: (point,) true positive rates.
        max_fpr: in (0, 1].
    """
    return area(staircase(fpr, tpr), max_fpr)


def trapezoid_area(fpr: Floats, tpr: Floats, max_fpr: float = 1.0) -> float:
    """Area under the lines between the points, up to `max_fpr`, as a share of it.

    The curve begins at (0, 0); at `max_fpr` it is cut, between two points by linear
    interpolation. Arguments as of `staircase_area`; rates do not fall.
    """
    fpr, tpr = np.append(0.0, fpr), np.append(0.0, tpr)
    inside = int(np.searchsorted(fpr, max_fpr, side="right"))
    # Of several points at one rate, `interp` takes the last, as the curve goes on from there.
    end = np.interp(max_fpr, fpr[inside - 1 : inside + 1], tpr[inside - 1 : inside + 1])
    x, y = np.append(fpr[:inside], max_fpr), np.append(tpr[:inside], end)
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2 / max_fpr)


def mcclish(share: float, max_fpr: float) -> float:
    """A partial area, scaled so that chance gives .5 and a perfect curve 1 (McClish 1989).

    Of the full area it changes nothing.

    Args:
        share: area up to `max_fpr` as a share of it.
        max_fpr: false positive rate, in (0, 1].
    """
    by_chance = max_fpr / 2
    return 0.5 * (1 + (share - by_chance) / (1 - by_chance))
