"""Embeddings on disk: one HDF5 file per set, in the published layout.

    frame_embeddings   (clip, feature, token)  float32
    global_embeddings  (clip, feature)         float32
    filenames          (clip,)                 clip ids (published files: the files' stems)

`EmbeddingReader` reads our files and published ones; `embedding_writer` writes them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from desed_task.atomic_files import PathLike
from desed_task.dataio.clip_names import match_names
from desed_task.dataio.hdf5 import number_dataset, open_hdf5, read_attributes, read_texts
from desed_task.errors import InputError

Identity = Mapping[str, str | float]
Array = NDArray[np.float32]

FRAME = "frame_embeddings"
GLOBAL = "global_embeddings"
NAMES = "filenames"
# One byte per clip, 1 once its embeddings are on disk. Published files, all complete, lack it.
FINISHED = "finished"

EXTRACT_REMEDY = "run extract_embeddings.py"
# Encoders normalise their output: BEATs stays below 100. The largest number of 16 bits is 65504.
LARGEST = 1e5
_MOST_BYTES_PER_CLIP = 2**28
_FORM = f"an embeddings file has {FRAME}, {GLOBAL} and {NAMES} of one length"


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


def read_layout(path: PathLike) -> EmbeddingLayout:
    """The layout of a finished or unfinished file.

    Raises:
        InputError: the file is missing, damaged, not an embeddings file, or one that
            `desed_task.dataio.hdf5` refuses.
    """
    with open_hdf5(path) as file:
        return layout_of(file)


def layout_of(file: Any) -> EmbeddingLayout:
    """The layout of an open file.

    Raises:
        InputError: data sets are missing, have other types or shapes that disagree, or a clip is
            named twice.
    """
    try:
        frame, global_ = number_dataset(file, FRAME, 3), number_dataset(file, GLOBAL, 2)
        clip_ids = read_texts(file, NAMES)
        if FINISHED in file:
            finished_of(file, len(clip_ids))
    except InputError as error:
        raise InputError(f"{error} ({_FORM})") from None
    n_clips, n_features, n_tokens = map(int, frame.shape)
    if global_.shape != (n_clips, n_features) or len(clip_ids) != n_clips:
        raise InputError(
            f"{file.filename}: shapes disagree: {frame.shape} {FRAME}, {global_.shape} {GLOBAL}, "
            f"{len(clip_ids)} {NAMES} ({_FORM})"
        )
    if not n_features or not n_tokens or 8 * n_features * n_tokens > _MOST_BYTES_PER_CLIP:
        raise InputError(
            f"{file.filename}: {n_features} features and {n_tokens} tokens per clip cannot be right"
        )
    twice = [clip_id for clip_id, n in Counter(clip_ids).items() if n > 1]
    if twice:
        raise InputError(
            f"{file.filename}: names {len(twice)} clips twice ({', '.join(twice[:3])}), so their "
            "embeddings are ambiguous"
        )
    return EmbeddingLayout(clip_ids, n_features, n_tokens, read_attributes(file))


def finished_of(file: Any, n_clips: int) -> NDArray[np.bool_]:
    """Which clips of an open file are finished, (clip,); all of them in a published file.

    Raises:
        InputError: the marks have another type or number.
    """
    if FINISHED not in file:
        return np.ones(n_clips, dtype=np.bool_)
    marks = number_dataset(file, FINISHED, 1, "iu")
    if len(marks) != n_clips:
        raise InputError(f"{file.filename}: {len(marks)} marks {FINISHED!r} of {n_clips} clips")
    return np.asarray(marks[:], dtype=np.bool_)


def read_row(file: Any, name: str, row: int, clip_id: str) -> Array:
    """One clip's row of a data set of embeddings, float32.

    Raises:
        InputError: it cannot be read, or holds values that no encoder computes.
    """
    try:
        values = np.asarray(file[name][row], dtype=np.float32)
    except OSError as error:
        raise InputError(f"{file.filename}: {name} of {clip_id} are damaged ({error})") from None
    reason = absurdity(values)
    if reason:
        raise InputError(
            f"{file.filename}: {name} of {clip_id} {reason}: absurd for an encoder; "
            f"{EXTRACT_REMEDY} again"
        )
    return values


def absurdity(values: Array) -> str:
    """What is wrong with embeddings that are not finite or far too large; empty if nothing is."""
    # Extremes of an array with NaN are NaN, for which both comparisons are false.
    if values.size == 0 or (values.max() <= LARGEST and values.min() >= -LARGEST):
        return ""
    if not np.isfinite(values).all():
        return "are not finite"
    return f"reach {np.abs(values).max():.2g}, more than {LARGEST:g}"


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
            InputError: the file is missing, damaged, not finished, or not plain (see
                `desed_task.dataio.hdf5`), or names a clip twice.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{self.path}: no such embeddings file; {EXTRACT_REMEDY}")
        try:
            with open_hdf5(self.path) as file:
                layout = layout_of(file)
                finished = finished_of(file, len(layout.clip_ids))
        except InputError as error:
            raise InputError(f"{error}; move it away and {EXTRACT_REMEDY}") from None
        if not finished.all():
            raise InputError(f"{self.path}: not finished; {EXTRACT_REMEDY} to complete it")
        self.clip_ids, self.size, self.n_tokens, self.identity = layout
        self._row = {clip_id: row for row, clip_id in enumerate(self.clip_ids)}
        self._stamp = _stamp(self.path)
        self._handle: Any = None
        self._pid = -1

    def frame(self, clip_id: str) -> Array:
        """Frame embeddings of a clip, (feature, token), float32.

        Raises:
            InputError: the file has no such clip, or values that no encoder computes.
        """
        return self._read(FRAME, clip_id)

    def global_(self, clip_id: str) -> Array:
        """The global embedding of a clip, (feature,), float32.

        Raises:
            InputError: the file has no such clip, or values that no encoder computes.
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
        return read_row(self._open(), dataset, row, clip_id)

    def _open(self) -> Any:
        if self._handle is None or self._pid != os.getpid():
            if _stamp(self.path) != self._stamp:
                raise InputError(f"{self.path}: was replaced while in use; start again")
            self._handle = open_hdf5(self.path)
            self._pid = os.getpid()
        return self._handle


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
