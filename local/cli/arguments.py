"""Argument types shared by several scripts, and parsing of `--threshold`."""

from __future__ import annotations

import argparse

from desed_task.errors import InputError

# What commands use that name no configuration.
DEFAULT_CONF_FILE = "./confs/pretrained.yaml"


def positive_int(text: str) -> int:
    """A whole number above 0."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: give a whole number above 0") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


def non_negative_seconds(text: str) -> float:
    """A time of 0 s or more."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return number


def yes_or_no(text: str) -> bool:
    """True for 1, true or yes; False for 0, false or no."""
    if text.lower() in ("1", "true", "yes"):
        return True
    if text.lower() in ("0", "false", "no"):
        return False
    raise argparse.ArgumentTypeError(f"{text}: give 1 or 0")


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add `--overwrite`, the same in every command."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that this program did not write, or that were changed since "
        "(default: refuse)",
    )


def parse_threshold(text: str) -> float | dict[str, float]:
    """One threshold for all classes, or label -> threshold.

    Raises:
        InputError: the text has another form, or names a class twice.
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
            f"--threshold {text}: {value!r} is not a number; give one for all classes (0.4) or "
            "one per class (Speech=0.4,Dog=0.6)"
        ) from None
