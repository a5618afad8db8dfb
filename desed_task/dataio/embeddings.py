"""Embeddings on disk: one HDF5 file per set, in the published layout.

    frame_embeddings   (clip, feature, token)  float32
    global_embeddings  (clip, feature)         float32
    filenames          (clip,)                 file stems

Files with clips that are scored in windows have three more datasets, which published code ignores:
the embeddings of every window but a clip's first one, which has the clip's row above.

    window_frame_embeddings   (window, feature, token)  float32
    window_global_embeddings  (window, feature)         float32
    window_filenames          (window,)                 the clip
    window_starts             (window,)                 first sample of the window

`EmbeddingReader` reads our files and published ones; `embedding_writer` writes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from desed_task.atomic_files import PathLike
from desed_task.audio.windows import RowName, WindowKey
from desed_task.errors import InputError

Row = TypeVar("Row", str, WindowKey)
Identity = Mapping[str, str | float]
Array = NDArray[np.float32]

FRAME = "frame_embeddings"
GLOBAL = "global_embeddings"
NAMES = "filenames"
WINDOW_FRAME = "window_frame_embeddings"
WINDOW_GLOBAL = "window_global_embeddings"
WINDOW_NAMES = "window_filenames"
WINDOW_STARTS = "window_starts"
# One byte per clip, then per window, 1 once its embeddings are on disk. Published files, all
# complete, lack it.
FINISHED = "finished"

EXTRACT_REMEDY = "run extract_embeddings.py"


class EmbeddingLayout(NamedTuple):
    """Clips, shape and origin of the embeddings in a file.

    Attributes:
        clip_ids: file stems, one per row.
        n_features, n_tokens: shape of one clip's frame embeddings.
        identity: attributes that state what the embeddings were computed with (checkpoint, clip
            length); empty in published files.
        windows: windows that have rows of their own.
    """

    clip_ids: tuple[str, ...]
    n_features: int
    n_tokens: int
    identity: dict[str, str | float]
    windows: tuple[WindowKey, ...] = ()

    @property
    def rows(self) -> dict[RowName, int]:
        """Clip or window -> row; the windows follow the clips."""
        names: tuple[RowName, ...] = (*self.clip_ids, *self.windows)
        return {name: row for row, name in enumerate(names)}

    def alike(self, other: EmbeddingLayout) -> bool:
        """Whether rows can be copied between files of two layouts."""
        return self[1:4] == other[1:4]


def read_layout(path: PathLike) -> EmbeddingLayout | None:
    """The layout of a finished or unfinished file, or None if it cannot be read."""
    if not Path(path).is_file():
        return None
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _layout(file)
    except (OSError, KeyError, ValueError, RuntimeError):
        return None


def _layout(file: Any) -> EmbeddingLayout:
    """Read the layout; KeyError or ValueError if datasets are missing or their shapes disagree."""
    frame, global_, names = file[FRAME], file[GLOBAL], file[NAMES]
    if frame.ndim != 3 or frame.shape[:2] != global_.shape or names.shape != frame.shape[:1]:
        raise ValueError(f"{frame.shape} {FRAME}, {global_.shape} {GLOBAL}, {names.shape} {NAMES}")
    identity = {name: _plain(value) for name, value in file.attrs.items()}
    n_features, n_tokens = map(int, frame.shape[1:])
    windows = _windows(file, frame.shape) if WINDOW_NAMES in file else ()
    return EmbeddingLayout(tuple(names.asstr()[:]), n_features, n_tokens, identity, windows)


def _windows(file: Any, shape: tuple[int, ...]) -> tuple[WindowKey, ...]:
    frame, global_ = file[WINDOW_FRAME], file[WINDOW_GLOBAL]
    names, starts = file[WINDOW_NAMES].asstr()[:], file[WINDOW_STARTS][:]
    expected = (len(names), *shape[1:])
    if frame.shape != expected or global_.shape != expected[:2] or len(starts) != len(names):
        raise ValueError(f"{frame.shape} {WINDOW_FRAME}, {global_.shape} {WINDOW_GLOBAL}")
    return tuple(map(WindowKey, names, map(int, starts)))


def _plain(value: Any) -> str | float:
    return value if isinstance(value, str) else float(value)


class EmbeddingReader:
    """Embeddings of one set, by clip.

    The file is opened when a clip is first read, once in each process, so a reader can be pickled
    and survives a fork.

    Attributes:
        path: the file.
        clip_ids: file stems, in the order of the rows.
        size: length of an embedding (features).
        n_tokens: frame embeddings per clip.
        identity: what they were computed with; empty in published files.
        windows: windows of longer clips that have embeddings of their own.
    """

    def __init__(self, path: PathLike) -> None:
        """Read names and shapes.

        Raises:
            InputError: the file is missing, damaged or not finished.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{self.path}: no such embeddings file; {EXTRACT_REMEDY}")
        layout = read_layout(self.path)
        if layout is None:
            raise InputError(
                f"{self.path}: not an embeddings file ({FRAME}, {GLOBAL}, {NAMES} of one length); "
                f"delete it and {EXTRACT_REMEDY}"
            )
        self.clip_ids, self.size, self.n_tokens, self.identity, self.windows = layout
        self._row = layout.rows
        self._stamp = _stamp(self.path)
        self._handle: Any = None
        self._pid = -1
        self._refuse_unfinished()

    def frame(self, name: RowName) -> Array:
        """Frame embeddings of a clip or window, (feature, token), float32.

        Raises:
            InputError: the file has no such row.
        """
        return self._read((FRAME, WINDOW_FRAME), name)

    def global_(self, name: RowName) -> Array:
        """The global embedding of a clip or window, (feature,), float32.

        Raises:
            InputError: the file has no such row.
        """
        return self._read((GLOBAL, WINDOW_GLOBAL), name)

    def missing(self, names: Iterable[Row]) -> list[Row]:
        """Those clips or windows that the file has no embeddings of, in order."""
        return [name for name in names if name not in self._row]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def _read(self, datasets: tuple[str, str], name: RowName) -> Array:
        row = self._row.get(name)
        if row is None:
            raise InputError(f"{self.path}: no embeddings of clip {name!r}; {EXTRACT_REMEDY}")
        dataset, row = place_of_row(datasets, row, len(self.clip_ids))
        return np.asarray(self._open()[dataset][row], dtype=np.float32)

    def _open(self) -> Any:
        if self._handle is None or self._pid != os.getpid():
            if _stamp(self.path) != self._stamp:
                raise InputError(f"{self.path}: was replaced while in use; start again")
            # A finished file never changes, so no lock is needed (some file systems have none).
            self._handle = h5py.File(self.path, "r", locking=False)
            self._pid = os.getpid()
        return self._handle

    def _refuse_unfinished(self) -> None:
        with h5py.File(self.path, "r", locking=False) as file:
            if FINISHED in file and not file[FINISHED][:].all():
                raise InputError(f"{self.path}: not finished; {EXTRACT_REMEDY} to complete it")


def place_of_row(datasets: tuple[str, str], row: int, n_clips: int) -> tuple[str, int]:
    """The dataset, of those of clips and of windows, that has a row, and the row in it."""
    return (datasets[0], row) if row < n_clips else (datasets[1], row - n_clips)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
