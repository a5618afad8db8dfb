"""Check a configuration's task, and what the configuration says for each of its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from desed_task.errors import InputError, count_of
from local.schema.published_keys import TASK_KEYS
from local.task.reading import default_description, listed_classes, read_keys, task_of

# Length in frames for classes without one.
DEFAULT_MEDIAN_FILTER: Final = 7


def task_problems(
    raw: Mapping[str, Any], sections: Mapping[str, Mapping[str, Any]], *, is_whole: bool = True
) -> list[str]:
    """Everything that is wrong with a task, or does not fit it.

    Args:
        raw: the description; empty: the default one.
        sections: `data`, `training` and `net` of the configuration.
        is_whole: whether `data` and `training` are valid; otherwise the description is not built.
    """
    absent = [key for key in sorted(read_keys(raw) & TASK_KEYS) if not _is_given(sections, key)]
    problems = [f"{key}: missing; give it a value" for key in absent]
    if is_whole:
        try:
            task_of(raw, sections)
        except InputError as error:
            problems += [one for one in str(error).splitlines() if not _repeats(one, absent)]
    net = sections["net"]
    if not raw and net.get("median_filter", ()) == ():
        return [
            *problems,
            "net.median_filter: missing; give one length for each class, as confs/pretrained.yaml "
            "does, or one for all",
        ]
    return [*problems, *_wrong_counts(listed_classes(raw), net)]


def lengths_by_class(given: Any, classes: Sequence[str]) -> Any:
    """One length of the median filter per class, of a number for all or a mapping.

    Returns:
        Of a mapping with labels that are no classes: those alone; of anything else: itself.
    """
    if given is None:
        given = DEFAULT_MEDIAN_FILTER
    if isinstance(given, int) and not isinstance(given, bool):
        return [given] * len(classes)
    if not isinstance(given, dict):
        return given
    unknown = {label: value for label, value in given.items() if label not in classes}
    return unknown or [given.get(label, DEFAULT_MEDIAN_FILTER) for label in classes]


def published_rows() -> list[int]:
    """Rows of each part of a batch of the default task."""
    corpora = default_description()["corpora"].values()
    return [corpus["rows"] for corpus in corpora if corpus.get("rows")]


def _wrong_counts(classes: Sequence[str], net: Mapping[str, Any]) -> list[str]:
    """Messages about numbers of classes other than the task's, of a valid or a faulty section."""
    problems, n_classes = [], len(classes)
    outputs, lengths = net.get("nclass"), net.get("median_filter")
    if not classes:
        return []
    if isinstance(outputs, int) and 0 < outputs != n_classes:
        problems.append(
            f"net.nclass: is {outputs}; the task has {count_of(n_classes, 'class', 'classes')}"
        )
    if isinstance(lengths, list | tuple) and len(lengths) != n_classes:
        problems.append(
            f"net.median_filter: has {count_of(len(lengths), 'length')}; give one for each of "
            f"{count_of(n_classes, 'class', 'classes')}, or one for all"
        )
    return problems


def _is_given(sections: Mapping[str, Mapping[str, Any]], dotted: str) -> bool:
    section, _, key = dotted.partition(".")
    return section != "data" or sections[section].get(key, "") != ""


def _repeats(problem: str, absent: Sequence[str]) -> bool:
    """Whether a problem is that a path is empty whose key is missing."""
    return any(problem.startswith(f"{key}: ") for key in absent)
