"""The blocks of the CNN in pieces, held against its modules."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from desed_task.nnet import fused_glu_block
from desed_task.nnet.CNN import CNN

SMALL = {
    "kernel_size": (3, 3, 3),
    "padding": (1, 1, 1),
    "stride": (1, 1, 1),
    "nb_filters": (4, 6, 8),
    "pooling": ((2, 2), (2, 2), (1, 2)),
}


def network(dropout: float = 0.0) -> CNN:
    """A CNN none of whose parameters has the value it starts from."""
    torch.manual_seed(3)
    cnn = CNN(dropout=dropout, **SMALL)
    with torch.no_grad():
        for tensor in (*cnn.parameters(), *cnn.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.2 * torch.rand_like(tensor))
    return cnn


def by_modules(cnn: CNN, x: Tensor) -> Tensor:
    return cnn.cnn(x)


def outcome(run: Callable[[Tensor], Tensor], cnn: CNN, x: Tensor) -> dict[str, Tensor]:
    """What a forward and a backward pass give and leave behind."""
    x = x.clone().requires_grad_()
    out = run(x)
    weight = torch.linspace(-1, 1, out.numel()).view(out.shape)
    out.backward(weight)
    grads = {f"grad of {name}": tensor.grad for name, tensor in cnn.named_parameters()}
    # Batch norm takes the mean away, so that the true gradient of a bias before it is zero.
    grads = {
        name: grad for name, grad in grads.items() if ".conv" not in name or "bias" not in name
    }
    return {"out": out.detach(), "grad of x": x.grad, **grads, **dict(cnn.named_buffers())}


@pytest.mark.parametrize("piece", [1, 300, 3000, 1 << 20])
@pytest.mark.parametrize("n_frames", [20, 23, 6])
@pytest.mark.parametrize("training", [True, False])
def test_pieces_of_any_size_give_what_the_modules_give(piece, n_frames, training, monkeypatch):
    monkeypatch.setattr(fused_glu_block, "PIECE", piece)
    x = torch.randn(5, 1, n_frames, 10, generator=torch.Generator().manual_seed(1))
    one = network().train(training)
    # In float32 the modules' own gradients of the first gate are off by 1e-4 here.
    other = copy.deepcopy(one).double()
    expected = outcome(lambda x: by_modules(other, x), other, x.double())
    found = outcome(one, one, x)
    assert found.keys() == expected.keys()
    for name in expected:
        wanted = expected[name].to(found[name].dtype)
        torch.testing.assert_close(found[name], wanted, rtol=5e-5, atol=5e-5, msg=name)


def test_a_frozen_norm_keeps_its_statistics():
    cnn = network().train()
    cnn.cnn.batchnorm1.eval()
    kept = cnn.cnn.batchnorm1.running_mean.clone()
    moved = cnn.cnn.batchnorm0.running_mean.clone()
    cnn(torch.randn(2, 1, 12, 8))
    assert torch.equal(cnn.cnn.batchnorm1.running_mean, kept)
    assert not torch.equal(cnn.cnn.batchnorm0.running_mean, moved)


def dropped_block(probability: float) -> tuple[fused_glu_block.FusedGluBlock, Tensor]:
    norm, gate = nn.BatchNorm2d(4), nn.Linear(4, 4)
    block = fused_glu_block.FusedGluBlock(norm, gate, nn.Dropout(probability), nn.AvgPool2d((1, 1)))
    return block, torch.randn(6, 50, 40, 4, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("probability", [0.2, 0.5, 1.0])
def test_dropout_drops_its_share_and_scales_the_rest(probability):
    block, image = dropped_block(probability)
    torch.manual_seed(7)
    dropped = block(image)
    whole = block._replace(dropout=nn.Dropout(0.0))(image)
    kept = dropped != 0
    share, n_values = 1 - probability, kept.numel()
    deviation = (share * probability / n_values) ** 0.5
    assert abs(kept.float().mean().item() - share) <= 5 * deviation + 2**-16
    if probability < 1:
        torch.testing.assert_close(dropped[kept], whole[kept] / share, rtol=1e-4, atol=1e-6)
    for axis in range(3):  # no row, frame or clip is treated otherwise than the rest
        along = [other for other in range(4) if other != axis]
        spread = (share * probability / (n_values / kept.shape[axis])) ** 0.5
        assert (kept.float().mean(along) - share).abs().max() <= 5 * spread + 2**-16


def test_the_seed_of_torch_decides_what_is_dropped():
    block, image = dropped_block(0.5)
    torch.manual_seed(7)
    first, second = block(image), block(image)
    torch.manual_seed(7)
    assert torch.equal(block(image), first)
    assert not torch.equal(first, second)


def test_the_gradient_knows_what_was_dropped():
    x = torch.randn(4, 1, 16, 8, generator=torch.Generator().manual_seed(4))
    direction = torch.randn(6, 6, generator=torch.Generator().manual_seed(5))

    def stepped(step: float) -> tuple[float, Tensor]:
        cnn = network(dropout=0.3).train()
        weight = cnn.cnn.glu1.linear.weight
        with torch.no_grad():
            weight.add_(step * direction)
        torch.manual_seed(11)
        total = cnn(x).double().square().sum()
        total.backward()
        return total.item(), weight.grad

    along = (stepped(0.0)[1] * direction).sum().item()
    measured = (stepped(1e-2)[0] - stepped(-1e-2)[0]) / 2e-2
    assert along == pytest.approx(measured, rel=2e-3)


def test_hooks_still_see_every_module():
    cnn, seen = network().eval(), []
    cnn.cnn.glu0.register_forward_hook(lambda *_: seen.append("glu0"))
    x = torch.randn(2, 1, 12, 8)
    torch.testing.assert_close(cnn(x), by_modules(cnn, x))
    assert seen == ["glu0", "glu0"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_run_module_by_module(dtype):
    cnn = network().eval().to(dtype)
    assert cnn(torch.randn(2, 1, 12, 8, dtype=dtype)).dtype == dtype


def test_autocast_keeps_its_own_way():
    cnn = network().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert cnn(torch.randn(2, 1, 12, 8)).dtype == torch.bfloat16
