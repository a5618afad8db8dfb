"""Names of classes: which are usable, and which are meant by names of groups."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from desed_task.errors import count_of
from desed_task.labels import near_labels

LONGEST_CLASS: Final = 200
# Columns of tables of scores, and means over classes.
RESERVED_CLASSES: Final = frozenset({"onset", "offset", "macro_average", "micro_average"})
# Joins emoji and letters of several scripts; every other invisible character is refused.
_JOINERS: Final = "\u200c\u200d"


class ClassNames:
    """The classes of a task and their groups.

    Args:
        given: labels, or groups of them: name -> labels.

    Attributes:
        classes: labels in the order of the network's outputs.
        groups: name -> labels.
    """

    def __init__(self, given: Sequence[str] | Mapping[str, Sequence[str]]) -> None:
        groups = given if isinstance(given, Mapping) else {}
        self.groups = {name: tuple(labels) for name, labels in groups.items()}
        self.classes = (
            tuple(label for group in self.groups.values() for label in group)
            if isinstance(given, Mapping)
            else tuple(given)
        )

    def problems(self) -> list[str]:
        """Everything that is wrong with the names, for a task's description."""
        if not self.classes:
            return ["task.classes: names no class; give at least one"]
        return [*self._odd(), *self._ambiguous()]

    def _odd(self) -> Iterator[str]:
        for label in dict.fromkeys(self.classes):
            if not label or label != label.strip() or any(map(is_hidden, label)):
                yield (
                    f"task.classes: {label!r} is empty, begins or ends with a blank or contains a "
                    "control character; correct it here, and map the tables' spelling with "
                    "label_map"
                )
            if len(label) > LONGEST_CLASS:
                yield (
                    f"task.classes: '{label[:30]}...' has {len(label)} characters; give at most "
                    f"{LONGEST_CLASS}, and map the tables' spelling with label_map"
                )
            if label in RESERVED_CLASSES:
                yield (
                    f"task.classes: {label!r} is the name of a column of tables of scores; rename "
                    "it, and map the tables' spelling with label_map"
                )

    def _ambiguous(self) -> Iterator[str]:
        twice = [one for one in dict.fromkeys(self.classes) if self.classes.count(one) > 1]
        if twice:
            yield f"task.classes: given twice: {', '.join(map(repr, twice))}"
        seen: dict[str, str] = {}
        for label in dict.fromkeys(self.classes):
            other = seen.setdefault(comparable(label), label)
            if other != label:
                yield (
                    f"task.classes: {other!r} and {label!r} differ only in case, blanks or "
                    "Unicode form; keep one, and map the other with label_map"
                )
        for name in self.groups:
            if name in self.classes:
                yield f"task.classes: {name!r} is a group and a class; rename the group"

    def chosen(
        self, names: Iterable[str] | None, place: str, problems: list[str]
    ) -> tuple[str, ...]:
        """The classes of names of classes and groups, each once.

        Args:
            names: the names; None for all classes.
            place: where they stand, for messages.
            problems: messages about unknown names are appended to it.
        """
        if names is None:
            return self.classes
        names = tuple(names)
        known = (*self.groups, *self.classes)
        problems += [
            f"{place}: unknown class {name!r}; {near_labels(name, known)}"
            for name in names
            if name not in known
        ]
        labels = (label for name in names for label in self.groups.get(name, (name,)))
        return tuple(label for label in dict.fromkeys(labels) if label in self.classes)


def comparable(label: str) -> str:
    """A label without what is easily mistyped: case, blanks, underscores and Unicode form."""
    folded = unicodedata.normalize("NFKC", label).casefold()
    return "".join(folded.replace("_", " ").split())


def some_classes(labels: Sequence[str], n_shown: int = 5) -> str:
    """Some of many labels, for messages."""
    more = len(labels) - n_shown
    shown = ", ".join(map(repr, labels[:n_shown]))
    return shown if more <= 0 else f"{shown} and {count_of(more, 'more class', 'more classes')}"


def is_hidden(character: str) -> bool:
    """Whether no one sees a character, or it ends a line or a column."""
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS
