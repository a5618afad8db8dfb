"""The blocks of the CNN."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from desed_task.errors import InputError
from desed_task.nnet.CNN import ACTIVATIONS, CNN, GLU, ContextGating

TINY = {
    "kernel_size": (3, 3),
    "padding": (1, 1),
    "stride": (1, 1),
    "nb_filters": (4, 6),
    "pooling": ((2, 2), (1, 4)),
}


def image(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def mapped(gate: GLU | ContextGating, x: Tensor) -> Tensor:
    weight, bias = gate.linear.weight, gate.linear.bias
    return torch.einsum("oc,bctf->botf", weight, x) + bias[:, None, None]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gates_map_channels(layout: torch.memory_format) -> None:
    x = image(2, 3, 4, 5).to(memory_format=layout)
    glu, cg = GLU(3), ContextGating(3)
    torch.testing.assert_close(glu(x), mapped(glu, x) * torch.sigmoid(x))
    torch.testing.assert_close(cg(x), x * torch.sigmoid(mapped(cg, x)))


def test_leakyrelu_has_the_slope_of_the_baseline() -> None:
    activation = CNN(activation="leakyrelu", **TINY).cnn.leakyrelu0
    assert torch.equal(activation(torch.tensor([-10.0, 10.0])), torch.tensor([-2.0, 10.0]))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_gives_the_pooled_shape(activation: str) -> None:
    cnn = CNN(activation=activation, **TINY)
    assert cnn(image(2, 1, 21, 8)).shape == (2, 6, 10, 1)
    assert (cnn.n_channels, cnn.n_mels) == (6, 8)


def test_a_block_is_convolution_norm_gate_and_pooling() -> None:
    cnn = CNN(dropout=0.5, **TINY).eval()
    x = image(2, 1, 12, 8)
    by_hand = x
    for i, pool in enumerate(TINY["pooling"]):
        by_hand = getattr(cnn.cnn, f"conv{i}")(by_hand)
        by_hand = by_hand / (1 + 1e-3) ** 0.5  # a fresh batch norm
        gate = getattr(cnn.cnn, f"glu{i}")
        by_hand = mapped(gate, by_hand) * torch.sigmoid(by_hand)
        by_hand = nn.functional.avg_pool2d(by_hand, pool)
    torch.testing.assert_close(cnn(x), by_hand)


def test_batch_norm_follows_the_last_batch() -> None:
    cnn = CNN(dropout=0.0, **TINY).train()
    out = cnn.cnn.conv0(image(4, 1, 12, 8))
    cnn(image(4, 1, 12, 8))
    expected = 0.99 * out.mean((0, 2, 3))
    torch.testing.assert_close(cnn.cnn.batchnorm0.running_mean, expected)


def test_statistics_of_long_inputs_are_precise() -> None:
    # Channels-last batch norm on one CPU thread adds up in sequence and loses three digits here.
    cnn = CNN(dropout=0.0, **TINY).train()
    x = image(8, 1, 626, 128) * 0.3 - 0.5
    exact = cnn.cnn.conv0(x).detach().double()
    cnn(x)
    torch.testing.assert_close(
        cnn.cnn.batchnorm0.running_var.double() - 0.01,
        0.99 * exact.var((0, 2, 3)),
        rtol=5e-6,
        atol=0,
    )


def test_dropout_acts_in_training_only() -> None:
    cnn, x = CNN(dropout=0.5, **TINY), image(2, 1, 12, 8)
    assert not torch.equal(cnn.train()(x), cnn(x))
    assert torch.equal(cnn.eval()(x), cnn(x))


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(InputError, match=r"net.activation: unknown 'swish'; known: glu, cg, relu"):
        CNN(activation="swish")


def test_lists_of_different_lengths_are_refused_together() -> None:
    lists = {**TINY, "padding": (1,), "pooling": ((2, 2),) * 3}
    with pytest.raises(InputError) as caught:
        CNN(**lists)
    assert str(caught.value).splitlines() == [
        "net.padding has 1 entry, net.nb_filters 2; give one per block",
        "net.pooling has 3 entries, net.nb_filters 2; give one per block",
    ]
