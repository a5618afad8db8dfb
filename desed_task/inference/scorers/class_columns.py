"""The classes that are wanted of a detector: by name, or mapped to those of another corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from desed_task.audioset.classes import class_map, map_names
from desed_task.errors import InputError
from desed_task.inference.overlap_add import ScoreRows
from desed_task.labels import near_labels, split_labels


class WantedClass(NamedTuple):
    """A class of the results.

    Attributes:
        label: its name.
        parts: classes of AudioSet that it is made of; empty for a class that detectors have.
    """

    label: str
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClassColumns:
    """Columns of a detector's scores, each of which is one of its classes or the highest of some.

    Attributes:
        labels: classes of the results.
        groups: the columns that each is made of.
    """

    labels: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]

    @classmethod
    def all_of(cls, classes: Sequence[str]) -> ClassColumns:
        """All classes as they are."""
        return cls(tuple(classes), tuple((place,) for place in range(len(classes))))

    @classmethod
    def among(cls, classes: Sequence[str], wanted: Sequence[WantedClass]) -> ClassColumns:
        """Those of the wanted classes that a detector has, or has all parts of."""
        places = {label: place for place, label in enumerate(classes)}
        found = {}
        for label, parts in wanted:
            if parts and all(part in places for part in parts):
                found[label] = tuple(places[part] for part in parts)
            elif label in places:
                found[label] = (places[label],)
        return cls(tuple(found), tuple(found.values()))

    def of(self, rows: ScoreRows) -> ScoreRows:
        """Scores (frame, class) of these classes, from those of all."""
        flat = [column for group in self.groups for column in group]
        if flat == list(range(rows.shape[1])) and len(flat) == len(self.groups):
            return rows
        starts = np.cumsum([0, *(len(group) for group in self.groups[:-1])])
        highest: ScoreRows = np.maximum.reduceat(rows[:, flat], starts, axis=1)
        return highest


def wanted_classes(
    chosen: str | Sequence[str], known: Sequence[str], flag: str = "classes"
) -> list[WantedClass]:
    """The classes that a user names.

    Args:
        chosen: the name of a corpus ("desed", "urban_sed", "tut2017") or of a class, several of
            them with commas between, or a list. Names may contain commas: after a comma, the
            longest known class that the text continues with is taken.
        known: all classes of the detectors.
        flag: what the classes were given with, for messages.

    Raises:
        InputError: naming those that are unknown, with similar ones, and those named twice.
    """
    names = split_labels(chosen, known) if isinstance(chosen, str) else list(chosen)
    found: list[WantedClass] = []
    problems = []
    for name in names:
        mapped = None if name in known else class_map(name)
        if mapped is not None:
            found += [WantedClass(label, parts) for label, parts in mapped.items()]
        elif name in known:
            found.append(WantedClass(name))
        else:
            problems.append(
                f"{flag}: unknown class {name!r}; {near_labels(name, known)}, or give a corpus "
                f"that AudioSet's classes are mapped to ({', '.join(map_names())})"
            )
    labels = [one.label for one in found]
    problems += [f"{flag}: names {one!r} twice" for one in {*labels} if labels.count(one) > 1]
    if not names:
        problems.append(f"{flag}: no class in {chosen!r}; give at least one")
    if problems:
        raise InputError.collect(problems)
    return found
