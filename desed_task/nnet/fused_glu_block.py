"""Fused batch norm, GLU, dropout and pooling of a CNN block for the CPU.

As separate modules, each writes its result to memory and the next one reads it again; in the first
blocks of the CNN that takes longer than the convolutions. Here a block's input is cut into pieces
that fit the cache, and each piece passes all four steps before the next one. The gradient needs the
convolution's output and which values were dropped; the rest is recomputed. Images here are
contiguous (clip, frame, mel, channel), the memory layout of a channels-last convolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Values of a piece per thread: three such tensors fit in 2 MiB, a usual cache of one core.
PIECE: Final = 1 << 17
# Dropout compares 16 random bits with a bound, so its probability is a multiple of 2^-16.
_DROPOUT_LEVELS: Final = 1 << 16


class FusedGluBlock(NamedTuple):
    """The modules of a block that come after its convolution."""

    norm: nn.BatchNorm2d
    gate: nn.Linear
    dropout: nn.Dropout
    pooling: nn.AvgPool2d

    def __call__(self, image: Tensor) -> Tensor:
        """(clip, frame, mel, channel) float32 on the CPU -> the same, pooled and contiguous."""
        mean, variance = self._moments(image)
        frames, bands = self.pooling.kernel_size  # type: ignore[misc]
        dropped = round(self.dropout.p * _DROPOUT_LEVELS) if self.dropout.training else 0
        settings = _Settings(self.norm.training, self.norm.eps, dropped, (frames, bands))
        learnt = (self.norm.weight, self.norm.bias, self.gate.weight, self.gate.bias)
        pooled: Tensor = _GatedPool.apply(  # type: ignore[no-untyped-call]
            image, mean, variance, *learnt, settings
        )
        return pooled

    def _moments(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (channel,) to normalise with: in training the batch's own."""
        norm = self.norm
        running_mean, running_variance = norm.running_mean, norm.running_var
        assert running_mean is not None and running_variance is not None
        if not norm.training:
            return running_mean, running_variance
        with torch.no_grad():
            mean, variance = channel_moments(image)
            n_values = image[..., 0].numel()
            running_mean.lerp_(mean, norm.momentum)  # type: ignore[arg-type]
            unbiased = variance * (n_values / max(n_values - 1, 1))
            running_variance.lerp_(unbiased, norm.momentum)  # type: ignore[arg-type]
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.add_(1)
        return mean, variance


