"""`--set section.key=value`: change a tree of plain values before it is validated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import yaml

from desed_task.errors import InputError

TASK_SECTION: Final = "task"
# Mappings of a task's description that --set creates; `scored.KIND` too.
_CREATED: Final = frozenset(
    {"columns", "where", "label_map", "aliases", "split", "recordings", "scored", "objective"}
)


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set one `section.key=value` in a tree of plain values, without validating it.

    Raises:
        InputError: if `override` is not of that form.
    """
    place, key, value = override_parts(override)
    is_corpus = place == TASK_SECTION and key.startswith("corpora.") and key.count(".") == 1
    branch = tree[place] = {} if tree.get(place) is None else tree[place]
    if place == TASK_SECTION:
        branch, key = _inside_task(branch, key, override)
    if not isinstance(branch, dict):
        raise InputError(f"--set {override}: {place} is not a section")
    if value is None and is_corpus:
        branch.pop(key, None)
    else:
        branch[key] = value


def chosen_task(overrides: Sequence[str]) -> tuple[bool, Any]:
    """Whether `--set task=` is given, and what it names: a description, its name or its path.

    Raises:
        InputError: the value is not YAML.
    """
    given = [one for one in overrides if one.partition("=")[0].strip() == TASK_SECTION]
    return (True, _value(given[-1])) if given else (False, None)


def changes_task(override: str) -> bool:
    """Whether an override sets a key inside the description of the task."""
    return override.partition("=")[0].strip().startswith(f"{TASK_SECTION}.")


def override_parts(override: str) -> tuple[str, str, Any]:
    """Section, key and value of `section.key=value`.

    Raises:
        InputError: it is not of that form.
    """
    dotted, equals, _ = override.partition("=")
    section, dot, key = dotted.strip().partition(".")
    if not (equals and dot and section and key):
        raise InputError(f"--set {override}: write it as section.key=value, e.g. net.dropout=0.3")
    return section, key, _value(override)


def _value(override: str) -> Any:
    text = override.partition("=")[2]
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        hint = "; write a list without spaces, or in quotes" if text.strip()[:1] == "[" else ""
        raise InputError(f"--set {override}: the value is not YAML: {error}{hint}") from None


def _inside_task(branch: Any, dotted: str, override: str) -> tuple[Any, str]:
    """The mapping that a dotted key of a description stands in, and its name there.

    A table given by its path alone becomes a mapping, and mappings that may be left out are made.

    Raises:
        InputError: there is no such corpus, or a value stands where a mapping should.
    """
    *above, key = dotted.split(".")
    place = TASK_SECTION
    for level, name in enumerate(above):
        place = f"{place}.{name}"
        inner = branch.get(name) if isinstance(branch, dict) else None
        if isinstance(inner, str) and name == "table":
            inner = branch[name] = {"path": inner}
        if inner is None and (name in _CREATED or (level == 1 and above[0] == "scored")):
            inner = branch[name] = {}
        if inner is None and level == 1 and above[0] == "corpora":
            known = ", ".join(branch) if isinstance(branch, dict) else "none"
            raise InputError(f"--set {override}: no such corpus {name!r}; known: {known}")
        if not isinstance(inner, dict):
            raise InputError(f"--set {override}: {place} is not a section")
        branch = inner
    return branch, key
