"""Summarise runs: spread over runs, intervals over clips, differences of two systems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from desed_task.evaluation.scores import Floats
from local.config import RecipeConfig
from local.scoring.own.criteria import is_own, is_share, is_shifted
from local.summary import bootstrap
from local.summary.resampled_metrics import ResampledMetrics, resample_metrics
from local.summary.systems import Spread, SystemRuns


class Interval(NamedTuple):
    """Bounds of a value at `bootstrap.CONFIDENCE_LEVEL`."""

    low: float
    high: float


class Difference(NamedTuple):
    """Difference of two systems, A minus B.

    Attributes:
        value: difference of the means over runs.
        interval: interval over clips.
        p: two-sided p value.
        p_holm: p value corrected for all comparisons of the summary.
    """

    value: float
    interval: Interval
    p: float
    p_holm: float


@dataclass(frozen=True)
class RunSummary:
    """The content of a summary.

    Attributes:
        systems: one or two.
        intervals: system -> full metric name -> interval over clips.
        differences: full metric name -> first system minus second.
        resampled: the bootstrap's results, and why a corpus is missing.
        n_resamples: number of resamples; 0 for no intervals.
        seed: seed of the resamples.
        notes: further notes for the reader.
    """

    systems: tuple[SystemRuns, ...]
    intervals: dict[str, dict[str, Interval]]
    differences: dict[str, Difference]
    resampled: ResampledMetrics
    n_resamples: int
    seed: int
    notes: tuple[str, ...]


def summarize(
    systems: Sequence[SystemRuns],
    *,
    config: RecipeConfig | None,
    n_resamples: int,
    seed: int,
    notes: Sequence[str] = (),
) -> RunSummary:
    """Summarise systems.

    Args:
        systems: one, or two to compare; their runs are comparable (see `check_comparable`).
        config: gives the paths of the test's tables; None for the runs' own configurations.
        n_resamples: number of bootstrap resamples; 0 for no intervals.
        seed: seed of the resamples.
        notes: notes of `check_comparable`.

    Raises:
        InputError: if there are too few resamples.
    """
    bootstrap.check_resamples(n_resamples)
    resampled = ResampledMetrics()
    if n_resamples:
        resampled = resample_metrics(systems, config, n_resamples, seed)
    means = {system.name: system.metrics for system in systems}
    intervals = {
        name: {
            metric: _interval(metric, values, _mean(means[name][metric]))
            for metric, values in found.items()
        }
        for name, found in resampled.values.items()
    }
    return RunSummary(
        tuple(systems),
        intervals,
        _differences(systems, resampled),
        resampled,
        n_resamples,
        seed,
        (*notes, *resampled.notes),
    )


def _interval(metric: str, values: Floats, estimate: float) -> Interval:
    drawn = _centred(metric, values, estimate)
    return Interval(*bootstrap.interval(drawn, estimate, _bounds(metric)))


def _centred(metric: str, values: Floats, estimate: float) -> Floats:
    """Resampled values, moved to the estimate if what moved them is no bias (`is_shifted`)."""
    if not is_shifted(metric) or np.isnan(values).all():
        return values
    moved: Floats = values - np.nanmean(values) + estimate
    return moved


def _bounds(metric: str) -> tuple[float, float]:
    """Least and largest possible value."""
    if is_share(metric):
        return 0.0, 1.0
    return (-np.inf, np.inf) if "error_s" in metric else (0.0, np.inf)


def _mean(spread: Spread) -> float:
    return float("nan") if spread.mean is None else spread.mean


def _differences(
    systems: Sequence[SystemRuns], resampled: ResampledMetrics
) -> dict[str, Difference]:
    if len(systems) < 2 or not resampled.values:
        return {}
    one, other = systems[:2]
    found, metrics = {}, (one.metrics, other.metrics)
    for name, values in resampled.values[one.name].items():
        if name not in resampled.values[other.name]:
            continue  # its test lacks it
        value = _mean(metrics[0][name]) - _mean(metrics[1][name])
        drawn = values - resampled.values[other.name][name]
        drawn = _centred(name, drawn, value)
        bounds = Interval(*bootstrap.interval(drawn, value))
        if not np.isnan([value, *bounds]).any():
            found[name] = (value, bounds, bootstrap.p_value(drawn, value))
    corrected = {}
    # Further metrics do not weaken the comparisons of the published ones.
    for own in (False, True):
        names = [name for name in found if is_own(name) == own]
        corrected |= zip(names, bootstrap.holm([found[name][2] for name in names]), strict=True)
    names = sorted(found, key=lambda name: is_own(name))
    return {name: Difference(*found[name], corrected[name]) for name in names}