def channel_moments(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population variance (channel,) of (clip, frame, mel, channel).

    Each piece is centred on its own mean and the sums are combined in float64 (Chan, Golub and
    LeVeque 1979), so that millions of values lose no digits.
    """
    rows = image.flatten(0, -2)
    sizes, means, squares = [], [], []
    step = _rows_of_a_piece(rows)
    for start in range(0, len(rows), step):
        piece = rows[start : start + step]
        mean = piece.sum(0) / len(piece)
        sizes.append(len(piece) / len(rows))
        means.append(mean)
        squares.append((piece - mean).square_().sum(0))
    weight = torch.tensor(sizes, dtype=torch.float64).unsqueeze(1)
    each = torch.stack(means).double()
    mean = (weight * each).sum(0)
    within = torch.stack(squares).double().sum(0) / len(rows)
    variance = within + (weight * (each - mean).square()).sum(0)
    return mean.to(image.dtype), variance.to(image.dtype)


class _Settings(NamedTuple):
    """Arguments that are not tensors."""

    batch_moments: bool  # mean and variance follow from the image, which gradients must know
    eps: float
    dropped: int  # of _DROPOUT_LEVELS
    pooling: tuple[int, int]  # frames, mel bands

    @property
    def scale(self) -> float:
        """Factor by which dropout multiplies the kept values."""
        return _DROPOUT_LEVELS / max(_DROPOUT_LEVELS - self.dropped, 1)


class _Affine(NamedTuple):
    """Batch norm as z = image * slope + shift."""

    slope: Tensor  # (channel,), as the others
    shift: Tensor
    inverse_deviation: Tensor

    @classmethod
    def of(cls, mean: Tensor, variance: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> _Affine:
        inverse_deviation = (variance + eps).rsqrt()
        slope = gamma * inverse_deviation
        return cls(slope, beta - mean * slope, inverse_deviation)

    def __call__(self, rows: Tensor) -> Tensor:
        return torch.addcmul(self.shift, rows, self.slope)


class _GatedPool(torch.autograd.Function):
    """avg_pool(dropout(linear(z) * sigmoid(z))) with z = batch_norm(image), and its gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        mean: Tensor,
        variance: Tensor,
        gamma: Tensor,
        beta: Tensor,
        weight: Tensor,
        bias: Tensor,
        settings: _Settings,
    ) -> Tensor:
        affine = _Affine.of(mean, variance, gamma, beta, settings.eps)
        weight_t = weight.t().contiguous()
        frames, bands = settings.pooling
        clips, n_frames, n_mels, channels = image.shape
        pooled = image.new_empty(clips, n_frames // frames, n_mels // bands, channels)
        kept = torch.empty(image.shape, dtype=torch.uint8) if settings.dropped else None
        draws = _DropoutBits(settings.dropped)
        for at in _pieces(image, frames):
            part = image[at]
            z = affine(part.reshape(-1, channels))
            gated = torch.addmm(bias, z, weight_t).mul_(z.sigmoid_())
            if kept is not None:
                kept[at] = drawn = draws.kept(part.shape)
                gated.mul_(z.copy_(drawn.view_as(z)))
            upright = gated.view(part.shape).permute(0, 3, 1, 2)
            pooled[_pooled(at, frames)] = F.avg_pool2d(upright, settings.pooling).movedim(1, -1)
        if kept is not None:
            pooled.mul_(settings.scale)
        ctx.save_for_backward(image, mean, variance, gamma, beta, weight, bias, kept)
        ctx.settings = settings
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        image, mean, variance, gamma, beta, weight, bias, kept = ctx.saved_tensors
        settings: _Settings = ctx.settings
        affine = _Affine.of(mean, variance, gamma, beta, settings.eps)
        found = _Gradients(affine, weight, bias, settings)
        grad = grad.contiguous()
        if kept is not None:
            grad = grad * settings.scale
        grad_z = torch.empty_like(image)
        # Frames that pooling leaves over have no gradient but through the batch's moments.
        left_over = image.shape[1] % settings.pooling[0]
        grad_z[:, image.shape[1] - left_over :] = 0
        for at in _pieces(image, settings.pooling[0]):
            above = grad[_pooled(at, settings.pooling[0])]
            grad_z[at] = found.add(image[at], above, None if kept is None else kept[at])
        of_gamma = (found.along_image - mean * found.of_z) * affine.inverse_deviation
        if settings.batch_moments:
            _through_moments(grad_z, image, affine, mean, found.of_z, of_gamma)
        else:
            grad_z.mul_(affine.slope)
        return grad_z, None, None, of_gamma, found.of_z, found.of_weight, found.of_bias, None


class _Gradients:
    """Sums over the pieces from which the gradients of the parameters follow."""

    def __init__(self, affine: _Affine, weight: Tensor, bias: Tensor, settings: _Settings) -> None:
        self.affine, self.weight, self.bias, self.settings = affine, weight, bias, settings
        self.weight_t = weight.t().contiguous()
        self.of_weight, self.of_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        self.of_z, self.along_image = torch.zeros_like(bias), torch.zeros_like(bias)

    def add(self, part: Tensor, above: Tensor, kept: Tensor | None) -> Tensor:
        """The gradient of z of a piece, (clip, frame, mel, channel) as the piece itself.

        Args:
            part: the piece of the image.
            above: the gradient of its pooled output.
            kept: 1 for values that dropout kept, else 0.
        """
        rows = part.reshape(-1, part.shape[-1])
        z = self.affine(rows)
        linear = torch.addmm(self.bias, z, self.weight_t)
        grad = self._unpooled(part, above)
        if kept is not None:
            grad.mul_(kept.reshape(grad.shape).float())
        gate = z.sigmoid()
        of_linear = grad * gate
        self.of_weight.addmm_(of_linear.t(), z)
        self.of_bias += of_linear.sum(0)
        of_z = torch.ops.aten.sigmoid_backward(grad.mul_(linear), gate).addmm_(
            of_linear, self.weight
        )
        self.of_z += of_z.sum(0)
        self.along_image += torch.mul(of_z, rows, out=linear).sum(0)
        grad_z: Tensor = of_z.view(part.shape)
        return grad_z

    def _unpooled(self, part: Tensor, above: Tensor) -> Tensor:
        """The gradient before pooling, (row, channel)."""
        window = list(self.settings.pooling)
        upright = above.permute(0, 3, 1, 2), part.permute(0, 3, 1, 2)
        spread: Tensor = torch.ops.aten.avg_pool2d_backward(
            *upright, window, window, [0, 0], False, True, None
        )
        return spread.movedim(1, -1).reshape(-1, part.shape[-1])


def _through_moments(
    grad_z: Tensor, image: Tensor, affine: _Affine, mean: Tensor, of_z: Tensor, of_gamma: Tensor
) -> None:
    """Turn the gradient of z into that of the image, whose moments normalised it; in place."""
    rows, values = grad_z.flatten(0, -2), image.flatten(0, -2)
    along = -affine.slope * affine.inverse_deviation * of_gamma / len(rows)
    constant = -affine.slope * of_z / len(rows) - along * mean
    step = _rows_of_a_piece(rows)
    for start in range(0, len(rows), step):
        piece, value = rows[start : start + step], values[start : start + step]
        piece.mul_(affine.slope).addcmul_(value, along).add_(constant)


class _DropoutBits:
    """Random bits of numpy's SFC64: torch's own take longer than everything else in a block.

    Seeded from torch's generator, so that torch's seed decides them.
    """

    def __init__(self, dropped: int) -> None:
        self.dropped = dropped
        if dropped:
            self.bits = np.random.SFC64(int(torch.randint(1 << 62, ())))

    def kept(self, shape: torch.Size) -> Tensor:
        """uint8 of a shape: 0 with the probability `dropped` / _DROPOUT_LEVELS, 1 otherwise."""
        n_values = shape.numel()
        bits = self.bits.random_raw(-(-n_values // 4)).view(np.uint16)[:n_values]
        return torch.from_numpy((bits >= self.dropped).view(np.uint8)).view(shape)


_Index = tuple[slice, slice]


def _pieces(image: Tensor, frames: int) -> Iterator[_Index]:
    """Slices of clips and frames that fit the cache and divide into windows of `frames` frames.

    Frames left over at the end of a clip belong to no piece.
    """
    clips, n_frames, *rest = image.shape
    a_frame = rest[0] * rest[1]
    size = PIECE * torch.get_num_threads()
    used = n_frames - n_frames % frames
    if used * a_frame > size:
        step = max(frames, size // a_frame // frames * frames)
        for clip in range(clips):
            for start in range(0, used, step):
                yield slice(clip, clip + 1), slice(start, min(start + step, used))
    else:
        step = max(1, size // (n_frames * a_frame))
        for clip in range(0, clips, step):
            yield slice(clip, clip + step), slice(0, used)


def _pooled(at: _Index, frames: int) -> _Index:
    """The slices of a piece in the pooled image."""
    return at[0], slice(at[1].start // frames, at[1].stop // frames)


def _rows_of_a_piece(rows: Tensor) -> int:
    return max(1, PIECE * torch.get_num_threads() // rows.shape[1])
