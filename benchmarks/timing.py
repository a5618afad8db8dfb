"""Time repeated calls of a function by wall clock or processor time."""

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
    """Times of repeated calls, in seconds."""

    median_s: float
    spread: float  # from the first to the third quartile, as a share of the median
    least_s: float
    n_calls: int

    @classmethod
    def of(cls, times_s: list[float]) -> Timing:
        """Summarise the times of single calls."""
        low, median, high = np.quantile(times_s, (0.25, 0.5, 0.75)).tolist()
        return cls(median, (high - low) / median, min(times_s), len(times_s))


@dataclass(frozen=True)
class Stopwatch:
    """Time calls of functions.

    Attributes:
        device: device to synchronise before the clock is read.
        clock: "wall", or "cpu": processor time of this process and its children, more reliable than
            wall time for one thread on a shared machine.
        repeats: timed calls after one warm-up call.
        budget_s: seconds after which no further call is started.
    """

    device: torch.device
    clock: ClockName = "wall"
    repeats: int = 5
    budget_s: float = 20.0

    def now(self) -> float:
        """Read the clock in seconds after synchronising the device."""
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
            function: called with the result of `prepare`, or without arguments.
            prepare: called before each call, untimed.
        """
        begun = time.perf_counter()
        times_s = []
        for call in range(self.repeats + 1):
            arguments = () if prepare is None else (prepare(),)
            start = self.now()
            function(*arguments)
            taken = self.now() - start
            # If there is no time for a second call, the first one counts.
            late = time.perf_counter() - begun > self.budget_s
            if call or late:
                times_s.append(taken)
            if late:
                break
        return Timing.of(times_s)
