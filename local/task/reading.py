"""Read the description of a task: supplied, from a file, or in the configuration.

A configuration without `task:` has the supplied one of the DCASE 2024 task, whose paths are the
published keys of its `data` section. Descriptions may refer to other keys as ${section.key}.
"""

from __future__ import annotations

import copy
import csv
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from desed_task.atomic_files import read_text
from desed_task.audioset.classes import strong_classes
from desed_task.errors import InputError, count_of
from desed_task.file_names import looked_up_from
from local.schema.problems import validation_problems
from local.schema.task import ClassesFile, TaskDescription
from local.schema.yaml_files import read_yaml
from local.task.build import TaskBuilder
from local.task.references import UnknownReferenceError, references_in, resolved
from local.task.task import Task

TASKS: Final = Path(__file__).resolve().parents[2] / "confs" / "tasks"
"""Folder of the supplied descriptions."""
DEFAULT_TASK: Final = "dcase2024"


def supplied_tasks() -> tuple[str, ...]:
    """Names of the supplied descriptions."""
    return tuple(sorted(path.stem for path in TASKS.glob("*.yaml")))


def read_task(given: Any) -> dict[str, Any]:
    """The description that a configuration's `task` means, as plain values.

    Args:
        given: a mapping, the name of a supplied description, the path of a file, or None.

    Returns:
        A copy of the description; for None or {} the default one.

    Raises:
        InputError: there is no such file, or it is not a description.
    """
    tree, seen = copy.deepcopy(given), []
    while isinstance(tree, str) or (isinstance(tree, dict) and "task" in tree):
        if isinstance(tree, dict):
            tree = tree["task"]  # A whole configuration was named.
            continue
        seen.append(tree)
        if seen.count(tree) > 1:
            raise InputError(f"task: {' names '.join(seen)}; give a description")
        tree = _read_description(tree)
    if tree is None or tree == {}:
        return copy.deepcopy(default_description())
    if not isinstance(tree, dict):
        raise InputError(f"task: is {tree!r}; give a description, or the name or path of one")
    return tree


def finish_task(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The description as configurations keep it.

    Args:
        tree: from `read_task`, with overrides.

    Returns:
        The description, with the classes of a file listed; {} for the default task.

    Raises:
        InputError: the file of the classes cannot be used.
    """
    if tree == default_description():
        return {}
    if "classes" not in tree:
        return dict(tree)
    return {**tree, "classes": _classes_of_file(tree["classes"], str(tree.get("root", ".")))}


def task_of(raw: Mapping[str, Any], sections: Mapping[str, Mapping[str, Any]]) -> Task:
    """The task of a configuration.

    Args:
        raw: from `finish_task`; {} means the default task.
        sections: the other sections of the configuration, which references name.

    Raises:
        InputError: everything that is wrong with the description.
    """
    sections = {name: sections[name] for name in ("data", "training")}
    # Parts of the recipe ask for the task again and again; what has the same text is the same.
    return _built(_Text((raw or default_description(), sections)))


class _Text:
    """Plain values that are compared by their text."""

    def __init__(self, values: Any) -> None:
        self.values, self.text = values, repr(values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Text) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


@lru_cache(maxsize=8)
def _built(given: _Text) -> Task:
    tree, sections = given.values
    try:
        plain = resolved(tree, sections)
        description = TaskDescription.model_validate(plain)
    except UnknownReferenceError as error:
        raise InputError(str(error)) from None
    except ValidationError as error:
        problems = validation_problems(error, TaskDescription)
        raise InputError("\n".join(f"task.{problem}" for problem in problems)) from None
    builder = TaskBuilder(
        description,
        tree,
        sections["training"]["batch_size"],
        sections["data"]["keep_clips_without_events"],
    )
    task = builder.build()
    if builder.problems:
        raise InputError("\n".join(dict.fromkeys(builder.problems)))
    return task


def listed_classes(raw: Any) -> tuple[str, ...]:
    """The classes of a description that may be faulty otherwise; none if it lists none."""
    tree = raw if isinstance(raw, Mapping) and raw else default_description()
    classes = tree.get("classes")
    if isinstance(classes, Mapping):
        groups = [group for group in classes.values() if isinstance(group, list | tuple)]
        return tuple(str(label) for group in groups for label in group)
    return tuple(map(str, classes)) if isinstance(classes, list | tuple) else ()


def read_keys(raw: Mapping[str, Any]) -> set[str]:
    """Dotted keys of the configuration that a description refers to."""
    return references_in(raw or default_description())


@lru_cache(maxsize=1)
def default_description() -> dict[str, Any]:
    """The supplied description of the DCASE 2024 task; not to be changed."""
    tree: dict[str, Any] = read_yaml(TASKS / f"{DEFAULT_TASK}.yaml")
    return tree


def _read_description(given: str) -> Any:
    path = Path(given)
    supplied = TASKS / f"{path.name.removesuffix('.yaml')}.yaml"
    if path.is_file():
        return read_yaml(path)
    if path.parent in (Path(), Path("tasks"), Path("confs/tasks")) and supplied.is_file():
        return read_yaml(supplied)
    reason = "is a folder" if path.is_dir() else "no such file"
    raise InputError(
        f"task: {given}: {reason}{looked_up_from(given)}; supplied: {', '.join(supplied_tasks())}"
    )


def _classes_of_file(given: Any, root: str) -> Any:
    """Classes as a list, where they are those of a file or a named list."""
    if not isinstance(given, dict) or not ({"file", "named"} & {*given}):
        return given
    if any(isinstance(value, list) for value in given.values()):
        return given  # groups of these names
    try:
        source = ClassesFile.model_validate(given)
    except ValidationError as error:
        problems = validation_problems(error, ClassesFile)
        raise InputError("\n".join(f"task.classes.{one}" for one in problems)) from None
    if source.named is not None:
        return list(strong_classes())
    path = Path(root) / str(source.file)
    if not path.is_file():
        raise InputError(
            f"task.classes: {path}: no such file{looked_up_from(path)}; get the corpus it belongs "
            "to, or correct task.root"
        )
    separator = "," if path.suffix.lower() == ".csv" else "\t"
    # Names in a table with commas may contain some, in quotes.
    lines = csv.reader(read_text(path).splitlines(), delimiter=separator)
    rows = [row for row in lines if "".join(row).strip()][int(source.header) :]
    if not rows:
        raise InputError(f"task.classes: {path}: lists no class")
    if short := [row for row in rows if len(row) <= source.column]:
        raise InputError(
            f"task.classes: {path}: {count_of(len(short), 'line')} of {len(rows)} without column "
            f"{source.column}; give the number of the column of class names, from 0 on"
        )
    return [row[source.column].strip() for row in rows]
