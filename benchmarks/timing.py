"""Times of a function: how often it is called, by which clock, and what is said of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

ClockName = Literal["wall", "cpu"]


class Timing(NamedTuple):
    """What repeated calls took, in seconds."""

    median_s: float
    spread: float  # from the first to the third quartile, as a share of the median
    least_s: float
    n_calls: int

    @classmethod
    def of(cls, times_s: list[float]) -> Timing:
        """Of single calls."""
        low, median, high = np.quantile(times_s, (0.25, 0.5, 0.75)).tolist()
        return cls(median, (high - low) / median, min(times_s), len(times_s))


@dataclass(frozen=True)
class Stopwatch:
    """Calls functions and reads the clock.

    Attributes:
        device: waited for before the clock is read.
        clock: "wall", or "cpu": processor time of this process and the ones it started, which says
            more than the wall where one thread shares the machine with others.
        repeats: calls after the first, which warms up and does not count.
        budget_s: no further call is begun after this time.
    """

    device: torch.device
    clock: ClockName = "wall"
    repeats: int = 5
    budget_s: float = 20.0

    def now(self) -> float:
        """Seconds, once the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        if self.clock == "wall":
            return time.perf_counter()
        spent = os.times()
        return time.process_time() + spent.children_user + spent.children_system

    def time(
        self, function: Callable[..., Any], prepare: Callable[[], Any] | None = None
    ) -> Timing:
        """Time calls of `function`.

        Args:
            function: takes what `prepare` gives, or nothing.
            prepare: called before each call, not timed.
        """
        begun = time.perf_counter()
        times_s = []
        for call in range(self.repeats + 1):
            arguments = () if prepare is None else (prepare(),)
            start = self.now()
            function(*arguments)
            taken = self.now() - start
            # Of something so slow that there is no second call, the first one counts.
            late = time.perf_counter() - begun > self.budget_s
            if call or late:
                times_s.append(taken)
            if late:
                break
        return Timing.of(times_s)
