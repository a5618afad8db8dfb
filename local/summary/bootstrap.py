"""Bootstrap over clips or recordings: resamples, intervals, differences, corrected p values.

The intervals are normal, with the bootstrap's bias removed (Davison and Hinkley, Bootstrap Methods
and their Application, 1997, section 5.2.1). Bias is not small here: a best threshold is fitted to
the resample, and in a small corpus PSDS1 loses the deviation between classes that resampling adds.
Of samples of the mini corpus's 16 MAESTRO recordings, percentile intervals of 95 % contained the
true F1 at the best thresholds in 22 % of 200 cases, these in 96 %; over all metrics, in 81 to 98 %.

Holm, "A simple sequentially rejective multiple test procedure", 1979.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from desed_task.errors import InputError
from desed_task.evaluation.scores import Floats

CONFIDENCE_LEVEL = 0.95
# Fewer do not give two significant digits of the standard error.
MIN_RESAMPLES = 100
# A metric may be undefined in this share of resamples (no event of any class was drawn).
MAX_UNDEFINED = 0.05


def check_resamples(n_resamples: int) -> None:
    """Refuse a number of resamples too small for intervals; 0 requests none.

    Raises:
        InputError: for 1 to 99 and negative numbers.
    """
    if n_resamples and n_resamples < MIN_RESAMPLES:
        raise InputError(
            f"--resamples {n_resamples}: give {MIN_RESAMPLES} or more, or 0 for no intervals"
        )


def draw_resamples(n_units: int, n_resamples: int, seed: Sequence[int]) -> Floats:
    """Draw counts (resample, unit): how often each unit occurs in a resample of the same size.

    Args:
        n_units: number of clips or recordings.
        n_resamples: number of resamples.
        seed: seed of the draw.
    """
    chances = np.full(n_units, 1 / n_units)
    return np.random.default_rng(seed).multinomial(n_units, chances, n_resamples).astype(np.float64)


def bias_and_error(values: Floats, estimate: float) -> tuple[float, float]:
    """Bias and standard error of an estimate; NaN where the metric is undefined too often.

    Args:
        values: (resample,); NaN for resamples in which the metric is undefined.
        estimate: value of the original sample.
    """
    there = values[~np.isnan(values)]
    if len(there) < max(2, (1 - MAX_UNDEFINED) * len(values)):
        return float("nan"), float("nan")
    return float(there.mean() - estimate), float(there.std(ddof=1))


def interval(
    values: Floats, estimate: float, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[float, float]:
    """Interval at `CONFIDENCE_LEVEL`, clipped to the possible values.

    Args:
        values: (resample,).
        estimate: value of the original sample.
        bounds: least and largest possible value.
    """
    bias, deviation = bias_and_error(values, estimate)
    reach = float(norm.ppf((1 + CONFIDENCE_LEVEL) / 2)) * deviation
    low, high = np.clip([estimate - bias - reach, estimate - bias + reach], *bounds)
    return float(low), float(high)


def p_value(values: Floats, estimate: float) -> float:
    """Two-sided p value of no difference; below 1 - `CONFIDENCE_LEVEL` if the interval excludes 0.

    Args:
        values: (resample,) differences.
        estimate: value of the original sample.
    """
    bias, deviation = bias_and_error(values, estimate)
    if deviation == 0:
        return 1.0 if estimate == 0 else 0.0
    return float(2 * norm.sf(abs(estimate - bias) / deviation))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for multiple comparisons, controlling the family-wise error rate."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = values[order] * (len(values) - np.arange(len(values)))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in corrected]
