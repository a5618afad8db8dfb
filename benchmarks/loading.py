"""Items and batches: from wav and HDF5 files, and from packed sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count

import torch
from torch.utils.data import Dataset

from benchmarks.groups import Bench
from benchmarks.made_data import CLIP_S, RATE, ClipFolder, make_clips
from benchmarks.measuring import Row
from desed_task.dataio.batch import SedBatch, Source, collate
from desed_task.dataio.datasets import ItemKey, JoinedDataset, SedDataset, StrongTargets
from desed_task.dataio.packed import PackedSet, Packing
from desed_task.dataio.packed_batches import PackedBatches, PackedClips
from desed_task.dataio.packed_writer import ClipFiles, pack
from local.classes_dict import DESED_CLASSES, VOCABULARY
from local.datamodule import grid_of


def rows(bench: Bench) -> Iterator[Row]:
    """Each way of reading, an item and a batch."""
    clips = make_clips(bench.folder, bench.sizes.stored_clips)
    grid = grid_of(bench.config)
    path = bench.folder / "clips.packed"
    files = ClipFiles(
        "benchmark",
        clips.clip_ids,
        [clips.folder / f"{c}.wav" for c in clips.clip_ids],
        clips.reader,
    )
    pack(path, files, Packing(RATE, int(CLIP_S * RATE), "pooled", grid.n_frames), progress=False)
    packed = PackedSet(path)
    plain = _dataset(bench, clips, None)
    yield from _measured(
        bench, "wav and HDF5", plain, lambda keys: collate([plain[k] for k in keys])
    )
    ways = {"packed, mapped": None, f"packed, {bench.device.type} memory": bench.device}
    for name, device in ways.items():
        batches = PackedBatches(_dataset(bench, clips, PackedClips(packed, device)))
        yield from _measured(bench, name, batches, batches.__getitems__)


def _dataset(bench: Bench, clips: ClipFolder, packed: PackedClips | None) -> JoinedDataset:
    one = SedDataset(
        clips.clip_ids,
        clips.folder,
        StrongTargets(clips.events, grid_of(bench.config)),
        VOCABULARY.mask(DESED_CLASSES),
        Source.SYNTHETIC,
        embeddings=clips.reader,
        embedding_type="frame",
        sample_rate=RATE,
        clip_s=CLIP_S,
        packed=packed,
    )
    return JoinedDataset([one])


def _measured(
    bench: Bench,
    name: str,
    dataset: Dataset[SedBatch],
    get_batch: Callable[[list[ItemKey]], SedBatch],
) -> Iterator[Row]:
    """An item and a batch of a dataset, other clips each time."""
    n_clips, n_rows, numbers = bench.sizes.stored_clips, bench.sizes.n_rows, count()
    order = torch.randperm(n_clips, generator=torch.Generator().manual_seed(0)).tolist()

    def keys(n: int) -> list[ItemKey]:
        return [ItemKey(order[next(numbers) % n_clips], (0, 0, 0)) for _ in range(n)]

    item = dataset[keys(1)[0]]
    many = max(bench.repeats, n_clips)
    yield bench.machine.row(
        "loading",
        f"item: {name}",
        "1 clip",
        lambda: dataset[keys(1)[0]],
        many,
        n_bytes=_n_bytes([item]),
    )
    yield bench.machine.row(
        "loading",
        f"batch: {name}",
        f"{n_rows} clips",
        lambda: get_batch(keys(n_rows)),
        bench.repeats,
        n_bytes=n_rows * _n_bytes([item]),
    )


def _n_bytes(items: Sequence[SedBatch]) -> float:
    """What is written of waveforms and embeddings, and read: audio of 16 bits."""
    total = 0
    for item in items:
        total += item.waveform.numel() * (4 + 2)
        total += item.embedding.numel() * (4 + 4)
    return float(total)
