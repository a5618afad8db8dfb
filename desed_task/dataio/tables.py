"""Read tab-separated tables as text, and check their columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from desed_task.atomic_files import read_text
from desed_task.dataio.clip_names import audio_ending, clip_id_of
from desed_task.errors import InputError
from desed_task.file_names import looked_up_from


def read_text_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table without converting its cells; empty cells are "".

    The index counts the lines below the first, blank ones (which are left out) included.

    Args:
        path: a file whose first line names its columns.
        columns: required columns, including filename.

    Raises:
        InputError: the file is missing, empty, in an unknown encoding or not a table, or lacks
            columns, rows or a file name in a row.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such table{looked_up_from(path)}; see docs/data.md")
    text = read_text(path)
    try:
        # No quoting: a stray quote in a cell must not swallow the lines after it.
        frame = pd.read_csv(
            io.StringIO(text),
            sep="\t",
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            quoting=csv.QUOTE_NONE,
            index_col=False,
        )
    except pd.errors.EmptyDataError:
        frame = pd.DataFrame()
    except pd.errors.ParserError as error:
        raise InputError(
            f"{path}: not a tab-separated table ({error}); get or prepare it again"
        ) from None
    absent = [name for name in columns if name not in frame]
    if absent:
        there = ", ".join(map(str, frame)) or "none"
        raise InputError(
            f"{path}: lacks the columns {', '.join(absent)} (has {there}); "
            "columns are separated by tabs and named in the first line"
        )
    # Blank lines are not rows; the index is kept, so that line numbers are right.
    frame = frame[(frame != "").any(axis=1)]
    if frame.empty:
        raise InputError(f"{path}: table without rows; get or prepare the data again")
    nameless = np.flatnonzero(frame["filename"] == "")
    if len(nameless):
        lines = [
            f"{row_location(path, frame, row)}: no file name; correct the row" for row in nameless
        ]
        raise InputError.collect(lines, f"{path} cannot be used:")
    return frame


def row_location(path: Path, frame: pd.DataFrame, row: int | np.integer[Any]) -> str:
    """File and line of a row (its position in the frame), for messages."""
    return f"{path.name}, line {frame.index[int(row)] + 2}"


def parse_numbers(text: pd.Series[str]) -> npt.NDArray[np.float64]:
    """(row,) numbers in cells, NaN for cells that are not numbers."""
    return pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)


def clip_ids(path: Path, frame: pd.DataFrame) -> pd.Series[str]:
    """(row,) clip ids of the file names (see `desed_task.dataio.clip_names`).

    Args:
        path: the file that the frame was read from, for messages.
        frame: has the column filename.

    Raises:
        InputError: with every line whose name is not that of a file below the corpus folder, and
            names that differ in their ending only.
    """
    names = frame["filename"]
    found: dict[str, str] = {}
    faults: dict[str, str] = {}
    for name in names.unique():
        try:
            found[name] = clip_id_of(name)
        except InputError as error:
            faults[name] = str(error)
    rows = np.flatnonzero(names.isin(list(faults)))
    lines = [f"{row_location(path, frame, row)}: {faults[names.iloc[row]]}" for row in rows]
    lines += [f"{path.name}: {text}" for text in _of_several_endings(found)]
    if lines:
        raise InputError.collect(lines, f"{path} cannot be used:")
    return names.map(found)


def _of_several_endings(clip_of: dict[str, str]) -> Iterator[str]:
    """Messages about files that would become one clip: the clips of a corpus are WAV files."""
    first: dict[str, str] = {}
    for name, clip_id in clip_of.items():
        ending = audio_ending(name.strip()).lower()
        other = first.setdefault(clip_id, name) if ending else name
        if ending and audio_ending(other.strip()).lower() != ending:
            yield f"{other} and {name} would be one clip; give these files different names"
