"""Batch norm with the statistics of all processes that share a batch, on a CPU.

PyTorch's `SyncBatchNorm` does the same on GPUs. Every process must call forward and backward of the
same layers in the same order; they may have different numbers of rows, but at least one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from desed_task.distributed.collectives import n_processes, summed, tensors_of_all


class Moments(NamedTuple):
    """Moments of the channels of an image, or of images of several processes, in float64.

    Attributes:
        n_values: values of a channel.
        mean: (channel,).
        variance: (channel,), that of the population.
    """

    n_values: int
    mean: Tensor
    variance: Tensor


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with the statistics of all processes in training."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, ...) -> the same."""
        self._check_input_dim(x)
        if not self.training or n_processes() == 1:
            return super().forward(x)
        # PyTorch's own kernel, too, takes half-precision images and computes in float32.
        dtype, x = x.dtype, x if x.dtype == torch.float64 else x.float()
        axes = [axis for axis in range(x.ndim) if axis != 1]
        own = torch.tensor([float(x.numel() // x.shape[1])], dtype=torch.float64)
        n_values = int(summed(own))
        mean: Tensor = _Summed.apply(x.sum(axes)) / n_values  # type: ignore[no-untyped-call]
        centred = x - _per_channel(mean, x)
        squares: Tensor = _Summed.apply(  # type: ignore[no-untyped-call]
            centred.square().sum(axes)
        )
        variance = squares / n_values
        track_moments(self, Moments(n_values, mean.detach(), variance.detach()))
        scale = (variance + self.eps).rsqrt() * self.weight
        return (centred * _per_channel(scale, x) + _per_channel(self.bias, x)).to(dtype)


class _Summed(torch.autograd.Function):
    """The sum of a tensor over all processes; each passes on the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return summed(x.clone())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return summed(grad.clone())


def of_all_processes(own: Moments) -> Moments:
    """The moments of the images of all processes (Chan, Golub and LeVeque 1979).

    Args:
        own: those of this process.
    """
    counted = own.mean.new_full((1,), own.n_values)
    every = tensors_of_all(torch.cat([counted, own.mean, own.variance]))
    n_values, (means, variances) = every[:, :1], every[:, 1:].chunk(2, dim=1)
    weight = n_values / n_values.sum()
    mean = (weight * means).sum(0)
    variance = (weight * (variances + (means - mean) ** 2)).sum(0)
    return Moments(int(n_values.sum()), mean, variance)


def track_moments(norm: nn.BatchNorm2d, moments: Moments) -> None:
    """Move the running statistics of a batch norm towards those of a batch, in place."""
    running_mean, running_variance = norm.running_mean, norm.running_var
    assert running_mean is not None and running_variance is not None
    with torch.no_grad():
        mean, variance = (one.to(running_mean.dtype) for one in moments[1:])
        running_mean.lerp_(mean, norm.momentum)  # type: ignore[arg-type]
        unbiased = variance * (moments.n_values / max(moments.n_values - 1, 1))
        running_variance.lerp_(unbiased, norm.momentum)  # type: ignore[arg-type]
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)


def sync_batch_norms(module: nn.Module, *, synced: bool = True) -> None:
    """Let the batch norms of a module on a CPU use the statistics of all processes, or no longer.

    Parameters, buffers and their names stay.
    """
    before, after = nn.BatchNorm2d, SyncedBatchNorm2d
    if not synced:
        before, after = SyncedBatchNorm2d, nn.BatchNorm2d  # type: ignore[assignment]
    for part in module.modules():
        if type(part) is before:
            part.__class__ = after


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """(channel,) shaped to fit x (batch, channel, ...)."""
    return values.view(1, -1, *(1,) * (x.ndim - 2))
