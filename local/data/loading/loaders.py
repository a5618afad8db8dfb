"""Loaders of batches of joined datasets."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from desed_task.batch import SedBatch, collate
from desed_task.dataio.datasets import JoinedDataset
from desed_task.dataio.packed_dataset import PackedBatches
from desed_task.dataio.sampler import batches_in_order
from local.config import RecipeConfig


def loader_in_order(
    joined: JoinedDataset, config: RecipeConfig, trainer: pl.Trainer | None
) -> DataLoader[SedBatch]:
    """A loader of every row once, or of this process's share of the batches.

    Args:
        joined: the rows.
        config: batch size and workers.
        trainer: knows the processes and the device; None outside Lightning.
    """
    batch_size = config.training.batch_size_val
    if trainer is None or trainer.world_size == 1:
        return loader_of(joined, config, trainer, batch_size=batch_size)
    share = batches_in_order(
        len(joined), batch_size, rank=trainer.global_rank, world_size=trainer.world_size
    )
    return loader_of(joined, config, trainer, batch_sampler=share)


def loader_of(
    joined: JoinedDataset, config: RecipeConfig, trainer: pl.Trainer | None, **order: Any
) -> DataLoader[SedBatch]:
    """A loader of rows, from packed sets where they are packed.

    Args:
        joined: the rows.
        config: number of workers.
        trainer: knows the device; None outside Lightning.
        order: arguments of `DataLoader` about the order of the rows.
    """
    workers = config.training.num_workers
    dataset: Dataset[SedBatch] = joined
    packed = joined.leaves[0].packed
    if packed is not None:
        dataset = PackedBatches(joined)
        # If everything is in memory, workers would only copy batches between processes.
        workers = 0 if packed.resident else workers
    on_gpu = trainer is not None and trainer.strategy.root_device.type == "cuda"
    return DataLoader(
        dataset,
        collate_fn=collate if packed is None else _identity,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=on_gpu and (packed is None or packed.device.type == "cpu"),
        # Its own generator: drawing from the global one when a loader starts would make a
        # resumed run differ.
        generator=torch.Generator(),
        **order,
    )


def _identity(batch: SedBatch) -> SedBatch:
    """Collate function for a dataset whose items are whole batches."""
    return batch
