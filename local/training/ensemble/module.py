"""Lightning's module and data of an ensemble: members score one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from desed_task.batch import SedBatch
from desed_task.dataio.embeddings import RowReader
from desed_task.errors import InputError
from desed_task.inference.scorers.opening import check_different
from desed_task.nnet.CRNN import CRNN
from local.config import RecipeConfig
from local.data.datamodule import SedDataModule
from local.data.digests import DataDigests
from local.data.loaded_corpus import LoadedCorpus
from local.data.truth import Stage, Truth
from local.scoring.accumulator import ScoreAccumulator
from local.scoring.tested import TestedFiles
from local.task.corpus import Corpus
from local.task.task import Task
from local.training.ensemble.averaging import ScoreSums
from local.training.ensemble.members import EnsembleMember, check_members, config_for_member


class EnsembleData(pl.LightningDataModule):
    """The data of an ensemble: truths of its first member, and a loader of each.

    Args:
        members: the data of each, checked for the stage.
    """

    def __init__(self, members: Sequence[SedDataModule]) -> None:
        super().__init__()
        self.members = tuple(members)
        self.first = self.members[0]

    @property
    def task(self) -> Task:
        """The task."""
        return self.first.task

    @property
    def loaded(self) -> Mapping[str, LoadedCorpus]:
        """Loaded corpora by name."""
        return self.first.loaded

    @property
    def embedding_readers(self) -> list[RowReader | None]:
        """The embeddings of all members."""
        return [reader for member in self.members for reader in member.embedding_readers]

    @property
    def missing(self) -> dict[str, tuple[str, ...]]:
        """See `SedDataModule`."""
        return self.first.missing

    @property
    def missing_recordings(self) -> dict[str, tuple[str, ...]]:
        """See `SedDataModule`."""
        return self.first.missing_recordings

    @property
    def left_out(self) -> dict[str, tuple[str, ...]]:
        """See `SedDataModule`."""
        return self.first.left_out

    def digests(self, stage: str) -> DataDigests:
        """See `SedDataModule`."""
        return self.first.digests(stage)

    def truths(self, stage: Stage) -> tuple[Truth, ...]:
        """See `SedDataModule`."""
        return self.first.truths(stage)

    def part(self, corpus: Corpus, use: str) -> LoadedCorpus:
        """See `SedDataModule`."""
        return self.first.part(corpus, use)

    def prepare_data(self) -> None:
        """Pack the corpora of each member (Lightning's hook, in one process per machine)."""
        for member in self._with_trainer():
            member.prepare_data()

    def setup(self, stage: str) -> None:
        """Open packed sets of each member (Lightning's hook)."""
        for member in self._with_trainer():
            member.setup(stage)

    def test_dataloader(self) -> list[DataLoader[SedBatch]]:
        """What tests score, for each member."""
        return [member.test_dataloader() for member in self._with_trainer()]

    def predict_dataloader(self) -> list[DataLoader[SedBatch]]:
        """The evaluation sets, for each member."""
        return [member.predict_dataloader() for member in self._with_trainer()]

    def _with_trainer(self) -> tuple[SedDataModule, ...]:
        for member in self.members:
            member.trainer = self.trainer
        return self.members


class EnsembleModule(pl.LightningModule):
    """Tests and evaluates the mean of the scores of several checkpoints, student by student and
    teacher by teacher.

    Everything but the scores is that of the first one: task, truths and decoder, which
    `check_members` has compared.

    Args:
        members: at least two.
    """

    def __init__(self, members: Sequence[EnsembleMember]) -> None:
        super().__init__()
        self.config = members[0].config
        self.members = torch.nn.ModuleList(one.module for one in members)
        self.score_accumulator = ScoreAccumulator(self.config)
        paths = tuple(one.path for one in members)
        self.tested_checkpoint = TestedFiles(paths, tuple(one.facts() for one in members))
        revisions = sorted({one.module.training_revision for one in members})
        self.training_revision = revisions[0] if len(revisions) == 1 else revisions
        self._sums = ScoreSums(self.config.detection_task.classes)
        self._now = 0

    @property
    def sed_student(self) -> CRNN:
        """The student of the first member."""
        network: CRNN = self._member(0).sed_student
        return network

    def _member(self, number: int) -> Any:
        return self.members[number]

    def on_test_epoch_start(self) -> None:
        """Clear all scores."""
        self.score_accumulator.clear()
        self._sums.clear()
        for number in range(len(self.members)):
            self._member(number).score_accumulator.clear()
        self._now = 0

    on_predict_epoch_start = on_test_epoch_start

    def test_step(self, batch: SedBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Score a batch of a member's loader with that member."""
        self._go_on(dataloader_idx, "test")
        self._member(dataloader_idx).test_step(batch, batch_idx)

    def predict_step(self, batch: SedBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Score a batch without labels."""
        self._go_on(dataloader_idx, "predict")
        self._member(dataloader_idx).predict_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Average the scores and log test metrics."""
        self._finish("test")
        self.log_dict(self.score_accumulator.test_metrics(self.trainer.datamodule.truths("test")))

    def on_predict_epoch_end(self) -> None:
        """Average the scores."""
        self._finish("predict")

    def _go_on(self, number: int, stage: str) -> None:
        """Add up what members before `number` have scored."""
        while self._now < number:
            member = self._member(self._now)
            path = self.tested_checkpoint.paths[self._now]
            self._sums.take(member.score_accumulator, _scored(member.config, stage), str(path))
            self._now += 1

    def _finish(self, stage: str) -> None:
        self._go_on(len(self.members), stage)
        self._sums.put_mean(self.score_accumulator, _scored(self.config, stage))


def _scored(config: RecipeConfig, stage: str) -> tuple[Corpus, ...]:
    task = config.detection_task
    return tuple(task.scored_corpora("test") if stage == "test" else task.evaluated)


class OpenedCheckpoint(NamedTuple):
    """A checkpoint, or several, ready for a test or evaluation."""

    config: RecipeConfig
    options: Any
    data: Any
    module: Any


def open_together(
    config: RecipeConfig,
    paths: Sequence[str],
    options: Any,
    stage: str,
    open_one: Callable[..., tuple[Any, ...]],
    *,
    own_stores: bool = False,
) -> OpenedCheckpoint:
    """Open the checkpoints of a test or evaluation; several are averaged.

    Args:
        config: of the command.
        paths: the files.
        options: of the command (`RunOptions`).
        stage: "test" or "predict".
        open_one: opens one: `(config, path, options, stage, tell=...)`, for what
            `OpenedCheckpoint` has.
        own_stores: see `config_for_member`.

    Raises:
        InputError: a checkpoint cannot be used, or they cannot be averaged.
    """
    if len(paths) == 1:
        return OpenedCheckpoint(*open_one(config, paths[0], options, stage))
    files = [Path(path) for path in paths]
    check_different(files)
    if config.tuned.checkpoint_sha256 and not own_stores:
        raise InputError(
            f"the configuration has values that were tuned for one checkpoint (SHA-256 "
            f"{config.tuned.checkpoint_sha256[:12]}...), and scores of {len(paths)} are averaged; "
            "give a --conf_file without the section tuned, or leave it out"
        )
    members = []
    for path in files:
        here = config_for_member(config, str(path), own_stores=own_stores)
        own, options, data, module = open_one(here, str(path), options, stage, tell=not members)
        # Of the command, once.
        options = options._replace(threads=None)
        members.append(EnsembleMember(path, own, data, module))
    check_members(members, stage)
    print(f"scores of {len(members)} checkpoints are averaged: {', '.join(paths)}")
    data = EnsembleData([one.data for one in members])
    return OpenedCheckpoint(members[0].config, options, data, EnsembleModule(members))
