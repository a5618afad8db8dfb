"""Check plain values from files (numbers, strings, lists, dicts) against a pattern."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

# Whole numbers that may be 0; all others are lengths, sizes and counts.
_MAY_BE_ZERO: Final = {
    *("padding", "dropstep_recurrent_len", "specaugm_t_l", "specaugm_f_l"),
    *("width", "n_blocks", "n_tokens"),
}
# Other numbers that must be positive.
_POSITIVE: Final = {"clip_s", "f_max"}


def as_plain(value: Any) -> Any:
    """A copy with lists instead of tuples, at every level."""
    if isinstance(value, dict):
        return {key: as_plain(part) for key, part in value.items()}
    return [as_plain(part) for part in value] if isinstance(value, list | tuple) else value


def mismatches(value: Any, pattern: Any, key: str = "") -> list[str]:
    """List the places where `value` does not have the form of `pattern`.

    Dicts must have the same keys, and lists at least one entry, each like the pattern's first;
    numbers must not be negative, and only those of a few keys may be 0.

    Args:
        value: value from a file.
        pattern: an example of what it should be.
        key: dotted path to it.
    """
    if isinstance(pattern, dict):
        return _section_mismatches(value, pattern, key)
    if isinstance(pattern, list):
        if not isinstance(value, list) or not value:
            return [f"{key}: {value!r} is not a list of values such as {pattern!r}"]
        return [problem for part in value for problem in mismatches(part, pattern[0], key)]
    return (
        [] if _matches(value, pattern, key.rpartition(".")[2]) else [_message(value, pattern, key)]
    )


def _section_mismatches(value: Any, pattern: Mapping[str, Any], key: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{key or 'top level'}: {value!r} is not a section of keys"]
    below = f"{key}." if key else ""
    problems = [f"{below}{name}: missing" for name in pattern if name not in value]
    problems += [f"{below}{name}: unknown key" for name in value if name not in pattern]
    for name in pattern:
        if name in value:
            problems += mismatches(value[name], pattern[name], f"{below}{name}")
    return problems


def _matches(value: Any, pattern: Any, name: str) -> bool:
    if isinstance(pattern, bool | str):
        return isinstance(value, type(pattern))
    if isinstance(pattern, int):
        return type(value) is int and value >= (name not in _MAY_BE_ZERO)
    if type(value) not in (int, float) or not math.isfinite(value):
        return False
    return bool(value > 0 if name in _POSITIVE else value >= 0)


def _message(value: Any, pattern: Any, key: str) -> str:
    return f"{key}: {value!r} is not allowed; a usual value is {pattern!r}"
