"""Load a corpus from disk: clips, labels, durations and embeddings; summarise it in one line."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from desed_task.audio.files import list_wavs, probe
from desed_task.audio.windows import CROPPED_S, LongClips
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
from local.corpora import MAESTRO_VALIDATION, SCORED_IN_WINDOWS, Corpus
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
    """The clips of a corpus that are on disk and, if it has a table, listed.

    Attributes:
        corpus: the row of the table of corpora.
        folder: of the 16 kHz audio.
        clip_ids: clips in table order, or sorted by name if there is no table.
        durations_s: clip -> duration of its file in seconds.
        events: strong labels of `clip_ids`, if it has any.
        weak: weak labels of `clip_ids`, if it has any.
        listed: every clip of the table in its order, on disk or not.
        left_out: listed clips without events that are not used, on disk or not.
        missing_recordings: recordings of MAESTRO's published split without any clip.
        formats: sample format, e.g. "32-bit float" -> files.
        embeddings: reader of the embeddings; None if the network uses none.
        packed: the packed set (audio and embeddings); None if it is not packed.
        long: clips that are scored in windows; None if there are none.
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
    long: LongClips | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """Listed clips that are not on disk, except those left out."""
        there = {*self.clip_ids, *self.left_out}
        return tuple(clip_id for clip_id in self.listed if clip_id not in there)

    def select(self, clip_ids: Sequence[str]) -> LoadedCorpus:
        """A copy with only those of `clip_ids` that are on disk, in the order given."""
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

    def dataset(self, config: RecipeConfig, grid: FrameGrid, *, scored: bool = False) -> SedDataset:
        """A dataset of the clips: `scored`, longer ones in windows, else each as one row."""
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
            long=self.long if scored else None,
        )

    def _targets(self, grid: FrameGrid) -> TargetPolicy:
        if self.events is not None:
            return StrongTargets(self.events, grid)
        if self.weak is not None:
            return WeakTargets(self.weak, grid)
        return NoTargets(len(VOCABULARY), grid)


def load_corpus(corpus: Corpus, config: RecipeConfig, problems: list[str]) -> LoadedCorpus | None:
    """Load the tables, audio headers and embeddings index of a corpus.

    Args:
        corpus: the corpus.
        config: paths and settings.
        problems: messages about unusable data are appended to it.

    Returns:
        None if there are no usable clips or labels.
    """
    folder = Path(getattr(config.data, corpus.folder_key))
    try:
        present = {path.stem: path for path in list_wavs(folder)}
    except InputError as error:
        problems.append(f"data.{corpus.folder_key}: {error}, or {PREPARE_REMEDY}")
        present = {}
    odd = [path.name for path in present.values() if path.suffix != ".wav"]
    if odd:
        what = f"files whose extension is not .wav: {len(odd)} ({examples(odd)}); rename them"
        problems.append(f"data.{corpus.folder_key}: {folder}: {what}, or {PREPARE_REMEDY}")
    loaded = _labelled(corpus, config, folder, tuple(present), problems)
    if loaded is None or not present:
        return None
    paths = [present[clip_id] for clip_id in loaded.clip_ids]
    headers = read_headers(corpus, paths, config.data.fs, problems)
    long = _long_clips(corpus, headers.durations_s, config, problems)
    further = () if long is None else tuple(long.further)
    return replace(
        loaded,
        missing_recordings=absent_recordings(corpus, folder, (*loaded.listed, *present)),
        durations_s=headers.durations_s,
        formats=headers.formats,
        embeddings=open_embeddings(corpus, loaded.clip_ids, config, problems, further),
        long=long,
    )


def _labelled(
    corpus: Corpus,
    config: RecipeConfig,
    folder: Path,
    present: tuple[str, ...],
    problems: list[str],
) -> LoadedCorpus | None:
    """The corpus with labels of the clips on disk; None if its table cannot be used."""
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
    """The clips of a table that training does not need; warns if it is damaged."""
    path = table_path(corpus, config)
    try:
        return () if path is None else listed_clips(path)
    except InputError as error:
        warnings.warn(f"{error}; the table is ignored", UserWarning, stacklevel=2)
        return ()


