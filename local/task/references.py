"""References in a task's description to other sections of the configuration: ${data.weak_tsv}."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from desed_task.labels import near_labels

_REFERENCE = re.compile(r"\$\{(?P<key>[^}:]+)(?P<folder>:folder)?\}")


class UnknownReferenceError(ValueError):
    """A reference names a key that the configuration does not have."""


def resolved(value: Any, sections: Mapping[str, Mapping[str, Any]], place: str = "task") -> Any:
    """A tree of plain values with its references replaced.

    A string that is nothing but a reference becomes the value itself, whatever its type;
    `${data.weak_tsv:folder}` is the folder of a path.

    Args:
        value: the tree.
        sections: those of the configuration that may be referred to.
        place: of the tree, for messages.

    Raises:
        UnknownReferenceError: a key does not exist, or a reference is not complete.
    """
    if isinstance(value, Mapping):
        return {key: resolved(one, sections, f"{place}.{key}") for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [resolved(one, sections, f"{place}.{i}") for i, one in enumerate(value)]
    if not isinstance(value, str):
        return value
    if "${" in _REFERENCE.sub("", value):
        raise UnknownReferenceError(
            f"{place}: {value!r}: is not a complete reference; write ${{section.key}}, e.g. "
            "${data.weak_tsv}"
        )
    whole = _REFERENCE.fullmatch(value)
    if whole is not None:
        return _value(whole, sections, place)
    return _REFERENCE.sub(lambda match: str(_value(match, sections, place)), value)


def references_in(value: Any) -> set[str]:
    """Dotted keys of all references in a tree."""
    if isinstance(value, Mapping):
        return set().union(*map(references_in, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(references_in, value))
    return (
        {match["key"] for match in _REFERENCE.finditer(value)} if isinstance(value, str) else set()
    )


def only_reference(value: Any) -> str | None:
    """The dotted key of a value that is nothing but a reference; None for any other value."""
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return None if match is None else match["key"]


def _value(match: re.Match[str], sections: Mapping[str, Mapping[str, Any]], place: str) -> Any:
    section, _, key = match["key"].partition(".")
    if key not in sections.get(section, {}):
        known = [f"{name}.{one}" for name, keys in sections.items() for one in keys]
        raise UnknownReferenceError(
            f"{place}: {match[0]}: no such key of {' or '.join(sections)}; "
            f"{near_labels(match['key'], known)}"
        )
    found = sections[section][key]
    return str(PurePath(str(found)).parent) if match["folder"] else found
