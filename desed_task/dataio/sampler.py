"""Sample batches with a fixed number of rows per set (docs/method.md, Classes and corpora)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch.utils.data import Sampler

from desed_task.dataio.datasets import ItemKey
from desed_task.errors import InputError, count_of


class QuotaBatchSampler(Sampler[list[ItemKey]]):
    """Draws each batch's rows from several sets, without replacement within an epoch.

    Draws depend on (seed, epoch) alone, so a resumed run gets the same batches as an uninterrupted
    one. All processes draw the same order; process r takes every batch whose
    number is r modulo the number of processes.

    Args:
        lengths: set name -> number of clips, in the order of the sets in a `JoinedDataset`.
        quotas: rows of each set in a batch, in the same order.
        seed: seed of all draws.
        rank: this process.
        world_size: processes.

    Raises:
        InputError: if a set has fewer clips than one batch of every process takes.
    """

    def __init__(
        self,
        lengths: Mapping[str, int],
        quotas: Sequence[int],
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        problems = quota_problems(lengths, quotas, world_size)
        if problems:
            raise InputError.collect(problems)
        self.lengths = tuple(lengths.values())
        self.quotas = tuple(quotas)
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    @property
    def sampler(self) -> QuotaBatchSampler:
        """Itself: where Lightning looks for the `set_epoch` of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches are drawn next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return min(
            length // (quota * self.world_size)
            for length, quota in zip(self.lengths, self.quotas, strict=True)
        )

    def __iter__(self) -> Iterator[list[ItemKey]]:
        generator = np.random.default_rng((self.seed, self.epoch))
        orders = [generator.permutation(length) for length in self.lengths]
        starts = np.cumsum((0, *self.lengths[:-1]))
        for step in range(self.rank, len(self) * self.world_size, self.world_size):
            batch: list[ItemKey] = []
            for order, start, quota in zip(orders, starts, self.quotas, strict=True):
                for index in order[step * quota : (step + 1) * quota] + start:
                    batch.append(ItemKey(int(index), (self.seed, self.epoch, int(index))))
            yield batch


def quota_problems(
    lengths: Mapping[str, int], quotas: Sequence[int], world_size: int = 1
) -> list[str]:
    """A message for each set that is too small for one batch."""
    return [
        f"training.batch_size: {count_of(quota, 'row')} of {name}"
        + (f" for each of {world_size} processes" if world_size > 1 else "")
        + f", but the set has {count_of(length, 'clip')}; lower the quota or add clips"
        for (name, length), quota in zip(lengths.items(), quotas, strict=True)
        if quota * world_size > length
    ]
