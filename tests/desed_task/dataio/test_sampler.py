"""Quotas: what a batch holds, and that it depends on seed and epoch alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from desed_task.dataio.datasets import ItemKey
from desed_task.dataio.sampler import QuotaBatchSampler, batches_in_order
from desed_task.errors import InputError

LENGTHS = {"maestro": 13, "synthetic": 20, "weak": 9}
QUOTAS = (3, 2, 2)


def batches(epoch=0, **kwargs):
    sampler = QuotaBatchSampler(LENGTHS, QUOTAS, **{"seed": 7, **kwargs})
    sampler.set_epoch(epoch)
    assert len(sampler) == len(list(sampler))
    return list(sampler)


def test_every_batch_holds_its_quota_in_the_order_of_the_sets():
    edges = np.cumsum([0, *LENGTHS.values()])
    found = batches()
    assert len(found) == min(13 // 3, 20 // 2, 9 // 2)
    for batch in found:
        place = np.searchsorted(edges, [key.row for key in batch], side="right") - 1
        assert place.tolist() == [0, 0, 0, 1, 1, 2, 2]
    drawn = [key.row for batch in found for key in batch]
    assert len(drawn) == len(set(drawn))


def test_an_epoch_is_the_same_again_and_another_one_is_not():
    assert batches(epoch=3) == batches(epoch=3)
    assert batches(epoch=3) != batches(epoch=4)
    assert batches(epoch=3) != batches(epoch=3, seed=8)


def test_processes_with_batches_of_their_own_share_the_batches_of_one_order():
    whole = batches()
    parts = [batches(rank=rank, world_size=2, scope="process") for rank in range(2)]
    assert [len(part) for part in parts] == [2, 2]
    assert [parts[0][0], parts[1][0], parts[0][1], parts[1][1]] == whole


@pytest.mark.parametrize("world_size", [2, 3, 6, 7])
def test_processes_share_the_rows_of_each_batch_evenly(world_size):
    whole = batches(epoch=1)
    parts = [batches(epoch=1, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {len(part) for part in parts} == {len(whole)}
    for step, batch in enumerate(whole):
        rows = [part[step] for part in parts]
        assert sorted(key.row for row in rows for key in row) == sorted(key.row for key in batch)
        sizes = [len(row) for row in rows]
        assert 1 <= min(sizes) <= max(sizes) <= min(sizes) + 1
        limits = np.cumsum((0, *LENGTHS.values()))
        for first, end in itertools.pairwise(limits):
            of_set = [sum(first <= key.row < end for key in row) for row in rows]
            assert max(of_set) <= min(of_set) + 1


def test_a_batch_needs_a_row_for_each_process():
    assert sum(QUOTAS) < 9
    with pytest.raises(InputError, match=f"{sum(QUOTAS)} rows in a batch for 9 processes"):
        QuotaBatchSampler(LENGTHS, QUOTAS, seed=0, world_size=9)


@pytest.mark.parametrize(("n_items", "world_size"), [(7, 2), (7, 3), (6, 3), (2, 3), (0, 2)])
def test_scored_batches_are_those_of_one_process(n_items, world_size):
    whole = batches_in_order(n_items, 3)
    parts = [
        batches_in_order(n_items, 3, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    # A process without a batch scores the first one again.
    assert all(parts) or not n_items
    assert {tuple(batch) for part in parts for batch in part} == {tuple(batch) for batch in whole}
    assert sum(map(len, parts)) == max(len(whole), world_size if n_items else 0)


def test_crops_are_seeded_by_clip_and_epoch_not_by_process():
    seeds = {key.row: key.crop_seed for batch in batches(epoch=2) for key in batch}
    assert all(seed == (7, 2, row) for row, seed in seeds.items())


def test_every_quota_that_is_too_large_is_named():
    with pytest.raises(InputError) as error:
        QuotaBatchSampler(LENGTHS, (14, 2, 10), seed=0)
    assert "14 rows of maestro, but the set has 13 clips" in str(error.value)
    assert "10 rows of weak, but the set has 9 clips; lower the quota" in str(error.value)
    with pytest.raises(InputError, match="for each of 5 processes"):
        QuotaBatchSampler(LENGTHS, QUOTAS, seed=0, world_size=5, scope="process")


class Rows(Dataset):
    def __len__(self):
        return sum(LENGTHS.values())

    def __getitem__(self, key: ItemKey):
        return torch.tensor(key.row)


class Recorder(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.seen = []

    def training_step(self, batch, _):
        self.seen.append((self.current_epoch, batch.tolist()))

    def configure_optimizers(self):
        return []


def fit(epochs, ckpt_path=None):
    loader = DataLoader(Rows(), batch_sampler=QuotaBatchSampler(LENGTHS, QUOTAS, seed=7))
    module = Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader, ckpt_path=ckpt_path, weights_only=True)
    return module.seen, trainer


def expected(epochs):
    return [(epoch, [k.row for k in b]) for epoch in epochs for b in batches(epoch=epoch)]


def test_lightning_tells_the_sampler_the_epoch():
    assert fit(3)[0] == expected(range(3))


def test_a_resumed_run_goes_on_with_the_batches_of_its_epoch(tmp_path):
    _, trainer = fit(1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert fit(3, tmp_path / "last.ckpt")[0] == expected((1, 2))


def test_the_rows_themselves_change_with_seed_and_epoch():
    """Not only the seeds of their crops, which differ in any case."""
    rows = [
        [[key.row for key in batch] for batch in batches(epoch=epoch, seed=seed)]
        for epoch, seed in ((3, 7), (4, 7), (3, 8))
    ]
    assert rows[0] != rows[1]
    assert rows[0] != rows[2]
