"""Mean and deviation of metrics over the runs of a system."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from local.summary.run_folders import FinishedRun


class Spread(NamedTuple):
    """A metric over runs.

    Attributes:
        values: value of each run; None where it is undefined.
        mean: mean; None unless it is defined in every run.
        deviation: sample standard deviation; None for a single run.
    """

    values: tuple[float | None, ...]
    mean: float | None
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread:
        """Compute mean and deviation of values."""
        there = [value for value in values if value is not None]
        if not there or len(there) < len(values):
            return cls(tuple(values), None, None)
        deviation = statistics.stdev(there) if len(there) > 1 else None
        return cls(tuple(values), statistics.fmean(there), deviation)


@dataclass(frozen=True)
class SystemRuns:
    """Runs of one configuration that differ in their seeds."""

    name: str
    runs: tuple[FinishedRun, ...]

    @property
    def metrics(self) -> dict[str, Spread]:
        """Full name -> spread over the runs."""
        names = self.runs[0].metrics
        return {name: Spread.of([run.metrics[name] for run in self.runs]) for name in names}

    @property
    def per_class(self) -> dict[str, dict[str, Spread]]:
        """Full name -> class -> spread over the runs."""
        return {
            name: {
                label: Spread.of([run.per_class[name][label] for run in self.runs])
                for label in values
            }
            for name, values in self.runs[0].per_class.items()
        }

    def energy_kwh(self, stage: str) -> Spread | None:
        """Energy of the measured runs; None if there are none."""
        found = [run.energy_kwh[stage] for run in self.runs if stage in run.energy_kwh]
        return Spread.of(found) if found else None
