"""Rows of label files as text, each with its file and line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from desed_task.atomic_files import read_text
from desed_task.dataio.clip_names import clip_id_of, last_part
from desed_task.dataio.label_files.forms import (
    FILENAME,
    OFFSET,
    ONSET,
    LabelForm,
    is_number,
)
from desed_task.errors import InputError, count_of, warn_once
from desed_task.file_names import looked_up_from

_EXAMPLES: Final = 3


class RowPlace(NamedTuple):
    """Where a row is."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}"


@dataclass
class LabelRows:
    """Rows of one or several label files.

    Attributes:
        clip_ids: clips that they list, in order, those of files without rows included.
        clips: (row,) the clip of each row.
        places: (row,) file and line of each row.
        cells: role -> (row,) text without blanks around it; roles that a file lacks are "".
        faults: what makes files unusable, each with its file and line.
    """

    clip_ids: dict[str, None] = field(default_factory=dict)
    clips: list[str] = field(default_factory=list)
    places: list[RowPlace] = field(default_factory=list)
    cells: dict[str, list[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.clips)

    def column(self, role: str, absent: str = "") -> list[str]:
        """(row,) the cells of a role."""
        return self.cells.get(role, [absent] * len(self))

    def add(self, clip_id: str, place: RowPlace, cells: Mapping[str, str]) -> None:
        """Append a row."""
        for role in cells:
            if role not in self.cells:  # earlier files had no such column
                self.cells[role] = [""] * len(self.clips)
        for role, column in self.cells.items():
            column.append(cells.get(role, ""))
        self.clips.append(clip_id)
        self.places.append(place)
        self.clip_ids[clip_id] = None


def read_table_rows(path: Path, form: LabelForm) -> LabelRows:
    """The rows of a table of several clips.

    Raises:
        InputError: the file is missing, empty or not such a table. Rows that cannot be used are in
            `faults` of the result.
    """
    rows = LabelRows()
    known: dict[str, str] = {}
    for place, cells in _rows_of(path, form, rows.faults):
        name = cells.pop(FILENAME)
        try:
            if name not in known:
                known[name] = clip_id_of(name)
            rows.add(known[name], place, cells)
        except InputError as error:
            rows.faults.append(f"{place}: {error if name else 'no file name; correct the row'}")
    if not rows.clips and not rows.faults:
        raise InputError(f"{path}: table without rows; get or prepare the data again")
    return rows


def read_clip_rows(files: Iterable[tuple[str, Path]], form: LabelForm) -> LabelRows:
    """The rows of label files of one clip each; an empty file is a clip without events.

    Args:
        files: clip and label file, each clip once.
        form: of the files.
    """
    rows = LabelRows()
    for clip_id, path in files:
        rows.clip_ids[clip_id] = None
        try:
            for place, cells in _rows_of(path, form, rows.faults):
                if fault := _of_another_clip(cells.pop(FILENAME, ""), clip_id):
                    rows.faults.append(f"{place}: {fault}")
                rows.add(clip_id, place, cells)
        except InputError as error:
            rows.faults.append(str(error))
    return rows


def _of_another_clip(name: str, clip_id: str) -> str:
    """A fault if a row in the file of one clip names another clip; "" if it does not."""
    try:
        named = clip_id_of(name.replace("\\", "/").lstrip("/")) if name else clip_id
    except InputError as error:
        return str(error)
    if last_part(named) == last_part(clip_id):
        return ""
    return f"names {name!r}, but the file is that of {clip_id}; correct the row"


def _rows_of(
    path: Path, form: LabelForm, faults: list[str]
) -> Iterator[tuple[RowPlace, dict[str, str]]]:
    """The rows that a form reads of a file, role by role; messages about others go to `faults`."""
    records = list(_records(path, form))
    if not records:
        if form.of_clip:
            return
        raise InputError(f"{path}: table without rows; get or prepare the data again")
    # Trailing empty cells are not there, so that a clip without events has a short row.
    first = records[0][1] if form.header else max((cells for _, cells in records), key=len)
    try:
        places = form.places(first)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    chosen = _chosen(path, form, first, records)
    data = records if _without_header(path, form, places, records) else records[1:]
    width = len(first)
    for place, cells in data:
        if len(cells) > width and form.n_cells is None:
            faults.append(
                f"{place}: {count_of(len(cells), 'cell')}, the first line has {width}; quote cells "
                "that contain the separator"
            )
        elif all(_cell(cells, at) in values for at, values in chosen):
            yield place, {role: _cell(cells, at) for role, at in places.items()}


def _cell(cells: Sequence[str], place: int) -> str:
    return cells[place].strip() if place < len(cells) else ""


def _without_header(
    path: Path,
    form: LabelForm,
    places: Mapping[str, int],
    records: Sequence[tuple[RowPlace, list[str]]],
) -> bool:
    """Whether the first line is a row: by the description of the table, and by its cells."""
    times = [_cell(records[0][1], places[role]) for role in (ONSET, OFFSET) if role in places]
    if form.header:
        # Columns are given by number, or they would not have been found.
        looks_like_row = bool(times) and all(map(is_number, times))
        if looks_like_row:
            warn_once(f"{path}: has no header, line 1 is read as a row; set header: false")
        return looks_like_row
    named = bool(times) and not any(map(is_number, times)) and all(times)
    if named and len(records) > 1:
        raise InputError(
            f"{path}: its first line ({', '.join(records[0][1])}) names the columns; set header: "
            "true"
        )
    return True


def _chosen(
    path: Path,
    form: LabelForm,
    first: Sequence[str],
    records: Sequence[tuple[RowPlace, list[str]]],
) -> list[tuple[int, frozenset[str]]]:
    """Column -> values of the rows that are read."""
    found = []
    for column, values in form.where.items():
        place = form.place_of(column, first)
        if place is None:
            there = ", ".join(cell.strip() for cell in first)
            raise InputError(f"{path}: where: lacks the column {column!r} (has {there})")
        wanted = frozenset(value.strip() for value in values)
        there_are = dict.fromkeys(_cell(cells, place) for _, cells in records[int(form.header) :])
        if not wanted & there_are.keys() and not form.of_clip:
            names = list(map(repr, there_are))
            more = ", ..." if len(names) > _EXAMPLES else ""
            raise InputError(
                f"{path}: where: no row has {' or '.join(map(repr, values))} in the column "
                f"{column!r}, which has {', '.join(names[:_EXAMPLES])}{more}"
            )
        found.append((place, wanted))
    return found


def _records(path: Path, form: LabelForm) -> Iterator[tuple[RowPlace, list[str]]]:
    """The lines of a file as cells, without blank ones and comments."""
    if not path.is_file():
        raise InputError(f"{path}: no such table{looked_up_from(path)}; see docs/data.md")
    text = read_text(path)
    if form.separator == " ":
        yield from _split_at_blanks(path, text, form)
        return
    quoted = form.separator != "\t"
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=form.separator,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        skipinitialspace=quoted,
        strict=True,
    )
    line = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{path}, line {line}: not a table ({error})") from None
        here, line = RowPlace(path, line), reader.line_num + 1
        while cells and not cells[-1].strip():
            cells.pop()
        if cells and not (form.comment and cells[0].startswith(form.comment)):
            yield here, cells


def _split_at_blanks(
    path: Path, text: str, form: LabelForm
) -> Iterator[tuple[RowPlace, list[str]]]:
    """Lines of cells with blanks between; the last cell may contain blanks."""
    most = len(form.required) - 1 if form.n_cells is None else form.n_cells - 1
    for line, content in enumerate(io.StringIO(text), 1):
        if form.header and line == 1:
            cells = content.split()
            most = len(cells) - 1
        else:
            cells = content.split(None, most)
        if cells:
            yield RowPlace(path, line), [*cells[:-1], cells[-1].rstrip()]
