"""Trainings without drawing, which takes three quarters of the time of one on the mini corpus.

Every picture is there, as a PNG of one pixel, and event rolls are those of one clip of a corpus.
For tests that look at no picture; others draw.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

# Set in the environment of a forked process (tests/fork_server.py), which then draws nothing.
VARIABLE = "TESTS_DRAW_NOTHING"
# Its value for one that draws all but event rolls as ever.
FEW_ROLLS = "few rolls"


class BlankCanvas:
    """What a figure is drawn on."""

    def __init__(self, figure: Any) -> None:
        self.figure = figure

    def draw(self) -> None:
        """Draw nothing."""

    def buffer_rgba(self) -> npt.NDArray[np.uint8]:
        """One white pixel."""
        return np.full((1, 1, 4), 255, np.uint8)


def draw_nothing(replace: Any = setattr) -> None:
    """From now on; `replace` sets an attribute, as `monkeypatch.setattr` does."""
    from local.scoring import figures
    from local.training import result_writers

    replace(result_writers, "ROLLS_PER_CORPUS", 1)
    if os.environ.get(VARIABLE) != FEW_ROLLS:
        replace(figures, "FigureCanvasAgg", BlankCanvas)
