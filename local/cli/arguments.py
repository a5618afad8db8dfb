"""Types of command line arguments that several scripts share, and `--threshold`."""

from __future__ import annotations

import argparse

from desed_task.errors import InputError


def positive_int(text: str) -> int:
    """A whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


def non_negative_seconds(text: str) -> float:
    """A time of 0 s or more."""
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return number


def yes_or_no(text: str) -> bool:
    """1 or 0, in any of the words for it."""
    if text.lower() in ("1", "true", "yes"):
        return True
    if text.lower() in ("0", "false", "no"):
        return False
    raise argparse.ArgumentTypeError(f"{text}: give 1 or 0")


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
