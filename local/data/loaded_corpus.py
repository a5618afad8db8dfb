"""A corpus as found on disk: its clips, labels and embeddings, and a one-line summary."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from desed_task.audio.files import list_wavs, probe
from desed_task.dataio.annotations import (
    EventTable,
    WeakTable,
    read_durations,
    read_strong_table,
    read_weak_table,
)
from desed_task.dataio.datasets import (
    NoTargets,
    SedDataset,
    StrongTargets,
    TargetPolicy,
    WeakTargets,
)
from desed_task.dataio.embeddings import EmbeddingReader
from desed_task.dataio.packed_clips import PackedClips
from desed_task.errors import InputError
from desed_task.evaluation.scores import check_durations
from desed_task.evaluation.segments import clip_span
from desed_task.labels import FrameGrid
from local.classes_dict import VOCABULARY
from local.config import RecipeConfig
from local.corpora import MAESTRO_VALIDATION, Corpus
from local.data.corpus_checks import (
    PREPARE_REMEDY,
    examples,
    label_problems,
    missing_text,
    open_embeddings,
    read_headers,
)
from local.data.expected_clips import absent_recordings, listed_clips, table_path


@dataclass(frozen=True)
class LoadedCorpus:
    """Clips that are listed (or in the folder) and on disk.

    Attributes:
        corpus: the row of the table of corpora.
        folder: of the 16 kHz audio.
        clip_ids: present clips, in table order, or by name where there is no table.
        durations_s: clip -> true length of its file in seconds.
        events: strong labels of `clip_ids`, if it has any.
        weak: weak labels of `clip_ids`, if it has any.
        listed: every clip of the table, present or not, in its order.
        left_out: clips that the table lists without an event and that are not used, on disk or not.
        missing_recordings: of MAESTRO's published split, those that no clip was cut from.
        formats: sample format, e.g. "32-bit float" -> files.
        embeddings: their reader; None where the network uses none.
        packed: sound and embeddings in memory or in one file; None where they are not packed.
    """

    corpus: Corpus
    folder: Path
    clip_ids: tuple[str, ...]
    durations_s: dict[str, float]
    events: EventTable | None = None
    weak: WeakTable | None = None
    listed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    missing_recordings: tuple[str, ...] = ()
    formats: Mapping[str, int] = field(default_factory=dict)
    embeddings: EmbeddingReader | None = None
    packed: PackedClips | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """Clips that the table lists but the folder lacks, without those that are left out."""
        there = {*self.clip_ids, *self.left_out}
        return tuple(clip_id for clip_id in self.listed if clip_id not in there)

    def select(self, clip_ids: Sequence[str]) -> LoadedCorpus:
        """The same with those of `clip_ids` only that are present, in the order given."""
        clip_ids = [clip_id for clip_id in clip_ids if clip_id in self.durations_s]
        weak = self.weak
        if weak is not None:
            place = {clip_id: row for row, clip_id in enumerate(weak.clip_ids)}
            rows = [place[clip_id] for clip_id in clip_ids]
            weak = replace(weak, clip_ids=tuple(clip_ids), target=weak.target[rows])
        return replace(
            self,
            clip_ids=tuple(clip_ids),
            durations_s={clip_id: self.durations_s[clip_id] for clip_id in clip_ids},
            events=None if self.events is None else self.events.select(clip_ids),
            weak=weak,
        )

    def dataset(self, config: RecipeConfig, grid: FrameGrid) -> SedDataset:
        """The clips as rows of batches."""
        return SedDataset(
            self.clip_ids,
            self.folder,
            self._targets(grid),
            VOCABULARY.mask(self.corpus.known),
            self.corpus.source,
            embeddings=self.embeddings,
            embedding_type=config.net.embedding_type,
            sample_rate=config.data.fs,
            clip_s=config.data.audio_max_len,
            packed=self.packed,
        )

    def _targets(self, grid: FrameGrid) -> TargetPolicy:
        if self.events is not None:
            return StrongTargets(self.events, grid)
        if self.weak is not None:
            return WeakTargets(self.weak, grid)
        return NoTargets(len(VOCABULARY), grid)


def load_corpus(corpus: Corpus, config: RecipeConfig, problems: list[str]) -> LoadedCorpus | None:
    """Read tables, headers of all audio files and the index of the embeddings of a corpus.

    Args:
        corpus: which.
        config: where it lies.
        problems: gets a message for everything that training could not use.

    Returns:
        None if there is nothing to go on with.
    """
    folder = Path(getattr(config.data, corpus.folder_key))
    try:
        present = {path.stem: path for path in list_wavs(folder)}
    except InputError as error:
        problems.append(f"data.{corpus.folder_key}: {error}, or {PREPARE_REMEDY}")
        present = {}
    odd = [path.name for path in present.values() if path.suffix != ".wav"]
    if odd:
        what = f"{len(odd)} files end in another way than .wav ({examples(odd)}); rename them"
        problems.append(f"data.{corpus.folder_key}: {folder}: {what}, or {PREPARE_REMEDY}")
    loaded = _labelled(corpus, config, folder, tuple(present), problems)
    if loaded is None or not present:
        return None
    paths = [present[clip_id] for clip_id in loaded.clip_ids]
    headers = read_headers(corpus, paths, config.data.fs, problems)
    return replace(
        loaded,
        missing_recordings=absent_recordings(corpus, folder, (*loaded.listed, *present)),
        durations_s=headers.durations_s,
        formats=headers.formats,
        embeddings=open_embeddings(corpus, loaded.clip_ids, config, problems),
    )


def _labelled(
    corpus: Corpus,
    config: RecipeConfig,
    folder: Path,
    present: tuple[str, ...],
    problems: list[str],
) -> LoadedCorpus | None:
    """The corpus with its labels, of the present clips only; None if its table cannot be used."""
    if corpus.table_key is None:
        return LoadedCorpus(corpus, folder, present, {}, listed=_listed_only(corpus, config))
    path = Path(getattr(config.data, corpus.table_key))
    try:
        table: EventTable | WeakTable = (
            read_weak_table(path, VOCABULARY)
            if corpus.labels == "weak"
            else read_strong_table(path, VOCABULARY)
        )
    except InputError as error:
        problems.append(f"data.{corpus.table_key}: {error}")
        return None
    problems += label_problems(corpus, table)
    left_out = _left_out(corpus, table, config)
    there, wanted = set(present), [clip_id for clip_id in table.clip_ids if clip_id not in left_out]
    clip_ids = [clip_id for clip_id in wanted if clip_id in there]
    if present and wanted and not clip_ids:
        problems.append(
            f"{path}: none of its {len(wanted)} clips is in {folder} (e.g. {wanted[0]}); the "
            "table and the folder do not belong together: check both paths"
        )
    if present and not clip_ids:
        return None
    listed = table.clip_ids
    everything = dict.fromkeys(listed, 0.0)
    whole = LoadedCorpus(
        corpus, folder, listed, everything, listed=listed, left_out=tuple(left_out)
    )
    if isinstance(table, WeakTable):
        return replace(whole, weak=table).select(clip_ids)
    return replace(whole, events=table).select(clip_ids)


def _left_out(
    corpus: Corpus, table: EventTable | WeakTable, config: RecipeConfig
) -> dict[str, None]:
    """Clips without events that are not used, in table order."""
    kept = corpus.name in config.data.keep_clips_without_events
    if kept or isinstance(table, WeakTable):
        return {}
    return dict.fromkeys(clip_id for clip_id in table.clip_ids if clip_id in table.eventless)


def _listed_only(corpus: Corpus, config: RecipeConfig) -> tuple[str, ...]:
    """The clips of a table that training does without; a damaged one is warned of."""
    path = table_path(corpus, config)
    try:
        return () if path is None else listed_clips(path)
    except InputError as error:
        warnings.warn(f"{error}; not used", UserWarning, stacklevel=2)
        return ()


def warn_of_missing(loaded: LoadedCorpus) -> None:
    """One warning for a corpus whose table lists clips that are not on disk."""
    if loaded.missing:
        total = len(loaded.missing) + len(loaded.clip_ids) + len(loaded.left_out)
        text = missing_text(loaded.corpus.title, loaded.folder, loaded.missing, total)
        warnings.warn(text, UserWarning, stacklevel=2)


def table_durations(loaded: LoadedCorpus, config: RecipeConfig) -> dict[str, float]:
    """Durations of the corpus's table; of clips that it lacks, the files' own.

    Returns:
        clip -> seconds, of the present clips and of those left out, as far as the table or the
        disk has them; and what else the table has (MAESTRO's recordings).

    Raises:
        InputError: if the table cannot be used, or lacks a recording that clips were cut from; for
            a file that is left out, not in the table and unreadable.
    """
    durations_s = dict(loaded.durations_s)
    if loaded.corpus.duration_key is not None:
        table = read_durations(Path(getattr(config.data, loaded.corpus.duration_key)))
        durations_s.update(table)
        untold = (loaded.folder / f"{c}.wav" for c in loaded.left_out if c not in table)
        durations_s |= {wav.stem: probe(wav).duration_s for wav in untold if wav.is_file()}
    if loaded.corpus == MAESTRO_VALIDATION:
        # Scored by recording, not by clip.
        check_durations(sorted({clip_span(c).recording for c in loaded.clip_ids}), durations_s)
    absent = set(loaded.missing)
    return {clip: value for clip, value in durations_s.items() if clip not in absent}


def split_weak(
    loaded: LoadedCorpus, fraction: float, seed: int
) -> tuple[LoadedCorpus, LoadedCorpus]:
    """Weak clips for training and for validation, as `pandas.sample(frac, random_state)` draws.

    Drawn from the whole table, so that absent clips do not change which others are held out.
    """
    n_clips = len(loaded.listed)
    drawn = np.random.RandomState(seed).choice(n_clips, round(fraction * n_clips), replace=False)
    chosen = set(drawn.tolist())
    held_out = [clip_id for row, clip_id in enumerate(loaded.listed) if row not in chosen]
    return loaded.select([loaded.listed[row] for row in drawn]), loaded.select(held_out)


def data_summary(loaded: Mapping[str, LoadedCorpus]) -> str:
    """Clips, hours and what is absent, from what was read; no audio is read for it.

    Args:
        loaded: corpora by name.
    """
    sets = tuple(loaded.values())
    n_clips = sum(len(one.clip_ids) for one in sets)
    hours = sum(sum(one.durations_s.values()) for one in sets) / 3600
    line = f"data: {n_clips} clips in {len(sets)} sets, {hours:.2f} h; "
    absent = [f"{len(one.missing)} of {one.corpus.title}" for one in sets if one.missing]
    absent += [
        f"{len(one.missing_recordings)} recordings of {one.corpus.title}"
        for one in sets
        if one.missing_recordings
    ]
    line += f"absent: {', '.join(absent)}" if absent else "nothing that is listed is absent"
    n_models = len(
        embedding_identities(one.embeddings for one in sets if one.embeddings is not None)
    )
    if n_models > 1:
        line += f"; embeddings of {n_models} different BEATs, clip lengths or precisions"
        line += ": extract them again"
    if absent or n_models > 1:
        line += " (generate_dcase_task4_2024.py --check tells more)"
    return line


def left_out_line(loaded: Mapping[str, LoadedCorpus]) -> str | None:
    """How many clips of which corpora are left out for having no event; None where none is.

    Args:
        loaded: corpora by name.
    """
    sets = [one for one in loaded.values() if one.left_out]
    if not sets:
        return None
    counts = ", ".join(
        f"{len(one.left_out)} of {one.corpus.title} ({one.corpus.name})" for one in sets
    )
    return (
        f"clips without events, left out: {counts}; data.keep_clips_without_events keeps those of "
        "the corpora that it names"
    )


def embedding_identities(readers: Iterable[EmbeddingReader]) -> list[dict[str, str | float]]:
    """What files of embeddings were made with, each once; published files do not say it."""
    found: list[dict[str, str | float]] = []
    for reader in readers:
        if reader.identity and reader.identity not in found:
            found.append(reader.identity)
    return found
