"""Fused batch norm, GLU, dropout and pooling of a CNN block for the CPU.

As separate modules, each writes its result to memory and the next one reads it again; in the first
blocks of the CNN that takes longer than the convolutions. Here a block's input is cut into pieces
that fit the cache. For each piece a matrix product computes the gate's linear map, and one kernel
the rest. The gradient needs the convolution's output alone; everything else is recomputed, the
random numbers of dropout included. Images here are contiguous (clip, frame, mel, channel), the
memory layout of a channels-last convolution.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from desed_task.distributed.collectives import summed
from desed_task.kernels.layout import Dropout, Piece, Pooling
from desed_task.kernels.pieces import run_pieces
from desed_task.nnet.dropout import dropped_levels, kept_scale, new_seed
from desed_task.nnet.synced_norm import (
    Moments,
    SyncedBatchNorm2d,
    of_all_processes,
    track_moments,
)

# Values of a piece: it and its linear map fit in 1 MiB, a usual cache of one core.
PIECE: Final = 1 << 17
# Kernels add up float32 over the frames of a piece, and float64 beyond.
_MOST_FRAMES: Final = 1024

Doubles = NDArray[np.float64]


class FusedGluBlock(NamedTuple):
    """The modules of a block that come after its convolution."""

    norm: nn.BatchNorm2d
    gate: nn.Linear
    dropout: nn.Dropout
    pooling: nn.AvgPool2d

    def __call__(self, image: Tensor) -> Tensor:
        """(clip, frame, mel, channel) float32 on the CPU -> the same, pooled and contiguous."""
        moments = self._moments(image)
        dropped = dropped_levels(self.dropout)
        seed = new_seed() if dropped else 0
        frames, bands = self.pooling.kernel_size  # type: ignore[misc]
        settings = _Settings(
            moments.n_values if self.norm.training else 0,
            isinstance(self.norm, SyncedBatchNorm2d),
            self.norm.eps,
            (frames, bands),
            dropped,
            seed,
        )
        learnt = (self.norm.weight, self.norm.bias, self.gate.weight, self.gate.bias)
        pooled: Tensor = _GatedPool.apply(  # type: ignore[no-untyped-call]
            image, moments.mean, moments.variance, *learnt, settings
        )
        return pooled

    def _moments(self, image: Tensor) -> Moments:
        """Moments to normalise with, float32: in training those of the batch."""
        norm = self.norm
        if not norm.training:
            assert norm.running_mean is not None and norm.running_var is not None
            return Moments(0, norm.running_mean, norm.running_var)
        with torch.no_grad():
            found = channel_moments(image)
            if isinstance(norm, SyncedBatchNorm2d):
                found = of_all_processes(found)
            rounded = found._replace(
                mean=found.mean.to(image.dtype), variance=found.variance.to(image.dtype)
            )
            track_moments(norm, rounded)
        return rounded


def channel_moments(image: Tensor) -> Moments:
    """Moments of the channels of (clip, frame, mel, channel), float32 on the CPU.

    Each piece is centred on its own mean and the sums are combined in float64 (Chan, Golub and
    LeVeque 1979), so that millions of values lose no digits.
    """
    from desed_task.kernels import gated_pool

    values, channels = _flat(image), image.shape[-1]
    pieces = _pieces(image, 1)
    found = run_pieces(lambda piece: gated_pool.piece_moments(values, piece, channels), pieces)
    n_frames = np.array([piece.n_frames for piece in pieces])
    weight = (n_frames / n_frames.sum())[:, None]
    means, squares = (np.stack(each) for each in zip(*found, strict=True))
    mean = (weight * means).sum(0)
    n_values = image[..., 0].numel()
    within = squares.sum(0) / n_values
    variance = within + (weight * (means - mean) ** 2).sum(0)
    return Moments(n_values, torch.from_numpy(mean), torch.from_numpy(variance))


class _Settings(NamedTuple):
    """Arguments that are not tensors."""

    # Values of a channel that mean and variance follow from, which gradients must know; 0 if they
    # do not follow from the image.
    n_values: int
    synced: bool  # whether they are those of all processes
    eps: float
    window: tuple[int, int]  # of the pooling: frames, mel bands
    dropped: int  # probability of dropout in 2^-16
    seed: int  # of dropout


class _Block:
    """A block on an image: what kernels and matrix products of all pieces need.

    Batch norm is z = image * slope + shift. As it is a map of each channel, the gate's linear map
    of z is one of the image, with weights and bias that take slope and shift in.
    """

    def __init__(
        self, image: Tensor, mean: Tensor, variance: Tensor, learnt: list[Tensor], s: _Settings
    ) -> None:
        gamma, beta, weight, bias = learnt
        self.image, self.mean = image, mean
        self.inverse_deviation = (variance + s.eps).rsqrt()
        self.slope = gamma * self.inverse_deviation
        self.shift = beta - mean * self.slope
        self.group = _group(image)
        folded = (weight * self.slope).t().contiguous()
        self.folded_weight, self.weight = (
            _on_diagonal(one, self.group) for one in (folded, weight)
        )
        self.folded_bias = torch.addmv(bias, weight, self.shift).repeat(self.group)
        self.pooling = Pooling(*s.window, image.shape[-1])
        self.dropout = Dropout(np.uint64(s.seed), s.dropped, np.float32(kept_scale(s.dropped)))
        self.values = _flat(image)
        self.slopes, self.shifts, self.means = map(
            self.repeated, (self.slope, self.shift, self.mean)
        )
        self.pieces = _pieces(image, s.window[0])

    def repeated(self, of_channels: Tensor) -> NDArray[np.float32]:
        """(channel,) repeated for each mel band."""
        n_bands = self.image.shape[2]
        return np.tile(of_channels.numpy(), n_bands)

    def rows(self, image: Tensor, piece: Piece) -> Tensor:
        """A piece of an image as a view (row, channel), each row a group of bands."""
        first, end, start, stop = piece
        return image[first:end, start:stop].view(-1, self.group * image.shape[-1])

    def linear(self, piece: Piece) -> NDArray[np.float32]:
        """The gate's linear map (frame, value) of a piece."""
        mapped = torch.addmm(self.folded_bias, self.rows(self.image, piece), self.folded_weight)
        return mapped.view(-1, self.values.shape[-1]).numpy()


