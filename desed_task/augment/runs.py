"""Runs of zeros: time dropping of the CRNN, and SpecAugment."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor

from desed_task.augment.rows import WHOLE_BATCH, BatchShare, moved

RunScope = Literal["batch", "clip"]


def zero_runs(
    x: Tensor,
    dim: int,
    longest: int,
    share: float,
    scope: RunScope,
    generator: Generator | None = None,
    rows: BatchShare = WHOLE_BATCH,
) -> Tensor:
    """Zero one run along `dim` in every row, its length from U(0, min(longest, int(share * size))).

    Applied to feature sequences this is the baseline's time dropping; applied to spectrograms, the
    mask of SpecAugment (Park et al. 2019) with `share` as its p. Lengths and starts are rounded
    down.

    Args:
        x: (batch, ...); the run is the same along all other axes.
        dim: axis of the run; not the batch axis.
        longest: upper bound of the run, in steps of the axis.
        share: upper bound as a share of the axis; 0 leaves x unchanged and draws nothing.
        scope: "batch" draws one run for all rows, as torchaudio did up to 2.0 and therefore the
            published training; "clip" draws one per row.
        generator: CPU generator; torch's default one if None.
        rows: which rows of a batch x has.
    """
    size = x.shape[dim]
    limit = min(longest, int(share * size))
    if limit <= 0:
        return x
    n_runs = 1 if scope == "batch" else rows.total(x.shape[0])
    drawn = torch.rand(2, n_runs, 1, generator=generator)
    if scope == "clip":
        drawn, n_runs = rows.own(drawn, 1), x.shape[0]
    uniform = moved(drawn, x.device)
    length = uniform[0] * limit
    start = (uniform[1] * (size - length)).floor()
    step = torch.arange(size, device=x.device)
    run = (step >= start) & (step < start + length.floor())  # (run, size)
    shape = [n_runs, *(size if axis == dim else 1 for axis in range(1, x.ndim))]
    return x.masked_fill(run.view(shape), 0.0)
