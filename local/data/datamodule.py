"""Lightning data module: load, check and split the corpora, and make the loaders.

See docs/method.md, Classes and corpora, for batches and splits.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from desed_task.batch import SedBatch, collate
from desed_task.dataio.annotations import EventTable
from desed_task.dataio.datasets import JoinedDataset
from desed_task.dataio.embeddings import RowReader
from desed_task.dataio.packed_dataset import PackedBatches
from desed_task.dataio.sampler import QuotaBatchSampler, batches_in_order, quota_problems
from desed_task.distributed.collectives import n_processes
from desed_task.errors import InputError
from local import corpora
from local.classes_dict import apply_aliases
from local.config import RecipeConfig
from local.corpora import Corpus
from local.data.audio_warnings import warn_of_audio
from local.data.clip_ends import (
    late_ends,
    late_ends_line,
    leave_out_late_events,
    rounding_warning,
)
from local.data.corpus_checks import no_embeddings, token_problems, truth_problems, warn_of_guesses
from local.data.digests import DataDigests, digest_corpus
from local.data.loaded_corpus import (
    LoadedCorpus,
    load_corpus,
    no_clips_text,
    split_weak,
    table_durations,
    warn_of_missing,
    warn_of_names,
)
from local.data.maestro_split import split_train_files
from local.data.packed_corpora import open_packed, pack_corpora
from local.data.summary_lines import long_clip_lines
from local.data.truth import Stage, Truth


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
        self.first_epoch = 0
        self.grid = config.grid
        self._loaded: dict[str, LoadedCorpus] = {}
        self._durations: dict[str, dict[str, float]] = {}
        self._digests: dict[str, dict[str, Any]] = {}
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
        """Corpus -> recordings of MAESTRO's published split without any clip."""
        return {name: loaded.missing_recordings for name, loaded in self._loaded.items()}

    def digests(self, stage: str) -> DataDigests:
        """Digests of the loaded corpora of a stage (see `digest_corpus`), by name."""
        names = [c.name for c in corpora.NEEDED_BY_STAGE[stage] if c.name in self._loaded]
        for name in (name for name in names if name not in self._digests):
            self._digests[name] = digest_corpus(self._loaded[name], self._durations[name])
        return {name: self._digests[name] for name in names}

    def check(self, stage: str = "fit") -> None:
        """Load the corpora of a stage, and reject unusable data before anything is computed.

        Args:
            stage: fit (the test sets too), validate, test or predict.

        Raises:
            InputError: all faults of tables, audio, embeddings and quotas, or one message if there
                is no data at all.
        """
        if nothing := corpora.nothing_there(corpora.NEEDED_BY_STAGE[stage], self.config.data):
            raise InputError(f"{stage}: {nothing}")
        problems = [problem for found in self.problems(stage).values() for problem in found]
        if problems:
            self._loaded.clear()
            raise InputError.collect(problems, f"{stage}: the data cannot be used:")
        warn_of_guesses(self.config)
        untold = [one for one in corpora.NEEDED_BY_STAGE[stage] if one.name not in self._told]
        for corpus in untold:
            self._told.add(corpus.name)
            warn_of_missing(self._loaded[corpus.name])
            self._warn_of_durations(self._loaded[corpus.name])
            warn_of_names(self._loaded[corpus.name])
        warn_of_audio(self._loaded[corpus.name] for corpus in untold)

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
        for corpus in corpora.NEEDED_BY_STAGE[stage]:
            if corpus.name not in self._loaded:
                found[corpus.name] = self._load(corpus)
        readers = (loaded.embeddings for loaded in self._loaded.values())
        found[""] = token_problems(reader for reader in readers if reader is not None)
        found[""] += no_embeddings(self.config, corpora.NEEDED_BY_STAGE[stage])
        try:
            found[""] += self._split_problems(stage)
        except InputError as error:
            found[""].append(f"data.{corpora.MAESTRO_TRAIN.table_key}: {error}")
        if not any(found.values()):
            found[""] += self._truth_problems(stage)
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
                problems.append(f"data.{corpus.duration_key}: {error}")
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
            problems.append(f"data.{loaded.corpus.table_key}: {error}")
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
        problems = []
        for part in stages.get(stage, ()):
            desed, maestro = self.truths(part)
            problems += truth_problems(desed.events, maestro.events, part)
        return problems

    def _split_problems(self, stage: str) -> list[str]:
        """Faults of loaded sets that are too small to be split or sampled."""
        problems: list[str] = []
        splits = {
            corpora.WEAK_TRAIN: self._weak_split,
            corpora.MAESTRO_TRAIN: self._maestro_split,
        }
        for corpus, split in splits.items():
            if stage in ("fit", "validate") and corpus.name in self._loaded:
                train, held_out = split()
                parts = {"held out for validation": held_out}
                parts |= {"to train on": train} if stage == "fit" else {}
                problems += [no_clips_text(*part) for part in parts.items() if not part[1].clip_ids]
        if stage == "fit" and all(corpus.name in self._loaded for corpus in corpora.TRAINING):
            lengths = {name: len(dataset) for name, dataset in self._training_sets().items()}
            quotas = dict(zip(lengths, self.config.training.batch_size, strict=True))
            # Empty sets have been reported above.
            lengths = {name: length for name, length in lengths.items() if length}
            world = self.trainer.world_size if self.trainer else n_processes()
            found = [quotas[name] for name in lengths]
            problems += quota_problems(lengths, found, world, self.config.training.batch_scope)
        return problems

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
        if any(corpus.name not in self._loaded for corpus in corpora.NEEDED_BY_STAGE[stage]):
            self.check(stage)
        needed = [self._loaded[corpus.name] for corpus in corpora.NEEDED_BY_STAGE[stage]]
        if self.config.data.packed_dir is None or all(one.packed is not None for one in needed):
            return []
        return [replace(one, packed=None) for one in needed]

    def truths(self, stage: str) -> tuple[Truth, Truth]:
        """Truth of the DESED and of the MAESTRO part of a stage ("val" or "test")."""
        if stage == "test":
            return self._truth(corpora.DEVTEST), self._truth(corpora.MAESTRO_VALIDATION)
        held_out = self._maestro_split()[1]
        maestro = Truth(held_out.corpus.source, _events(held_out), held_out.durations_s)
        return self._truth(corpora.SYNTHETIC_VALIDATION), maestro

    def scored(self, stage: Literal["val", "test", "predict"]) -> tuple[LoadedCorpus, ...]:
        """The clips that a stage scores, in the order of its loader."""
        if stage == "val":
            synthetic = self._loaded[corpora.SYNTHETIC_VALIDATION.name]
            return synthetic, self._weak_split()[1], self._maestro_split()[1]
        parts = corpora.TEST if stage == "test" else (corpora.EVALUATION,)
        return tuple(self._loaded[corpus.name] for corpus in parts)

    def long_clip_lines(self, stage: str) -> list[str]:
        """Lines that count the longer clips among those scored; `stage` as of `check`."""
        parts: dict[str, tuple[Literal["val", "test", "predict"], ...]] = {
            "fit": ("val", "test"),
            "validate": ("val",),
            "test": ("test",),
            "predict": ("predict",),
        }
        scored = [one for part in parts[stage] for one in self.scored(part)]
        return long_clip_lines(scored, self.config)

    def _truth(self, corpus: Corpus) -> Truth:
        loaded = self._loaded[corpus.name]
        durations = self._durations[corpus.name]
        return Truth(corpus.source, _events(loaded), durations, loaded.left_out)

    # ---- loaders

    def train_dataloader(self) -> DataLoader[SedBatch]:
        """Batches with the configured number of rows per set."""
        sets = self._training_sets()
        trainer = self.trainer
        sampler = QuotaBatchSampler(
            {name: len(dataset) for name, dataset in sets.items()},
            self.config.training.batch_size,
            seed=self.config.training.seed,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            scope=self.config.training.batch_scope,
        )
        # Workers are given their first batches before Lightning sets the epoch.
        sampler.set_epoch(self.first_epoch)
        return self._loader(JoinedDataset(list(sets.values())), {"batch_sampler": sampler})

    def val_dataloader(self) -> DataLoader[SedBatch]:
        """Synthetic validation, held-out weak and held-out MAESTRO clips."""
        return self._in_order(*self.scored("val"))

    def test_dataloader(self) -> DataLoader[SedBatch]:
        """DESED dev-test and MAESTRO validation clips."""
        return self._in_order(*self.scored("test"))

    def predict_dataloader(self) -> DataLoader[SedBatch]:
        """The evaluation set."""
        return self._in_order(*self.scored("predict"))

    def _training_sets(self) -> dict[str, JoinedDataset]:
        """Set name -> clips, in the order of `training.batch_size`."""
        maestro = self._maestro_split()[0]
        maestro = replace(maestro, events=apply_aliases(_events(maestro)))
        synthetic = self._loaded[corpora.SYNTHETIC_TRAIN.name]
        strong = self._loaded[corpora.STRONG_TRAIN.name]
        return {
            corpora.MAESTRO_TRAIN.title: self._joined(maestro),
            corpora.SYNTHETIC_TRAIN.title: self._joined(synthetic),
            "strong real + synthetic": self._joined(strong, synthetic),
            corpora.WEAK_TRAIN.title: self._joined(self._weak_split()[0]),
            corpora.UNLABELLED_TRAIN.title: self._joined(
                self._loaded[corpora.UNLABELLED_TRAIN.name]
            ),
        }

    def _weak_split(self) -> tuple[LoadedCorpus, LoadedCorpus]:
        training = self.config.training
        weak = self._loaded[corpora.WEAK_TRAIN.name]
        return split_weak(weak, training.weak_split, training.seed)

    def _maestro_split(self) -> tuple[LoadedCorpus, LoadedCorpus]:
        training = self.config.training
        loaded = self._loaded[corpora.MAESTRO_TRAIN.name]
        parts = split_train_files(loaded.listed, training.maestro_split, training.seed)
        return loaded.select(parts[0]), loaded.select(parts[1])

    def _joined(self, *parts: LoadedCorpus, scored: bool = False) -> JoinedDataset:
        return JoinedDataset(
            [part.dataset(self.config, self.grid, scored=scored) for part in parts]
        )

    def _in_order(self, *parts: LoadedCorpus) -> DataLoader[SedBatch]:
        """A loader of every clip once, or of this process's share of the batches."""
        dataset = self._joined(*(part for part in parts if part.clip_ids), scored=True)
        trainer, batch_size = self.trainer, self.config.training.batch_size_val
        if trainer is None or trainer.world_size == 1:
            return self._loader(dataset, {"batch_size": batch_size})
        share = batches_in_order(
            len(dataset), batch_size, rank=trainer.global_rank, world_size=trainer.world_size
        )
        return self._loader(dataset, {"batch_sampler": share})

    def _loader(self, joined: JoinedDataset, order: dict[str, Any]) -> DataLoader[SedBatch]:
        workers, trainer = self.config.training.num_workers, self.trainer
        dataset: Dataset[SedBatch] = joined
        packed = joined.leaves[0].packed
        if packed is not None:
            dataset = PackedBatches(joined)
            # If everything is in memory, workers would only copy batches between processes.
            workers = 0 if packed.resident else workers
        on_gpu = trainer is not None and trainer.strategy.root_device.type == "cuda"
        return DataLoader(
            dataset,
            collate_fn=collate if packed is None else _identity,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=on_gpu and (packed is None or packed.device.type == "cpu"),
            # Its own generator: drawing from the global one when a loader starts would make a
            # resumed run differ.
            generator=torch.Generator(),
            **order,
        )


def _identity(batch: SedBatch) -> SedBatch:
    """Collate function for a dataset whose items are whole batches."""
    return batch


def _events(loaded: LoadedCorpus) -> EventTable:
    assert loaded.events is not None, loaded.corpus.name
    return loaded.events
