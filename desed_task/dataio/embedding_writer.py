"""Resumable writing of embedding files (see `desed_task.dataio.embeddings`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import h5py
import numpy as np

from desed_task.atomic_files import PathLike
from desed_task.audio.freshness import ClipSource
from desed_task.dataio.embedding_sources import (
    add_source_datasets,
    has_source_datasets,
    put_source,
    sources_in,
)
from desed_task.dataio.embeddings import (
    EXTRACT_REMEDY,
    FINISHED,
    FRAME,
    GLOBAL,
    NAMES,
    Array,
    EmbeddingLayout,
    Identity,
    read_layout,
)
from desed_task.errors import InputError

_BLOCK = 64


class EmbeddingWriter(AbstractContextManager["EmbeddingWriter"]):
    """Writes one set's embeddings so that a killed run can be resumed.

    All space is allocated when `<path>.part` is created (sparsely: the disk fills as clips come).
    Afterwards only plain numbers are written in place, so the file is never left damaged.
    A clip counts as finished once its mark is written, which happens after its embeddings have
    reached the disk, in blocks of 64 clips and on closing.

        with EmbeddingWriter(path, clip_ids, n_features=768, n_tokens=496, identity={}) as writer:
            ... writer.put(...) for the clips of writer.todo ...
            writer.finish()
    """

    def __init__(
        self,
        path: PathLike,
        clip_ids: Sequence[str],
        *,
        n_features: int,
        n_tokens: int,
        identity: Identity,
    ) -> None:
        """Open the unfinished file of `path` or create it.

        An unfinished file of another identity or shape is deleted; one of other clips is kept as
        `<path>.old` until `finish`, so that `adopt` can copy rows from it.

        Args:
            path: the finished file's; not touched before `finish`.
            clip_ids: unique file stems, one per row.
            n_features, n_tokens: shape of one clip's frame embeddings.
            identity: what the embeddings are computed with; stored as attributes.

        Raises:
            InputError: another run writes this file.
        """
        self.path = Path(path)
        self.part = self.path.with_name(self.path.name + ".part")
        self.old = self.path.with_name(self.path.name + ".old")
        self.layout = EmbeddingLayout(tuple(clip_ids), n_features, n_tokens, dict(identity))
        self._row = {clip_id: row for row, clip_id in enumerate(clip_ids)}
        if len(self._row) != len(self.layout.clip_ids):
            raise ValueError(f"{self.path}: a clip is named twice")
        self._pending: list[int] = []
        self._file = self._open()
        self._finished = np.asarray(self._file[FINISHED][:], dtype=bool)

    @property
    def todo(self) -> list[str]:
        """Clips without finished embeddings, in order."""
        return [name for name, row in self._row.items() if not self._finished[row]]

    def forget(self, clip_ids: Iterable[str]) -> None:
        """Mark clips whose audio has changed as unfinished."""
        rows = [self._row[clip_id] for clip_id in clip_ids]
        if rows:
            self._write_marks(rows, False)

    @property
    def sources(self) -> dict[str, ClipSource]:
        """Clip -> audio that its row was computed from, where recorded."""
        return sources_in(self._file, self._row)

    def record(self, clip_id: str, source: ClipSource | None) -> None:
        """Record the audio of a clip, before its embeddings are put; None if it has changed."""
        put_source(self._file, self._row[clip_id], source)

    def put(self, clip_ids: Sequence[str], frame: Array, global_: Array) -> None:
        """Write embeddings of some clips.

        Args:
            clip_ids: of the rows, in any order.
            frame: (clip, feature, token), float32.
            global_: (clip, feature), float32.

        Raises:
            InputError: values that are not finite, or a disk that is full.
        """
        finite = np.isfinite(global_).all(axis=1)
        if not finite.all():
            bad = clip_ids[int(np.argmin(finite))]
            raise InputError(
                f"{self.path}: the embeddings of {bad} are not finite; use intact weights"
            )
        try:
            for clip_id, frame_row, global_row in zip(clip_ids, frame, global_, strict=True):
                row = self._row[clip_id]
                self._file[FRAME][row] = frame_row
                self._file[GLOBAL][row] = global_row
                self._pending.append(row)
            if len(self._pending) >= _BLOCK:
                self._mark_pending()
        except OSError as error:
            raise InputError(f"{self.part}: {error}; free some space and run again") from None

    def adopt(
        self,
        path: PathLike,
        clip_ids: Iterable[str],
        sources: Mapping[str, ClipSource] = MappingProxyType({}),
    ) -> int:
        """Copy finished rows of clips from another file of the same identity and shape.

        Args:
            path: the other file.
            clip_ids: clips whose audio has not changed since.
            sources: clip -> its audio, where known.

        Returns:
            the number copied; 0 for a file that is missing or of another kind.
        """
        layout = read_layout(path)
        if layout is None or layout[1:] != self.layout[1:]:
            return 0
        there = {clip_id: row for row, clip_id in enumerate(layout.clip_ids)}
        wanted = [clip_id for clip_id in clip_ids if clip_id in there]
        with h5py.File(path, "r", locking=False) as donor:
            whole = donor[FINISHED][:] if FINISHED in donor else np.ones(len(there))
            wanted = [clip_id for clip_id in wanted if whole[there[clip_id]]]
            for clip_id in wanted:
                row = there[clip_id]
                self.record(clip_id, sources.get(clip_id))
                self.put([clip_id], donor[FRAME][row][None], donor[GLOBAL][row][None])
        self._mark_pending()
        return len(wanted)

    def finish(self) -> None:
        """Close the file and give it its final name; every clip must be finished.

        Raises:
            InputError: clips are missing.
        """
        self._mark_pending()
        if self.todo:
            raise InputError(
                f"{self.path}: {len(self.todo)} clips are missing; {EXTRACT_REMEDY} again"
            )
        self.close()
        os.replace(self.part, self.path)
        self.old.unlink(missing_ok=True)

    def close(self) -> None:
        """Mark the clips written so far and close; the unfinished file stays for the next run."""
        if self._file:
            self._mark_pending()
            self._file.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> Any:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.part.exists():
            self._refuse_if_in_use()
            there = read_layout(self.part)
            if there == self.layout:
                file = h5py.File(self.part, "r+")
                if has_source_datasets(file):
                    return file
                file.close()  # of an earlier version
            if there is not None and there[1:] == self.layout[1:]:
                os.replace(self.part, self.old)
        self._create()
        return h5py.File(self.part, "r+")

    def _refuse_if_in_use(self) -> None:
        try:
            h5py.File(self.part, "r+").close()
        except BlockingIOError:
            raise InputError(
                f"{self.part}: another run is writing it; wait until it ends"
            ) from None
        except PermissionError:
            raise InputError(f"{self.part}: permission denied; correct its permissions") from None
        except OSError:
            # Killed during allocation, before any clip was written: it is created again.
            self.part.unlink()

    def _create(self) -> None:
        clip_ids, n_features, n_tokens, identity = self.layout
        n_clips = len(clip_ids)
        # Everything is allocated and closed before the first clip: see the class's docstring.
        with h5py.File(self.part, "w") as file:
            _lay_out(file, FRAME, (n_clips, n_features, n_tokens), (1, n_features, n_tokens))
            _lay_out(file, GLOBAL, (n_clips, n_features))
            file.create_dataset(NAMES, data=list(clip_ids), dtype=h5py.string_dtype())
            file.create_dataset(FINISHED, data=np.zeros(n_clips, dtype=np.uint8))
            add_source_datasets(file, n_clips)
            file.attrs.update(identity)

    def _mark_pending(self) -> None:
        if self._pending:
            self._sync()
            self._write_marks(self._pending, True)
            self._pending = []

    def _write_marks(self, rows: list[int], value: bool) -> None:
        self._finished[rows] = value
        self._file[FINISHED][:] = self._finished.astype(np.uint8)
        self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.id.get_vfd_handle())


def _lay_out(
    file: Any, name: str, shape: tuple[int, ...], chunks: tuple[int, ...] | None = None
) -> None:
    """Create a float32 dataset whose space is allocated at once, but not filled."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    file.create_dataset(name, shape, dtype=np.float32, chunks=chunks, dcpl=plan)
