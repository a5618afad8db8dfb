"""Dropout on a CPU: its share, its scale, its gradient and its seed."""

import pytest
import torch
from torch import nn

from desed_task.nnet.dropout import FastDropout


@pytest.mark.parametrize("probability", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(40, 30, 90), (100_003,), (50_000, 3)])
def test_its_share_is_dropped_and_the_rest_scaled(probability, shape):
    torch.manual_seed(1)
    x = torch.rand(shape) + 0.5
    out = FastDropout(probability).train()(x)
    kept, share = out != 0, 1 - probability
    deviation = (share * probability / x.numel()) ** 0.5
    assert out.shape == x.shape
    assert abs(kept.float().mean().item() - share) <= 5 * deviation + 2**-16
    if share:
        torch.testing.assert_close(out[kept], x[kept] / share, rtol=2e-4, atol=0)


def test_the_gradient_drops_the_same():
    x = torch.rand(20, 70, requires_grad=True)
    out = FastDropout(0.4).train()(x)
    (out * 3).sum().backward()
    torch.testing.assert_close(x.grad, (out / x * 3).detach())


def test_the_seed_of_torch_decides_whatever_the_number_of_threads():
    dropout, x, before = FastDropout(0.5).train(), torch.ones(3000, 100), torch.get_num_threads()
    torch.manual_seed(3)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(3)
    torch.set_num_threads(3)
    try:
        assert torch.equal(dropout(x), first)
    finally:
        torch.set_num_threads(before)
    assert not torch.equal(first, second)


def test_views_and_other_types():
    x = torch.rand(6, 5, 4).transpose(0, 2)
    out = FastDropout(0.5).train()(x)
    kept = out != 0
    torch.testing.assert_close(out[kept], 2 * x[kept])
    assert FastDropout(0.5).train()(x.double()).dtype == torch.float64
    assert FastDropout(0.5).train()(torch.ones(())).item() in (0.0, 2.0)
    assert FastDropout(0.5).train()(torch.ones(0, 3)).shape == (0, 3)


def test_outside_training_it_does_nothing():
    x = torch.rand(5, 5)
    assert torch.equal(FastDropout(0.5).eval()(x), x)
    assert torch.equal(FastDropout(0.0).train()(x), x)
    assert isinstance(FastDropout(0.5), nn.Dropout)
