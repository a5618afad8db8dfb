"""Load a corpus from disk: clips, labels, durations and embeddings; summarise it in one line."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from desed_task.audio.clip_files import ClipFolder
from desed_task.audio.files import probe
from desed_task.audio.windows import LongClips
from desed_task.dataio.annotations import EventTable, WeakTable
from desed_task.dataio.clip_names import found_elsewhere
from desed_task.dataio.datasets import (
    DrawnTargets,
    NoTargets,
    SedDataset,
    StrongTargets,
    TargetPolicy,
    WeakTargets,
)
from desed_task.dataio.embeddings import RowReader
from desed_task.dataio.label_files.aliases import add_aliases
from desed_task.dataio.label_files.annotators import AnnotatedEvents
from desed_task.dataio.packed_clips import PackedClips
from desed_task.dataio.row_stores.pseudo_labels import PseudoLabelReader
from desed_task.errors import InputError, agree, count_of
from desed_task.evaluation.scores import check_durations
from desed_task.evaluation.segments import clip_span
from desed_task.labels import FrameGrid
from local.config import RecipeConfig
from local.data.clip_ends import (
    check_clip_durations,
    check_recordings,
    check_unmeasured_clips,
    header_durations,
    windows_of,
)
from local.data.clips.files import clips_not_found, clips_of
from local.data.clips.windows import takes_windows, windows_of_corpus
from local.data.corpus_checks import (
    PREPARE_REMEDY,
    examples,
    label_problems,
    missing_text,
    open_embeddings,
    read_headers,
)
from local.data.expected_clips import (
    absent_recordings,
    durations_of,
    listed_on_disk,
    names_on_disk,
    table_path,
)
from local.data.label_tables import read_label_set
from local.data.presence import audio_remedy
from local.schema.task import SplitDescription
from local.task.corpus import Corpus


@dataclass(frozen=True)
class LoadedCorpus:
    """The clips of a corpus that are on disk and, if it has a table, listed.

    Attributes:
        corpus: the row of the table of corpora.
        folder: of the 16 kHz audio.
        clip_ids: clips in table order, or sorted by path if there is no table.
        durations_s: clip -> duration of its file in seconds.
        events: strong labels of `clip_ids`, if it has any.
        weak: weak labels of `clip_ids`, if it has any.
        listed: every clip of the table in its order, on disk or not.
        left_out: listed clips without events that are not used, on disk or not.
        missing_recordings: recordings that are expected and have no clip.
        formats: sample format, e.g. "32-bit float" -> files.
        embeddings: reader of the embeddings; None if the network uses none.
        files: clip -> file, of every clip on disk, listed or not.
        notes: one line each on subfolders and on clips that are named in another way.
        packed: the packed set (audio and embeddings); None if it is not packed.
        long: clips that have windows; None if there are none.
        annotated: events of each annotator, of which training draws; None without.
        pseudo: reader of its pseudo-labels; None if training reads none.
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
    embeddings: RowReader | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    packed: PackedClips | None = None
    long: LongClips | None = None
    annotated: AnnotatedEvents | None = None
    pseudo: PseudoLabelReader | None = None

    @property
    def wavs(self) -> list[Path]:
        """(clip,) the files of `clip_ids`."""
        return [self.files[clip_id] for clip_id in self.clip_ids]

    @property
    def missing(self) -> tuple[str, ...]:
        """Listed clips that are not on disk, except those left out."""
        there = {*self.clip_ids, *self.left_out}
        return tuple(clip_id for clip_id in self.listed if clip_id not in there)

    @property
    def labels(self) -> EventTable | WeakTable | None:
        """Its labels, of either kind; None without any."""
        return self.events if self.weak is None else self.weak

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
        """A dataset of the clips: longer ones in windows if they are `scored`, or trained on so."""
        vocabulary = config.detection_task.vocabulary
        in_windows = scored or self.corpus.trains_on_windows
        return SedDataset(
            self.clip_ids,
            self.wavs,
            self._targets(grid, len(vocabulary), scored=scored),
            vocabulary.mask(self.corpus.known),
            self.corpus.number,
            embeddings=self.embeddings,
            embedding_type=config.net.embedding_type,
            sample_rate=config.data.fs,
            clip_s=config.data.audio_max_len,
            packed=self.packed,
            long=self.long if in_windows else None,
            pseudo=None if scored else self.pseudo,
        )

    def _targets(self, grid: FrameGrid, n_classes: int, *, scored: bool) -> TargetPolicy:
        if self.annotated is not None and not scored:
            within = self.annotated.within(self.durations_s)
            table, spans = within.alternatives(self.clip_ids)
            table = add_aliases(table, self.corpus.aliases)
            return DrawnTargets(table, spans, self.clip_ids, grid)
        if self.events is not None:
            return StrongTargets(self.events, grid)
        if self.weak is not None:
            return WeakTargets(self.weak, grid)
        return NoTargets(n_classes, grid)


