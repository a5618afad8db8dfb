"""Lightning data module: load, check and split the corpora, and make the loaders.

See docs/method.md, Classes and corpora, for batches and splits.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from desed_task.batch import SedBatch
from desed_task.dataio.annotations import EventTable, WeakTable
from desed_task.dataio.datasets import JoinedDataset
from desed_task.dataio.embeddings import RowReader
from desed_task.dataio.sampler import QuotaBatchSampler
from desed_task.distributed.collectives import n_processes
from desed_task.errors import InputError
from local.config import RecipeConfig
from local.data.audio_warnings import warn_of_audio
from local.data.clip_ends import (
    late_ends,
    late_ends_line,
    leave_out_late_events,
    rounding_warning,
)
from local.data.corpus_checks import no_embeddings, scored_problems, token_problems, warn_of_guesses
from local.data.digests import DataDigests, digest_corpus, training_digests
from local.data.loaded_corpus import (
    LoadedCorpus,
    load_corpus,
    no_clips_text,
    table_durations,
    warn_of_missing,
    warn_of_names,
)
from local.data.loading.loaders import loader_in_order, loader_of
from local.data.loading.packed_corpora import open_packed, pack_corpora
from local.data.loading.pseudo_labels import add_pseudo_labels
from local.data.loading.training_sets import too_small_sets, training_sets
from local.data.presence import nothing_there
from local.data.splits import divide
from local.data.summary_lines import long_clip_lines, trained_and_scored_lines
from local.data.truth import Stage, Truth, recording_name
from local.stores.device_responses import response_problems
from local.task.corpus import Corpus


class SedDataModule(pl.LightningDataModule):
    """The data of all stages: training, validation, test and evaluation.

    Args:
        config: the configuration.

    Attributes:
        first_epoch: the epoch that a training begins with, or is resumed with.
    """

    def __init__(self, config: RecipeConfig) -> None:
        super().__init__()
        self.config = config
        self.task = config.detection_task
        self.first_epoch = 0
        self.grid = config.grid
        self._loaded: dict[str, LoadedCorpus] = {}
        self._durations: dict[str, dict[str, float]] = {}
        self._digests: dict[str, dict[str, Any]] = {}
        self._beside: dict[str, Any] = {}
        self._told: set[str] = set()
        self._current_packs: list[str] = []

    @property
    def loaded(self) -> Mapping[str, LoadedCorpus]:
        """Loaded corpora by name."""
        return self._loaded

    @property
    def embedding_readers(self) -> list[RowReader | None]:
        """The embeddings of each loaded corpus; None where it has none."""
        return [loaded.embeddings for loaded in self._loaded.values()]

    @property
    def missing(self) -> dict[str, tuple[str, ...]]:
        """Corpus -> clips that its table lists but that are not on disk."""
        return {name: loaded.missing for name, loaded in self._loaded.items()}

    @property
    def left_out(self) -> dict[str, tuple[str, ...]]:
        """Corpus -> listed clips without events that are not used."""
        return {name: loaded.left_out for name, loaded in self._loaded.items()}

    @property
    def missing_recordings(self) -> dict[str, tuple[str, ...]]:
        """Corpus -> expected recordings without any clip."""
        return {name: loaded.missing_recordings for name, loaded in self._loaded.items()}

    def digests(self, stage: str) -> DataDigests:
        """Digests of the loaded corpora of a stage (see `digest_corpus`), by name.

        Those of a training have its weights and device responses too (`training_digests`).
        """
        names = [c.name for c in self.task.needed_by(stage) if c.name in self._loaded]
        for name in (name for name in names if name not in self._digests):
            self._digests[name] = digest_corpus(self._loaded[name], self._durations[name])
        found = {name: self._digests[name] for name in names}
        if stage != "fit":
            return found
        self._beside = self._beside or training_digests(self.config)  # once, as it is read once
        return found | self._beside

    def check(self, stage: str = "fit") -> None:
        """Load the corpora of a stage, and reject unusable data before anything is computed.

        Args:
            stage: fit (the test sets too), validate, test or predict.

        Raises:
            InputError: all faults of tables, audio, embeddings and quotas, or one message if there
                is no data at all.
        """
        if nothing := nothing_there(self.task.needed_by(stage), self.config):
            raise InputError(f"{stage}: {nothing}")
        problems = [problem for found in self.problems(stage).values() for problem in found]
        if problems:
            self._loaded.clear()
            raise InputError.collect(problems, f"{stage}: the data cannot be used:")
        warn_of_guesses(self.config)
        untold = [one for one in self.task.needed_by(stage) if one.name not in self._told]
        for corpus in untold:
            self._told.add(corpus.name)
            warn_of_missing(self._loaded[corpus.name])
            self._warn_of_durations(self._loaded[corpus.name])
            warn_of_names(self._loaded[corpus.name])
        warn_of_audio(self._loaded[corpus.name] for corpus in untold)
        if stage == "fit" and untold:
            trained = [self.part(corpus, "train") for corpus in self.task.trained_on]
            for line in trained_and_scored_lines(
                trained, (*self.scored("val"), *self.scored("test"))
            ):
                warnings.warn(line, UserWarning, stacklevel=2)

    def _warn_of_durations(self, loaded: LoadedCorpus) -> None:
        """Warn if a durations table differs from the audio by more than rounding."""
        corpus = loaded.corpus
        text = rounding_warning(corpus.title, loaded.durations_s, self._durations[corpus.name])
        if text is not None:
            warnings.warn(text, UserWarning, stacklevel=3)

    def problems(self, stage: str) -> dict[str, list[str]]:
        """Load the corpora of a stage and return everything that makes it impossible.

        Args:
            stage: as `check`.

        Returns:
            Corpus -> messages, for corpora loaded by this call; "" -> faults that concern several.
        """
        found: dict[str, list[str]] = {}
        for corpus in self.task.needed_by(stage):
            if corpus.name not in self._loaded:
                found[corpus.name] = self._load(corpus)
        readers = (loaded.embeddings for loaded in self._loaded.values())
        found[""] = token_problems(reader for reader in readers if reader is not None)
        found[""] += no_embeddings(self.config, self.task.needed_by(stage))
        found[""] += self._split_problems(stage)
        found[""] += response_problems(self.config) if stage == "fit" else []
        if not any(found.values()):
            found[""] += self._truth_problems(stage)
            if stage == "fit" and self.config.reads_pseudo_labels:
                trained = [self.part(corpus, "train") for corpus in self.task.trained_on]
                found[""] += add_pseudo_labels(self._loaded, trained, self.config)
                self._digests.clear()
        return found

    def _load(self, corpus: Corpus) -> list[str]:
        """Load a corpus and return its faults."""
        problems: list[str] = []
        self._digests.pop(corpus.name, None)
        loaded = load_corpus(corpus, self.config, problems)
        if loaded is not None:
            try:
                self._durations[corpus.name] = table_durations(loaded, self.config)
            except InputError as error:
                problems.append(f"{corpus.durations_key}: {error}")
            self._loaded[corpus.name] = self._without_late_events(loaded, problems)
        return problems

    def _without_late_events(self, loaded: LoadedCorpus, problems: list[str]) -> LoadedCorpus:
        """The corpus without events that begin after their clip's end, if the ends are known."""
        durations_s = self._durations.get(loaded.corpus.name)
        if loaded.events is None or durations_s is None:
            return loaded
        try:
            return replace(loaded, events=leave_out_late_events(loaded.events, durations_s))
        except InputError as error:
            problems.append(f"{loaded.corpus.table_key}: {error}")
            return loaded

    def late_ends_line(self) -> str | None:
        """One line: events per corpus that end after their clip; None if there are none."""
        strong = [one for one in self._loaded.values() if one.events is not None]
        found = (
            late_ends(one.corpus.title, _events(one), self._durations[one.corpus.name])
            for one in strong
            if one.corpus.name in self._durations
        )
        return late_ends_line(one for one in found if one is not None)

    def _truth_problems(self, stage: str) -> list[str]:
        """Faults of the truths used by the validations and tests of a stage."""
        stages: dict[str, tuple[Stage, ...]] = {
            "fit": ("val", "test"),
            "validate": ("val",),
            "test": ("test",),
        }
        return [
            problem
            for one in stages.get(stage, ())
            for problem in scored_problems(self.task, one, self.truths(one), self._labels(one))
        ]

    def _labels(self, stage: Stage) -> dict[str, EventTable | WeakTable | None]:
        """Corpus -> labels of the clips that a stage scores."""
        return {one.corpus.name: one.labels for one in self.scored(stage)}

    def _split_problems(self, stage: str) -> list[str]:
        """Faults of loaded sets that are too small to be split or sampled."""
        problems: list[str] = []
        undivided = False
        for corpus in self.task.needed_by(stage):
            if corpus.is_divided and corpus.name in self._loaded:
                try:
                    problems += self._empty_parts(corpus, stage)
                except InputError as error:
                    problems.append(f"{corpus.table_key}: {error}")
                    undivided = True
        loaded = all(corpus.name in self._loaded for corpus in self.task.trained_on)
        if stage != "fit" or undivided or not loaded:
            return problems
        world = self.trainer.world_size if self.trainer else n_processes()
        return problems + too_small_sets(self._training_sets(), self.task, self.config, world)

    def _empty_parts(self, corpus: Corpus, stage: str) -> list[str]:
        """A message for each part of a divided corpus that a stage needs and that has no clip."""
        parts = {"validation": "held out for validation"} if stage != "test" else {}
        parts |= {"train": "to train on"} if stage == "fit" else {}
        parts |= {"test": "to test on"} if stage in ("fit", "test") else {}
        uses = {
            "train": self.task.trained_on,
            "validation": self.task.scored_corpora("val"),
            "test": self.task.scored_corpora("test"),
        }
        return [
            no_clips_text(which, part)
            for use, which in parts.items()
            if corpus in uses[use] and not (part := self.part(corpus, use)).clip_ids
        ]

    def prepare_data(self) -> None:
        """Pack the corpora of the stage (Lightning's hook, in one process per machine)."""
        unpacked = self._unpacked(self.trainer.state.fn.value)
        if unpacked:
            progress = self.config.training.enable_progress_bar
            self._current_packs = pack_corpora(unpacked, self.config, self.grid, progress=progress)

    def setup(self, stage: str) -> None:
        """Load corpora that `check` has not loaded and open packed sets (Lightning's hook)."""
        unpacked = self._unpacked(stage)
        if unpacked:
            # Together, so that all are on one device.
            self._loaded |= {one.corpus.name: one for one in unpacked}
            strategy = self.trainer.strategy
            self._loaded |= open_packed(
                unpacked,
                self.config,
                self.grid,
                strategy.root_device,
                n_processes=int(getattr(strategy, "num_processes", 1)),
                tell=self.trainer.is_global_zero,
                current=self._current_packs,
            )

    def _unpacked(self, stage: str) -> list[LoadedCorpus]:
        """Loaded corpora of a stage; empty if its packed sets are open already or not used."""
        if any(corpus.name not in self._loaded for corpus in self.task.needed_by(stage)):
            self.check(stage)
        needed = [self._loaded[corpus.name] for corpus in self.task.needed_by(stage)]
        if self.config.data.packed_dir is None or all(one.packed is not None for one in needed):
            return []
        return [replace(one, packed=None) for one in needed]

    def truths(self, stage: Stage) -> tuple[Truth, ...]:
        """Truths of what a stage scores with events or segments, in the order of the task."""
        use = "validation" if stage == "val" else "test"
        found = []
        for scored in self.task.scored(stage):
            loaded = self.part(scored.corpus, use)
            if loaded.events is not None and scored.kind != "tags":
                durations = self._own_durations(loaded)
                found.append(Truth(scored, loaded.events, durations, loaded.left_out))
        return tuple(found)

    def _own_durations(self, loaded: LoadedCorpus) -> dict[str, float]:
        """Durations of a part of a corpus: of its clips and of the recordings they were cut from"""
        durations = self._durations[loaded.corpus.name]
        if not loaded.corpus.is_divided:
            return durations
        own = (*loaded.clip_ids, *loaded.left_out)
        if loaded.corpus.cut_from_recordings:
            own = (*own, *sorted({recording_name(clip_id) for clip_id in own}))
        return {name: durations[name] for name in own if name in durations}

    def scored(self, stage: Literal["val", "test", "predict"]) -> tuple[LoadedCorpus, ...]:
        """The clips that a stage scores, in the order of its loader."""
        if stage == "predict":
            return tuple(self._loaded[corpus.name] for corpus in self.task.evaluated)
        use = "validation" if stage == "val" else "test"
        return tuple(self.part(corpus, use) for corpus in self.task.scored_corpora(stage))

    def part(self, corpus: Corpus, use: str) -> LoadedCorpus:
        """The clips of a loaded corpus for "train", "validation" or "test"."""
        loaded = self._loaded[corpus.name]
        if not corpus.is_divided:
            return loaded
        divided = divide(corpus, loaded.listed, self.config.training.seed, self.task.fold)
        clip_ids = divided.of(use)
        left_out = tuple(clip_id for clip_id in loaded.left_out if clip_id in set(clip_ids))
        return replace(loaded.select(clip_ids), left_out=left_out)

    def long_clip_lines(self, stage: str) -> list[str]:
        """Lines that count the longer clips among those that are scored, and those that training
        reads in windows; `stage` as of `check`."""
        parts: dict[str, tuple[Literal["val", "test", "predict"], ...]] = {
            "fit": ("val", "test"),
            "validate": ("val",),
            "test": ("test",),
            "predict": ("predict",),
        }
        scored = [one for part in parts[stage] for one in self.scored(part)]
        lines = long_clip_lines(scored, self.config)
        if stage == "fit":
            trained = [self.part(one, "train") for one in self.task.trained_on]
            in_windows = [one for one in trained if one.long and one.corpus.trains_on_windows]
            lines += long_clip_lines(in_windows, self.config, trained_on=True)
        return lines

    # ---- loaders

    def train_dataloader(self) -> DataLoader[SedBatch]:
        """Batches with the configured number of rows per set."""
        sets = self._training_sets()
        trainer = self.trainer
        sampler = QuotaBatchSampler(
            {name: len(dataset) for name, dataset in sets.items()},
            [part.rows for part in self.task.batch],
            seed=self.config.training.seed,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            scope=self.config.training.batch_scope,
        )
        # Workers are given their first batches before Lightning sets the epoch.
        sampler.set_epoch(self.first_epoch)
        joined = JoinedDataset(list(sets.values()))
        return loader_of(joined, self.config, trainer, batch_sampler=sampler)

    def val_dataloader(self) -> DataLoader[SedBatch]:
        """What validations score."""
        return self._in_order(*self.scored("val"))

    def test_dataloader(self) -> DataLoader[SedBatch]:
        """What tests score."""
        return self._in_order(*self.scored("test"))

    def predict_dataloader(self) -> DataLoader[SedBatch]:
        """The evaluation sets."""
        return self._in_order(*self.scored("predict"))

    def _training_sets(self) -> dict[str, JoinedDataset]:
        """Part of a batch -> its clips, in the order of the rows."""
        return training_sets(self.task, lambda corpus: self.part(corpus, "train"), self.config)

    def _joined(self, *parts: LoadedCorpus, scored: bool = False) -> JoinedDataset:
        return JoinedDataset(
            [part.dataset(self.config, self.grid, scored=scored) for part in parts]
        )

    def _in_order(self, *parts: LoadedCorpus) -> DataLoader[SedBatch]:
        """A loader of every clip once, or of this process's share of the batches."""
        joined = self._joined(*(part for part in parts if part.clip_ids), scored=True)
        return loader_in_order(joined, self.config, self.trainer)


def _events(loaded: LoadedCorpus) -> EventTable:
    assert loaded.events is not None, loaded.corpus.name
    return loaded.events
