"""Times, and the rates of the machine that they are held against, measured in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import torch

# A repeated measurement ends after this time, if it has two values.
PATIENCE_S: Final = 15.0
GEMM_SIZE: Final = {"cpu": 1024, "cuda": 8192}
COPY_BYTES: Final = 1 << 28
Bound = Literal["GEMM", "memory", ""]


@dataclass(frozen=True)
class Row:
    """A measured part.

    Attributes:
        group: of rows.
        name: of the part.
        unit: what is done once.
        seconds: of each repetition.
        macs: multiply-accumulate operations of the unit; 0 where they are not what counts.
        n_bytes: that the unit must at least read and write; 0 likewise.
        share: of the machine's rate that is reached; None where neither is known.
        bound: which rate.
    """

    group: str
    name: str
    unit: str
    seconds: tuple[float, ...]
    macs: float = 0.0
    n_bytes: float = 0.0
    share: float | None = None
    bound: Bound = ""

    @property
    def median_s(self) -> float:
        """The middle one of the repetitions."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Longest less shortest, by the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median_s


@dataclass
class Machine:
    """A device and how fast it multiplies matrices and copies memory.

    Attributes:
        device: that is measured.
        gemm_rates: float32 operations a second, each time that they were measured.
        copy_rates: bytes a second, read and written.
    """

    device: torch.device
    gemm_rates: list[float] = field(default_factory=list)
    copy_rates: list[float] = field(default_factory=list)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def time(self, function: Callable[[], object], repeats: int) -> tuple[float, ...]:
        """Seconds of each of `repeats` calls, after one that does not count."""
        function()
        self.synchronize()
        found: list[float] = []
        while len(found) < repeats and (len(found) < 2 or sum(found) < PATIENCE_S):
            start = time.perf_counter()
            function()
            self.synchronize()
            found.append(time.perf_counter() - start)
        return tuple(found)

    def gemm(self) -> float:
        """Operations a second of a float32 product, now: the best of five."""
        size = GEMM_SIZE[self.device.type]
        one, other = (torch.randn(size, size, device=self.device) for _ in range(2))
        seconds = min(self.time(lambda: one @ other, 5))
        self.gemm_rates.append(2 * size**3 / seconds)
        return self.gemm_rates[-1]

    def copy(self) -> float:
        """Bytes a second of a copy, read and written, now: the best of five."""
        one = torch.zeros(COPY_BYTES // 4, device=self.device)
        other = torch.empty_like(one)
        self.copy_rates.append(2 * COPY_BYTES / min(self.time(lambda: other.copy_(one), 5)))
        return self.copy_rates[-1]

    def row(
        self,
        group: str,
        name: str,
        unit: str,
        function: Callable[[], object],
        repeats: int,
        *,
        macs: float = 0.0,
        n_bytes: float = 0.0,
    ) -> Row:
        """Measure a part, and just before it the rate that bounds it."""
        rate = self._rate(macs, n_bytes)
        seconds = self.time(function, repeats)
        return self.made(group, name, unit, seconds, rate, macs=macs, n_bytes=n_bytes)

    def made(
        self,
        group: str,
        name: str,
        unit: str,
        seconds: Sequence[float],
        rate: float | None = None,
        *,
        macs: float = 0.0,
        n_bytes: float = 0.0,
    ) -> Row:
        """A row of times that were measured elsewhere; `rate` is measured now if not given."""
        rate = rate or self._rate(macs, n_bytes)
        work = 2 * macs if macs else n_bytes
        share = work / statistics.median(seconds) / rate if rate else None
        bound: Bound = "GEMM" if macs else "memory" if n_bytes else ""
        return Row(group, name, unit, tuple(seconds), macs, n_bytes, share, bound)

    def _rate(self, macs: float, n_bytes: float) -> float | None:
        if macs:
            return self.gemm()
        return self.copy() if n_bytes else None