def load_corpus(corpus: Corpus, config: RecipeConfig, problems: list[str]) -> LoadedCorpus | None:
    """Load the tables, audio headers and embeddings index of a corpus.

    Args:
        corpus: the corpus.
        config: paths and settings.
        problems: messages about unusable data are appended to it.

    Returns:
        None if there are no usable clips or labels.
    """
    folder = Path(corpus.folder)
    try:
        found = clips_of(corpus)
    except InputError as error:
        remedy = audio_remedy(corpus, config) if config.task else f", or {PREPARE_REMEDY}"
        problems.append(f"{corpus.folder_key}: {error}{remedy}")
        found = ClipFolder(folder, {})
    present = found.files
    loaded = _labelled(corpus, config, present, problems)
    if loaded is None or not present:
        return None
    wavs = {clip_id: present[clip_id] for clip_id in loaded.clip_ids}
    headers = read_headers(corpus, wavs, config.data.fs, problems)
    long = _long_clips(corpus, headers.durations_s, config, problems)
    further = () if long is None else tuple(long.further)
    embeddings, note = open_embeddings(corpus, loaded.clip_ids, present, config, problems, further)
    return replace(
        loaded,
        missing_recordings=absent_recordings(corpus, folder, (*loaded.listed, *present)),
        durations_s=headers.durations_s,
        formats=headers.formats,
        embeddings=embeddings,
        files=present,
        notes=(*found.notes, *loaded.notes, *note),
        long=long,
    )


def _labelled(
    corpus: Corpus,
    config: RecipeConfig,
    present: Mapping[str, Path],
    problems: list[str],
) -> LoadedCorpus | None:
    """The corpus with labels of the clips on disk; None if its table cannot be used."""
    folder = Path(corpus.folder)
    if corpus.table is None:
        listed = _listed_only(corpus, tuple(present))
        return LoadedCorpus(corpus, folder, tuple(present), {}, listed=listed)
    path, vocabulary = Path(corpus.table.path), config.detection_task.vocabulary
    try:
        table, annotated = read_label_set(corpus, vocabulary, present)
        names = names_on_disk(path, table.clip_ids, folder, present)
        table = table.renamed(names)
        _warn_of_the_list(corpus, table.clip_ids, present)
    except InputError as error:
        problems.append(f"{corpus.table_key}: {error}")
        return None
    problems += label_problems(corpus, table if annotated is None else annotated.table)
    # What anybody heard is drawn in training.
    heard = table if annotated is None else annotated.table.renamed(names)
    left_out = _left_out(corpus, heard)
    wanted = [clip_id for clip_id in table.clip_ids if clip_id not in left_out]
    clip_ids = [clip_id for clip_id in wanted if clip_id in present]
    if present and wanted and not clip_ids:
        problems.append(
            f"{path}: none of its {count_of(len(wanted), 'clip')} is in {folder} (e.g. "
            f"{wanted[0]}); the table and the folder do not belong together: check both paths"
        )
    if present and not clip_ids:
        return None
    everything = dict.fromkeys(table.clip_ids, 0.0)
    whole = LoadedCorpus(
        *(corpus, folder, table.clip_ids, everything),
        listed=table.clip_ids,
        left_out=tuple(left_out),
        annotated=None if annotated is None else annotated.renamed(names),
    )
    if note := found_elsewhere(names):
        whole = replace(whole, notes=(f"{path}: {note}",))
    if isinstance(table, WeakTable):
        return replace(whole, weak=table).select(clip_ids)
    return replace(whole, events=table).select(clip_ids)


def _warn_of_the_list(corpus: Corpus, labelled: Sequence[str], present: Mapping[str, Path]) -> None:
    """Warn of clips of a corpus's list that have no labels, on disk or not."""
    if corpus.clips is None:
        return
    there = {*labelled}
    absent = [name for name in clips_not_found(corpus, present) if name not in there]
    without = sorted({*present, *absent} - there)
    if without:
        n, of = len(without), count_of(len(present) + len(absent), "clip")
        warnings.warn(
            f"{corpus.clips}: {n} of {of} {agree(n, 'has', 'have')} no labels and "
            f"{agree(n, 'is', 'are')} left out ({examples(without)})",
            UserWarning,
            stacklevel=2,
        )


