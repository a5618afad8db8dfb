"""One corpus under examination: what its table lists against what its folder holds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from desed_task.audio.files import count_formats
from desed_task.audio.inspection import AudioContent
from desed_task.dataio.annotations import read_durations
from desed_task.dataio.embeddings import EmbeddingReader
from desed_task.errors import InputError
from local.config import RecipeConfig
from local.corpora import EVALUATION, Corpus
from local.data.audio_warnings import mixed_text
from local.data.corpus_checks import (
    PREPARE_REMEDY,
    examples,
    missing_text,
    open_embeddings,
    read_headers,
)
from local.data.expected_clips import absent_recordings, listed_clips, table_path
from local.data.loaded_corpus import LoadedCorpus
from local.doctor.audio_files import FileInspection, wavs_of, wrong_lengths
from local.doctor.embedding_files import Identity, embeddings_report
from local.doctor.report import CorpusReport, Finding, Level


@dataclass(frozen=True)
class CorpusInspection:
    """A corpus, its files and what was found in them.

    Attributes:
        corpus: which.
        config: where it lies.
        wavs: clip -> file, of the whole folder.
        found: clip -> what reading it showed.
        loaded: as training loads it; None where it cannot.
    """

    corpus: Corpus
    config: RecipeConfig
    wavs: Mapping[str, Path]
    found: Mapping[str, FileInspection]
    loaded: LoadedCorpus | None

    @property
    def folder(self) -> Path:
        """Of the 16 kHz audio."""
        return Path(getattr(self.config.data, self.corpus.folder_key))

    @property
    def originals(self) -> Path:
        """Of the audio that the 16 kHz files are made from."""
        return Path(getattr(self.config.data, f"{self.corpus.folder_key}_44k"))

    @cached_property
    def listed(self) -> tuple[str, ...] | None:
        """The clips that the table names, also one with wrong labels; None without a table."""
        path = table_path(self.corpus, self.config)
        try:
            return None if path is None else listed_clips(path)
        except InputError:
            return None  # Told by training's own check.

    @cached_property
    def left_out(self) -> tuple[str, ...]:
        """The clips that the table lists without an event and that training does not take."""
        return () if self.loaded is None else self.loaded.left_out

    @cached_property
    def needed(self) -> tuple[str, ...]:
        """The clips that the table names for training to take."""
        left_out = set(self.left_out)
        return tuple(clip_id for clip_id in self.listed or () if clip_id not in left_out)

    @cached_property
    def used(self) -> dict[str, Path]:
        """The clips that training takes: needed and there, or all where it needs no table."""
        if self.corpus.table_key is None:
            return dict(self.wavs)
        return {clip_id: self.wavs[clip_id] for clip_id in self.needed if clip_id in self.wavs}

    @cached_property
    def examined(self) -> dict[str, AudioContent]:
        """The files that can be read."""
        readable = ((clip_id, found.examined) for clip_id, found in self.found.items())
        return {clip_id: seen for clip_id, seen in readable if isinstance(seen, AudioContent)}

    @cached_property
    def eventful(self) -> set[str]:
        """Clips that should be heard: their table has an event in them."""
        if self.loaded is None:
            return set()
        if self.loaded.weak is not None:
            return set(self.loaded.clip_ids)
        events = self.loaded.events
        if events is None:
            return set()
        return {events.clip_ids[index] for index in np.unique(events.clip_index)}

    def report(self, reader: EmbeddingReader | None, wanted: Identity) -> CorpusReport:
        """Everything found, as data.

        Args:
            reader: of the embeddings; None where there are none to read.
            wanted: what they should be made with.
        """
        rate, listed = self.config.data.fs, self.listed
        by_table = self.corpus.table_key is not None and listed is not None
        unlisted = set(self.wavs).difference(listed or ()) if by_table else set()
        seconds = (self.examined[c].info.duration_s for c in self.used if c in self.examined)
        rates = {clip_id: seen.info.sample_rate for clip_id, seen in self.examined.items()}
        table = table_path(self.corpus, self.config)
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
            unprepared=tuple(c for c in wavs_of(self.originals) if c not in self.wavs),
            unlisted=tuple(c for c in self.wavs if c in unlisted),
            unreadable={
                c: f.examined for c, f in self.found.items() if isinstance(f.examined, str)
            },
            not_finite=tuple(c for c, seen in self.examined.items() if not seen.finite),
            wrong_rate={c: found for c, found in rates.items() if found != rate},
            formats=count_formats(seen.info for seen in self.examined.values()),
            wrong_length=wrong_lengths(
                self.corpus, self.config, self.found, self.loaded.events if self.loaded else None
            ),
            silent=tuple(c for c, seen in self.examined.items() if seen.silent),
            embeddings=embeddings_report(self.corpus, self.config, reader, self.used, wanted),
        )

    def findings(self, report: CorpusReport) -> Iterator[Finding]:
        """What training's own check does not tell of it, in words."""
        if self.loaded is None:
            yield from self._behind_the_table()
        yield from self._absent(report)
        yield from self._unused_but_extracted(report)
        if report.not_finite:
            # The evaluation set is not trained on.
            level: Level = "warning" if self.corpus == EVALUATION else "error"
            text = f"{self._share(report.not_finite)} hold samples that are not finite"
            yield self._say(level, f"{text} ({examples(report.not_finite)}); replace them")
        if len(report.formats) > 1:
            yield Finding("warning", self.corpus.name, mixed_text(self.folder, report.formats))
        if report.wrong_length:
            wrong = [f"{clip_id}: {what}" for clip_id, what in report.wrong_length.items()]
            text = f"{self._share(wrong)} have a wrong length ({examples(wrong)}); {PREPARE_REMEDY}"
            yield self._say("warning", f"{text}, or fetch them again")
        yield from self._silence(report)

    def _say(self, level: Level, text: str) -> Finding:
        return Finding(level, self.corpus.name, f"{self.folder}: {text}")

    def _share(self, some: Collection[str]) -> str:
        return f"{len(some)} of {len(self.wavs)} files"

    def _behind_the_table(self) -> Iterator[Finding]:
        """What a corpus that cannot be loaded hides from training: faults of all else of it."""
        problems: list[str] = []
        if self.corpus.duration_key is not None:
            try:
                read_durations(getattr(self.config.data, self.corpus.duration_key))
            except InputError as error:
                problems.append(f"data.{self.corpus.duration_key}: {error}")
        if self.used:
            paths = list(self.used.values())
            read_headers(self.corpus, paths, self.config.data.fs, problems)
            open_embeddings(self.corpus, list(self.used), self.config, problems)
        yield from (Finding("error", self.corpus.name, problem) for problem in problems)

    def _absent(self, report: CorpusReport) -> Iterator[Finding]:
        # Where none is there, training's own check says so.
        if report.missing and self.used:
            n_listed = len(self.listed or ())
            text = missing_text(self.corpus.title, self.folder, report.missing, n_listed)
            n_originals = len(set(report.missing).intersection(report.unprepared))
            if n_originals:
                text += f"; {n_originals} of them are in {self.originals}: {PREPARE_REMEDY}"
            yield Finding("warning", self.corpus.name, text)
        if report.unprepared and self.listed is None and self.used:
            text = f"lacks originals of {self.originals}: {len(report.unprepared)}"
            yield self._say("warning", f"{text} ({examples(report.unprepared)}); {PREPARE_REMEDY}")
        if report.missing_recordings and self.used:
            recordings = report.missing_recordings
            text = f"has no clip of {len(recordings)} recordings ({examples(recordings)})"
            yield self._say("warning", f"{text}; get MAESTRO real and {PREPARE_REMEDY}")
        if report.unlisted:
            text = f"{self._share(report.unlisted)} are in no table and not used"
            yield self._say("note", f"{text} ({examples(report.unlisted)})")
        if report.left_out:
            text = (
                f"{report.table}: {len(report.left_out)} clips without events: left out "
                f"({examples(report.left_out)}); to use them, add {self.corpus.name} to "
                "data.keep_clips_without_events"
            )
            yield Finding("note", self.corpus.name, text)

    def _unused_but_extracted(self, report: CorpusReport) -> Iterator[Finding]:
        """Damage that training does not meet, but the extraction of embeddings does."""
        damaged = [*report.unreadable, *report.wrong_rate]
        damaged = [clip_id for clip_id in damaged if clip_id not in self.used]
        if damaged:
            text = f"{self._share(damaged)} are damaged or at another rate, and not used"
            yield self._say("warning", f"{text} ({examples(damaged)}); remove them")

    def _silence(self, report: CorpusReport) -> Iterator[Finding]:
        mute = [clip_id for clip_id in report.silent if clip_id in self.eventful]
        if mute:
            text = f"{self._share(mute)} are digitally silent, but the table has events in them"
            yield self._say("warning", f"{text} ({examples(mute)}); fetch them again")
        others = [clip_id for clip_id in report.silent if clip_id not in self.eventful]
        if others:
            text = f"{self._share(others)} are digitally silent, and have no labelled events"
            yield self._say("note", f"{text} ({examples(others)})")
