"""The convolutional part of the CRNN: blocks of convolution, batch norm, gate, dropout, pooling."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, TypedDict

import torch
from torch import Tensor, nn

from desed_task.errors import InputError, count_of
from desed_task.kernels.choice import fits_kernels
from desed_task.nnet.fused_glu_block import FusedGluBlock

ACTIVATIONS: Final = ("glu", "cg", "relu", "leakyrelu")


class CNNArguments(TypedDict, total=False):
    """Arguments that a CRNN passes on to its CNN."""

    n_in_channel: int
    activation: str
    kernel_size: Sequence[int]
    padding: Sequence[int]
    stride: Sequence[int]
    nb_filters: Sequence[int]
    pooling: Sequence[Sequence[int]]


class _ChannelGate(nn.Module):
    """A linear map over the channels of (batch, channel, frame, mel), for gates."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_channels, n_channels)

    def mapped(self, x: Tensor) -> Tensor:
        # In channels-last memory both moves are views. Measured on one CPU core (batch 8, forward
        # and backward of all blocks): 590 ms, against 657 ms as a 1x1 convolution.
        mapped: Tensor = self.linear(x.movedim(1, -1))
        return mapped.movedim(-1, 1)


class GLU(_ChannelGate):
    """The gate called GLU by the baseline: linear(x) * sigmoid(x), the gate taken from x itself."""

    def forward(self, x: Tensor) -> Tensor:
        """Gate x (batch, channel, frame, mel); the shape stays."""
        return self.mapped(x) * torch.sigmoid(x)


class ContextGating(_ChannelGate):
    """x * sigmoid(linear(x)): the map decides how much of x passes."""

    def forward(self, x: Tensor) -> Tensor:
        """Gate x (batch, channel, frame, mel); the shape stays."""
        return x * torch.sigmoid(self.mapped(x))


class CNN(nn.Module):
    """Blocks of convolution, batch norm, activation, dropout and pooling (docs/method.md, Network).

    Parameters are named `cnn.conv{i}`, `cnn.batchnorm{i}`, `cnn.glu{i}.linear` (or `cnn.cg{i}`),
    as in the published checkpoint. The lists have one entry per block. `n_channels` is the
    number of channels out, `n_mels` the number of mel bands in that pooling reduces to one.

    Args:
        n_in_channel: channels of the input.
        activation: glu, cg, relu or leakyrelu (slope 0.2).
        dropout: probability after each activation.
        kernel_size: side of each block's square kernel.
        padding: padding on each side.
        stride: stride of the convolution.
        nb_filters: channels out.
        pooling: (frame, mel) window of the average pooling.

    Raises:
        InputError: for an unknown activation or lists of different lengths.
    """

    def __init__(
        self,
        n_in_channel: int = 1,
        *,
        activation: str = "glu",
        dropout: float = 0.2,
        kernel_size: Sequence[int] = (3,) * 7,
        padding: Sequence[int] = (1,) * 7,
        stride: Sequence[int] = (1,) * 7,
        nb_filters: Sequence[int] = (16, 32, 64, 128, 128, 128, 128),
        pooling: Sequence[Sequence[int]] = ((2, 2), (2, 2), *((1, 2),) * 5),
    ) -> None:
        super().__init__()
        lists = {"kernel_size": kernel_size, "padding": padding, "stride": stride}
        _check_lengths(len(nb_filters), {**lists, "pooling": pooling})
        self.activation, self.n_blocks = activation, len(nb_filters)
        self.n_channels = nb_filters[-1]
        self.n_mels = math.prod(bands for _, bands in pooling)
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        n_in = n_in_channel
        for i, n_out in enumerate(nb_filters):
            parts[f"conv{i}"] = nn.Conv2d(n_in, n_out, kernel_size[i], stride[i], padding[i])
            parts[f"batchnorm{i}"] = nn.BatchNorm2d(n_out, eps=1e-3, momentum=0.99)
            parts[f"{activation}{i}"] = make_activation(activation, n_out)
            parts[f"dropout{i}"] = nn.Dropout(dropout)
            frames, bands = pooling[i]
            parts[f"pooling{i}"] = nn.AvgPool2d((frames, bands))
            n_in = n_out
        self.cnn = nn.Sequential(parts)
        # Channels-last from the second block on: a quarter faster on a CPU than without. In the
        # first one its batch norm would sum millions of values in sequence, in float32 (relative
        # error of the variance 3e-4); in the usual layout torch sums pairwise (1e-7).
        for part in list(self.cnn)[1:]:
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, frame, mel) -> (batch, nb_filters[-1], pooled frame, pooled mel)."""
        if self.activation == "glu" and fits_kernels(x, self.cnn):
            return self._in_pieces(x)
        features: Tensor = self.cnn(x.contiguous())
        return features

    def _in_pieces(self, x: Tensor) -> Tensor:
        image = x.movedim(1, -1).contiguous()
        if image.shape[-1] == 1:
            # Strides of a single channel are arbitrary; these mean channels last.
            image = image[..., 0].unsqueeze(-1)
        for i in range(self.n_blocks):
            conv, norm, glu, dropout, pooling = (
                getattr(self.cnn, f"{name}{i}")
                for name in ("conv", "batchnorm", "glu", "dropout", "pooling")
            )
            # In channels-last memory the convolution reads and writes images as they lie.
            convolved = conv(image.movedim(-1, 1)).movedim(1, -1).contiguous()
            image = FusedGluBlock(norm, glu.linear, dropout, pooling)(convolved)
        return image.movedim(-1, 1)


def make_activation(name: str, n_channels: int) -> nn.Module:
    """The activation called `name` for `n_channels` channels.

    Raises:
        InputError: for a name that is not in ACTIVATIONS.
    """
    match name:
        case "glu":
            return GLU(n_channels)
        case "cg":
            return ContextGating(n_channels)
        case "relu":
            return nn.ReLU()
        case "leakyrelu":
            return nn.LeakyReLU(0.2)
    raise InputError(f"net.activation: unknown {name!r}; known: {', '.join(ACTIVATIONS)}")


def _check_lengths(n_blocks: int, lists: dict[str, Sequence[object]]) -> None:
    wrong = [
        f"net.{name} has {count_of(len(values), 'entry', 'entries')}, net.nb_filters {n_blocks}; "
        "give one per block"
        for name, values in lists.items()
        if len(values) != n_blocks
    ]
    if wrong:
        raise InputError.collect(wrong)
