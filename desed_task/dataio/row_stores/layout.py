"""Rows of clips in an HDF5 file: their names, shape and origin, whatever they are.

`forms` has the kinds of files; `desed_task.dataio.embeddings` and `pseudo_labels` read them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from desed_task.atomic_files import PathLike
from desed_task.audio.windows import RowName, WindowKey
from desed_task.dataio.row_stores.forms import (
    EMBEDDINGS,
    NAMES,
    WINDOW_NAMES,
    WINDOW_STARTS,
    StoreForm,
    store_form,
)
from desed_task.errors import InputError, count_of
from desed_task.file_names import escape_name
from desed_task.hdf5 import number_dataset, open_hdf5, read_attributes, read_texts

Identity = Mapping[str, str | float]
Array = NDArray[np.float32]

# One byte per clip, then per window, 1 once its rows are on disk. Published files, all complete,
# lack it.
FINISHED = "finished"

# Attributes that extract_embeddings.py writes, and the one that no file of it lacks.
CHECKPOINT_SHA256 = "checkpoint_sha256"
ENCODER = "encoder"  # absent: beats
N_BLOCKS = "n_blocks"  # absent: all
# Of pseudo-labels: the network, the SHA-256 of its encoders, and the classes, one a line.
NETWORK = "network"
ENCODER_SHA256 = "encoder_sha256"
CLASSES = "classes"
_MADE_WITH = frozenset(
    (
        *(CHECKPOINT_SHA256, "clip_s", "precision", ENCODER, N_BLOCKS),
        *(NETWORK, ENCODER_SHA256, CLASSES),
    )
)
# Encoders normalise their output: BEATs stays below 100. The largest number of 16 bits is 65504.
LARGEST = 1e5
_MOST_BYTES_PER_CLIP = 2**28


class EmbeddingLayout(NamedTuple):
    """Clips, shape and origin of the embeddings in a file.

    Attributes:
        clip_ids: one per row.
        n_features, n_tokens: shape of one clip's frame embeddings.
        identity: attributes that state what the embeddings were computed with (checkpoint, clip
            length); empty in published files.
        windows: windows that have rows of their own.
        form: kind of the file; of pseudo-labels, features are frames and tokens are classes.
    """

    clip_ids: tuple[str, ...]
    n_features: int
    n_tokens: int
    identity: dict[str, str | float]
    windows: tuple[WindowKey, ...] = ()
    form: StoreForm = EMBEDDINGS

    @property
    def rows(self) -> dict[RowName, int]:
        """Clip or window -> row; the windows follow the clips."""
        names: tuple[RowName, ...] = (*self.clip_ids, *self.windows)
        return {name: row for row, name in enumerate(names)}

    def alike(self, other: EmbeddingLayout) -> bool:
        """Whether rows can be copied between files of two layouts."""
        same_shape = self[1:3] == other[1:3] and self.form == other.form
        return same_shape and made_with(self.identity) == made_with(other.identity)


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


def store_form_at(path: PathLike) -> StoreForm | None:
    """The kind of a file by its data sets; None if it is missing, damaged or of neither kind."""
    try:
        with open_hdf5(path) as file:
            form = store_form(file)
            return form if form.frame in file else None
    except InputError:
        return None


def layout_of(file: Any) -> EmbeddingLayout:
    """The layout of an open file.

    Raises:
        InputError: data sets are missing, have other types or shapes that disagree, or a clip or
            window is named twice.
    """
    form = store_form(file)
    try:
        frame = number_dataset(file, form.frame, 3)
        global_ = number_dataset(file, form.global_, 2) if form.global_ else None
        clip_ids = read_texts(file, NAMES)
        windows = _windows(file, frame.shape, form)
        finished_of(file, len(clip_ids) + len(windows))
    except InputError as error:
        raise InputError(f"{error} ({form.layout})") from None
    n_clips, n_features, n_tokens = map(int, frame.shape)
    fits = global_ is None or global_.shape == (n_clips, n_features)
    if not fits or len(clip_ids) != n_clips:
        of_clips = "" if global_ is None else f"{global_.shape} {form.global_}, "
        raise InputError(
            f"{file.filename}: shapes disagree: {frame.shape} {form.frame}, {of_clips}"
            f"{len(clip_ids)} {NAMES} ({form.layout})"
        )
    if not n_features or not n_tokens or 8 * n_features * n_tokens > _MOST_BYTES_PER_CLIP:
        raise InputError(
            f"{file.filename}: {n_features} features and {n_tokens} tokens per clip cannot be right"
        )
    identity = read_attributes(file)
    layout = EmbeddingLayout(clip_ids, n_features, n_tokens, identity, windows, form)
    _refuse_ambiguous(file, layout)
    return layout


def _windows(file: Any, shape: tuple[int, ...], form: StoreForm) -> tuple[WindowKey, ...]:
    """The windows that have rows of their own; `shape` is that of the clips' rows by frame."""
    if not any(name in file for name in form.of_windows):
        return ()
    found = {
        name: number_dataset(file, name, n_axes)
        for name, n_axes in ((form.window_frame, 3), (form.window_global, 2))
        if name
    }
    names, starts = read_texts(file, WINDOW_NAMES), number_dataset(file, WINDOW_STARTS, 1, "iu")
    expected = (len(names), *shape[1:])
    fit = all(one.shape == expected[: one.ndim] for one in found.values())
    if not fit or len(starts) != len(names):
        shapes = ", ".join(f"{one.shape} {name}" for name, one in found.items())
        raise InputError(
            f"{file.filename}: shapes disagree: {shapes}, {len(names)} {WINDOW_NAMES}, "
            f"{len(starts)} {WINDOW_STARTS}, {shape} {form.frame}"
        )
    return tuple(map(WindowKey, names, map(int, starts[:])))


def _refuse_ambiguous(file: Any, layout: EmbeddingLayout) -> None:
    """Refuse a file that names a clip or window twice, or windows that no clip has."""
    for what, names in (("clip", layout.clip_ids), ("window", layout.windows)):
        twice = [str(name) for name, n in Counter(names).items() if n > 1]
        if twice:
            raise InputError(
                f"{file.filename}: names {count_of(len(twice), what)} twice "
                f"({', '.join(map(escape_name, twice[:3]))}), so their {layout.form.what} are "
                "ambiguous"
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
        form = store_form(file)
        raise InputError(
            f"{file.filename}: {dataset} of {name} {reason}: absurd for {form.maker}; "
            f"{form.remedy} again"
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
