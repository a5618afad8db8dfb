"""The batches of a set, given out to processes, and their progress.

A batch is the same whatever the number of processes, as the rounding of matrix products depends on
the number of clips in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from desed_task.audio.freshness import source_of, source_stamp
from desed_task.audio.windows import RowName
from desed_task.dataio.embedding_writer import EmbeddingWriter, clip_of
from desed_task.dataio.embeddings import EmbeddingLayout
from desed_task.parallel import Progress
from local.extraction.embedder import Embedder, FileWindow
from local.processes.group import Group
from local.processes.shared_progress import shared_progress

Batch = list[RowName]


class SetWork(NamedTuple):
    """What is computed of a set.

    Attributes:
        layout: of its file.
        files: row -> file, whose beginning counts, or window of a file.
        counted: the number of clips and windows in words.
        unit: of the progress.
    """

    layout: EmbeddingLayout
    files: Mapping[RowName, Path | FileWindow]
    counted: str
    unit: str


def batches_of(rows: Iterable[RowName], todo: Collection[RowName], size: int) -> list[Batch]:
    """The batches that are left of a set.

    Batches of which nothing is done are those of a set that is computed at once, so that a resumed
    run gives the same numbers. What is left of the others is put together in new ones.

    Args:
        rows: all rows of the set, in order.
        todo: those that are not finished.
        size: rows in a batch.
    """
    rows, wanted = list(rows), set(todo)
    whole: list[Batch] = []
    rest: Batch = []
    for first in range(0, len(rows), size):
        batch = rows[first : first + size]
        left = [row for row in batch if row in wanted]
        if len(left) == len(batch):
            whole.append(left)
        else:
            rest += left
    return whole + [rest[first : first + size] for first in range(0, len(rest), size)]


def embed_batches(
    embedder: Embedder,
    writer: EmbeddingWriter,
    files: Mapping[RowName, Path | FileWindow],
    batches: Sequence[Batch],
    numbers: Iterable[int],
    *,
    most: int | None = None,
    count: Callable[[int], object],
) -> list[tuple[int, str]]:
    """Embed the batches that this process takes.

    Args:
        embedder: computes the embeddings.
        writer: receives them.
        files: row -> file.
        batches: those of all processes.
        numbers: indices of those of this process, taken one after another as they are needed.
        most: see `Embedder.stream`.
        count: called with the number of rows that are done.

    Returns:
        Faults of unreadable files, each with the index of its batch.
    """
    taken: list[int] = []
    stamps: dict[RowName, tuple[int, int] | None] = {}

    def take() -> Iterator[list[tuple[RowName, Path | FileWindow]]]:
        for number in numbers:
            taken.append(number)
            named = [(row, files[row]) for row in batches[number]]
            stamps.update((row, source_stamp(_wav_of(one))) for row, one in named)
            yield named

    faults: list[tuple[int, str]] = []
    with closing(embedder.stream(take(), most)) as stream:
        for place, batch in enumerate(stream):
            for row in batch.clip_ids:
                stamp, clip_id = stamps.pop(row), clip_of(row)
                # Another process may have the other rows of a longer clip.
                if row == clip_id or not writer.has_source(clip_id):
                    writer.record(clip_id, source_of(_wav_of(files[row]), stamp))
            writer.put(batch.clip_ids, batch.frame.numpy(), batch.global_.numpy())
            faults += [(taken[place], fault) for fault in batch.faults]
            count(len(batch.clip_ids) + len(batch.faults))
    return faults


def _wav_of(one: Path | FileWindow) -> Path:
    return one if isinstance(one, Path) else one.wav


def given_out(n_batches: int, key: str, group: Group | None) -> Iterator[int]:
    """Indices of batches of this process, the next one whenever it asks.

    They are given out one by one and not divided beforehand, as clips of one set differ in length
    and processes in speed.

    Args:
        n_batches: number of batches of all processes.
        key: names the set.
        group: the processes; None for a single one.
    """
    if group is None:
        yield from range(n_batches)
        return
    while (number := group.add_up(f"{key}: batches", 1) - 1) < n_batches:
        yield number


def fair_share(n_batches: int, group: Group | None) -> int | None:
    """Batches that a process may hold at a time, so that in a small set all get some."""
    return None if group is None else max(1, math.ceil(n_batches / group.world.size))


@contextmanager
def counted_together(
    bar: Progress, key: str, group: Group | None
) -> Iterator[Callable[[int], object]]:
    """A function that counts rows of all processes, which the first one shows.

    Args:
        bar: the progress; shown in the first process alone.
        key: names the set.
        group: the processes; None for a single one.
    """
    with bar:
        if group is None:
            yield bar.update
        else:
            with shared_progress(bar, group, f"{key}: rows") as advance:
                yield advance