class _GatedPool(torch.autograd.Function):
    """avg_pool(dropout(linear(z) * sigmoid(z))) with z = batch_norm(image), and its gradients."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, mean: Tensor, variance: Tensor, *rest: Any) -> Tensor:
        from desed_task.kernels import gated_pool

        *learnt, settings = rest
        block = _Block(image, mean, variance, learnt, settings)
        clips, n_frames, n_mels, channels = image.shape
        frames, bands = settings.window
        pooled = image.new_empty(clips, n_frames // frames, n_mels // bands, channels)

        def fill(piece: Piece) -> None:
            gated_pool.pool_gated(
                block.values,
                block.linear(piece),
                block.slopes,
                block.shifts,
                _flat(pooled),
                piece,
                block.pooling,
                block.dropout,
            )

        run_pieces(fill, block.pieces)
        ctx.save_for_backward(image, mean, variance, *learnt)
        ctx.settings = settings
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        image, mean, variance, *learnt = ctx.saved_tensors
        block = _Block(image, mean, variance, learnt, ctx.settings)
        grad_z = torch.empty_like(image)
        found = _sums(block, grad.contiguous(), grad_z)
        if ctx.settings.n_values:
            _through_moments(block, grad_z, found, ctx.settings)
        else:
            grad_z.mul_(block.slope)
        return grad_z, None, None, found.gamma, found.beta, found.weight, found.bias, None


class _Gradients(NamedTuple):
    """Gradients of a block's parameters."""

    gamma: Tensor
    beta: Tensor
    weight: Tensor
    bias: Tensor


