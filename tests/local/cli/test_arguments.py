"""Numbers and thresholds as they are written on a command line."""

from __future__ import annotations

import argparse
import re

import pytest

from desed_task.errors import InputError
from local.cli.arguments import non_negative_seconds, parse_threshold, positive_int


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        ("0.4", 0.4),
        ("Dog=0.6", {"Dog": 0.6}),
        ("Speech=0.4, door opens/closes=.25", {"Speech": 0.4, "door opens/closes": 0.25}),
    ],
)
def test_one_or_one_a_class(text, threshold):
    assert parse_threshold(text) == threshold


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("high", "'high' is not a number"),
        ("Dog=", "'' is not a number"),
        ("Dog=0.4,0.5", "'' is not a number"),
        ("Dog=0.4,Dog=0.5", "names 'Dog' twice"),
        ("", "'' is not a number"),
    ],
)
def test_anything_else_is_told(text, reason):
    with pytest.raises(InputError, match=f"--threshold {text}: {reason}"):
        parse_threshold(text)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (positive_int, "abc", "abc: give a whole number above 0"),
        (positive_int, "1.5", "1.5: give a whole number above 0"),
        (positive_int, "-2", "-2 is not above 0"),
        (non_negative_seconds, "soon", "soon is not a number of seconds"),
        (non_negative_seconds, "inf", "inf is not a number of seconds"),
        (non_negative_seconds, "nan", "nan is not a number of seconds"),
    ],
)
def test_what_is_no_such_number_is_named(kind, text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{re.escape(message)}$"):
        kind(text)
