"""Ticks of logarithmic axes, over several decades or a part of one."""

from __future__ import annotations

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, NullLocator

# Multiples of powers of ten that are ticks, from few to many.
_MULTIPLES = ((1,), (1, 3), (1, 2, 5))
FEWEST, MOST = 3, 5


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, at least two wherever they differ.

    Matplotlib labels powers of ten only, of which a small range contains none.

    Args:
        low: smallest number shown, above 0.
        high: largest number shown.
    """
    if not low < high:
        return [low]
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    found: list[float] = []
    for multiples in _MULTIPLES:
        found = [m * 10.0**power for power in powers for m in multiples]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) >= FEWEST:
            break
    else:
        # Within a part of a decade, equal steps are as even as equal ratios.
        steps = MaxNLocator(MOST, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        equal = [float(tick) for tick in steps if low <= tick <= high]
        found = max(found, equal, [low, high] if len(equal) < 2 else equal, key=len)
    # Some decades of many.
    return found[:: -(-len(found) // MOST)]


def label_log_axis(axis: Axis, low: float, high: float) -> None:
    """Label a logarithmic axis in round numbers.

    Args:
        axis: `axes.xaxis` or `axes.yaxis`, with its scale.
        low: smallest number shown, above 0.
        high: largest number shown.
    """
    ticks = log_ticks(low, high)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_ticklabels([f"{tick:.4g}" for tick in ticks])
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
