"""How a text file of labels is written: separator, header, and which column is which."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

from desed_task.atomic_files import read_text
from desed_task.dataio.clip_names import audio_ending, clip_id_of, last_part
from desed_task.errors import InputError, forget_warnings

SEPARATORS: Final = {"tab": "\t", "comma": ",", "semicolon": ";", "space": " "}
# Words in names of columns, of which a table with a header need not be guessed.
_ONSETS: Final = ("onset", "start", "begin", "t0", "from", "start_time", "begin_time")
_OFFSETS: Final = ("offset", "end", "stop", "t1", "to", "end_time", "stop_time")
_LABELS: Final = (
    *("event_label", "event_labels", "label", "labels", "class", "classes", "event", "events"),
    *(
        "category",
        "tag",
        "tags",
        "annotation",
        "species",
        "sound",
        "target_classes",
        "species_code",
    ),
)
_CONFIDENCES: Final = ("confidence", "score", "value", "probability", "prob", "certainty", "soft")
_ANNOTATORS: Final = ("annotator", "annotator_id", "rater", "worker", "worker_id", "labeller")
_SPLITS: Final = ("split", "subset", "set", "partition", "fold_name")
# Behind the name of a column: onset_ms, Begin Time (s).
_UNIT: Final = re.compile(r"_(?:(s|secs?|seconds?)|(ms|msecs?|milliseconds?))$")
# A line that begins like that is a row of times, and no label.
_TIMES: Final = re.compile(r"\s*[-+]?\d+(?:[.,]\d+)?[\s;,]+[-+]?\d+(?:[.,]\d+)?(?:[\s;,]|$)")
_MOST_ROWS_SNIFFED: Final = 2000
# Share of the rows whose times are in order, from which on two columns are onset and offset.
_IN_ORDER: Final = 0.5
# Share of the rows that name a recording, from which on a column is that of file names.
_NAMED: Final = 0.5


@dataclass(frozen=True)
class TableLayout:
    """The form of a text file of labels.

    Attributes:
        separator: name of the separator, a key of `SEPARATORS`.
        header: names of the columns; empty without a header.
        columns: filename, onset, offset, label, confidence, annotator, split -> number of the
            column from 0 on.
        in_ms: whether times are in milliseconds.
        rows: cells of all lines but the header.
        lines: number of each row's line in the file.
    """

    separator: str
    header: tuple[str, ...]
    columns: Mapping[str, int]
    in_ms: bool
    rows: tuple[tuple[str, ...], ...] = field(repr=False)
    lines: tuple[int, ...] = field(repr=False)

    @property
    def is_strong(self) -> bool:
        """Whether it has times."""
        return {"onset", "offset"} <= {*self.columns}

    def described(self) -> dict[str, str | int]:
        """The columns as a description gives them: by name where there is a header."""
        return {
            role: self.header[place] if self.header else place
            for role, place in self.columns.items()
            if role != "split"
        }

    @property
    def unused(self) -> tuple[str, ...]:
        """Names of columns that are not read; none without a header."""
        used = {*self.columns.values()}
        return tuple(name for place, name in enumerate(self.header) if name and place not in used)

    def cell(self, row: Sequence[str], role: str) -> str:
        """The text of a row in the column of a role; "" if there is none."""
        place = self.columns.get(role, len(row))
        return row[place].strip() if place < len(row) else ""


def guess_layout(
    path: Path, is_clip: Callable[[str], bool], *, of_clip: bool, longest_s: float
) -> TableLayout | None:
    """The layout of a file that holds labels; None for any other text.

    Args:
        path: the file.
        is_clip: whether a cell names a recording.
        of_clip: whether the file has the labels of one clip, whose name it need not contain.
        longest_s: of all recordings, which tells seconds from milliseconds.
    """
    try:
        text = read_text(path)
    except InputError:
        return None
    finally:
        forget_warnings()  # Of the encoding: the file may be no table, and is read again.
    layouts = [
        layout
        for name, separator in SEPARATORS.items()
        if (layout := _layout(text, name, separator, is_clip, of_clip=of_clip, longest_s=longest_s))
    ]
    # A line that another separator does not divide would be a label.
    return next((one for one in layouts if one.is_strong), next(iter(layouts), None))


def names_clip(known: Mapping[str, str]) -> Callable[[str], bool]:
    """Whether a cell names a recording.

    Args:
        known: last part of a clip id, in lower case -> clip id.
    """

    def check(cell: str) -> bool:
        try:
            return last_part(clip_id_of(cell)).casefold() in known
        except InputError:
            return False

    return check


def number(text: str) -> float | None:
    """A cell's number, with a point or a comma; None if it is none, or not finite."""
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def _layout(
    text: str,
    name: str,
    separator: str,
    is_clip: Callable[[str], bool],
    *,
    of_clip: bool,
    longest_s: float,
) -> TableLayout | None:
    cells = _cells(text, separator, of_clip=of_clip)
    width = max((len(row) for _, row in cells[:_MOST_ROWS_SNIFFED]), default=0)
    if not width or (width == 1 and not of_clip):
        return None
    for has_header in (False, True):
        body = cells[int(has_header) :]
        header = [cell.strip() for cell in cells[0][1]] if has_header else []
        if len(set(header)) < len(header) or not body:
            continue
        rows = [row for _, row in body[:_MOST_ROWS_SNIFFED]]
        columns = _columns(rows, width, header, is_clip, of_clip=of_clip)
        if columns is None or (not header and _looks_like_header(rows[0], columns, is_clip)):
            continue
        return TableLayout(
            name,
            tuple(header),
            columns,
            _in_ms(rows, columns, header, longest_s),
            tuple(tuple(row) for _, row in body),
            tuple(line for line, _ in body),
        )
    return None


