"""Extract BEATs embeddings of a set, computing only those that are missing or outdated."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from desed_task.atomic_files import atomic_path, sha256_of
from desed_task.audio.files import probe
from desed_task.audio.freshness import ClipSource, current_source, source_of, source_stamp
from desed_task.audio.windows import LongClips, RowName, WindowGrid, WindowKey
from desed_task.dataio.embedding_sources import (
    ChangedClips,
    changed_clips,
    note_new_times,
    read_sources,
)
from desed_task.dataio.embedding_writer import EmbeddingWriter
from desed_task.dataio.embeddings import CHECKPOINT_SHA256, EmbeddingReader, made_with, read_layout
from desed_task.encoders.beats.model import load_beats
from desed_task.encoders.beats.weights_file import find_beats
from desed_task.errors import InputError, agree, command_name, count_of
from desed_task.parallel import progress_of, thread_map
from local.corpora import SCORED_IN_WINDOWS
from local.extraction.embedder import Embedder, FileWindow, Precision
from local.extraction.sets import REPEATS

# Threads that read headers.
_N_PROBES = 8
_MIN_FILES_FOR_BAR = 2000
_WINDOWED = {corpus.name for corpus in SCORED_IN_WINDOWS}


@dataclass(frozen=True)
class Extractor:
    """Writes embedding files of sets of clips.

    Attributes:
        embedder: computes the embeddings.
        identity: stored with embeddings, which are comparable if it is equal: weights, clip length
            and, if not float32, precision.
        folder: folder of the embedding files.
        progress: whether to show progress bars.
        windows: gives the windows that longer clips are scored in; None crops all clips.
        overwrite: whether to replace embedding files that this program did not write.
    """

    embedder: Embedder
    identity: dict[str, str | float]
    folder: Path
    progress: bool = True
    windows: Callable[[], WindowGrid] | None = None
    overwrite: bool = False

    @classmethod
    def open(
        cls,
        checkpoint: Path,
        output_dir: Path,
        *,
        clip_s: float,
        device: torch.device,
        batch_size: int | None = None,
        precision: Precision = "32",
        progress: bool = True,
        windows: Callable[[], WindowGrid] | None = None,
        overwrite: bool = False,
    ) -> Extractor:
        """An extractor with the weights of `checkpoint` that writes below `output_dir`.

        Args:
            checkpoint: file of BEATs weights.
            output_dir: parent of the folder `beats`.
            clip_s: length of a clip in seconds.
            device: device that computes.
            batch_size: see `Embedder`.
            precision: see `Embedder`.
            progress: whether to show progress bars.
            windows: see the class.
            overwrite: whether to replace embedding files that this program did not write.

        Raises:
            InputError: the checkpoint is missing or cannot be used.
        """
        path = find_beats(checkpoint)
        embedder = Embedder(load_beats(path, device), device, clip_s, batch_size, precision)
        identity = identity_of(path, clip_s)
        if precision != "32":
            identity["precision"] = precision
        return cls(embedder, identity, output_dir / "beats", progress, windows, overwrite)

    def path(self, name: str) -> Path:
        """The file of a set."""
        return self.folder / f"{name}.hdf5"

    def check(self, sets: Mapping[str, Mapping[str, Path]]) -> None:
        """Check that no set's file would replace one that this program did not write.

        Args:
            sets: set -> clip -> file.

        Raises:
            InputError: naming all such files.
        """
        problems = []
        for name, clips in sets.items():
            try:
                long = self._long_clips(name, clips)
                self._why_not_current(name, clips, () if long is None else long.further)
            except InputError as error:
                problems.append(str(error))
        if problems:
            raise InputError.collect(problems)

    def extract(self, name: str, clips: Mapping[str, Path]) -> list[str]:
        """Update the embeddings file of a set.

        A complete and current file is left alone. Otherwise embeddings of clips that are new or
        have changed are computed and the others reused; with other weights all are computed.
        Clips that are scored in windows get a row for every window.
        If a clip cannot be read, the set stays unfinished, since training would not notice a
        missing or made-up embedding.

        Args:
            name: name of the set.
            clips: clip -> file, of the whole set.

        Returns:
            Faults of the files that could not be read.

        Raises:
            InputError: see `check`; or another run writes the file, or the disk is full.
        """
        long = self._long_clips(name, clips)
        windows = {} if long is None else long.further
        counted = f"{count_of(len(clips), 'clip')}"
        if long is not None:
            counted += (
                f" ({len(long.spans)} of them longer: {count_of(len(windows), 'further window')})"
            )
        reason = self._why_not_current(name, clips, windows)
        if reason is None:
            self._tell_unrecorded(name)
            print(f"{name}: {counted}, already up to date")
            return []
        if reason:
            print(f"{name}: {reason}")
        if name in REPEATS:
            return self._repeat(name)
        n_features, n_tokens = self.embedder.shape
        with EmbeddingWriter(
            self.path(name),
            list(clips),
            n_features=n_features,
            n_tokens=n_tokens,
            identity=self.identity,
            windows=list(windows),
        ) as writer:
            self._take_over(name, writer, clips)
            faults = self._compute(name, writer, clips, long)
            if not faults:
                writer.finish()
        what = f"not finished, {len(faults)} of" if faults else "finished,"
        print(f"{name}: {what} {counted}{' cannot be read' if faults else ''}")
        return faults

    def _long_clips(self, name: str, clips: Mapping[str, Path]) -> LongClips | None:
        """The clips of a set that are scored in windows; unreadable files are not."""
        if self.windows is None or REPEATS.get(name, name) not in _WINDOWED:
            return None
        look = thread_map(
            _duration_s,
            list(clips.values()),
            jobs=_N_PROBES,
            desc=f"checking {name}",
            progress=False,
        )
        durations_s = dict(zip(clips, look, strict=True))
        return LongClips.among(durations_s, self.embedder.clip_s, self.windows)

    def _why_not_current(
        self, name: str, clips: Mapping[str, Path], windows: Iterable[WindowKey]
    ) -> str | None:
        """Reason to extract; None if the file is current, "" if it does not exist."""
        path = self.path(name)
        if not os.path.lexists(path):
            return ""
        reason, ours = self._fault(path, clips, windows)
        if reason and not (ours or self.overwrite):
            raise InputError(
                f"{path.name}: {reason}; {command_name('extract_embeddings.py')} did not write "
                "this file: move it away, or replace it with --overwrite"
            )
        return reason

    def _fault(
        self, path: Path, clips: Mapping[str, Path], windows: Iterable[WindowKey]
    ) -> tuple[str | None, bool]:
        """Why a file must be extracted again (None if it need not), and whether we wrote it."""
        try:
            # Published files do not record what they were computed with; other programs may have
            # written attributes of their own.
            ours = bool(made_with(read_layout(path).identity))
        except InputError as error:
            return str(error), False
        try:
            reader = EmbeddingReader(path)
            reader.match(clips)
        except InputError as error:
            return f"extracted again: {error}", ours
        if (reader.size, reader.n_tokens) != self.embedder.shape:
            return f"extracted again: {path} has another BEATs model or clip length", ours
        # Published files are assumed to match.
        if ours and reader.identity != self.identity:
            text = f"extracted again: {path} has other BEATs weights, clip length or precision"
            return text, ours
        absent = reader.missing(clips)
        there = {clip_id: wav for clip_id, wav in clips.items() if clip_id not in set(absent)}
        found = compare_clips(there, reader, read=True, desc=f"{path.stem}: comparing")
        if absent or found.changed:
            n_changed = len(found.changed)
            changed = count_of(n_changed, "changed clip")
            text = f"{len(absent)} new and {changed} since {path} was written"
            return text, ours
        if found.touched:
            note_new_times(path, reader.clip_ids, found.sources)
            print(
                f"{path.stem}: {count_of(len(found.touched), 'clip has', 'clips have')} other "
                "times, but the same content"
            )
        if lacking := reader.missing(windows):
            return f"{path} lacks {count_of(len(lacking), 'window')} of longer clips", ours
        return None, ours

    def _repeat(self, name: str) -> list[str]:
        """Hard-link another set's file under this name; copy it if links are not supported."""
        source = self.path(REPEATS[name])
        if not source.exists():
            return []  # that set's faults are reported under its own name
        with atomic_path(self.path(name)) as temporary:
            temporary.unlink()
            try:
                os.link(source, temporary)
            except OSError:
                shutil.copy2(source, temporary)
        print(f"{name}: the same as {REPEATS[name]}")
        return []

    def _take_over(self, name: str, writer: EmbeddingWriter, clips: Mapping[str, Path]) -> None:
        """Reuse embeddings of unchanged clips from an interrupted run or an older file."""
        rows, todo = writer.layout.rows, set(writer.todo)
        done = [row for row in rows if row not in todo]
        begun = {clip_id: clips[clip_id] for clip_id in map(_clip_of, done)}
        written_s = writer.part.stat().st_mtime
        changed = set(changed_clips(begun, writer.sources, written_s, read=True).changed)
        writer.forget([row for row in done if _clip_of(row) in changed])
        for donor in (writer.old, writer.path):
            if donor.exists() and _has_layout(donor):
                self._adopt(name, writer, donor, clips)
        left = {_clip_of(row) for row in writer.todo}
        n_done = len(clips) - len(left)
        if n_done:
            print(
                f"{name}: resuming, {n_done} of {count_of(len(clips), 'clip')} "
                f"{agree(n_done, 'is', 'are')} done"
            )

    def _adopt(
        self, name: str, writer: EmbeddingWriter, donor: Path, clips: Mapping[str, Path]
    ) -> None:
        """Copy embeddings of unchanged clips, and record their audio."""
        layout = read_layout(donor)
        if not layout.alike(writer.layout):
            return
        known, written_s = read_sources(donor, layout.clip_ids), donor.stat().st_mtime
        there, left = set(layout.clip_ids), dict.fromkeys(map(_clip_of, writer.todo))
        wanted = [clip_id for clip_id in left if clip_id in there and clips[clip_id].exists()]

        def look(clip_id: str) -> ClipSource | None:
            return current_source(clips[clip_id], known.get(clip_id), written_s)

        progress = self.progress and len(wanted) >= _MIN_FILES_FOR_BAR
        desc = f"{name}: comparing"
        found = thread_map(look, wanted, jobs=None, desc=desc, progress=progress)
        looked = zip(wanted, found, strict=True)
        same = {clip_id: source for clip_id, source in looked if source is not None}
        writer.adopt(donor, [row for row in writer.todo if _clip_of(row) in same], same)

    def _tell_unrecorded(self, name: str) -> None:
        """Say that a file of an earlier version does not record the audio of its clips."""
        path = self.path(name)
        layout = read_layout(path)
        if layout.identity and not read_sources(path, layout.clip_ids):
            print(f"{name}: {path} does not record its audio; only the order in time was compared")

    def _compute(
        self,
        name: str,
        writer: EmbeddingWriter,
        clips: Mapping[str, Path],
        long: LongClips | None,
    ) -> list[str]:
        todo, n_rows = writer.todo, len(writer.layout.rows)
        self._check_space(name, len(todo))
        parts: dict[RowName, Path | FileWindow] = {**clips}
        if long is not None:
            for key, span in long.further.items():
                parts[key] = FileWindow(clips[key.clip_id], long.windows, span)
        stamps = {row: source_stamp(clips[row]) for row in todo if isinstance(row, str)}
        stream = self.embedder.stream({row: parts[row] for row in todo})
        # A fault of a file concerns all its windows.
        faults: dict[str, None] = {}
        bar = progress_of(
            name,
            n_rows,
            initial=n_rows - len(todo),
            unit="clip" if long is None else "window",
            shown=self.progress,
        )
        with bar, closing(stream):
            for batch in stream:
                for row in batch.clip_ids:
                    if isinstance(row, str):
                        writer.record(row, source_of(clips[row], stamps[row]))
                writer.put(batch.clip_ids, batch.frame.numpy(), batch.global_.numpy())
                faults |= dict.fromkeys(batch.faults)
                bar.update(len(batch.clip_ids) + len(batch.faults))
        return list(faults)

    def _check_space(self, name: str, n_clips: int) -> None:
        n_features, n_tokens = self.embedder.shape
        n_values = n_features * (n_tokens + 1)
        needed, free = 4 * n_values * n_clips, shutil.disk_usage(self.folder).free
        if needed > free:
            raise InputError(
                f"{self.folder}: {name} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
                "free some space or give another --output_dir"
            )


def identity_of(checkpoint: Path, clip_s: float) -> dict[str, str | float]:
    """The identity of embeddings: the weights and the length of a clip."""
    return {CHECKPOINT_SHA256: sha256_of(checkpoint), "clip_s": clip_s}


def _duration_s(wav: Path) -> float:
    try:
        return probe(wav).duration_s
    except InputError:
        return 0.0  # reported when its samples are read


def _clip_of(row: RowName) -> str:
    return row if isinstance(row, str) else row.clip_id


def _has_layout(path: Path) -> bool:
    """Whether embeddings can be taken from a file; not from one that --overwrite replaces."""
    try:
        read_layout(path)
    except InputError:
        return False
    return True


def compare_clips(
    clips: Mapping[str, Path], reader: EmbeddingReader, *, read: bool, desc: str = ""
) -> ChangedClips:
    """Compare clips with the audio that a file's embeddings were computed from.

    Args:
        clips: clip -> audio file, of clips in the file.
        reader: reader of the file.
        read: whether to read audio of which only the time differs.
        desc: title of a progress bar; none if empty.
    """
    known = read_sources(reader.path, reader.clip_ids)
    return changed_clips(clips, known, reader.path.stat().st_mtime, read=read, desc=desc)