def _sums(block: _Block, above: Tensor, grad_z: Tensor) -> _Gradients:
    """Set `grad_z` to the gradient of z; returns those of the parameters.

    Args:
        block: the block.
        above: gradient of the pooled image.
        grad_z: (clip, frame, mel, channel), overwritten.
    """
    from desed_task.kernels import gated_pool

    gradient, pooled = _flat(grad_z), _flat(above)

    def add(piece: Piece) -> tuple[Doubles, ...]:
        linear = block.linear(piece)
        bias = gated_pool.gate_gradients(
            block.values,
            linear,
            block.slopes,
            block.shifts,
            pooled,
            gradient,
            piece,
            block.pooling,
            block.dropout,
        )
        rows = block.rows(image, piece)
        of_linear = torch.from_numpy(linear).view_as(rows)
        weight = (of_linear.t() @ rows).double().numpy()
        block.rows(grad_z, piece).addmm_(of_linear, block.weight)
        beta, along = gated_pool.norm_gradients(
            block.values, gradient, block.means, piece, image.shape[-1]
        )
        return weight, bias, beta, along

    image = block.image
    found = run_pieces(add, block.pieces)
    weight, bias, beta, along = (
        torch.from_numpy(np.sum(each, axis=0)) for each in zip(*found, strict=True)
    )
    # Of products between the bands of a group, those of a band with itself count.
    n_channels = image.shape[-1]
    each = weight.view(block.group, n_channels, block.group, n_channels)
    weight = each.diagonal(dim1=0, dim2=2).sum(-1)
    # `weight` is a sum over the image; z is image * slope + shift.
    of_weight = weight * block.slope + bias.unsqueeze(1) * block.shift
    gamma = along * block.inverse_deviation
    return _Gradients(*(one.to(image.dtype) for one in (gamma, beta, of_weight, bias)))


def _through_moments(block: _Block, grad_z: Tensor, found: _Gradients, settings: _Settings) -> None:
    """Turn the gradient of z into that of the image, whose moments normalised it; in place."""
    from desed_task.kernels import gated_pool

    gamma, beta = found.gamma, found.beta
    if settings.synced:
        # The image changes the moments of all processes, and with them all their losses.
        gamma, beta = summed(torch.stack([gamma, beta]))
    along = -block.slope * block.inverse_deviation * gamma / settings.n_values
    constant = -block.slope * beta / settings.n_values - along * block.mean
    gradient, alongs, constants = _flat(grad_z), block.repeated(along), block.repeated(constant)
    run_pieces(
        lambda piece: gated_pool.through_moments(
            block.values, gradient, block.slopes, alongs, constants, piece
        ),
        block.pieces,
    )


def _pieces(image: Tensor, frames: int) -> list[Piece]:
    """Pieces that cover an image, fit the cache, and begin at a window of `frames` frames.

    A piece is a run of frames of one clip, or several whole clips, so that it is contiguous.
    """
    clips, n_frames, n_mels, channels = image.shape
    most = min(PIECE // (n_mels * channels), _MOST_FRAMES)
    if n_frames <= most:
        step = most // max(n_frames, 1)
        return [Piece(at, min(at + step, clips), 0, n_frames) for at in range(0, clips, step)]
    step = max(frames, most // frames * frames)
    return [
        Piece(clip, clip + 1, at, min(at + step, n_frames))
        for clip in range(clips)
        for at in range(0, n_frames, step)
    ]


def _group(image: Tensor) -> int:
    """Mel bands that matrix products take as one row, with the weights repeated on the diagonal.

    Products of fewer than 16 columns run at a quarter of the rate.
    """
    n_mels, channels = image.shape[2:]
    most = max(1, 16 // channels)
    return next(group for group in range(most, 0, -1) if n_mels % group == 0)


def _on_diagonal(weight: Tensor, n_times: int) -> Tensor:
    """(channel, channel) repeated on the diagonal of a square."""
    square: Tensor = torch.block_diag(*[weight] * n_times)  # type: ignore[no-untyped-call]
    return square


def _flat(image: Tensor) -> NDArray[np.float32]:
    """(clip, frame, mel, channel) as an array (clip, frame, value) of the same memory."""
    flat: NDArray[np.float32] = image.detach().flatten(2).numpy()
    return flat
