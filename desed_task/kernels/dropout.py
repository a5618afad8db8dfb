"""Kernel of `nnet.dropout`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from desed_task.kernels.compiled import DRAWS_PER_WORD, compiled, draw_kept

Floats = NDArray[np.float32]


@compiled
def drop(
    values: Floats,
    out: Floats,
    seed: np.uint64,
    dropped: int,
    scale: np.float32,
    first_row: int,
    end_row: int,
) -> None:
    """Set rows of `out` to values * scale, or to 0 where dropped.

    Args:
        values: (row, value).
        out: like `values`.
        seed: of the draws; each row has its own of them.
        dropped: probability in 2^-16.
        scale: factor of kept values.
        first_row: first row to set.
        end_row: row after the last one.
    """
    width = values.shape[1]
    kept = np.empty(width, np.float32)
    words = np.empty((width + DRAWS_PER_WORD - 1) // DRAWS_PER_WORD, np.uint64)
    for row in range(first_row, end_row):
        draw_kept(kept, words, seed, row, dropped)
        given, found = values[row], out[row]
        for i in range(width):
            found[i] = given[i] * (kept[i] * scale)
