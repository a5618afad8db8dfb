"""Result rows and the context shared by all benchmarks."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

import torch

from benchmarks.machine import Machine, Peak
from benchmarks.made import Made
from benchmarks.timing import Stopwatch, Timing
from desed_task.labels import FrameGrid
from local.config import RecipeConfig
from local.data.datamodule import SedDataModule

Bound = Literal["compute", "memory"]
FAILED = "failed:"


@dataclass(frozen=True)
class Work:
    """Minimum work of a call.

    Attributes:
        clips: number of clips.
        macs: multiply-accumulate operations; 0 if the call is bound by memory.
        n_bytes: bytes read and written if everything is moved once.
    """

    clips: int
    macs: int = 0
    n_bytes: int = 0


@dataclass(frozen=True)
class Row:
    """One result.

    Attributes:
        name: part/detail.
        seconds: median time of a call.
        spread: interquartile range as a share of the median.
        n_calls: number of timed calls.
        clips: clips of a call.
        macs: multiply-accumulate operations of a call.
        n_bytes: bytes moved by a call.
        bound: reference of the share: float32 matrix products or memory copies.
        share: share of that peak, measured just before and after; None for sums of other rows.
        skipped: why there is no result; "" if there is one.
        memory: bytes of a call; 0 if they are not counted.
    """

    name: str
    seconds: float = 0.0
    spread: float = 0.0
    n_calls: int = 0
    clips: int = 0
    macs: int = 0
    n_bytes: int = 0
    bound: Bound = "compute"
    share: float | None = None
    skipped: str = ""
    memory: int = 0

    def dump(self) -> dict[str, Any]:
        """Return the row as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Options:
    """Options of the command line.

    Attributes:
        only: prefixes of row names; empty for all.
        quick: whether to use small sizes.
        limit_s: seconds after which no row is started.
        n_steps: steps per epoch of a real training.
        share: share of the published validation and test clips scored by a real training.
        n_epochs: epochs of a real training.
        repeats: calls per row; None for the device's default.
        n_clips: clips of a training batch, each set in proportion; None for the configuration's.
        packed: whether a real training reads packed sets; wav and HDF5 files otherwise.
    """

    only: tuple[str, ...] = ()
    quick: bool = False
    limit_s: float = float("inf")
    n_steps: int = 2
    share: float = 0.02
    n_epochs: int = 2
    packed: bool = True
    repeats: int | None = None
    n_clips: int | None = None


@dataclass
class Bench:
    """Run benchmarks and collect the rows.

    Attributes:
        options: options of the command line.
        watch: times functions.
        machine: measures the machine's peaks.
        config: configuration of network and batches.
        made: the synthetic corpus, written on demand.
        folder: folder of temporary files.
        tell: called with each finished row.
        rows: finished rows by name.
        begun: start time.
        errors: stream for tracebacks of failed rows.
    """

    options: Options
    watch: Stopwatch
    machine: Machine
    config: RecipeConfig
    made: Made
    folder: Path
    tell: Callable[[Row], None]
    rows: dict[str, Row] = field(default_factory=dict)
    begun: float = field(default_factory=time.perf_counter)
    errors: TextIO = field(default_factory=lambda: sys.stderr)
    _data: SedDataModule | None = None

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        return self.watch.device

    @property
    def data(self) -> SedDataModule:
        """The synthetic corpus, read on first use."""
        if self._data is None:
            self.made.make()
            data = SedDataModule(self.made.config)
            data.check("fit")
            self._data = data
        return self._data

    @property
    def grid(self) -> FrameGrid:
        """Frame grid of labels and scores."""
        return SedDataModule(self.config).grid

    def wants(self, *names: str) -> bool:
        """Whether a row, or any row of a part, is selected."""
        only = self.options.only
        return not only or any(
            name.startswith(one) or one.startswith(f"{name}/") for name in names for one in only
        )

    def time(
        self,
        name: str,
        work: Work,
        function: Callable[..., Any],
        prepare: Callable[[], Any] | None = None,
    ) -> None:
        """Time a function and record its row, or why there is none."""
        if not self.wants(name):
            return
        if self.late(name):
            return
        with self.skipping(name):
            before = self.machine.sample()
            timing = self.watch.time(function, prepare)
            self.keep(row_of(name, work, timing, (before, self.machine.sample())))

    def late(self, name: str) -> bool:
        """Whether the time limit is reached; if so, record the row as skipped."""
        up = time.perf_counter() - self.begun > self.options.limit_s
        if up:
            self.keep(Row(name, skipped="the time limit was reached"))
        return up

    def keep(self, row: Row) -> None:
        """Record and report a row."""
        self.rows[row.name] = row
        self.tell(row)

    @contextmanager
    def skipping(self, name: str) -> Iterator[None]:
        """Limit the effect of a missing package or an error to the rows concerned."""
        try:
            yield
        except ModuleNotFoundError as error:
            self.keep(Row(name, skipped=str(error)))
        except Exception as error:
            traceback.print_exc(file=self.errors)
            self.keep(Row(name, skipped=f"{FAILED} {error!r}".partition("\n")[0]))

    def seconds(self, name: str) -> float | None:
        """Seconds of a row that has a result."""
        row = self.rows.get(name)
        return None if row is None or row.skipped else row.seconds

    @property
    def failed(self) -> list[str]:
        """Names of failed rows."""
        return [name for name, row in self.rows.items() if row.skipped.startswith(FAILED)]


def row_of(name: str, work: Work, timing: Timing, peaks: Sequence[Peak]) -> Row:
    """Build the row of a timing, relative to the better of the peaks around it."""
    bound: Bound = "compute" if work.macs else "memory"
    if bound == "compute":
        least_s = 2 * work.macs / max(peak.flops for peak in peaks)
    else:
        least_s = work.n_bytes / max(peak.bandwidth for peak in peaks)
    return Row(
        name,
        timing.median_s,
        timing.spread,
        timing.n_calls,
        work.clips,
        work.macs,
        work.n_bytes,
        bound,
        least_s / timing.median_s,
    )
