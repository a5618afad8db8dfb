"""Open HDF5 files safely: only plain data sets inside the file are accepted.

HDF5 can refer to other files (external links, external storage, virtual data sets) and load
filters from libraries. A file from elsewhere could so read or overwrite any file of the user, and
a small one could claim more data than memory holds. `open_hdf5` refuses all of that before any
data is read; nothing else in the code base opens HDF5 files.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from desed_task.atomic_files import PathLike
from desed_task.errors import InputError, count_of
from desed_task.file_names import looked_up_from

# Filters that are built into HDF5 (deflate, shuffle, checksum, szip, nbit, scale-offset) and into
# h5py (LZF); others are loaded from libraries.
_BUILT_IN_FILTERS = frozenset((1, 2, 3, 4, 5, 6, 32000))
# HDF5 reads at least one whole chunk; those of one clip have 1.5 MB.
_MOST_CHUNK_BYTES = 2**28
# Of the texts, which are read at once.
_MOST_TEXTS = 10_000_000
_MOST_TEXT_BYTES = 2**30
_LONGEST_TEXT = 4096
_BLOCK = 1024
_PLAIN_TYPES = (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID, h5py.h5t.TypeStringID)
# What h5py raises for damaged files.
_DAMAGED = (OSError, KeyError, ValueError, RuntimeError, TypeError, OverflowError)


class FileInUseError(InputError):
    """Another run writes the file."""


def open_hdf5(path: PathLike, mode: Literal["r", "r+"] = "r") -> Any:
    """Open an existing HDF5 file in which every member is a plain data set.

    Plain data sets hold numbers or texts, are stored completely inside the file, in chunks of a
    reasonable size, compressed only by filters built into HDF5 and h5py.

    Args:
        path: the file.
        mode: "r" to read (without a lock: a finished file never changes, and some file systems
            have none), "r+" to write in place.

    Returns:
        the open `h5py.File`.

    Raises:
        FileInUseError: another run writes it (mode "r+").
        InputError: not an HDF5 file, damaged, or with other members.
    """
    path = Path(path)
    _refuse_irregular(path)
    if mode == "r+":
        # To open a file for writing may already change it, so what is refused is only read.
        open_hdf5(path).close()
    file = _opened(path, mode)
    try:
        for name in file:
            reason = _why_not_plain(file, name)
            if reason:
                raise InputError(
                    f"{path}: {name!r} {reason}; only plain data sets inside the file are accepted"
                )
    except InputError:
        file.close()
        raise
    except _DAMAGED as error:
        file.close()
        raise InputError(f"{path}: damaged ({error})") from None
    return file


def create_hdf5(path: PathLike) -> Any:
    """Create an HDF5 file and open it for writing.

    Raises:
        FileExistsError: there is a file or link already.
    """
    return h5py.File(path, "x")


def write_values(file: Any, name: str, key: Any, values: Any) -> None:
    """Write into a data set of an open file, to the system.

    What is written later, as the data set is closed, may fail without an error: on a full disk the
    values would be missing and nobody would know.

    Args:
        file: from `open_hdf5`, in mode "r+".
        name: of the data set.
        key: index or slice.
        values: what is written there.

    Raises:
        OSError, RuntimeError: they cannot be written.
    """
    found = file[name]
    found[key] = values
    found.flush()


def allocate_numbers(
    file: Any, name: str, shape: tuple[int, ...], chunks: tuple[int, ...] | None = None
) -> Any:
    """Create a float32 data set whose space is allocated at once, but not filled.

    On most file systems what is not written takes no space, and reads as zeros.

    Returns:
        the `h5py.Dataset`.
    """
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return file.create_dataset(name, shape, dtype=np.float32, chunks=chunks, dcpl=plan)


def number_dataset(file: Any, name: str, n_axes: int, kinds: str = "f") -> Any:
    """A data set of numbers.

    Args:
        file: from `open_hdf5`.
        name: of the data set.
        n_axes: its number of axes.
        kinds: NumPy's codes of accepted types ("f" float, "i" signed, "u" unsigned).

    Raises:
        InputError: it is absent, or has another type or number of axes.
    """
    found = _member(file, name)
    dtype = found.dtype
    if dtype.kind not in kinds or dtype.itemsize > 8 or found.ndim != n_axes:
        what = "numbers" if "f" in kinds else "whole numbers"
        raise InputError(
            f"{file.filename}: {name!r} holds {dtype} of shape {found.shape}, not {what} along "
            f"{count_of(n_axes, 'axis', 'axes')}"
        )
    return found


def read_texts(file: Any, name: str) -> tuple[str, ...]:
    """All texts of a data set with one axis.

    Raises:
        InputError: it is absent, has another type or shape, or texts that are too long or not
            UTF-8.
    """
    found = _member(file, name)
    kind = h5py.check_string_dtype(found.dtype)
    if kind is None or found.ndim != 1:
        raise InputError(
            f"{file.filename}: {name!r} holds {found.dtype} of shape {found.shape}, not texts "
            "along 1 axis"
        )
    n_texts, n_bytes = len(found), kind.length or 1
    if (
        n_bytes > _LONGEST_TEXT
        or n_texts > _MOST_TEXTS
        or n_texts * found.dtype.itemsize > _MOST_TEXT_BYTES
    ):
        raise InputError(
            f"{file.filename}: {name!r} claims {count_of(n_texts, 'text')} of "
            f"{count_of(n_bytes, 'byte')}, at most {_MOST_TEXTS} of {_LONGEST_TEXT} are read"
        )
    texts: list[str] = []
    try:
        for start in range(0, n_texts, _BLOCK):
            block = found.asstr()[start : start + _BLOCK]
            texts += (str(text) for text in block)
            if max(map(len, texts[start:])) > _LONGEST_TEXT:
                raise InputError(
                    f"{file.filename}: {name!r} has a text of more than {_LONGEST_TEXT} characters"
                )
    except UnicodeDecodeError as error:
        raise InputError(f"{file.filename}: {name!r} has a text that is not UTF-8") from error
    except OSError as error:
        raise InputError(f"{file.filename}: damaged ({error})") from None
    return tuple(texts)


def read_attributes(file: Any) -> dict[str, str | float]:
    """Attributes of a file, each one text or one number.

    Raises:
        InputError: an attribute holds something else, such as an array.
    """
    try:
        return {name: _attribute(file, name) for name in file.attrs}
    except (OSError, KeyError, RuntimeError, TypeError) as error:
        raise InputError(f"{file.filename}: damaged attributes ({error})") from None


def _attribute(file: Any, name: str) -> str | float:
    found = file.attrs.get_id(name)
    plain = isinstance(found.get_type(), _PLAIN_TYPES)
    # An array of one value is how some programs write a single value.
    if plain and found.shape is not None and math.prod(found.shape) == 1:
        value = np.asarray(file.attrs[name]).reshape(-1)[0]
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        return str(value) if isinstance(value, str) else float(value)
    what = f"an array of shape {found.shape}" if plain and found.shape else "another kind of value"
    raise InputError(
        f"{file.filename}: attribute {name!r} holds {what}, not one text or number; remove it"
    )


def _refuse_irregular(path: Path) -> None:
    """Refuse anything but a file, such as a pipe, which would block."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(f"{path}: no such file{looked_up_from(path)}") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
        raise InputError(f"{path}: is {what}, not an HDF5 file")