def _looks_like_header(
    row: Sequence[str], columns: Mapping[str, int], is_clip: Callable[[str], bool]
) -> bool:
    """Whether a first row has words where the others have times or names of recordings."""
    times = [row[columns[one]] for one in ("onset", "offset") if columns.get(one, 99) < len(row)]
    if times:
        return not any(number(text) is not None for text in times)
    name = row[columns["filename"]] if columns.get("filename", 99) < len(row) else None
    return name is not None and not is_clip(name) and not audio_ending(name)


def _cells(text: str, separator: str, *, of_clip: bool) -> list[tuple[int, list[str]]]:
    """(line, cells) of the lines that are not blank; comments of Audacity's left out."""
    if separator == " ":
        most = 2 if of_clip else -1
        rows = [
            (line, content.split(None, most)) for line, content in enumerate(text.splitlines(), 1)
        ]
    else:
        quoting = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=separator,
            quoting=quoting,
            skipinitialspace=quoting == csv.QUOTE_MINIMAL,
        )
        rows = []
        try:
            rows = [(reader.line_num, row) for row in reader]
        except csv.Error:
            return []
    return [(n, row) for n, row in rows if "".join(row).strip() and not row[0].startswith("\\")]


def _columns(
    rows: Sequence[Sequence[str]],
    width: int,
    header: Sequence[str],
    is_clip: Callable[[str], bool],
    *,
    of_clip: bool,
) -> dict[str, int] | None:
    """Which column is which; None if this is no table of labels."""
    by_column = [[row[i] if i < len(row) else "" for row in rows] for i in range(width)]
    named: dict[str, int] = {}
    for place, text in enumerate(header):
        named.setdefault(_UNIT.sub("", _plain(text)), place)
    found: dict[str, int] = {}
    shares = [sum(map(is_clip, cells)) / len(rows) for cells in by_column]
    if max(shares) >= _NAMED:
        found["filename"] = shares.index(max(shares))
    elif not of_clip:
        return None
    numeric = [i for i in range(width) if _is_numeric(by_column[i]) and i not in found.values()]
    found |= _times(by_column, numeric, named)
    taken = {*found.values()}
    for role, names in (
        ("confidence", _CONFIDENCES),
        ("annotator", _ANNOTATORS),
        ("split", _SPLITS),
    ):
        places = [named[one] for one in names if one in named and named[one] not in taken]
        if places and (role != "confidence" or places[0] in numeric):
            found[role] = places[0]
            taken.add(places[0])
    label = _label_column(by_column, named, taken, numeric)
    behind = found.get("offset", width) + 1
    if label is None and not header and behind < width:
        label = behind  # Labels that are numbers.
        found.pop("confidence", None)
    if label is None:
        return None
    found["label"] = label
    if not header and "onset" in found and "confidence" not in found:
        rest = [i for i in numeric if i not in taken]
        if rest and _is_share(by_column[rest[-1]]):
            found["confidence"] = rest[-1]
    # Any text: only times, or one label a line, say that these are labels.
    is_list = width == 1 and not any(map(_TIMES.match, by_column[0]))
    if of_clip and "onset" not in found and "filename" not in found and not is_list:
        return None
    return found