def _long_clips(
    corpus: Corpus, durations_s: Mapping[str, float], config: RecipeConfig, problems: list[str]
) -> LongClips | None:
    """The clips of a corpus that are scored in windows; None if there are none."""
    if corpus not in SCORED_IN_WINDOWS:
        return None
    try:
        return LongClips.among(durations_s, config.data.audio_max_len, config.windows)
    except InputError as error:
        problems.append(f"{corpus.title} has clips that are scored in windows: {error}")
        return None


def warn_of_missing(loaded: LoadedCorpus) -> None:
    """Warn if listed clips are not on disk."""
    if loaded.missing:
        total = len(loaded.missing) + len(loaded.clip_ids) + len(loaded.left_out)
        text = missing_text(loaded.corpus.title, loaded.folder, loaded.missing, total)
        warnings.warn(text, UserWarning, stacklevel=2)


def table_durations(loaded: LoadedCorpus, config: RecipeConfig) -> dict[str, float]:
    """Durations from the corpus's table, or from the file for clips that it does not list.

    Returns:
        clip -> seconds, of clips on disk, of left-out clips as far as known, and of further entries
        of the table (MAESTRO's recordings).

    Raises:
        InputError: the table cannot be used or does not list a recording that clips were cut from;
            or a left-out clip that it does not list is unreadable.
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
    """Split the weak clips into training and validation as `pandas.DataFrame.sample` would.

    It samples the whole table, so missing clips do not change which others are held out.
    """
    n_clips = len(loaded.listed)
    drawn = np.random.RandomState(seed).choice(n_clips, round(fraction * n_clips), replace=False)
    chosen = set(drawn.tolist())
    held_out = [clip_id for row, clip_id in enumerate(loaded.listed) if row not in chosen]
    return loaded.select([loaded.listed[row] for row in drawn]), loaded.select(held_out)


def data_summary(loaded: Mapping[str, LoadedCorpus]) -> str:
    """One line: number of clips, hours and missing clips of loaded corpora; reads no audio.

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
    line += f"missing: {', '.join(absent)}" if absent else "no listed clip is missing"
    n_models = len(
        embedding_identities(one.embeddings for one in sets if one.embeddings is not None)
    )
    if n_models > 1:
        line += f"; embeddings with {n_models} different BEATs weights, clip lengths or precisions"
        line += ": extract them again"
    if absent or n_models > 1:
        line += " (details: generate_dcase_task4_2024.py --check)"
    return line


def left_out_line(loaded: Mapping[str, LoadedCorpus]) -> str | None:
    """One line: number of clips per corpus left out for having no event; None if there are none.

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
        f"clips without events, left out: {counts}; to use them, add the corpus to "
        "data.keep_clips_without_events"
    )


def long_clip_lines(sets: Iterable[LoadedCorpus], config: RecipeConfig) -> list[str]:
    """Lines that count clips longer than the network's input, of clips that are scored."""
    clip_s = config.data.audio_max_len
    cropped: list[str] = []
    windowed: list[str] = []
    for one in sets:
        in_windows = {} if one.long is None else one.long.spans
        longer = [clip_id for clip_id in one.clip_ids if one.durations_s[clip_id] > clip_s]
        n_long = sum(clip_id in in_windows for clip_id in longer)
        for n_clips, counts in ((len(longer) - n_long, cropped), (n_long, windowed)):
            if n_clips:
                counts.append(f"{n_clips} of {one.corpus.title} ({one.corpus.name})")
    lines = []
    if cropped:
        lines.append(f"clips longer than {clip_s:g} s, cropped: {', '.join(cropped)}")
    if windowed:
        lines.append(
            f"clips longer than {clip_s + CROPPED_S:g} s, scored in windows "
            f"{config.predict.hop_s:g} s apart: {', '.join(windowed)}"
        )
    return lines


def embedding_identities(readers: Iterable[EmbeddingReader]) -> list[dict[str, str | float]]:
    """Distinct identities (weights, clip length, precision) of embeddings, where recorded."""
    found: list[dict[str, str | float]] = []
    for reader in readers:
        if reader.identity and reader.identity not in found:
            found.append(reader.identity)
    return found
