"""Apply `--set` to a configuration, which may choose another task or change its description."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from desed_task.errors import agree
from local.schema.overrides import TASK_SECTION, apply_override, changes_task, chosen_task
from local.schema.published_keys import TASK_KEYS
from local.task.reading import finish_task, listed_classes, read_keys, read_task


def apply_overrides(tree: dict[str, Any], overrides: Sequence[str], origin: str) -> None:
    """Apply overrides to a tree, and replace the name of a task by its description.

    Args:
        tree: plain values by section; modified in place.
        overrides: entries `section.key=value`; `task=NAME` chooses another task.
        origin: where the tree came from, for messages.

    Raises:
        InputError: an override, or the task that one names, cannot be used.
    """
    is_chosen, chosen = chosen_task(overrides)
    named = read_task(tree.get(TASK_SECTION))
    task = read_task(chosen) if is_chosen else named
    if task != named:
        _without_unread_keys(tree, task)
        _without_numbers_by_class(tree, finish_task(task), overrides, origin)
    elif any(_sets_rows(one) for one in overrides):
        _rows_into_task(tree, task)
    tree[TASK_SECTION] = task
    for override in overrides:
        if override.partition("=")[0].strip() != TASK_SECTION:
            apply_override(tree, override)
    tree[TASK_SECTION] = finish_task(tree[TASK_SECTION])


def _without_unread_keys(tree: dict[str, Any], task: dict[str, Any]) -> None:
    """Leave out a file's keys about the corpora of its own task, which --set replaces.

    The configuration of the run would otherwise name corpora that it has nothing to do with.
    """
    for dotted in TASK_KEYS - read_keys(task):
        section, _, key = dotted.partition(".")
        branch = tree.get(section)
        if isinstance(branch, dict) and key in branch:
            tree[section] = {name: value for name, value in branch.items() if name != key}


def _without_numbers_by_class(
    tree: dict[str, Any], task: dict[str, Any], overrides: Sequence[str], origin: str
) -> None:
    """Leave out what a file says for each class or corpus, if --set chooses another task."""
    n_classes = len(listed_classes(task))
    left_out = []
    for section, key, fits in (
        ("net", "nclass", lambda value: value == n_classes),
        ("net", "median_filter", lambda value: _is_length_of(value, n_classes)),
        ("training", "batch_size", lambda value: value is None),
    ):
        branch, given = tree.get(section), f"{section}.{key}"
        is_set = any(one.partition("=")[0].strip() == given for one in overrides)
        if isinstance(branch, dict) and key in branch and not is_set and not fits(branch[key]):
            tree[section] = {name: value for name, value in branch.items() if name != key}
            left_out.append(given)
    if left_out:
        warnings.warn(
            f"{origin}: {', '.join(left_out)} {agree(len(left_out), 'is', 'are')} for another task "
            "than the one that --set names, and left out; the task's own values are taken",
            UserWarning,
            stacklevel=4,
        )


def _is_length_of(value: Any, n_classes: int) -> bool:
    return not isinstance(value, list | tuple | dict) or len(value) == n_classes


def _sets_rows(override: str) -> bool:
    place = override.partition("=")[0].strip()
    return changes_task(override) and place.endswith(".rows")


def _rows_into_task(tree: dict[str, Any], task: dict[str, Any]) -> None:
    """Move the rows of `training.batch_size` to the corpora, one of which --set changes."""
    training = tree.get("training")
    rows = training.get("batch_size") if isinstance(training, dict) else None
    corpora = task.get("corpora")
    described = corpora.values() if isinstance(corpora, dict) else ()
    drawn = [one for one in described if isinstance(one, dict) and one.get("rows")]
    if isinstance(rows, list | tuple) and len(rows) == len(drawn):
        for corpus, number in zip(drawn, rows, strict=True):
            corpus["rows"] = number
        tree["training"] = {**training, "batch_size": None}
