"""Thresholds as they are written on a command line."""

from __future__ import annotations

import pytest

from desed_task.errors import InputError
from local.cli.arguments import parse_threshold


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
