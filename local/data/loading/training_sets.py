"""The sets that a training batch is drawn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from desed_task.dataio.datasets import JoinedDataset
from desed_task.dataio.label_files.aliases import add_aliases, add_weak_aliases
from desed_task.dataio.sampler import quota_problems
from local.config import RecipeConfig
from local.data.loaded_corpus import LoadedCorpus
from local.task.corpus import Corpus
from local.task.task import BatchPart, Task


def training_sets(
    task: Task, part_of: Callable[[Corpus], LoadedCorpus], config: RecipeConfig
) -> dict[str, JoinedDataset]:
    """Part of a batch -> its clips, in the order of the rows.

    Args:
        task: gives the parts.
        part_of: gives the clips of a corpus that are trained on.
        config: of the datasets.
    """
    titles = [part.title for part in task.batch]
    return {
        part.title if titles.count(part.title) == 1 else part.corpora[0].name: JoinedDataset(
            [_with_aliases(part_of(one)).dataset(config, config.grid) for one in part.corpora]
        )
        for part in task.batch
    }


def _with_aliases(part: LoadedCorpus) -> LoadedCorpus:
    aliases = part.corpus.aliases
    if not aliases:
        return part
    events = None if part.events is None else add_aliases(part.events, aliases)
    weak = None if part.weak is None else add_weak_aliases(part.weak, aliases)
    return replace(part, events=events, weak=weak)


def too_small_sets(
    sets: Mapping[str, JoinedDataset], task: Task, config: RecipeConfig, n_processes: int
) -> list[str]:
    """A message for each part of a batch that has fewer clips than rows; empty ones are not told.

    Args:
        sets: from `training_sets`.
        task: gives the rows.
        config: where they come from.
        n_processes: processes of the training.
    """
    parts = zip(sets.items(), task.batch, strict=True)
    filled = [(name, len(rows), part) for (name, rows), part in parts if len(rows)]
    return quota_problems(
        {name: length for name, length, _ in filled},
        [part.rows for _, _, part in filled],
        n_processes,
        config.training.batch_scope,
        keys=[_rows_key(part, config) for _, _, part in filled],
    )


def _rows_key(part: BatchPart, config: RecipeConfig) -> str:
    """Where the configuration gives the rows of a part of a batch."""
    if config.training.batch_size is not None:
        return "training.batch_size"
    return f"task.corpora.{part.corpora[0].name}.rows"
