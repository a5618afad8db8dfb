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
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from desed_task.atomic_files import PathLike
from desed_task.audio.windows import RowName, WindowKey
from desed_task.dataio.clip_names import match_names
from desed_task.errors import InputError, command_name, count_of
from desed_task.file_names import escape_name, looked_up_from
from desed_task.hdf5 import number_dataset, open_hdf5, read_attributes, read_texts

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

_OF_WINDOWS = (WINDOW_FRAME, WINDOW_GLOBAL, WINDOW_NAMES, WINDOW_STARTS)
# Attributes that extract_embeddings.py writes, and the one that no file of it lacks.
CHECKPOINT_SHA256 = "checkpoint_sha256"
ENCODER = "encoder"  # absent: beats
N_BLOCKS = "n_blocks"  # absent: all
_MADE_WITH = frozenset((CHECKPOINT_SHA256, "clip_s", "precision", ENCODER, N_BLOCKS))
EXTRACT_REMEDY = f"run {command_name('extract_embeddings.py')}"
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
        return self[1:3] == other[1:3] and made_with(self.identity) == made_with(other.identity)


def made_with(identity: Identity) -> dict[str, str | float]:
    """What embeddings were computed with; empty in a file of another program.

    Attributes that others have added to a file of ours do not count.
    """
    ours = CHECKPOINT_SHA256 in identity
    return {name: value for name, value in identity.items() if ours and name in _MADE_WITH}


def read_layout(path: PathLike) -> EmbeddingLayout:
    """The layout of a finished or unfinished file.

    Raises:
        InputError: the file is missing, damaged, not an embeddings file, or one that
            `desed_task.hdf5` refuses.
    """
    with open_hdf5(path) as file:
        return layout_of(file)


def layout_of(file: Any) -> EmbeddingLayout:
    """The layout of an open file.

    Raises:
        InputError: data sets are missing, have other types or shapes that disagree, or a clip or
            window is named twice.
    """
    try:
        frame, global_ = number_dataset(file, FRAME, 3), number_dataset(file, GLOBAL, 2)
        clip_ids = read_texts(file, NAMES)
        windows = _windows(file, frame.shape)
        finished_of(file, len(clip_ids) + len(windows))
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
    layout = EmbeddingLayout(clip_ids, n_features, n_tokens, read_attributes(file), windows)
    _refuse_ambiguous(file, layout)
    return layout


def _windows(file: Any, shape: tuple[int, ...]) -> tuple[WindowKey, ...]:
    """The windows that have rows of their own; `shape` is that of the clips' frame embeddings."""
    if not any(name in file for name in _OF_WINDOWS):
        return ()
    frame, global_ = number_dataset(file, WINDOW_FRAME, 3), number_dataset(file, WINDOW_GLOBAL, 2)
    names, starts = read_texts(file, WINDOW_NAMES), number_dataset(file, WINDOW_STARTS, 1, "iu")
    expected = (len(names), *shape[1:])
    if frame.shape != expected or global_.shape != expected[:2] or len(starts) != len(names):
        raise InputError(
            f"{file.filename}: shapes disagree: {frame.shape} {WINDOW_FRAME}, {global_.shape} "
            f"{WINDOW_GLOBAL}, {len(names)} {WINDOW_NAMES}, {len(starts)} {WINDOW_STARTS}, "
            f"{shape} {FRAME}"
        )
    return tuple(map(WindowKey, names, map(int, starts[:])))


def _refuse_ambiguous(file: Any, layout: EmbeddingLayout) -> None:
    """Refuse a file that names a clip or window twice, or windows that no clip has."""
    for what, names in (("clip", layout.clip_ids), ("window", layout.windows)):
        twice = [str(name) for name, n in Counter(names).items() if n > 1]
        if twice:
            raise InputError(
                f"{file.filename}: names {count_of(len(twice), what)} twice "
                f"({', '.join(map(escape_name, twice[:3]))}), so their embeddings are ambiguous"
            )
    clip_ids = set(layout.clip_ids)
    lost = [str(one) for one in layout.windows if one.start <= 0 or one.clip_id not in clip_ids]
    if lost:
        raise InputError(
            f"{file.filename}: {count_of(len(lost), 'window begins', 'windows begin')} nowhere "
            f"in a clip of the file ({', '.join(map(escape_name, lost[:3]))})"
        )


