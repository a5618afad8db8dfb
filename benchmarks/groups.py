"""What is measured: sizes, and the groups of rows by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, Literal, NamedTuple

import torch

from benchmarks.measuring import Machine, Row
from local.config import RecipeConfig

# Group -> module with a function `rows`.
GROUPS: Final = {
    "step": "benchmarks.step",
    "loading": "benchmarks.loading",
    "beats": "benchmarks.embedding",
    "scoring": "benchmarks.scoring",
}
# Rows of a batch by source, as confs/pretrained.yaml has them (60 rows), and a third of them.
PUBLISHED_BATCH: Final = (12, 6, 6, 12, 24)
Precision = Literal["32", "tf32", "bf16"]


class Sizes(NamedTuple):
    """How much of everything."""

    batch: tuple[int, ...]
    stored_clips: int
    beats_clips: int
    extracted_clips: int
    val_clips: int
    val_maestro: int
    test_clips: int
    test_maestro: int
    small_beats: bool = False

    @property
    def n_rows(self) -> int:
        """Clips of a batch."""
        return sum(self.batch)


SIZES: Final = {
    "cpu": Sizes((4, 2, 2, 4, 8), 120, 4, 16, 2500, 300, 1168, 900),
    "cuda": Sizes(PUBLISHED_BATCH, 240, 64, 256, 2500, 300, 1168, 900),
    "quick": Sizes((1, 1, 1, 1, 1), 8, 2, 4, 60, 60, 60, 60, small_beats=True),
}


@dataclass(frozen=True)
class Bench:
    """Everything that a group of rows needs.

    Attributes:
        config: the published configuration.
        machine: what is measured.
        sizes: how much.
        repeats: of each measurement.
        precision: of the network and of BEATs.
        folder: for generated files.
    """

    config: RecipeConfig
    machine: Machine
    sizes: Sizes
    repeats: int
    precision: Precision
    folder: Path

    @property
    def device(self) -> torch.device:
        """Of the machine."""
        return self.machine.device

    def autocast(self) -> AbstractContextManager[object]:
        """As a training of this precision computes."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()


def rows_of(group: str, bench: Bench) -> Iterator[Row]:
    """Measure a group.

    Raises:
        ImportError: if a package that it measures is not installed.
    """
    rows: Callable[[Bench], Iterator[Row]] = import_module(GROUPS[group]).rows
    yield from rows(bench)
