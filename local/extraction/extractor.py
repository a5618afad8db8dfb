"""Extract BEATs embeddings of a set, computing only those that are missing or outdated."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from desed_task.atomic_files import atomic_path, sha256_of
from desed_task.audio.freshness import ClipSource, current_source, source_of, source_stamp
from desed_task.dataio.embedding_sources import (
    ChangedClips,
    changed_clips,
    note_new_times,
    read_sources,
)
from desed_task.dataio.embedding_writer import EmbeddingWriter
from desed_task.dataio.embeddings import EmbeddingReader, read_layout
from desed_task.encoders.beats.model import find_beats, load_beats
from desed_task.errors import InputError
from desed_task.parallel import thread_map
from local.extraction.embedder import Embedder, Precision
from local.extraction.sets import REPEATS

_MIN_FILES_FOR_BAR = 2000


@dataclass(frozen=True)
class Extractor:
    """Writes embedding files of sets of clips.

    Attributes:
        embedder: computes the embeddings.
        identity: stored with embeddings, which are comparable if it is equal: weights, clip length
            and, if not float32, precision.
        folder: folder of the embedding files.
        progress: whether to show progress bars.
    """

    embedder: Embedder
    identity: dict[str, str | float]
    folder: Path
    progress: bool = True

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

        Raises:
            InputError: the checkpoint is missing or cannot be used.
        """
        path = find_beats(checkpoint)
        embedder = Embedder(load_beats(path, device), device, clip_s, batch_size, precision)
        identity = identity_of(path, clip_s)
        if precision != "32":
            identity["precision"] = precision
        return cls(embedder, identity, output_dir / "beats", progress)

    def path(self, name: str) -> Path:
        """The file of a set."""
        return self.folder / f"{name}.hdf5"

    def extract(self, name: str, wavs: Sequence[Path]) -> list[str]:
        """Update the embeddings file of a set.

        A complete and current file is left alone. Otherwise embeddings of clips that are new or
        have changed are computed and the others reused; with other weights all are computed.
        If a clip cannot be read, the set stays unfinished, since training would not notice a
        missing or made-up embedding.

        Args:
            name: name of the set.
            wavs: files of the set.

        Returns:
            Faults of the files that could not be read.
        """
        clips = {wav.stem: wav for wav in wavs}
        reason = self._why_not_current(name, clips)
        if reason is None:
            print(f"{name}: {len(clips)} clips, already up to date")
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
        ) as writer:
            self._take_over(name, writer, clips)
            faults = self._compute(name, writer, clips)
            if not faults:
                writer.finish()
        what = f"not finished, {len(faults)} of" if faults else "finished,"
        print(f"{name}: {what} {len(clips)} clips{' cannot be read' if faults else ''}")
        return faults

    def _why_not_current(self, name: str, clips: dict[str, Path]) -> str | None:
        """Reason to extract; None if the file is current, "" if it does not exist."""
        path = self.path(name)
        if not path.exists():
            return ""
        try:
            reader = EmbeddingReader(path)
        except InputError as error:
            return f"extracted again: {error}"
        if (reader.size, reader.n_tokens) != self.embedder.shape:
            return f"extracted again: {path} has another BEATs model or clip length"
        # Published files do not record what they were computed with; assume that they match.
        if reader.identity and reader.identity != self.identity:
            return f"extracted again: {path} has other BEATs weights, clip length or precision"
        absent = reader.missing(clips)
        there = {clip_id: wav for clip_id, wav in clips.items() if clip_id not in set(absent)}
        found = compare_clips(there, reader, read=True, desc=f"{name}: comparing")
        if absent or found.changed:
            n_changed = len(found.changed)
            return f"{len(absent)} new and {n_changed} changed clips since {path} was written"
        if reader.identity and not read_sources(path, reader.clip_ids):
            print(f"{name}: {path} does not record its audio; only the order in time was compared")
        if found.touched:
            note_new_times(path, reader.clip_ids, found.sources)
            print(f"{name}: {len(found.touched)} clips have other times, but the same content")
        return None

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

    def _take_over(self, name: str, writer: EmbeddingWriter, clips: dict[str, Path]) -> None:
        """Reuse embeddings of unchanged clips from an interrupted run or an older file."""
        todo, known, written_s = set(writer.todo), writer.sources, writer.part.stat().st_mtime
        done = {clip_id: wav for clip_id, wav in clips.items() if clip_id not in todo}
        writer.forget(changed_clips(done, known, written_s, read=True).changed)
        for donor in (writer.old, writer.path):
            if donor.exists():
                self._adopt(
                    name, writer, donor, {clip_id: clips[clip_id] for clip_id in writer.todo}
                )
        n_done = len(clips) - len(writer.todo)
        if n_done:
            print(f"{name}: resuming, {n_done} of {len(clips)} clips are done")

    def _adopt(
        self, name: str, writer: EmbeddingWriter, donor: Path, clips: dict[str, Path]
    ) -> None:
        """Copy embeddings of unchanged clips, and record their audio."""
        layout = read_layout(donor)
        if layout is None or layout[1:] != writer.layout[1:]:
            return
        known, written_s = read_sources(donor, layout.clip_ids), donor.stat().st_mtime
        there = set(layout.clip_ids)
        wanted = [clip_id for clip_id, wav in clips.items() if clip_id in there and wav.exists()]

        def look(clip_id: str) -> ClipSource | None:
            return current_source(clips[clip_id], known.get(clip_id), written_s)

        progress = self.progress and len(wanted) >= _MIN_FILES_FOR_BAR
        desc = f"{name}: comparing"
        found = thread_map(look, wanted, jobs=None, desc=desc, progress=progress)
        looked = zip(wanted, found, strict=True)
        same = {clip_id: source for clip_id, source in looked if source is not None}
        writer.adopt(donor, same, same)

    def _compute(self, name: str, writer: EmbeddingWriter, clips: dict[str, Path]) -> list[str]:
        todo = writer.todo
        self._check_space(name, len(todo))
        stamps = {clip_id: source_stamp(clips[clip_id]) for clip_id in todo}
        stream = self.embedder.stream([clips[clip_id] for clip_id in todo])
        faults: list[str] = []
        bar = tqdm(
            desc=name,
            total=len(clips),
            initial=len(clips) - len(todo),
            unit="clip",
            dynamic_ncols=True,
            disable=not self.progress,
        )
        with bar, closing(stream):
            for batch in stream:
                for clip_id in batch.clip_ids:
                    writer.record(clip_id, source_of(clips[clip_id], stamps[clip_id]))
                writer.put(batch.clip_ids, batch.frame.numpy(), batch.global_.numpy())
                faults += batch.faults
                bar.update(len(batch.clip_ids) + len(batch.faults))
        return faults

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
    return {"checkpoint_sha256": sha256_of(checkpoint), "clip_s": clip_s}


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