def finished_of(file: Any, n_rows: int) -> NDArray[np.bool_]:
    """Which rows of an open file are finished, (row,); all of them in a published file.

    Args:
        file: from `open_hdf5`.
        n_rows: number of clips and windows.

    Raises:
        InputError: the marks have another type or number.
    """
    if FINISHED not in file:
        return np.ones(n_rows, dtype=np.bool_)
    marks = number_dataset(file, FINISHED, 1, "iu")
    if len(marks) != n_rows:
        raise InputError(
            f"{file.filename}: {len(marks)} marks {FINISHED!r} of {n_rows} clips and windows"
        )
    return np.asarray(marks[:], dtype=np.bool_)


def read_row(file: Any, dataset: str, row: int, name: RowName) -> Array:
    """One row of a data set of embeddings, float32.

    Args:
        file: from `open_hdf5`.
        dataset: its name.
        row: index in it.
        name: the clip or window, for messages.

    Raises:
        InputError: it cannot be read, or holds values that no encoder computes.
    """
    try:
        values = np.asarray(file[dataset][row])
    except OSError as error:
        raise InputError(f"{file.filename}: {dataset} of {name} are damaged ({error})") from None
    reason = absurdity(values)
    if reason:
        raise InputError(
            f"{file.filename}: {dataset} of {name} {reason}: absurd for an encoder; "
            f"{EXTRACT_REMEDY} again"
        )
    # Only now, as numbers of 64 bits may be too large for 32.
    return values.astype(np.float32, copy=False)


def absurdity(values: Array) -> str:
    """What is wrong with embeddings that are not finite or far too large; empty if nothing is."""
    # Extremes of an array with NaN are NaN, for which both comparisons are false.
    # As Python's floats: LARGEST is infinite in 16 bits.
    if values.size == 0 or (float(values.max()) <= LARGEST and float(values.min()) >= -LARGEST):
        return ""
    if not np.isfinite(values).all():
        return "are not finite"
    return f"reach {np.abs(values).max():.2g}, more than {LARGEST:g}"


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

    def __init__(self, path: PathLike) -> None:
        """Read names and shapes.

        Raises:
            InputError: the file is missing, damaged, not finished, or not plain (see
                `desed_task.hdf5`), or names a clip twice.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(
                f"{self.path}: no such embeddings file{looked_up_from(self.path)}; {EXTRACT_REMEDY}"
            )
        try:
            with open_hdf5(self.path) as file:
                layout = layout_of(file)
                finished = finished_of(file, len(layout.rows))
        except InputError as error:
            raise InputError(f"{error}; move it away and {EXTRACT_REMEDY}") from None
        if not finished.all():
            raise InputError(f"{self.path}: not finished; {EXTRACT_REMEDY} to complete it")
        self.clip_ids, self.size, self.n_tokens, attributes, self.windows = layout
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
        return self._read((FRAME, WINDOW_FRAME), name)

    def global_(self, name: RowName) -> Array:
        """The global embedding of a clip or window, (feature,), float32.

        Raises:
            InputError: the file has no such row, or values that no encoder computes.
        """
        return self._read((GLOBAL, WINDOW_GLOBAL), name)

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
                f"{self.path}: has names that could be several clips; {EXTRACT_REMEDY} again:",
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
            raise InputError(f"{self.path}: no embeddings of clip {which}; {EXTRACT_REMEDY}")
        dataset, row = place_of_row(datasets, row, len(self.clip_ids))
        return read_row(self._open(), dataset, row, name)

    def _open(self) -> Any:
        if self._handle is None or self._pid != os.getpid():
            if store_stamp(self.path) != self._stamp:
                raise InputError(f"{self.path}: was replaced while in use; start again")
            self._handle = open_hdf5(self.path)
            self._pid = os.getpid()
        return self._handle


def place_of_row(datasets: tuple[str, str], row: int, n_clips: int) -> tuple[str, int]:
    """The dataset, of those of clips and of windows, that has a row, and the row in it."""
    return (datasets[0], row) if row < n_clips else (datasets[1], row - n_clips)


def store_stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced or written; None if it is missing."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
