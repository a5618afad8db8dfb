"""Time the loading of training data: items and batches from each kind of storage."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from benchmarks.bench import Bench, Work
from benchmarks.made import batch_rows
from desed_task.batch import SedBatch, collate
from desed_task.dataio.datasets import ItemKey, JoinedDataset
from desed_task.dataio.packed_dataset import PackedBatches
from local.config import check_config
from local.data.loading.packed_corpora import open_packed, pack_corpora

NAME = "loading"
# A corpus with strong labels, whose targets take the most time.
_STRONG = "synth_train"


class Store(NamedTuple):
    """A kind of clip storage; each entry of `STORES` has its own rows.

    Attributes:
        name: name of the rows.
        data: keys of the configuration's `data` section; none for WAV and HDF5 files.
        on_gpu: whether it needs a GPU.
    """

    name: str
    data: dict[str, str]
    on_gpu: bool = False


STORES = (
    Store("files", {}),
    Store("packed-disk", {"resident": "disk"}),
    Store("packed-ram", {"resident": "ram"}),
    Store("packed-half-ram", {"resident": "ram", "packed_dtype": "float16"}),
    Store("packed-gpu", {"resident": "gpu"}, on_gpu=True),
)


def run(bench: Bench) -> None:
    """Add rows of an item and of a batch for each storage that this machine supports."""
    for store in STORES:
        if store.on_gpu and bench.device.type != "cuda":
            continue
        names = [f"loading/{what}/{store.name}" for what in ("item", "batch")]
        if bench.wants(*names):
            with bench.skipping(f"{NAME}/{store.name}"):
                _run(bench, store, names)


def _run(bench: Bench, store: Store, names: Sequence[str]) -> None:
    get, length = reader(bench, store)
    n_rows = sum(batch_rows(bench.config))
    keys = _keys(length)
    row = get([next(keys)])
    # Minimum traffic: the row is read from somewhere and written to the batch.
    n_bytes = 2 * sum(one.numel() * one.element_size() for one in row.tensors)
    several = 20  # a single item is too short for the clock
    bench.time(
        names[0],
        Work(several, n_bytes=several * n_bytes),
        lambda: [get([next(keys)]) for _ in range(several)],
    )
    bench.time(
        names[1],
        Work(n_rows, n_bytes=n_rows * n_bytes),
        lambda: get(list(itertools.islice(keys, n_rows))),
    )


def _keys(length: int) -> Iterator[ItemKey]:
    """Yield row indices with crops in random order, endlessly."""
    generator = torch.Generator().manual_seed(2)
    while True:
        for row in torch.randperm(length, generator=generator).tolist():
            yield ItemKey(row, (1, 0, row))


def reader(bench: Bench, store: Store) -> tuple[Callable[[list[Any]], SedBatch], int]:
    """Return a function from keys to a batch, and the number of rows."""
    data, config = bench.data, bench.made.config
    loaded = data.loaded[_STRONG]
    if not store.data:
        joined = JoinedDataset([loaded.dataset(config, data.grid)])
        return lambda keys: collate([joined[key] for key in keys]), len(joined)
    tree = config.dump()
    tree["data"].update(packed_dir=str(bench.folder / "packed"), **store.data)
    tree["training"]["enable_progress_bar"] = False
    config = check_config(tree, "benchmarks")
    pack_corpora([loaded], config, data.grid, progress=False)
    opened = open_packed([loaded], config, data.grid, bench.device, tell=False)
    joined = JoinedDataset([one.dataset(config, data.grid) for one in opened.values()])
    return PackedBatches(joined).__getitems__, len(joined)
