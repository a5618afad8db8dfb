"""Summaries that draw ten resamples at most, instead of all that they ask for and name.

A hundred, the least that is allowed, take most of the time of a summary. For tests of what one
says and compares; tests/local/summary/test_bootstrap.py draws all, to see how often intervals hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Set in the environment of a forked process (tests/fork_server.py).
VARIABLE = "TESTS_DRAW_FEW_RESAMPLES"
MOST = 10


def draw_few(replace: Any = setattr) -> None:
    """From now on; `replace` sets an attribute, as `monkeypatch.setattr` does."""
    from local.summary import bootstrap

    draw = bootstrap.draw_resamples

    def few(n_units: int, n_resamples: int, seed: Sequence[int]) -> Any:
        return draw(n_units, min(n_resamples, MOST), seed)

    replace(bootstrap, "draw_resamples", few)
