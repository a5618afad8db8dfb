"""What of a task a training depends on, as plain values by dotted key.

Compared are tasks, not descriptions: a description that names its defaults, or the groups of its
classes, means the same as one that does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Final

from local.schema.task import SplitDescription
from local.task.corpus import Corpus
from local.task.reading import task_of
from local.task.task import ScoredPart, Task

Tree = Mapping[str, Mapping[str, Any]]
# Of a corpus, what follows from the rest or stands elsewhere.
_LEFT_OUT: Final = {"name", "number", "folder_key", "table_key", "durations_key"}


def chosen_on(task: Task) -> tuple[Corpus, ...]:
    """Corpora that weights and the choice of the best checkpoint depend on."""
    return tuple(dict.fromkeys((*task.trained_on, *task.scored_corpora("val"))))


def task_in(tree: Tree) -> Task:
    """The task of a configuration's values.

    Raises:
        InputError: its description cannot be used.
    """
    return task_of(tree.get("task", {}), tree)


def changed_task_values(before: Tree, now: Tree) -> dict[str, tuple[Any, Any]]:
    """Dotted key below `task` -> values before and now, of those that differ.

    Keys of the configuration that a description refers to are not its own values: both are read
    with those of `now`.

    Raises:
        InputError: a description cannot be used.
    """
    if before.get("task", {}) == now.get("task", {}):
        return {}
    # Where it says the same to both, it overrides the rows of both.
    rows = now["training"]["batch_size"]
    rows = rows if before["training"].get("batch_size") == rows else None
    # Paths of a task that is not this one may be empty.
    data = {key: key if value == "" else value for key, value in now["data"].items()}
    sections = {
        "data": {**data, "keep_clips_without_events": []},
        "training": {**now["training"], "batch_size": rows},
    }
    old, new = (task_values(task_of(tree.get("task", {}), sections)) for tree in (before, now))
    return {
        key: (old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)
    }


def task_values(task: Task) -> dict[str, Any]:
    """Dotted key below `task` -> plain value as JSON has it, of all that a task is."""
    return {f"task.{key}": _plain(value) for key, value in _values(task)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _values(task: Task) -> Iterator[tuple[str, Any]]:
    yield "name", task.name
    yield "classes", list(task.classes)
    yield "rows", [[[one.name for one in part.corpora], part.rows] for part in task.batch]
    trained = {corpus.name for corpus in task.trained_on}
    groups = ([name for name in group if name in trained] for group in task.mixup_groups)
    yield "mixup_groups", [group for group in groups if group]
    yield "scored.validation", [*map(_scored, task.validation)]
    yield "scored.test", [*map(_scored, task.test)]
    yield "objective", {part.kind: part.figure for part in task.objective}
    used = chosen_on(task)
    for corpus in task.corpora:
        place = "corpora" if corpus in used else "others"
        for key, value in _corpus_values(corpus, task.fold):
            yield f"{place}.{corpus.name}.{key}", value


def _scored(part: ScoredPart) -> list[Any]:
    return [part.kind, part.corpus.name, list(part.classes)]


def _corpus_values(corpus: Corpus, fold: int) -> Iterator[tuple[str, Any]]:
    for one in fields(corpus):
        if one.name in _LEFT_OUT:
            continue
        value = getattr(corpus, one.name)
        if hasattr(value, "model_dump"):
            value = value.model_dump(mode="json")
        elif one.name == "label_rules":
            value = value._asdict()
        if one.name == "recordings":
            del value["expected"]  # only messages name them
        if one.name == "split" and isinstance(corpus.split, SplitDescription):
            # The fold chooses what is not trained on.
            value |= {"fold": fold} if corpus.split.folds else {}
        yield one.name, value
