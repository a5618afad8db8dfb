"""Thresholds on a command line: `0.4`, or `Speech=0.4,Dog=0.6`."""

from __future__ import annotations

from desed_task.errors import InputError


def parse_threshold(text: str) -> float | dict[str, float]:
    """One threshold for all classes, or label -> threshold.

    Raises:
        InputError: for anything else, or a class named twice.
    """
    if "=" not in text:
        return _number(text, text)
    named: dict[str, float] = {}
    for part in text.split(","):
        label, _, value = (piece.strip() for piece in part.partition("="))
        if label in named:
            raise InputError(f"--threshold {text}: names {label!r} twice; keep one of them")
        named[label] = _number(value, text)
    return named


def _number(value: str, text: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(
            f"--threshold {text}: {value!r} is no number; give one for all classes, as 0.4, or one "
            "a class, as Speech=0.4,Dog=0.6"
        ) from None
