"""Assemble whole batches from packed sets by indexing, on the device of their arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from desed_task.audio.windows import Span
from desed_task.batch import SedBatch, spans_of_rows
from desed_task.dataio.datasets import ItemKey, JoinedDataset, SedDataset
from desed_task.dataio.packed_format import Ints


class PackedBatches(Dataset[SedBatch]):
    """Batches of the rows of a `JoinedDataset` whose corpora are all packed.

    A loader requests all rows of a batch at once, so nothing is left to collate. The rows equal
    those of the joined dataset, on the device of the packed clips.

    Args:
        joined: the rows; each dataset in it has `packed`.
    """

    def __init__(self, joined: JoinedDataset) -> None:
        self._parts = [_PackedPart(leaf) for leaf in joined.leaves]
        self._ends = np.cumsum([len(leaf) for leaf in joined.leaves])
        first = joined.leaves[0]
        self._n_samples = first.n_samples
        self._device = self._parts[0].clips.device
        self._known = torch.stack([leaf.known for leaf in joined.leaves]).to(self._device)
        self._source = torch.stack([leaf.source for leaf in joined.leaves]).to(self._device)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, key: ItemKey | int) -> SedBatch:
        """A batch of one row."""
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[ItemKey | int]) -> SedBatch:
        """The batch of rows at positions counted over all parts."""
        runs = list(_runs([self._place(key) for key in keys]))
        where = [self._parts[run.part].where(run.keys) for run in runs]
        parts = np.concatenate([np.full(len(run.keys), run.part) for run in runs])
        # One asynchronous copy to the device.
        index = torch.from_numpy(np.stack([*map(np.concatenate, zip(*where, strict=True)), parts]))
        index = index.to(self._device, non_blocking=True)
        batch = self._empty(len(keys))
        for run, here in zip(runs, where, strict=True):
            self._parts[run.part].fill(batch, run, here, index[:3, run.rows])
        return batch._replace(
            known=self._known.index_select(0, index[-1]),
            source=self._source.index_select(0, index[-1]),
            clip_id=tuple(self._clip(run.part, key)[0] for run in runs for key in run.keys),
            span=spans_of_rows([self._clip(run.part, key)[1] for run in runs for key in run.keys]),
        )

    def _clip(self, part: int, key: ItemKey) -> tuple[str, Span | None]:
        dataset = self._parts[part].dataset
        clip, span = dataset.rows[key.row]
        return dataset.clip_ids[clip], span

    def _place(self, key: ItemKey | int) -> tuple[int, ItemKey]:
        """Which part a row is in, and its key there."""
        row, crop_seed = key if isinstance(key, ItemKey) else ItemKey(key)
        part = int(np.searchsorted(self._ends, row, side="right"))
        start = int(self._ends[part - 1]) if part else 0
        return part, ItemKey(row - start, crop_seed)

    def _empty(self, n_rows: int) -> SedBatch:
        """A batch with uninitialised waveforms, targets, embeddings and pseudo-labels."""
        first = self._parts[0]

        def empty(*shape: int) -> Tensor:
            return torch.empty(n_rows, *shape, device=self._device)

        nothing = torch.empty(0)
        embeddings = first.clips.embeddings
        shape = (0,) if embeddings is None else embeddings.shape[1:]
        waveform, target = empty(self._n_samples), empty(*first.targets.shape[1:])
        pseudo = None if first.pseudo is None else torch.empty_like(target)
        return SedBatch(waveform, target, nothing, nothing, empty(*shape), (), pseudo=pseudo)


class _Run(NamedTuple):
    """Consecutive rows of a batch that belong to one part."""

    part: int
    rows: slice
    keys: list[ItemKey]


def _runs(places: Sequence[tuple[int, ItemKey]]) -> Iterator[_Run]:
    start = 0
    for part, run in groupby(places, key=lambda place: place[0]):
        keys = [key for _, key in run]
        yield _Run(part, slice(start, start + len(keys)), keys)
        start += len(keys)


class _RowLocations(NamedTuple):
    """Positions of rows of one part."""

    row: Ints  # of the dataset
    packed_row: Ints  # of the packed set
    start: Ints  # sample of the packed set's audio


class _PackedPart:
    """One corpus of a `PackedBatches`."""

    def __init__(self, dataset: SedDataset) -> None:
        assert dataset.packed is not None, dataset.source
        self.dataset = dataset
        self.clips = dataset.packed
        self._rows = self.clips.packed.rows(map(dataset.row_name, range(len(dataset))))
        surplus = np.maximum(self.clips.lengths[self._rows] - dataset.n_samples, 0)
        # A clip's first window lies where the clip does, and is not cropped at random.
        self._surplus = np.where([row.span is None for row in dataset.rows], surplus, 0)
        self.targets = self._whole_targets()
        self.pseudo = self._pseudo_labels()

    def _whole_targets(self) -> Tensor:
        """(row, class, frame) targets of rows that are not cropped at random, on the device."""
        targets = np.stack([self.dataset.target_of(row) for row in range(len(self.dataset))])
        return torch.from_numpy(targets).to(self.clips.device)

    def _pseudo_labels(self) -> Tensor | None:
        """(row, class, frame) pseudo-labels on the device; None if there are none."""
        found = [self.dataset.pseudo_labels(row) for row in range(len(self.dataset))]
        labels = [one for one in found if one is not None]
        return torch.stack(labels).to(self.clips.device) if labels else None

    def where(self, keys: Sequence[ItemKey]) -> _RowLocations:
        """Positions of rows; crops are drawn as `audio.files.read_clip` does."""
        row = np.array([key.row for key in keys], dtype=np.int64)
        crop = np.array([self._crop(key) for key in keys], dtype=np.int64)
        packed_row = self._rows[row]
        return _RowLocations(row, packed_row, self.clips.offsets[packed_row] + crop)

    def _crop(self, key: ItemKey) -> int:
        """The sample from which a clip is read."""
        surplus = int(self._surplus[key.row])
        if key.crop_seed is None or not surplus or self.dataset.reads_beginnings:
            return 0
        return int(np.random.default_rng(key.crop_seed).integers(surplus + 1))

    def fill(self, batch: SedBatch, run: _Run, where: _RowLocations, index: Tensor) -> None:
        """Write the rows of a run: those at `where`, which is `index` (3, row) on the device."""
        row, packed_row, start = index
        rows = run.rows
        self.clips.put_waveforms(batch.waveform[rows], start)
        if self.clips.embeddings is not None:
            self.clips.put_embeddings(batch.embedding[rows], packed_row)
        target = batch.target[rows]
        torch.index_select(self.targets, 0, row, out=target)
        if self.pseudo is not None and batch.pseudo is not None:
            torch.index_select(self.pseudo, 0, row, out=batch.pseudo[rows])
        if self.dataset.targets.moves_with_crop:
            self._shift_targets(target, where, run.keys)

    def _shift_targets(self, out: Tensor, where: _RowLocations, keys: Sequence[ItemKey]) -> None:
        """Write the targets of clips that are not read from their beginning, or that are drawn."""
        crops = where.start - self.clips.offsets[where.packed_row]
        drawn = self.dataset.targets.is_drawn
        for place in range(len(crops)) if drawn else np.flatnonzero(crops):
            row = int(where.row[place])
            onset_s = int(crops[place]) / self.dataset.sample_rate
            target = self.dataset.target_of(row, onset_s, keys[int(place)].crop_seed)
            out[place].copy_(torch.from_numpy(target), non_blocking=True)
