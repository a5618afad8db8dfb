"""From the labels of a table to the classes of a task."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from desed_task.atomic_files import read_text
from desed_task.errors import InputError, agree, count_of
from desed_task.file_names import looked_up_from
from desed_task.labels import Vocabulary, near_labels, split_labels

_EXAMPLES: Final = 8
# Separators of lists of labels beside the comma.
_OTHER_SEPARATORS: Final = (";", "|")


@dataclass(frozen=True)
class LabelMap:
    """What labels of a table stand for; a label that is not mapped is the class of that name.

    Attributes:
        vocabulary: the classes.
        targets: label -> classes; none if it is ignored.
        names: label -> its name, which stands for it before `targets` do.
        ignores_others: whether labels that are neither mapped nor classes are ignored; otherwise
            they are refused.
        ignored: ignored labels and how often each was met.
    """

    vocabulary: Vocabulary
    targets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    ignores_others: bool = False
    ignored: Counter[str] = field(default_factory=Counter)

    @cached_property
    def _indices(self) -> dict[str, tuple[int, ...]]:
        known: dict[str, tuple[int, ...]] = {
            label: (index,) for index, label in enumerate(self.vocabulary)
        }
        known |= {
            label: tuple(self.vocabulary.index(one) for one in to)
            for label, to in self.targets.items()
        }
        named = {label: known[name] for label, name in self.names.items() if name in known}
        return known | {label: of for label, of in named.items() if label not in known}

    @cached_property
    def known(self) -> tuple[str, ...]:
        """Labels that are classes or mapped."""
        return tuple(dict.fromkeys((*self.targets, *self.vocabulary)))

    @cached_property
    def _listed(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.known, *self.names)))

    def indices(self, label: str) -> tuple[int, ...] | None:
        """The classes of a label, none of one that is ignored; None for one that is refused."""
        found = self._indices.get(label, () if self.ignores_others else None)
        if found == ():
            self.ignored[self.names.get(label, label)] += 1
        return found

    def refusal(self, label: str) -> str:
        """Message about a label that is refused."""
        if not label:
            return "no label; correct the row"
        name = self.names.get(label, label)
        of_name = "" if name == label else f", which is {name!r}"
        text = f"unknown label {label!r}{of_name}; {near_labels(name, self.known)}"
        same = [one for one in self.known if one.casefold().split() == name.casefold().split()]
        return f"{text}; it may be {same[0]!r}: map it with label_map" if same else text

    def _likeness(self, label: str) -> str:
        """A hint at a class that an ignored label may be, by its spelling."""
        form = label.casefold().split()
        same = [one for one in self.vocabulary if one.casefold().split() == form]
        asked = same and label not in self.targets
        return f", which may be {same[0]!r}: map it with label_map" if asked else ""

    def labels_in(self, text: str) -> list[str]:
        """The labels of a list of labels.

        They are separated by commas, which labels may contain too, or by ; or | if that makes all
        of them known.
        """
        known = self._listed
        found = split_labels(text, known)
        if all(label in known for label in found):
            return found
        for separator in _OTHER_SEPARATORS:
            parts = [part.strip() for part in text.split(separator) if part.strip()]
            enough = any if self.ignores_others else all
            if len(parts) > 1 and enough(part in known for part in parts):
                return parts
        return found

    def ignored_text(self, n_labels: int) -> str | None:
        """Message that counts the labels that were ignored; None without any."""
        if not self.ignored:
            return None
        most = self.ignored.most_common(_EXAMPLES)
        names = ", ".join(f"{label!r} ({n}){self._likeness(label)}" for label, n in most)
        more = f" and {len(self.ignored) - len(most)} more" if len(self.ignored) > len(most) else ""
        n_ignored = sum(self.ignored.values())
        are = agree(n_ignored, "is", "are")
        return f"{n_ignored} of {count_of(n_labels, 'label')} {are} ignored: {names}{more}"


def read_label_names(path: Path) -> dict[str, str]:
    """Label -> its name, of a table of two columns without a header.

    Args:
        path: with commas between the columns in *.csv, tabs otherwise.

    Raises:
        InputError: the file is missing or empty, or a line has not two columns, or another name for
            a label than an earlier one.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such table of labels and names{looked_up_from(path)}")
    is_csv = path.suffix.lower() == ".csv"
    reader = csv.reader(
        io.StringIO(read_text(path), newline=""),
        delimiter="," if is_csv else "\t",
        quoting=csv.QUOTE_MINIMAL if is_csv else csv.QUOTE_NONE,
    )
    names: dict[str, str] = {}
    faults = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        where = f"{path}, line {reader.line_num}"
        if len(cells) != 2:
            faults.append(f"{where}: {count_of(len(cells), 'column')}; give a label and its name")
            continue
        label, name = (cell.strip() for cell in cells)
        if names.setdefault(label, name) != name:
            faults.append(f"{where}: {label!r} is {name!r}, but {names[label]!r} in another line")
    if faults:
        raise InputError.collect(faults, f"{path} cannot be used:")
    if not names:
        raise InputError(f"{path}: names no label")
    return names
