"""Forms that label files have: separator, columns, unit; and which column is which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from desed_task.errors import InputError, count_of

FILENAME: Final = "filename"
ONSET: Final = "onset"
OFFSET: Final = "offset"
LABEL: Final = "label"
CONFIDENCE: Final = "confidence"
ANNOTATOR: Final = "annotator"
COLLECTOR: Final = "collector"

LabelsOf = Literal["events", "clips"]

# Role -> names of the column where a form gives none.
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    FILENAME: ("filename",),
    ONSET: ("onset",),
    OFFSET: ("offset",),
    LABEL: ("event_label",),
    CONFIDENCE: ("confidence",),
    ANNOTATOR: ("annotator", "annotator_id"),
    COLLECTOR: ("annotator_is_creator",),
}
_WEAK_NAMES: Final = ("event_labels", "event_label")
# Number of cells -> roles, of tables without header; "" is not read.
_OF_CLIP: Final[Mapping[int, tuple[str, ...]]] = {
    3: (ONSET, OFFSET, LABEL),
    4: (ONSET, OFFSET, LABEL, CONFIDENCE),
    5: (FILENAME, "", ONSET, OFFSET, LABEL),
}
_OF_TABLE: Final[Mapping[int, tuple[str, ...]]] = {
    4: (FILENAME, ONSET, OFFSET, LABEL),
    5: (FILENAME, ONSET, OFFSET, LABEL, CONFIDENCE),
}
_OF_WEAK: Final[Mapping[int, tuple[str, ...]]] = {2: (FILENAME, LABEL)}
_OF_WEAK_CLIP: Final[Mapping[int, tuple[str, ...]]] = {1: (LABEL,)}


@dataclass(frozen=True)
class LabelForm:
    """How a table of labels, or the label file of a clip, is written.

    Attributes:
        labels: of events, or of whole clips.
        separator: one character; a blank stands for any number of them.
        header: whether the first line names the columns.
        columns: role (`FILENAME`, ...) -> name of the column, or its number from 0 on.
        seconds: seconds of a unit of onsets and offsets.
        where: column (a name or a number) -> values; rows with others are not read.
        of_clip: whether a file has the labels of one clip, whose name it need not contain.
        needs: roles that must be there beside those that the kind of labels needs.
        comment: beginning of lines that are not read; "" for none.
    """

    labels: LabelsOf = "events"
    separator: str = "\t"
    header: bool = True
    columns: Mapping[str, str | int] = field(default_factory=dict)
    seconds: float = 1.0
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    of_clip: bool = False
    needs: tuple[str, ...] = ()
    comment: str = ""

    @classmethod
    def audacity(cls) -> LabelForm:
        """Label tracks of Audacity; lines with a backslash tell the frequencies of a label."""
        columns = {ONSET: 0, OFFSET: 1, LABEL: 2}
        return cls(header=False, columns=columns, of_clip=True, comment="\\")

    @property
    def required(self) -> tuple[str, ...]:
        """Roles that must be there."""
        events = (ONSET, OFFSET) if self.labels == "events" else ()
        return (*(() if self.of_clip else (FILENAME,)), *events, LABEL, *self.needs)

    @property
    def n_cells(self) -> int | None:
        """Cells up to the last column that is read, if all are given by number."""
        numbers = [number for one in self.columns.values() if (number := _number(one)) is not None]
        complete = len(numbers) == len(self.columns) >= len(self.required)
        return max(numbers) + 1 if complete and numbers else None

    def places(self, first: Sequence[str]) -> dict[str, int]:
        """The columns of the roles that a table has.

        Args:
            first: its first row, which names the columns if there is a header.

        Raises:
            InputError: a column is missing or there twice, or cannot be told.
        """
        found = self._named(first) if self.header else self._numbered(first)
        absent = [role for role in self.required if role not in found]
        if absent:
            raise InputError(self._lacks(absent, first))
        return found

    def place_of(self, column: str, first: Sequence[str]) -> int | None:
        """The place of a column that is given by its name or number; None if it is not there."""
        if self.header and column in (names := [cell.strip() for cell in first]):
            return names.index(column)
        number = _number(column)
        return number if number is not None and number < len(first) else None

    def _named(self, first: Sequence[str]) -> dict[str, int]:
        names, found = [cell.strip() for cell in first], {}
        for role, defaults in _NAMES.items():
            given = self.columns.get(role)
            if role == LABEL and self.labels == "clips":
                defaults = _WEAK_NAMES
            for name in defaults if given is None else (given,):
                place = name if isinstance(name, int) else self.place_of(name, first)
                if place is None or place >= len(first):
                    continue
                if isinstance(name, str) and names.count(name) > 1:
                    raise InputError(f"has several columns {name!r}; rename all but one")
                found[role] = place
                break
            else:
                if given is not None:
                    raise InputError(self._lacks([role], first))
        return found

    def _numbered(self, first: Sequence[str]) -> dict[str, int]:
        if not self.columns:
            return self._guessed(first)
        named = {role: one for role, one in self.columns.items() if _number(one) is None}
        if named:
            role, name = next(iter(named.items()))
            raise InputError(
                f"columns.{role}: is {name!r}, but the table has no header; give numbers from 0 "
                "on, or set header: true"
            )
        places = {role: int(one) for role, one in self.columns.items()}
        beyond = {role: place for role, place in places.items() if place >= len(first)}
        if beyond and not self.of_clip:  # Those of one clip may all have an empty label.
            role, place = next(iter(beyond.items()))
            raise InputError(
                f"columns.{role}: is {place}, but the table has "
                f"{count_of(len(first), 'column')}, counted from 0 on"
            )
        return places

    def _guessed(self, first: Sequence[str]) -> dict[str, int]:
        """The columns of a table without header of which nothing is said."""
        if self.labels == "clips":
            known = _OF_WEAK_CLIP if self.of_clip else _OF_WEAK
        else:
            known = _OF_CLIP if self.of_clip else _OF_TABLE
        roles = known.get(len(first))
        if roles is None:
            texts = [f"{n} ({', '.join(role or 'scene' for role in known[n])})" for n in known]
            raise InputError(
                f"has {count_of(len(first), 'column')} and no header; without `columns` there are "
                f"{' or '.join(texts)}"
            )
        return {role: place for place, role in enumerate(roles) if role}

    def _lacks(self, absent: Sequence[str], first: Sequence[str]) -> str:
        wanted = [str(self.columns.get(role, _default(role, self.labels))) for role in absent]
        text = f"lacks the columns {', '.join(wanted)}"
        if not self.header:
            return f"{text}; give the number of each, from 0 on"
        text += f" (has {', '.join(cell.strip() for cell in first) or 'none'})"
        if any(is_number(cell) for cell in first):
            return f"{text}; its first line looks like a row: set header: false"
        return f"{text}; check the separator, or name them in `columns`"


def is_number(text: str) -> bool:
    """Whether a cell is a number, with a point or a comma."""
    try:
        float(text.strip().replace(",", "."))
    except ValueError:
        return False
    return True


def _number(column: str | int) -> int | None:
    if isinstance(column, int):
        return column
    return int(column) if column.isascii() and column.isdigit() else None


def _default(role: str, labels: LabelsOf) -> str:
    return _WEAK_NAMES[0] if role == LABEL and labels == "clips" else _NAMES[role][0]
