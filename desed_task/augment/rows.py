"""What all augmentations share: the rows of a batch that a process has, and places of numbers."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Generator, Tensor


class BatchShare(NamedTuple):
    """The rows of a batch that this process has: every `step`-th one from `first` on.

    Attributes:
        first: number of the first row in the batch of all processes.
        step: distance of the rows, which is the number of processes.
        n_rows: rows of all processes; None if this one has the whole batch.
    """

    first: int = 0
    step: int = 1
    n_rows: int | None = None

    def total(self, n_own: int) -> int:
        """Rows of all processes, of which this one has `n_own`."""
        return n_own if self.n_rows is None else self.n_rows

    def own(self, of_all: Tensor, dim: int = 0) -> Tensor:
        """Of a value for each row of all processes along `dim`, those of the own rows."""
        if self.n_rows is None:
            return of_all
        index = [slice(None)] * dim + [slice(self.first, None, self.step)]
        return of_all[tuple(index)]


WHOLE_BATCH: Final = BatchShare()


def moved(x: Tensor, device: torch.device) -> Tensor:
    """A copy on a device; on a Mac's GPU, one that is not waited for may come too late."""
    return x.to(device, non_blocking=device.type == "cuda")


def rowwise(values: Tensor, x: Tensor) -> Tensor:
    """(batch,) shaped to multiply x (batch, ...)."""
    return values.view(-1, *(1,) * (x.ndim - 1))


def shuffled(n_rows: int, generator: Generator | None, rows: BatchShare) -> Tensor:
    """A permutation of the own rows: the order in which one of all rows has them."""
    of_all = torch.randperm(rows.total(n_rows), generator=generator)
    if rows.n_rows is None:
        return of_all
    own = rows.own(torch.arange(len(of_all)))
    number = torch.full_like(of_all, -1)
    number[own] = torch.arange(n_rows)
    of_own = number[of_all]
    return of_own[of_own >= 0]


def row_draws(
    n_rows: int, generator: Generator | None, rows: BatchShare, n_values: int = 1
) -> Tensor:
    """(own row, value) numbers from U(0, 1), on the CPU; every row of all processes has its own."""
    return rows.own(torch.rand(rows.total(n_rows), n_values, generator=generator))


def happens(probability: float, generator: Generator | None) -> bool:
    """Draw whether something happens in a step; nothing is drawn for a probability of 0."""
    if probability == 0:
        return False
    # As NumPy's number: nothing in a step may ask a tensor for its value, which on a GPU waits.
    return bool(torch.rand((), generator=generator).numpy() < probability)
