"""Resumable writing of embedding files (see `desed_task.dataio.embeddings`)."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import h5py
import numpy as np

from desed_task.atomic_files import PathLike
from desed_task.audio.freshness import ClipSource
from desed_task.audio.windows import RowName, WindowKey
from desed_task.dataio.embedding_sources import (
    CHANGED,
    add_source_datasets,
    has_source_datasets,
    put_source,
    sources_in,
)
from desed_task.dataio.row_stores.forms import (
    EMBEDDINGS,
    NAMES,
    WINDOW_NAMES,
    WINDOW_STARTS,
    StoreForm,
)
from desed_task.dataio.row_stores.layout import (
    FINISHED,
    Array,
    EmbeddingLayout,
    Identity,
    absurdity,
    finished_of,
    layout_of,
    place_of_row,
    read_row,
    store_stamp,
)
from desed_task.dataio.row_stores.unfinished import old_of, open_part, part_of, remove_stale
from desed_task.errors import InputError, count_of, disk_full
from desed_task.hdf5 import (
    FileInUseError,
    allocate_numbers,
    create_hdf5,
    open_hdf5,
    write_values,
)

_BLOCK = 64


class EmbeddingWriter(AbstractContextManager["EmbeddingWriter"]):
    """Writes one set's embeddings so that a killed run can be resumed.

    All space is allocated when `<path>.part` is created (sparsely: the disk fills as clips come).
    Afterwards only plain numbers are written in place, so the file is never left damaged.
    A clip counts as finished once its mark is written, which happens after its embeddings have
    reached the disk, in blocks of 64 clips and on closing.

    Of several processes each writes a file of its own, in which all clips have their rows, and the
    first one collects the rows of the others and finishes (`local.extraction.parts`).

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
        windows: Sequence[WindowKey] = (),
        number: int = 1,
        form: StoreForm = EMBEDDINGS,
    ) -> None:
        """Open the unfinished file of `path` or create it.

        An unfinished file of another identity or shape is deleted; one of other clips is kept as
        `<path>.part.old` until `finish`, so that `adopt` can copy rows from it.

        Args:
            path: the finished file's; not touched before `finish`.
            clip_ids: unique file stems, one per row.
            n_features, n_tokens: shape of one clip's frame embeddings.
            identity: what the embeddings are computed with; stored as attributes.
            windows: unique windows of these clips that get rows of their own.
            number: of the process among those that compute the set, from 1. Only the first one
                opens a file that is there already, and finishes.
            form: kind of the file.

        Raises:
            InputError: another run writes this file, or it is not one that this class created, or
                one of another kind.
        """
        self.path = Path(path)
        self.part = part_of(self.path, number)
        self.old = old_of(self.path)
        self.layout = EmbeddingLayout(
            tuple(clip_ids), n_features, n_tokens, dict(identity), tuple(windows), form
        )
        self._frames = form.frame, form.window_frame
        # Nothing where rows have frames alone.
        self._globals = (form.global_, form.window_global) if form.global_ else None
        self._row = self.layout.rows
        if len(self._row) != len(clip_ids) + len(windows):
            raise ValueError(f"{self.path}: a clip is named twice")
        self._pending: list[int] = []
        self.n_discarded = 0  # finished rows of an unfinished file that was deleted
        if number == 1 and os.path.lexists(self.old):
            open_part(self.old, form)[0].close()  # any other file is refused, as it will be removed
        self._before = store_stamp(self.path)
        self._file = self._open() if number == 1 else self._created()
        self._finished = finished_of(self._file, len(self._row))
        self._sources = sources_in(self._file, self.layout.clip_ids)
        done = set(self._row) - set(self.todo)
        # Clips some of whose rows are finished, or will be with the next marks.
        self._begun = set(map(clip_of, done))

    @property
    def todo(self) -> list[RowName]:
        """Clips, then windows, without finished embeddings, in order."""
        return [name for name, row in self._row.items() if not self._finished[row]]

    def forget(self, names: Iterable[RowName]) -> None:
        """Mark clips and windows whose audio has changed as unfinished."""
        names = list(names)
        if names:
            self._write_marks([self._row[name] for name in names], False)
            self._begun -= set(map(clip_of, names))

    @property
    def sources(self) -> dict[str, ClipSource]:
        """Clip -> audio that its rows were computed from, where recorded."""
        return dict(self._sources)

    def has_source(self, clip_id: str) -> bool:
        """Whether the audio of rows that a clip has already is recorded."""
        return clip_id in self._begun and clip_id in self._sources

    def record(self, clip_id: str, source: ClipSource | None) -> None:
        """Record the audio of a clip, before embeddings of it or its windows are put.

        Args:
            clip_id: the clip.
            source: its audio; None if it was written meanwhile. Then, and if it is not the audio
                of rows that the clip has already, the next run computes the clip again.
        """
        before = self._sources.get(clip_id) if clip_id in self._begun else None
        if source is None or (before is not None and before.digest != source.digest):
            source = CHANGED
        self._sources[clip_id] = source
        put_source(self._file, self._row[clip_id], source)

    def put(self, names: Sequence[RowName], frame: Array, global_: Array) -> None:
        """Write embeddings of some clips and windows.

        Args:
            names: of the rows, in any order.
            frame: (row, feature, token), float32.
            global_: (row, feature), float32; not read where rows have frames alone.

        Raises:
            InputError: values that are not finite or far too large, or a file that cannot be
                written.
            DiskFullError: the disk is full.
        """
        for name, frame_row, global_row in zip(names, frame, global_, strict=True):
            reason = absurdity(frame_row) or absurdity(global_row)
            if reason:
                what = self.layout.form.what
                raise InputError(f"{self.path}: the {what} of {name} {reason}; use intact weights")
        try:
            for name, frame_row, global_row in zip(names, frame, global_, strict=True):
                row = self._row[name]
                self._write(self._frames, row, frame_row)
                if self._globals:
                    self._write(self._globals, row, global_row)
                self._pending.append(row)
                self._begun.add(clip_of(name))
            if len(self._pending) >= _BLOCK:
                self._mark_pending()
        except (OSError, RuntimeError) as error:  # HDF5 has both
            if full := disk_full(error, self.part):
                raise full from error
            raise InputError(f"{self.part}: {error}; free some space and run again") from None

    def _write(self, datasets: tuple[str, str], row: int, values: Array) -> None:
        dataset, row = place_of_row(datasets, row, len(self.layout.clip_ids))
        write_values(self._file, dataset, row, values)

    def adopt(
        self,
        path: PathLike,
        names: Iterable[RowName],
        sources: Mapping[str, ClipSource] = MappingProxyType({}),
    ) -> int:
        """Copy finished rows of clips and windows from another file of equal identity and shape.

        Args:
            path: the other file.
            names: clips and windows whose audio has not changed since.
            sources: clip -> its audio, where known.

        Returns:
            the number copied; 0 for a file that is missing or of another identity or shape.

        Raises:
            InputError: the file cannot be read (see `read_layout`).
        """
        if not os.path.lexists(path):
            return 0
        with open_hdf5(path) as donor:
            layout = layout_of(donor)
            if not layout.alike(self.layout):
                return 0
            there, n_clips = layout.rows, len(layout.clip_ids)
            whole = finished_of(donor, len(there))
            wanted = [name for name in names if name in there and whole[there[name]]]
            for name in wanted:
                kinds = (self._frames, self._globals or self._frames)
                places = [place_of_row(of, there[name], n_clips) for of in kinds]
                frame, global_ = (read_row(donor, of, row, name) for of, row in places)
                clip_id = clip_of(name)
                if clip_id in sources:
                    self.record(clip_id, sources[clip_id])
                self.put([name], frame[None], global_[None])
        self._mark_pending()
        return len(wanted)

    def finish(self) -> None:
        """Close the file and give it its final name; every clip must be finished.

        Raises:
            InputError: clips are missing, or another file has appeared under the final name.
        """
        self._mark_pending()
        if self.todo:
            raise InputError(
                f"{self.path}: {count_of(len(self.todo), 'clip is', 'clips are')} missing; "
                f"{self.layout.form.remedy} again"
            )
        self.close()
        if store_stamp(self.path) != self._before:
            raise InputError(
                f"{self.path}: was written by something else meanwhile, so it is not replaced; "
                f"move it away and {self.layout.form.remedy} again, which only renames "
                f"{self.part.name}"
            )
        # First, as nothing would look for it beside a finished file.
        self.old.unlink(missing_ok=True)
        os.replace(self.part, self.path)

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
        if os.path.lexists(self.part):
            file, there = open_part(self.part, self.layout.form)
            if there == self.layout and has_source_datasets(file):  # earlier versions had none
                return file
            n_finished = int(finished_of(file, len(there.rows)).sum())
            file.close()
            if there.alike(self.layout):
                os.replace(self.part, self.old)
            else:
                self.n_discarded = n_finished
                self.part.unlink()
        return self._created()

    def _created(self) -> Any:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._create()
        return open_part(self.part, self.layout.form)[0]

    def _create(self) -> None:
        """Lay out the unfinished file under another name, so that it appears complete.

        It is linked, not renamed, so that of two runs that start at the same moment one is
        refused instead of writing into a file that the other has replaced.
        """
        remove_stale(self.part)
        temporary = self.part.with_name(f".{self.part.name}.{secrets.token_hex(4)}")
        try:
            # Everything is allocated and closed before the first clip: see the class's docstring.
            with create_hdf5(temporary) as file:
                self._lay_out(file)
            try:
                os.link(temporary, self.part)
            except (FileExistsError, FileNotFoundError):
                raise FileInUseError(
                    f"{self.part}: another run is writing it; wait until it ends"
                ) from None
            except OSError:  # A file system without hard links.
                os.replace(temporary, self.part)
        finally:
            temporary.unlink(missing_ok=True)

    def _lay_out(self, file: Any) -> None:
        """Create the data sets of the layout, without embeddings."""
        clip_ids, n_features, n_tokens, identity, windows, form = self.layout
        tables = [(form.frame, form.global_, NAMES, list(clip_ids))]
        if windows:
            of_windows = [window.clip_id for window in windows]
            tables.append((form.window_frame, form.window_global, WINDOW_NAMES, of_windows))
            starts = np.array([window.start for window in windows], dtype=np.int64)
            file.create_dataset(WINDOW_STARTS, data=starts)
        for frame, global_, of_rows, names in tables:
            shape = (len(names), n_features, n_tokens)
            allocate_numbers(file, frame, shape, (1, n_features, n_tokens))
            if global_:
                allocate_numbers(file, global_, shape[:2])
            file.create_dataset(of_rows, data=names, dtype=h5py.string_dtype())
        file.create_dataset(FINISHED, data=np.zeros(len(self._row), dtype=np.uint8))
        add_source_datasets(file, len(clip_ids))
        file.attrs.update(identity)

    def _mark_pending(self) -> None:
        if self._pending:
            self._sync()
            self._write_marks(self._pending, True)
            self._pending = []

    def _write_marks(self, rows: list[int], value: bool) -> None:
        self._finished[rows] = value
        write_values(self._file, FINISHED, slice(None), self._finished.astype(np.uint8))
        self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.id.get_vfd_handle())


def clip_of(row: RowName) -> str:
    """The clip of a row."""
    return row if isinstance(row, str) else row.clip_id
