"""From the labels of a table to the classes of a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

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
        ignores_others: whether labels that are neither mapped nor classes are ignored; otherwise
            they are refused.
        names: label of a table -> its name, which stands for it everywhere else.
        ignored: ignored labels, by name, and how often each was met.
    """

    vocabulary: Vocabulary
    targets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ignores_others: bool = False
    names: Mapping[str, str] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)

    @cached_property
    def _indices(self) -> dict[str, tuple[int, ...]]:
        known = {label: (index,) for index, label in enumerate(self.vocabulary)}
        return known | {
            label: tuple(self.vocabulary.index(one) for one in to)
            for label, to in self.targets.items()
        }

    @cached_property
    def known(self) -> tuple[str, ...]:
        """Labels that are classes or mapped."""
        return tuple(dict.fromkeys((*self.targets, *self.vocabulary)))

    def indices(self, label: str) -> tuple[int, ...] | None:
        """The classes of a label, none of one that is ignored; None for one that is refused."""
        name = self.names.get(label, label)
        found = self._indices.get(name, () if self.ignores_others else None)
        if found == ():
            self.ignored[name] += 1
        return found

    def refusal(self, label: str) -> str:
        """Message about a label that is refused."""
        if not label:
            return "no label; correct the row"
        name = self.names.get(label, label)
        which = repr(label) if name == label else f"{label!r} ({name})"
        text = f"unknown label {which}; {near_labels(name, self.known)}"
        same = [one for one in self.known if one.casefold().split() == name.casefold().split()]
        return f"{text}; it may be {same[0]!r}: map it with label_map" if same else text

    def labels_in(self, text: str) -> list[str]:
        """The labels of a list of labels.

        They are separated by commas, which labels may contain too, or by ; or | if that makes all
        of them known.
        """
        known = (*self.names, *self.known)
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
        names = ", ".join(f"{label!r} ({n})" for label, n in most)
        more = f" and {len(self.ignored) - len(most)} more" if len(self.ignored) > len(most) else ""
        n_ignored = sum(self.ignored.values())
        return f"{n_ignored} of {n_labels} labels are ignored: {names}{more}"