def _left_out(corpus: Corpus, table: EventTable | WeakTable) -> dict[str, None]:
    """Clips without events that are not used, in table order."""
    if corpus.keeps_clips_without_events:
        return {}
    if isinstance(table, WeakTable):
        empty = zip(table.clip_ids, table.target.any(axis=1), strict=True)
        return {clip_id: None for clip_id, any_label in empty if not any_label}
    return dict.fromkeys(clip_id for clip_id in table.clip_ids if clip_id in table.eventless)


def _listed_only(corpus: Corpus, present: Sequence[str]) -> tuple[str, ...]:
    """The clips of a table that training does not need; warns if it is damaged."""
    path = table_path(corpus)
    try:
        if path is None:
            absent = clips_not_found(corpus, present)
            return (*present, *absent) if corpus.clips is not None else ()
        return listed_on_disk(path, Path(corpus.folder), present)
    except InputError as error:
        warnings.warn(f"{error}; the table is ignored", UserWarning, stacklevel=2)
        return ()


def _long_clips(
    corpus: Corpus, durations_s: Mapping[str, float], config: RecipeConfig, problems: list[str]
) -> LongClips | None:
    """The clips of a corpus that have windows; None if there are none."""
    if not takes_windows(config.detection_task, corpus):
        return None
    windows = windows_of_corpus(config, corpus)
    try:
        return LongClips.among(durations_s, config.data.audio_max_len, windows)
    except InputError as error:
        problems.append(f"{corpus.title} has clips that are scored in windows: {error}")
        return None


def warn_of_missing(loaded: LoadedCorpus) -> None:
    """Warn if listed clips are not on disk."""
    if loaded.missing:
        total = len(loaded.missing) + len(loaded.clip_ids) + len(loaded.left_out)
        text = missing_text(loaded.corpus.title, loaded.folder, loaded.missing, total)
        warnings.warn(text, UserWarning, stacklevel=2)


def warn_of_names(loaded: LoadedCorpus) -> None:
    """Warn of clips from subfolders, and of those that a table or store names in another way."""
    for note in loaded.notes:
        warnings.warn(note, UserWarning, stacklevel=2)


def table_durations(loaded: LoadedCorpus, config: RecipeConfig) -> dict[str, float]:
    """Durations from the corpus's table, or from the file for clips that it does not list.

    Returns:
        clip -> seconds, of clips on disk, of left-out clips as far as known, and of further entries
        of the table (recordings that clips were cut from).

    Raises:
        InputError: the table cannot be used, differs from the audio or does not list a recording
            that clips were cut from; or a left-out clip that it does not list is unreadable.
    """
    durations_s = dict(loaded.durations_s)
    if loaded.corpus.durations is not None:
        path = Path(loaded.corpus.durations)
        table = durations_of(path, _timed(loaded), loaded.folder)
        untold = {c: loaded.files[c] for c in loaded.left_out if c in loaded.files}
        durations_s |= {c: probe(wav).duration_s for c, wav in untold.items() if c not in table}
        durations_s |= header_durations(untold)
        _check_table(path, table, durations_s, loaded, config)
        durations_s.update(table)
    absent = set(loaded.missing)
    return {clip: value for clip, value in durations_s.items() if clip not in absent}


def _check_table(
    path: Path,
    table: Mapping[str, float],
    files_s: Mapping[str, float],
    loaded: LoadedCorpus,
    config: RecipeConfig,
) -> None:
    """Check a durations table against the audio on disk."""
    clip_s = config.data.audio_max_len
    check_clip_durations(path, table, files_s)
    unmeasured = [clip_id for clip_id in loaded.left_out if not files_s.get(clip_id)]
    check_unmeasured_clips(path, table, unmeasured, max(clip_s, *files_s.values(), 0.0))
    if loaded.corpus.cut_from_recordings:
        # Scored by recording, not by clip.
        recordings = _timed(loaded)
        check_durations(recordings, table)
        windows = windows_of(loaded.files, files_s, loaded.listed, clip_s=clip_s)
        check_recordings(path, table, windows, recordings)


def _timed(loaded: LoadedCorpus) -> list[str]:
    """What a durations table lists: the recordings that clips were cut from, or clips."""
    if loaded.corpus.cut_from_recordings:
        return sorted({clip_span(clip_id).recording for clip_id in loaded.clip_ids})
    return [*dict.fromkeys((*loaded.clip_ids, *loaded.listed, *loaded.left_out))]


def no_clips_text(which: str, part: LoadedCorpus) -> str:
    """Message about an empty part of a split training set."""
    remedy, split = "add clips", part.corpus.split
    if isinstance(split, SplitDescription) and split.by == "recording":
        remedy = (
            "add recordings: at least one per group is held out, so a group with a single "
            "recording has none to train on"
        )
    return f"{part.corpus.table_key}: none of the clips {which} is in {part.folder}; {remedy}"
