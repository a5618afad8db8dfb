"""Augmentation on the device: runs of zeroes, and mixup with one draw for all tensors of a step.

Random numbers come from a CPU generator that is passed in, so that a seed gives the same masks on
every device; only the few numbers of a draw travel to the device.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def zero_runs(
    x: Tensor, dim: int, longest: float, share: float, generator: Generator | None = None
) -> Tensor:
    """Zero one run along `dim` in every row, its length from U(0, min(longest, share * size)).

    With features as rows this is time dropping (SPEC section 4), with spectrograms SpecAugment's
    mask (Park et al. 2019) with the share as its bound p. Lengths and starts are rounded down.

    Args:
        x: (batch, ...), the run is the same for all other axes.
        dim: the axis, not the batch.
        longest: bound of the run in steps of the axis.
        share: bound of the run as a share of the axis; 0 leaves x as it is and draws nothing.
        generator: CPU generator; torch's default one if None.
    """
    size = x.shape[dim]
    limit = min(float(longest), share * size)
    if limit <= 0:
        return x
    uniform = torch.rand(2, x.shape[0], 1, generator=generator).to(x.device, non_blocking=True)
    length = uniform[0] * limit
    start = (uniform[1] * (size - length)).floor()
    step = torch.arange(size, device=x.device)
    run = (step >= start) & (step < start + length.floor())  # (batch, size)
    shape = [x.shape[0], *(size if axis == dim else 1 for axis in range(1, x.ndim))]
    return x.masked_fill(run.view(shape), 0.0)
