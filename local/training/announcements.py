"""What a command prints about its data and network, and about a run that is finished."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from desed_task.encoders.interface import EmbeddingModel
from desed_task.encoders.macs import encoder_macs
from desed_task.encoders.registry import kind_of
from desed_task.errors import agree, count_of
from desed_task.file_names import escape_name
from local.checkpoints.resume import changes_since_training
from local.config import RecipeConfig
from local.data.corpus_checks import examples
from local.data.datamodule import SedDataModule
from local.data.summary_lines import data_summary, left_out_line
from local.data.truth import Stage, true_classes
from local.scoring import results
from local.task.corpus import Corpus
from local.task.task import Task
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
        *(untrained_lines(data.task) if stage == "fit" else ()),
        *unscored_lines(data, stage),
        *licence_lines(data.task.needed_by(stage)),
    )
    for line in lines:
        if line is not None:
            print(line)
    if module is not None:
        encoder = module.encoder_student
        cost = count_macs(
            module.sed_student, module.config, readers=data.embedding_readers, encoder=encoder
        )
        print(
            f"network: {cost.parameters / 1e6:.2f} M parameters, "
            f"{cost.macs / 1e9:.2f} GMACs for {cost.clip_s:g} s of audio"
        )
        if encoder is not None:
            print(encoder_line(encoder, module.config, cost.clip_s))
        # Made here, so that what it cannot use is refused before there is a run folder.
        if module.augmentation is not None:
            print(f"augmentation: {', '.join(module.config.augment.used)}")


def encoder_line(encoder: EmbeddingModel, config: RecipeConfig, clip_s: float) -> str:
    """A line about the encoders that run inside the step: parameters, operations, what is done.

    Args:
        encoder: one or several.
        config: whether they are trained.
        clip_s: length of the clip that operations are counted for.
    """
    n_samples = round(clip_s * encoder.sample_rate)
    titles = " and ".join(
        _with_blocks(kind_of(part.name).title, choice.n_blocks)
        for part, choice in zip(encoder.parts, config.pretrained.encoders, strict=True)
    )
    macs = sum(encoder_macs(part, n_samples) for part in encoder.parts)
    what = "kept as it is" if config.pretrained.freezed else "fine-tuned"
    return (
        f"inside the step: {titles}, {what}, {encoder.n_parameters() / 1e6:.2f} M parameters, "
        f"{macs / 1e9:.2f} GMACs for {clip_s:g} s of audio"
    )


def licence_lines(used: Iterable[Corpus]) -> list[str]:
    """A line for each licence or source that the descriptions of corpora name."""
    return [f"licence: {line}" for line in dict.fromkeys(c.licence for c in used if c.licence)]


def untrained_lines(task: Task) -> list[str]:
    """A line that names the classes that no corpus in the rows of a batch has labels of."""
    labelled = {one for c in task.trained_on if c.labels != "none" for one in c.known}
    never = [label for label in task.classes if label not in labelled]
    if not never:
        return []
    return [f"not trained, as no corpus of a training batch has labels of them: {examples(never)}"]


def unscored_lines(data: SedDataModule, stage: str) -> Iterator[str]:
    """Lines that name classes which do not occur where a stage scores them.

    Args:
        data: the data of the stage, loaded.
        stage: as of `SedDataModule.check`.
    """
    stages: dict[str, tuple[Stage, ...]] = {"fit": ("val", "test"), "test": ("test",)}
    for one in stages.get(stage, ()):
        where = "validations" if one == "val" else "the test"
        alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for part in data.task.scored(one):
            loaded = data.part(part.corpus, "validation" if one == "val" else "test")
            there = true_classes(loaded.labels)
            absent = tuple(label for label in part.classes if label not in there)
            if absent and one == "val" and part.kind == "tags":
                they = agree(len(absent), "it counts", "they count")
                yield f"{part.corpus.title}: no clip of {_some(absent)}, so {they} as 0 in {where}"
            elif absent:
                alike.setdefault((part.corpus.title, absent), []).append(part.kind)
        for (title, absent), kinds in alike.items():
            what = "clip" if kinds == ["tags"] else "event"
            yield (
                f"{title}: no {what} of {_some(absent)}, so {' and '.join(kinds)} of "
                f"{agree(len(absent), 'it', 'them')} are not scored in {where}"
            )


def _some(labels: Sequence[str]) -> str:
    more = len(labels) - MOST_NAMES
    return ", ".join(labels[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def tell_finished(folder: Path, config: RecipeConfig) -> None:
    """Print the results of a finished run, and whether its data has changed since."""
    print(f"{escape_name(folder)} is a finished run of this configuration; nothing to do")
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


def _with_blocks(title: str, n_blocks: int | None) -> str:
    """The title of an encoder, with its blocks if they are not all."""
    return title if n_blocks is None else f"{count_of(n_blocks, 'block')} of {title}"
