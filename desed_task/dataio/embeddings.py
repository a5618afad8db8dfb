"""Embeddings on disk: one HDF5 file per set, in the published layout.

    frame_embeddings   (clip, feature, token)  float32
    global_embeddings  (clip, feature)         float32
    filenames          (clip,)                 clip ids (published files: the files' stems)

`EmbeddingReader` reads our files and published ones; `embedding_writer` writes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from desed_task.atomic_files import PathLike
from desed_task.dataio.clip_names import match_names
from desed_task.errors import InputError

Identity = Mapping[str, str | float]
Array = NDArray[np.float32]

FRAME = "frame_embeddings"
GLOBAL = "global_embeddings"
NAMES = "filenames"
# One byte per clip, 1 once its embeddings are on disk. Published files, all complete, lack it.
FINISHED = "finished"

EXTRACT_REMEDY = "run extract_embeddings.py"


class EmbeddingLayout(NamedTuple):
    """Clips, shape and origin of the embeddings in a file.

    Attributes:
        clip_ids: one per row.
        n_features, n_tokens: shape of one clip's frame embeddings.
        identity: attributes that state what the embeddings were computed with (checkpoint, clip
            length); empty in published files.
    """

    clip_ids: tuple[str, ...]
    n_features: int
    n_tokens: int
    identity: dict[str, str | float]


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
    return EmbeddingLayout(tuple(names.asstr()[:]), n_features, n_tokens, identity)


def _plain(value: Any) -> str | float:
    return value if isinstance(value, str) else float(value)


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
        self.clip_ids, self.size, self.n_tokens, self.identity = layout
        self._row = {clip_id: row for row, clip_id in enumerate(self.clip_ids)}
        self._stamp = _stamp(self.path)
        self._handle: Any = None
        self._pid = -1
        self._refuse_unfinished()

    def frame(self, clip_id: str) -> Array:
        """Frame embeddings of a clip, (feature, token), float32.

        Raises:
            InputError: the file has no such clip.
        """
        return self._read(FRAME, clip_id)

    def global_(self, clip_id: str) -> Array:
        """The global embedding of a clip, (feature,), float32.

        Raises:
            InputError: the file has no such clip.
        """
        return self._read(GLOBAL, clip_id)

    def missing(self, clip_ids: Iterable[str]) -> list[str]:
        """Those of `clip_ids` that the file has no embeddings of, in order."""
        return [clip_id for clip_id in clip_ids if clip_id not in self._row]

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
                f"{self.path}: has names that could be several clips; {EXTRACT_REMEDY} again:",
            ) from None
        self._row |= {clip_id: self._row[name] for clip_id, name in found.items()}
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def _read(self, dataset: str, clip_id: str) -> Array:
        row = self._row.get(clip_id)
        if row is None:
            raise InputError(f"{self.path}: no embeddings of clip {clip_id!r}; {EXTRACT_REMEDY}")
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


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
