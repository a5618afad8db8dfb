"""Rows of figures, and what every part of the benchmarks works with."""

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
from local import corpora
from local.config import RecipeConfig
from local.data.datamodule import SedDataModule

Bound = Literal["compute", "memory"]
FAILED = "failed:"


@dataclass(frozen=True)
class Work:
    """What a call does, at least.

    Attributes:
        clips: how many it is for.
        macs: multiply-accumulate operations; 0 for what is bound by memory.
        n_bytes: that must be read and written if everything is moved once.
    """

    clips: int
    macs: int = 0
    n_bytes: int = 0


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        name: part/detail.
        seconds: of a call, the median.
        spread: between the quartiles, as a share of the median.
        n_calls: that were timed.
        clips: that a call is for.
        macs: of a call.
        n_bytes: of a call.
        bound: what the share is of: float32 matrix products or the copying of memory.
        share: of that peak, measured just before and after; None for sums of other rows.
        skipped: why there is no figure; "" where there is one.
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

    def dump(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Options:
    """What the command line asks for.

    Attributes:
        only: beginnings of the names of rows; empty for all.
        quick: small sizes.
        limit_s: no row is begun after this time.
        n_steps: of an epoch of a real training.
        share: of the published validation and test clips that a real training scores.
        n_epochs: of a real training.
        repeats: of a row; None for as many as the device's speed allows.
        n_clips: of a training batch, of each set in proportion; None for the configuration's.
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
    """Times things and keeps the rows.

    Attributes:
        options: what is wanted.
        watch: reads the clock.
        machine: what figures are held against.
        config: network and batches.
        made: the corpus, or what will be one.
        folder: for what is written on the way.
        tell: gets each row when it is there.
        rows: that are there, by name.
        begun: when.
        errors: gets tracebacks of rows that fail.
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
        """Where networks compute."""
        return self.watch.device

    @property
    def data(self) -> SedDataModule:
        """The made corpus, read when it is first asked for."""
        if self._data is None:
            self.made.make()
            data = SedDataModule(self.made.config)
            data.check("fit")
            self._data = data
        return self._data

    @property
    def grid(self) -> FrameGrid:
        """Frames of labels and scores."""
        return SedDataModule(self.config).grid

    def wants(self, *names: str) -> bool:
        """Whether a row of a name, or one of a part, is asked for."""
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
        """Time a function and keep its row, or why there is none."""
        if not self.wants(name):
            return
        if self.late(name):
            return
        with self.skipping(name):
            before = self.machine.sample()
            timing = self.watch.time(function, prepare)
            self.keep(row_of(name, work, timing, (before, self.machine.sample())))

    def late(self, name: str) -> bool:
        """Whether the time is up, which is said of a row."""
        up = time.perf_counter() - self.begun > self.options.limit_s
        if up:
            self.keep(Row(name, skipped="the time was up"))
        return up

    def keep(self, row: Row) -> None:
        """Keep a row and tell it."""
        self.rows[row.name] = row
        self.tell(row)

    @contextmanager
    def skipping(self, name: str) -> Iterator[None]:
        """Let a missing package or a fault cost the rows that it concerns, and no others."""
        try:
            yield
        except ModuleNotFoundError as error:
            self.keep(Row(name, skipped=str(error)))
        except Exception as error:
            traceback.print_exc(file=self.errors)
            self.keep(Row(name, skipped=f"{FAILED} {error!r}".partition("\n")[0]))

    def seconds(self, name: str) -> float | None:
        """Of a row that has a figure."""
        row = self.rows.get(name)
        return None if row is None or row.skipped else row.seconds

    @property
    def failed(self) -> list[str]:
        """Rows that something went wrong with."""
        return [name for name, row in self.rows.items() if row.skipped.startswith(FAILED)]


def row_of(name: str, work: Work, timing: Timing, peaks: Sequence[Peak]) -> Row:
    """The row of a timing; the better of the machine's peaks around it counts."""
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


# Rows of a training batch come from these, in this order.
BATCH_CORPORA = (
    corpora.MAESTRO_TRAIN,
    corpora.SYNTHETIC_TRAIN,
    corpora.STRONG_TRAIN,
    corpora.WEAK_TRAIN,
    corpora.UNLABELLED_TRAIN,
)
