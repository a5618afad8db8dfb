"""What a command prints about its data and network, and about a run that is finished."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from local.checkpoints.resume import changes_since_training
from local.config import RecipeConfig
from local.data.datamodule import SedDataModule
from local.data.loaded_corpus import LoadedCorpus
from local.data.summary_lines import data_summary, left_out_line
from local.data.truth import TRUE_CONFIDENCE, Stage
from local.scoring import results
from local.task.corpus import Corpus
from local.training.macs import count_macs

MOST_NAMES = 10


def announce(data: SedDataModule, stage: str, module: Any = None) -> None:
    """Print a summary of the data of a stage and, for a training, of the network.

    Args:
        data: the data of the stage, loaded.
        stage: as of `SedDataModule.check`.
        module: the Lightning module of a training.
    """
    print(data_summary(data.loaded))
    lines = (
        left_out_line(data.loaded),
        data.late_ends_line(),
        *data.long_clip_lines(stage),
        *unscored_lines(data, stage),
        *licence_lines(data.task.needed_by(stage)),
    )
    for line in lines:
        if line is not None:
            print(line)
    if module is not None:
        cost = count_macs(module.sed_student, module.config, readers=data.embedding_readers)
        print(
            f"network: {cost.parameters / 1e6:.2f} M parameters, "
            f"{cost.macs / 1e9:.2f} GMACs for {cost.clip_s:g} s of audio"
        )


def licence_lines(used: Iterable[Corpus]) -> list[str]:
    """A line for each licence or source that the descriptions of corpora name."""
    return [f"licence: {line}" for line in dict.fromkeys(c.licence for c in used if c.licence)]


def unscored_lines(data: SedDataModule, stage: str) -> Iterator[str]:
    """Lines that name classes which do not occur where a stage scores them.

    Args:
        data: the data of the stage, loaded.
        stage: as of `SedDataModule.check`.
    """
    stages: dict[str, tuple[Stage, ...]] = {"fit": ("val", "test"), "test": ("test",)}
    for one in stages.get(stage, ()):
        for part in data.task.scored(one):
            there = _occurring(data.part(part.corpus, "validation" if one == "val" else "test"))
            absent = [label for label in part.classes if label not in there]
            if not absent:
                continue
            names = ", ".join(absent[:MOST_NAMES])
            more = len(absent) - MOST_NAMES
            where = "validations" if one == "val" else "the test"
            yield (
                f"{part.corpus.title}: no {'clip' if part.kind == 'tags' else 'event'} of {names}"
                f"{f' and {more} more' if more > 0 else ''}, so {part.kind} of "
                f"{'it' if len(absent) == 1 else 'them'} are not scored in {where}"
            )


def _occurring(loaded: LoadedCorpus) -> set[str]:
    """The classes of a corpus's labels that count as true."""
    if loaded.weak is not None:
        used = np.flatnonzero(loaded.weak.target.any(axis=0))
        return {loaded.weak.vocabulary[index] for index in used}
    if loaded.events is None:
        return set()
    certain = loaded.events.label_index[loaded.events.confidence > TRUE_CONFIDENCE]
    return {loaded.events.vocabulary[index] for index in np.unique(certain)}


def tell_finished(folder: Path, config: RecipeConfig) -> None:
    """Print the results of a finished run, and whether its data has changed since."""
    print(f"{folder} is a finished run of this configuration; nothing to do")
    results.print_results(folder)
    data = SedDataModule(config)
    problems = [problem for found in data.problems("fit").values() for problem in found]
    if problems:
        print(
            f"{folder}: whether its data has changed since is not known, as the data cannot be "
            f"used: {problems[0]}"
        )
        return
    for line in changes_since_training(folder, data.digests("fit"), data.task):
        print(line)
