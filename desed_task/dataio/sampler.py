"""Sample batches with a fixed number of rows per set (docs/method.md, Classes and corpora)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

import numpy as np
from torch.utils.data import Sampler

from desed_task.dataio.datasets import ItemKey
from desed_task.errors import InputError, count_of

BatchScope = Literal["total", "process"]
_KEY: Final = "training.batch_size"


class QuotaBatchSampler(Sampler[list[ItemKey]]):
    """Draws each batch's rows from several sets, without replacement within an epoch.

    Draws depend on (seed, epoch) alone, so a resumed run gets the same batches as an uninterrupted
    one. All processes draw the same order, and take disjoint rows of it in equally many steps.

    Args:
        lengths: set name -> number of clips, in the order of the sets in a `JoinedDataset`.
        quotas: rows of each set in a batch, in the same order.
        seed: seed of all draws.
        rank: this process.
        world_size: processes.
        scope: what quotas count. "total": the rows of all processes in a step; process r takes
            those whose number in the batch is r modulo the number of processes, so that neither
            their number nor that of a set differs by more than 1. "process": the rows of each
            process; process r takes every batch whose number is r modulo their number.

    Raises:
        InputError: if a set has fewer clips than one step takes, or a batch fewer rows than there
            are processes.
    """

    def __init__(
        self,
        lengths: Mapping[str, int],
        quotas: Sequence[int],
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        scope: BatchScope = "total",
    ) -> None:
        problems = quota_problems(lengths, quotas, world_size, scope)
        if problems:
            raise InputError.collect(problems)
        self.lengths = tuple(lengths.values())
        self.quotas = tuple(quotas)
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.scope = scope
        self.epoch = 0

    @property
    def sampler(self) -> QuotaBatchSampler:
        """Itself: where Lightning looks for the `set_epoch` of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches are drawn next."""
        self.epoch = epoch

    def __len__(self) -> int:
        taken = self.world_size if self.scope == "process" else 1
        return min(
            length // (quota * taken)
            for length, quota in zip(self.lengths, self.quotas, strict=True)
        )

    def __iter__(self) -> Iterator[list[ItemKey]]:
        generator = np.random.default_rng((self.seed, self.epoch))
        orders = [generator.permutation(length) for length in self.lengths]
        starts = np.cumsum((0, *self.lengths[:-1]))
        each = self.scope == "process"
        first, apart = (self.rank, self.world_size) if each else (0, 1)
        for step in range(first, len(self) * apart, apart):
            batch: list[ItemKey] = []
            for order, start, quota in zip(orders, starts, self.quotas, strict=True):
                for index in order[step * quota : (step + 1) * quota] + start:
                    batch.append(ItemKey(int(index), (self.seed, self.epoch, int(index))))
            yield batch if each else batch[self.rank :: self.world_size]


def quota_problems(
    lengths: Mapping[str, int],
    quotas: Sequence[int],
    world_size: int = 1,
    scope: BatchScope = "total",
    keys: Sequence[str] | None = None,
) -> list[str]:
    """A message for each set that is too small for one step, and one for too many processes.

    Args:
        lengths, quotas, world_size, scope: as of `QuotaBatchSampler`.
        keys: where the configuration gives each quota; None: all in `training.batch_size`.
    """
    each = scope == "process" and world_size > 1
    times = world_size if each else 1
    places = keys or [_KEY] * len(quotas)
    problems = [
        f"{place}: {count_of(quota, 'row')} of {name}"
        + (f" for each of {world_size} processes" if each else "")
        + f", but the set has {count_of(length, 'clip')}; lower the quota or add clips "
        + f"({_most(length // times)})"
        for (name, length), quota, place in zip(lengths.items(), quotas, places, strict=True)
        if quota * times > length
    ]
    if scope == "total" and sum(quotas) < world_size:
        problems.append(
            f"training.batch_size: {count_of(sum(quotas), 'row')} in a batch for "
            f"{count_of(world_size, 'process', 'processes')}, each of which needs one; start "
            "fewer, or raise the quotas"
        )
    return problems


def batches_in_order(
    n_items: int, batch_size: int, *, rank: int = 0, world_size: int = 1
) -> list[list[int]]:
    """A process's share of the batches of items 0, 1, ...: every `world_size`-th one.

    They are the batches that a single process has, as the last bits of a clip's scores depend on
    the size of its batch. A process without any takes the first one again.

    Args:
        n_items: number of items.
        batch_size: items of a batch; the last one may have fewer.
        rank: this process.
        world_size: processes.
    """
    starts = range(0, n_items, batch_size)
    own = starts[rank::world_size] or starts[:1]
    return [list(range(start, min(start + batch_size, n_items))) for start in own]


def _most(n_rows: int) -> str:
    return f"at most {count_of(n_rows, 'fits', 'fit')}" if n_rows else "none fits"