def _opened(path: Path, mode: str) -> Any:
    try:
        if mode == "r":
            return h5py.File(path, mode, locking=False)
        # A cache of chunks would be written as a data set is closed (see `write_values`).
        return h5py.File(path, mode, rdcc_nbytes=0)
    except BlockingIOError:
        raise FileInUseError(f"{path}: another run is writing it; wait until it ends") from None
    except PermissionError:
        raise InputError(f"{path}: permission denied; correct its permissions") from None
    except _DAMAGED as error:
        if not h5py.is_hdf5(os.fspath(path)):
            raise InputError(f"{path}: not an HDF5 file") from None
        raise InputError(f"{path}: damaged or cut short ({error})") from None


def _member(file: Any, name: str) -> Any:
    if name not in file:
        raise InputError(f"{file.filename}: has no data set {name!r}")
    return file[name]


def _why_not_plain(file: Any, name: str | bytes) -> str:
    """Why a member is not a plain data set; empty if it is one.

    Nothing is followed or read: low-level calls, as `h5py.Dataset` would open the other files of
    a virtual data set to find its shape.
    """
    key = name if isinstance(name, bytes) else name.encode(errors="surrogateescape")
    if file.id.links.get_info(key).type != h5py.h5l.TYPE_HARD:
        return "is a link (to another place or file)"
    found = h5py.h5o.open(file.id, key)
    if not isinstance(found, h5py.h5d.DatasetID):
        return "is a group or type, not a data set"
    plan = found.get_create_plist()
    layout = plan.get_layout()
    if layout == h5py.h5d.VIRTUAL:
        return "is a virtual data set, made of other files"
    if plan.get_external_count():
        return "is stored outside the file"
    filters = [plan.get_filter(index)[0] for index in range(plan.get_nfilters())]
    foreign = set(filters) - _BUILT_IN_FILTERS
    if foreign:
        return f"is compressed by filter {min(foreign)}, which is not built into HDF5"
    kind = found.get_type()
    if not isinstance(kind, _PLAIN_TYPES):
        return "holds neither numbers nor texts"
    chunk = plan.get_chunk() if layout == h5py.h5d.CHUNKED else None
    return _why_incomplete(found, kind.get_size(), chunk, bool(filters))


def _why_incomplete(
    found: Any, item_bytes: int, chunk: tuple[int, ...] | None, filtered: bool
) -> str:
    """Why a data set may not hold what it claims; empty if it does."""
    shape = found.get_space().get_simple_extent_dims()
    if shape is None:
        return "is empty, without a shape"
    # In Python's integers: the product that HDF5 computes can overflow.
    claimed = math.prod(shape) * item_bytes
    if chunk is not None:
        chunk_bytes = math.prod(chunk) * item_bytes
        if chunk_bytes > _MOST_CHUNK_BYTES:
            return (
                f"is stored in chunks of {chunk_bytes / 1e6:.0f} MB, at most "
                f"{_MOST_CHUNK_BYTES / 1e6:.0f} MB are read"
            )
    if claimed and chunk is not None and filtered:
        n_chunks = math.prod(-(-size // step) for size, step in zip(shape, chunk, strict=True))
        complete = found.get_num_chunks() >= n_chunks
    else:
        complete = found.get_storage_size() >= claimed
    return "" if complete else f"claims {shape} values, but only a part of them is stored"
