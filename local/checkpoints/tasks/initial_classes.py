"""Which rows of a checkpoint's heads the classes of another task start from.

A class takes the rows of the class of its name, or of the one that `initial_weights.classes` names;
the rows of other classes stay random.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from desed_task.errors import InputError
from desed_task.labels import near_labels
from local.checkpoints.tasks.class_names import FLAG
from local.data.corpus_checks import examples

# Layers of a network with a row for each class.
HEADS: Final = ("dense", "dense_softmax")
KEY: Final = "initial_weights.classes"


class ClassRows(NamedTuple):
    """Rows of a checkpoint's heads for the classes of a task.

    Attributes:
        classes: of the task.
        known: of the checkpoint; empty if it does not name them.
        sources: for each class of the task, its row in the checkpoint; None for random ones.
    """

    classes: tuple[str, ...]
    known: tuple[str, ...]
    sources: tuple[int | None, ...]

    @property
    def are_all(self) -> bool:
        """Whether the heads are taken as they are."""
        return self.sources == tuple(range(len(self.known))) or not self.known

    @property
    def taken(self) -> tuple[str, ...]:
        """Classes of the task whose rows are taken."""
        pairs = zip(self.classes, self.sources, strict=True)
        return tuple(label for label, row in pairs if row is not None)


def initial_rows(
    classes: Sequence[str], known: Sequence[str], named: Mapping[str, str | None], origin: str
) -> ClassRows:
    """Find the rows.

    Args:
        classes: of the task.
        known: of the checkpoint.
        named: class -> the checkpoint's class of another name, or None for random rows.
        origin: path of the checkpoint, for messages.

    Raises:
        InputError: `named` has a class that the task or the checkpoint does not have.
    """
    problems = [
        f"{KEY}.{label}: the task has no such class; {near_labels(label, classes)}"
        for label in named
        if label not in classes
    ]
    problems += [
        f"{KEY}.{label}: {origin} has no class {old!r}; {near_labels(old, known)}"
        for label, old in named.items()
        if old is not None and old not in known
    ]
    if problems:
        raise InputError.collect(problems)
    places = {label: row for row, label in enumerate(known)}
    wanted = (named.get(label, label) for label in classes)
    sources = tuple(None if old is None else places.get(old) for old in wanted)
    return ClassRows(tuple(classes), tuple(known), sources)


def with_initial_rows(
    weights: Mapping[str, Tensor], own: Mapping[str, Tensor], rows: ClassRows
) -> dict[str, Tensor]:
    """Tensors of a checkpoint with the heads of another task.

    Args:
        weights: of the checkpoint's networks.
        own: of the task's networks, whose rows of classes that are not taken are kept; those of
            tensors without values become 0.
        rows: which are taken.

    Returns:
        All tensors; those of the heads (class of the task, ...).
    """
    if rows.are_all:
        return dict(weights)
    to = [row for row, source in enumerate(rows.sources) if source is not None]
    of = [source for source in rows.sources if source is not None]
    found = dict(weights)
    for name, value in weights.items():
        if is_head(name) and name in own and value.shape[1:] == own[name].shape[1:]:
            there = own[name]
            kept = torch.zeros(there.shape) if there.is_meta else there.detach().clone()
            kept[to] = value[of].to(kept)
            found[name] = kept
    return found


def is_head(name: str) -> bool:
    """Whether a tensor, by its name in a checkpoint, has a row for each class."""
    return name.partition(".")[2].partition(".")[0] in HEADS


def rows_in_words(rows: ClassRows, weights: Mapping[str, Tensor]) -> Iterator[str]:
    """Lines that say what is taken and what is not.

    Args:
        rows: which are taken.
        weights: of the checkpoint's networks.
    """
    taken, n_classes = rows.taken, len(rows.classes)
    random = [label for label in rows.classes if label not in taken]
    used = {row for row in rows.sources if row is not None}
    unused = [label for row, label in enumerate(rows.known) if row not in used]
    per_network = [name for name in weights if name.startswith("sed_student.")]
    heads = [name.partition(".")[2] for name in per_network if is_head(name)]
    if taken:
        named = [
            label if rows.known[row] == label else f"{label} from {rows.known[row]}"
            for label, row in zip(rows.classes, rows.sources, strict=True)
            if row is not None
        ]
        yield f"classes: rows of {len(taken)} of {n_classes} are taken ({examples(named)})"
        if random:
            yield f"classes: rows of {len(random)} are random ({examples(random)})"
    else:
        yield (
            f"classes: none has the name of one of the checkpoint's {len(rows.known)}, so only the "
            "trunk is taken and all rows of the heads are random"
        )
    if unused:
        yield f"classes: {len(unused)} of the checkpoint's are not used ({examples(unused)})"
    similar = [f"{label}={old}" for label in random for old in _alike(label, unused)]
    if similar:
        yield f"classes: similar names are not taken for the same; {FLAG} {similar[0]!r} would"
    whole = len(per_network) - len(heads)
    yield (
        f"tensors: {whole} of each network are taken whole, of {len(heads)} ({', '.join(heads)}) "
        "the rows of these classes; median filters are those of the configuration"
    )


def _alike(label: str, others: Sequence[str]) -> list[str]:
    """Names that differ only by case, blanks, hyphens and underscores."""
    return [one for one in others if _plain(one) == _plain(label)]


def _plain(label: str) -> str:
    return "".join(letter for letter in label.casefold() if letter.isalnum())
