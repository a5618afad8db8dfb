"""Embeddings on disk: one HDF5 file per set, in the published layout.

    frame_embeddings   (clip, feature, token)  float32
    global_embeddings  (clip, feature)         float32
    filenames          (clip,)                 clip ids (published files: the files' stems)

Files with clips that are scored in windows have four more datasets, which published code ignores:
the embeddings of every window but a clip's first one, which has the clip's row above.

    window_frame_embeddings   (window, feature, token)  float32
    window_global_embeddings  (window, feature)         float32
    window_filenames          (window,)                 the clip
    window_starts             (window,)                 first sample of the window

`EmbeddingReader` reads our files and published ones; `embedding_writer` writes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from desed_task.atomic_files import PathLike
from desed_task.audio.formats import AUDIO_SUFFIXES
from desed_task.audio.windows import RowName, WindowKey
from desed_task.dataio.clip_names import match_names
from desed_task.dataio.row_stores.forms import EMBEDDINGS, PSEUDO_LABELS, StoreForm
from desed_task.dataio.row_stores.forms import EXTRACT_REMEDY as EXTRACT_REMEDY
from desed_task.dataio.row_stores.forms import FRAME as FRAME
from desed_task.dataio.row_stores.forms import GLOBAL as GLOBAL
from desed_task.dataio.row_stores.forms import NAMES as NAMES
from desed_task.dataio.row_stores.layout import CHECKPOINT_SHA256 as CHECKPOINT_SHA256
from desed_task.dataio.row_stores.layout import ENCODER as ENCODER
from desed_task.dataio.row_stores.layout import FINISHED as FINISHED
from desed_task.dataio.row_stores.layout import N_BLOCKS as N_BLOCKS
from desed_task.dataio.row_stores.layout import Array as Array
from desed_task.dataio.row_stores.layout import EmbeddingLayout as EmbeddingLayout
from desed_task.dataio.row_stores.layout import Identity as Identity
from desed_task.dataio.row_stores.layout import finished_of as finished_of
from desed_task.dataio.row_stores.layout import layout_of as layout_of
from desed_task.dataio.row_stores.layout import made_with as made_with
from desed_task.dataio.row_stores.layout import place_of_row, read_row, store_stamp
from desed_task.dataio.row_stores.layout import read_layout as read_layout
from desed_task.errors import InputError
from desed_task.file_names import looked_up_from
from desed_task.hdf5 import open_hdf5

Row = TypeVar("Row", str, WindowKey)


class RowReader(Protocol):
    """Embeddings of one set, by clip: of one file, or of those of several encoders as one.

    Attributes:
        size: length of an embedding (features).
        n_tokens: frame embeddings per clip.
        alignment: how tokens of several encoders were brought to common ones; "" for one file.
    """

    path: Path
    size: int
    n_tokens: int
    alignment: str

    @property
    def parts(self) -> tuple[EmbeddingReader, ...]:
        """The files, in the order of their features."""

    def frame(self, name: RowName) -> Array:
        """Frame embeddings of a clip or window, (feature, token), float32."""

    def global_(self, name: RowName) -> Array:
        """The global embedding of a clip or window, (feature,), float32."""


class EmbeddingReader:
    """Embeddings of one set, by clip.

    The file is opened when a clip is first read, once in each process, so a reader can be pickled
    and survives a fork.

    Attributes:
        path: the file.
        clip_ids: as stored, in the order of the rows.
        size: length of an embedding (features).
        n_tokens: frame embeddings per clip.
        identity: what they were computed with; empty in published files.
        windows: windows of longer clips that have embeddings of their own.
    """

    alignment = ""

    def __init__(self, path: PathLike, form: StoreForm = EMBEDDINGS) -> None:
        """Read names and shapes.

        Args:
            path: the file.
            form: what it must be; of pseudo-labels, frames are read as features and classes as
                tokens.

        Raises:
            InputError: the file is missing, damaged, not finished, or not plain (see
                `desed_task.hdf5`), or names a clip twice.
        """
        self.path, self.form = Path(path), form
        if not self.path.is_file():
            where = looked_up_from(self.path)
            raise InputError(f"{self.path}: {form.missing}{where}; {form.remedy}")
        try:
            with open_hdf5(self.path) as file:
                layout = layout_of(file)
                if layout.form != form:
                    raise InputError(f"{self.path}: holds {layout.form.what}, not {form.what}")
                finished = finished_of(file, len(layout.rows))
        except InputError as error:
            raise InputError(f"{error}; move it away and {form.remedy}") from None
        if not finished.all():
            raise InputError(f"{self.path}: not finished; {form.remedy} to complete it")
        if layout.form is PSEUDO_LABELS and not made_with(layout.identity):
            # Published ones may name files.
            layout = layout._replace(clip_ids=tuple(map(_without_suffix, layout.clip_ids)))
        self.clip_ids, self.size, self.n_tokens, attributes, self.windows, _ = layout
        self.identity = made_with(attributes)
        self._row = layout.rows
        self._stamp = store_stamp(self.path)
        self._handle: Any = None
        self._pid = -1

    @property
    def parts(self) -> tuple[EmbeddingReader, ...]:
        """See `RowReader`."""
        return (self,)

    def frame(self, name: RowName) -> Array:
        """Frame embeddings of a clip or window, (feature, token), float32.

        Raises:
            InputError: the file has no such row, or values that no encoder computes.
        """
        return self._read((self.form.frame, self.form.window_frame), name)

    def global_(self, name: RowName) -> Array:
        """The global embedding of a clip or window, (feature,), float32.

        Raises:
            InputError: the file has no such row, or values that no encoder computes.
        """
        return self._read((self.form.global_, self.form.window_global), name)

    def missing(self, names: Iterable[Row]) -> list[Row]:
        """Those clips or windows that the file has no embeddings of, in order."""
        return [name for name in names if name not in self._row]

    def match(self, clip_ids: Iterable[str]) -> dict[str, str]:
        """Find clips under the names of the file, which may lack their folders.

        Args:
            clip_ids: every clip of the corpus, so that two of one stem are seen.

        Returns:
            clip -> name in the file, of those found.

        Raises:
            InputError: a name of the file could be that of several clips.
        """
        try:
            found = match_names(clip_ids, self.clip_ids)
        except InputError as error:
            raise InputError.collect(
                str(error).splitlines(),
                f"{self.path}: has names that could be several clips; {self.form.remedy} again:",
            ) from None
        self._row |= {clip_id: self._row[name] for clip_id, name in found.items()}
        clip_of = {name: clip_id for clip_id, name in found.items()}
        for window in self.windows:
            clip_id = clip_of.get(window.clip_id, window.clip_id)
            self._row[window._replace(clip_id=clip_id)] = self._row[window]
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def _read(self, datasets: tuple[str, str], name: RowName) -> Array:
        row = self._row.get(name)
        if row is None:
            which = repr(name) if isinstance(name, str) else name
            raise InputError(
                f"{self.path}: no {self.form.what} of clip {which}; {self.form.remedy}"
            )
        dataset, row = place_of_row(datasets, row, len(self.clip_ids))
        return read_row(self._open(), dataset, row, name)

    def _open(self) -> Any:
        if self._handle is None or self._pid != os.getpid():
            if store_stamp(self.path) != self._stamp:
                raise InputError(f"{self.path}: was replaced while in use; start again")
            self._handle = open_hdf5(self.path)
            self._pid = os.getpid()
        return self._handle


def _without_suffix(name: str) -> str:
    """The clip of an audio file's name."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in AUDIO_SUFFIXES else name
