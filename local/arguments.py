"""Types of command line arguments: text to value, or what is wrong with it."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """A whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


def seconds(text: str) -> float:
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