def _times(
    by_column: Sequence[Sequence[str]], numeric: Sequence[int], named: Mapping[str, int]
) -> dict[str, int]:
    """Columns of onset and offset: by their names, or the two that are most often in order."""
    onset = next((named[one] for one in _ONSETS if one in named and named[one] in numeric), None)
    offset = next((named[one] for one in _OFFSETS if one in named and named[one] in numeric), None)
    if onset is not None and offset is not None:
        return {"onset": onset, "offset": offset}
    if named:  # Other numbers of a table with names, e.g. a duration, are no times.
        return {}
    best, times = _IN_ORDER, {}
    for first, second in pairwise(numeric):
        pairs = list(zip(by_column[first], by_column[second], strict=True))
        values = [(number(a) or 0.0, number(b) or 0.0) for a, b in pairs]
        in_order = sum(a <= b for a, b in values) / len(values)
        if in_order > best and any(a < b for a, b in values):
            best, times = in_order, {"onset": first, "offset": second}
    return times


def _label_column(
    by_column: Sequence[Sequence[str]],
    named: Mapping[str, int],
    taken: set[int],
    numeric: Sequence[int],
) -> int | None:
    places = [named[one] for one in _LABELS if one in named and named[one] not in taken]
    if places:
        return places[0]
    if named:
        return None
    texts = [i for i in range(len(by_column)) if i not in taken and i not in numeric]
    # Behind the times, or the one with most different texts: a scene is the same in many rows.
    return max(texts, key=lambda i: (len(set(by_column[i])), i), default=None)


def _is_numeric(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell.strip()]
    return bool(filled) and sum(number(one) is not None for one in filled) >= 0.9 * len(filled)


def _is_share(cells: Sequence[str]) -> bool:
    values = [number(cell) for cell in cells]
    return all(value is not None and 0 <= value <= 1 for value in values)


def _plain(text: str) -> str:
    """The name of a column in small letters, with an underscore for all that is no letter."""
    return re.sub(r"\W+", "_", text.casefold()).strip("_")


def _in_ms(
    rows: Sequence[Sequence[str]],
    columns: Mapping[str, int],
    header: Sequence[str],
    longest_s: float,
) -> bool:
    """Whether times are in milliseconds: by the column's name, or by whole numbers that are far
    beyond the recordings.
    """
    if "offset" not in columns:
        return False
    if header and (unit := _UNIT.search(_plain(header[columns["offset"]]))):
        return unit[2] is not None
    texts = [row[columns["offset"]] for row in rows if columns["offset"] < len(row)]
    values = sorted(value for text in texts if (value := number(text)) is not None)
    if not values or any(value != int(value) for value in values):
        return False
    middle = values[len(values) // 2]
    return middle > max(3 * longest_s, 100) and middle / 1000 <= longest_s
