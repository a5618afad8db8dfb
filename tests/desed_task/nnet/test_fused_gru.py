"""The GRU of one kernel a step, held against PyTorch's in float64."""

import copy

import pytest
import torch
from torch import nn

from desed_task.nnet import fused_gru as module
from desed_task.nnet.fused_gru import fused_gru
from desed_task.nnet.RNN import BidirectionalGRU


def layer(n_in: int, n_cells: int, n_layers: int) -> nn.GRU:
    torch.manual_seed(5)
    gru = nn.GRU(n_in, n_cells, n_layers, bidirectional=True, batch_first=True)
    with torch.no_grad():
        for tensor in gru.parameters():
            tensor.mul_(3)  # gates that open and close
    return gru


def outcome(run, gru, x):
    x = x.clone().requires_grad_()
    out = run(x)
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    grads = torch.autograd.grad((out * weight).sum(), [x, *gru.parameters()])
    return [out.detach(), *grads]


@pytest.mark.parametrize(
    ("n_clips", "n_frames", "n_in", "n_cells", "n_layers"),
    [(1, 1, 1, 1, 1), (3, 7, 5, 4, 2), (5, 40, 16, 33, 1), (2, 156, 12, 8, 3)],
)
@pytest.mark.parametrize("n_threads", [1, 2])
def test_it_is_pytorchs(n_clips, n_frames, n_in, n_cells, n_layers, n_threads):
    gru = layer(n_in, n_cells, n_layers)
    x = torch.randn(n_clips, n_frames, n_in, generator=torch.Generator().manual_seed(1))
    exact = copy.deepcopy(gru).double()
    expected = outcome(lambda x: exact(x)[0], exact, x.double())
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        found = outcome(lambda x: fused_gru(gru, x), gru, x)
    finally:
        torch.set_num_threads(before)
    for one, wanted in zip(found, expected, strict=True):
        scale = wanted.abs().max().item()
        torch.testing.assert_close(one.double(), wanted, rtol=1e-4, atol=2e-6 * max(scale, 1))


def test_without_gradients_nothing_is_kept_and_nothing_changes(monkeypatch):
    gru, x, kept = layer(4, 6, 2), torch.randn(3, 9, 4), []
    run = module._run

    def watched(*args, keep):
        kept.append(keep)
        return run(*args, keep=keep)

    monkeypatch.setattr(module, "_run", watched)
    with_gradients = fused_gru(gru, x)
    assert kept == [True] * 4  # two layers, two directions
    with torch.no_grad():
        assert torch.equal(fused_gru(gru, x), with_gradients)
    gru.requires_grad_(False)
    assert torch.equal(fused_gru(gru, x), with_gradients)
    assert not fused_gru(gru, x).requires_grad
    assert kept == [True] * 4 + [False] * 12


def test_frozen_weights_get_no_gradient():
    gru, x = layer(4, 6, 1), torch.randn(3, 9, 4, requires_grad=True)
    gru.weight_hh_l0.requires_grad_(False)
    fused_gru(gru, x).sum().backward()
    assert gru.weight_hh_l0.grad is None
    assert gru.weight_ih_l0.grad.abs().sum() > 0
    assert x.grad.abs().sum() > 0


def test_a_diverged_input_gives_what_is_not_a_number():
    gru, x = layer(4, 6, 1), torch.zeros(2, 5, 4)
    x[1, 2, 0] = float("nan")
    out = fused_gru(gru, x)
    assert not out[0].isnan().any()
    assert out[1, 2].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_pytorchs(dtype):
    module = BidirectionalGRU(4, 6, 1).to(dtype)
    x = torch.randn(2, 5, 4, dtype=dtype)
    assert torch.equal(module(x), module.rnn(x)[0])


def test_the_module_uses_it_on_float32(monkeypatch):
    module, x = BidirectionalGRU(4, 6, 1), torch.randn(2, 5, 4)
    monkeypatch.setattr("desed_task.nnet.RNN.fused_gru", lambda gru, x: x + 1)
    assert torch.equal(module(x), x + 1)
