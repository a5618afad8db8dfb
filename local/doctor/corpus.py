"""Compare the clips that a corpus's table lists with the files in its folder."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from desed_task.audio.files import count_formats
from desed_task.audio.inspection import AudioContent
from desed_task.dataio.annotations import read_durations
from desed_task.dataio.clip_names import match_names
from desed_task.dataio.embeddings import EmbeddingReader
from desed_task.dataio.label_files.per_clip import files_by_clip, is_per_clip
from desed_task.errors import InputError, agree, count_of
from local.config import RecipeConfig
from local.data.audio_warnings import mixed_text
from local.data.clip_ends import check_clip_durations
from local.data.corpus_checks import (
    PREPARE_REMEDY,
    examples,
    missing_text,
    open_embeddings,
    read_headers,
)
from local.data.expected_clips import absent_recordings, listed_on_disk, table_path
from local.data.loaded_corpus import LoadedCorpus
from local.doctor.audio_files import FileInspection, original_files, wrong_lengths
from local.doctor.embedding_files import EncoderCheck, embeddings_report
from local.doctor.report import CorpusReport, EmbeddingsReport, Finding, Level
from local.task.corpus import Corpus


@dataclass(frozen=True)
class CorpusInspection:
    """A corpus, its files and the results of inspecting them.

    Attributes:
        corpus: the corpus.
        config: the configuration.
        wavs: clip -> file, for every file in the folder.
        found: clip -> result of inspecting it.
        loaded: the corpus as training loads it; None if it cannot be loaded.
        is_trained_on: whether training batches have rows of it.
    """

    corpus: Corpus
    config: RecipeConfig
    wavs: Mapping[str, Path]
    found: Mapping[str, FileInspection]
    loaded: LoadedCorpus | None
    is_trained_on: bool

    @property
    def folder(self) -> Path:
        """Folder of the 16 kHz audio."""
        return Path(self.corpus.folder)

    @property
    def any_length(self) -> bool:
        """Whether its clips may be of any length: longer ones are used in windows."""
        trained_in_windows = self.corpus.trains_on_windows or not self.is_trained_on
        return self.corpus.scored_in_windows and trained_in_windows

    @cached_property
    def listed(self) -> tuple[str, ...] | None:
        """Clips that the table lists, even with wrong labels; None without a usable table."""
        if self.loaded is not None:
            return self.loaded.listed or None
        path = table_path(self.corpus)
        try:
            if path is not None and is_per_clip(str(path)):
                names = match_names(files_by_clip(str(path)), self.wavs)
                return tuple(names.values()) or None
            return None if path is None else listed_on_disk(path, self.folder, self.wavs)
        except InputError:
            return None  # Reported by training's own check.

    @cached_property
    def left_out(self) -> tuple[str, ...]:
        """Listed clips without events that training does not use."""
        return () if self.loaded is None else self.loaded.left_out

    @cached_property
    def needed(self) -> tuple[str, ...]:
        """Listed clips that training should use."""
        left_out = set(self.left_out)
        return tuple(clip_id for clip_id in self.listed or () if clip_id not in left_out)

    @cached_property
    def used(self) -> dict[str, Path]:
        """Clips that training uses: needed and on disk, or all if it needs no table."""
        if self.corpus.table is None:
            return dict(self.wavs)
        return {clip_id: self.wavs[clip_id] for clip_id in self.needed if clip_id in self.wavs}

    @cached_property
    def examined(self) -> dict[str, AudioContent]:
        """Clip -> content of its file, if it can be read."""
        readable = ((clip_id, found.examined) for clip_id, found in self.found.items())
        return {clip_id: seen for clip_id, seen in readable if isinstance(seen, AudioContent)}

    @cached_property
    def eventful(self) -> set[str]:
        """Clips with events in the table, which should not be silent."""
        if self.loaded is None:
            return set()
        if self.loaded.weak is not None:
            return set(self.loaded.clip_ids)
        events = self.loaded.events
        if events is None:
            return set()
        return {events.clip_ids[index] for index in np.unique(events.clip_index)}

    def report(self, checks: Sequence[EncoderCheck]) -> CorpusReport:
        """The full report of the corpus.

        Args:
            checks: the encoders of its embeddings.
        """
        rate, listed = self.config.data.fs, self.listed
        embeddings = tuple(self._embeddings(check) for check in checks)
        by_table = self.corpus.table is not None and listed is not None
        unlisted = set(self.wavs).difference(listed or ()) if by_table else set()
        seconds = (self.examined[c].info.duration_s for c in self.used if c in self.examined)
        rates = {clip_id: seen.info.sample_rate for clip_id, seen in self.examined.items()}
        table = table_path(self.corpus)
        return CorpusReport(
            self.corpus.name,
            self.corpus.title,
            str(self.folder),
            None if table is None else str(table),
            None if listed is None else len(listed),
            len(self.used),
            sum(seconds) / 3600,
            left_out=self.left_out,
            missing=tuple(c for c in self.needed if c not in self.wavs),
            missing_recordings=absent_recordings(
                self.corpus, self.folder, (*(listed or ()), *self.wavs)
            ),
            unprepared=original_files(self.corpus, self.wavs)[1],
            unlisted=tuple(c for c in self.wavs if c in unlisted),
            unreadable={
                c: f.examined for c, f in self.found.items() if isinstance(f.examined, str)
            },
            not_finite=tuple(c for c, seen in self.examined.items() if not seen.finite),
            wrong_rate={c: found for c, found in rates.items() if found != rate},
            formats=count_formats(seen.info for seen in self.examined.values()),
            wrong_length=wrong_lengths(
                self.corpus,
                self.config,
                self.found,
                self.loaded.events if self.loaded else None,
                any_length=self.any_length,
            ),
            silent=tuple(c for c, seen in self.examined.items() if seen.silent),
            cancelling=tuple(c for c, seen in self.examined.items() if seen.cancels),
            embeddings=embeddings[0],
            further_embeddings=embeddings[1:],
        )

    def _embeddings(self, check: EncoderCheck) -> EmbeddingsReport:
        reader = self._matched(check.readers.get(self.corpus.name))
        return embeddings_report(self.corpus, self.config, check, reader, self.used)

    def findings(self, report: CorpusReport) -> Iterator[Finding]:
        """Findings beyond those of training's own check."""
        if self.loaded is None:
            yield from self._behind_the_table()
        else:
            yield from (Finding("note", self.corpus.name, note) for note in self.loaded.notes)
        yield from self._absent(report)
        yield from self._unused_but_extracted(report)
        if report.not_finite:
            # An evaluation set is not trained on.
            level: Level = "warning" if self.corpus.split == "evaluation" else "error"
            some = self._share(report.not_finite, "contain")
            text = f"{some} samples that are not finite or absurd"
            yield self._say(level, f"{text} ({examples(report.not_finite)}); replace them")
        if len(report.formats) > 1:
            yield Finding("warning", self.corpus.name, mixed_text(self.folder, report.formats))
        if report.wrong_length:
            wrong = [f"{clip_id}: {what}" for clip_id, what in report.wrong_length.items()]
            text = f"{self._share(wrong, 'have')} the wrong length ({examples(wrong)})"
            yield self._say("warning", f"{text}; {PREPARE_REMEDY}, or fetch them again")
        long = None if self.loaded is None else self.loaded.long
        if long is not None and self.any_length:
            some = f"{self._share(long.spans, 'are')} longer than a clip"
            how = f"{'trained on and ' * self.is_trained_on}scored in windows"
            yield self._say("note", f"{some} ({examples(list(long.spans))}); {how}")
        yield from self._silence(report)

    def _matched(self, reader: EmbeddingReader | None) -> EmbeddingReader | None:
        """The reader, if its names are those of single clips."""
        try:
            if reader is not None:
                reader.match(self.wavs)
        except InputError:
            return None  # Reported by training's own check.
        return reader

    def _say(self, level: Level, text: str) -> Finding:
        return Finding(level, self.corpus.name, f"{self.folder}: {text}")

    def _share(self, some: Collection[str], verb: str) -> str:
        """E.g. "1 of 5 files is" or "3 of 5 files are", for the verb "are"."""
        singular = {"are": "is", "have": "has", "contain": "contains"}[verb]
        agreeing = agree(len(some), singular, verb)
        return f"{len(some)} of {count_of(len(self.wavs), 'file')} {agreeing}"

    def _behind_the_table(self) -> Iterator[Finding]:
        """Faults of durations, audio and embeddings of a corpus whose table cannot be loaded."""
        problems: list[str] = []
        if self.corpus.durations is not None:
            path = Path(self.corpus.durations)
            files_s = {clip_id: seen.info.duration_s for clip_id, seen in self.examined.items()}
            try:
                check_clip_durations(path, read_durations(path), files_s)
            except InputError as error:
                problems.append(f"{self.corpus.durations_key}: {error}")
        if self.used:
            read_headers(self.corpus, self.used, self.config.data.fs, problems)
            open_embeddings(self.corpus, list(self.used), self.wavs, self.config, problems)
        yield from (Finding("error", self.corpus.name, problem) for problem in problems)

    def _absent(self, report: CorpusReport) -> Iterator[Finding]:
        # If no clip is on disk, training's own check reports it.
        if report.missing and self.used:
            n_listed = len(self.listed or ())
            text = missing_text(self.corpus.title, self.folder, report.missing, n_listed)
            n_originals = len(set(report.missing).intersection(report.unprepared))
            if n_originals:
                text += f"; {n_originals} of them are in {self.corpus.originals}: {PREPARE_REMEDY}"
            yield Finding("warning", self.corpus.name, text)
        if report.unprepared and self.listed is None and self.used:
            some = f"{len(report.unprepared)} ({examples(report.unprepared)})"
            text = f"originals in {self.corpus.originals} without a 16 kHz file here: {some}"
            yield self._say("warning", f"{text}; {PREPARE_REMEDY}")
        if report.missing_recordings and self.used:
            recordings = report.missing_recordings
            text = (
                f"has no clip of {count_of(len(recordings), 'recording')} ({examples(recordings)})"
            )
            yield self._say("warning", f"{text}; get them and {PREPARE_REMEDY}")
        if report.unlisted:
            text = f"{self._share(report.unlisted, 'are')} not listed in a table and not used"
            yield self._say("note", f"{text} ({examples(report.unlisted)})")
        if report.left_out:
            text = (
                f"{report.table}: clips without events, left out: {len(report.left_out)} "
                f"({examples(report.left_out)}); to use them, add {self.corpus.name} to "
                "data.keep_clips_without_events"
            )
            yield Finding("note", self.corpus.name, text)

    def _unused_but_extracted(self, report: CorpusReport) -> Iterator[Finding]:
        """Damaged files that training does not use but the extraction of embeddings reads."""
        damaged = [*report.unreadable, *report.wrong_rate]
        damaged = [clip_id for clip_id in damaged if clip_id not in self.used]
        if damaged:
            text = f"{self._share(damaged, 'are')} damaged or at another rate, and not used"
            yield self._say("warning", f"{text} ({examples(damaged)}); remove them")

    def _silence(self, report: CorpusReport) -> Iterator[Finding]:
        mute = [clip_id for clip_id in report.silent if clip_id in self.eventful]
        if mute:
            text = (
                f"{self._share(mute, 'are')} digitally silent, but the table lists events in them"
            )
            yield self._say("warning", f"{text} ({examples(mute)}); fetch them again")
        if report.cancelling:
            text = f"{self._share(report.cancelling, 'have')} channels that cancel each other"
            yield self._say(
                "warning",
                f"{text} (opposite phase), so that their mean, which is read, is all but silent "
                f"({examples(report.cancelling)}); invert a channel, or keep only one",
            )
        others = [clip_id for clip_id in report.silent if clip_id not in self.eventful]
        if others:
            text = f"{self._share(others, 'are')} digitally silent, and "
            text += f"{agree(len(others), 'has', 'have')} no labelled events"
            yield self._say("note", f"{text} ({examples(others)})")
