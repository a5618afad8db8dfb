"""When kernels compute, and what happens without numba."""

import sys

import pytest
import torch
from torch import nn

from desed_task.kernels import choice
from desed_task.kernels.choice import fits_kernels
from desed_task.nnet.CRNN import CRNN


@pytest.fixture
def no_numba(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "desed_task.kernels.compiled", raising=False)
    choice.has_kernels.cache_clear()
    yield
    choice.has_kernels.cache_clear()


def test_float32_on_a_cpu_fits():
    assert fits_kernels(torch.ones(3), nn.Identity())


@pytest.mark.parametrize(
    "x",
    [torch.ones(3, dtype=torch.float64), torch.ones(0), torch.ones(3, device="meta")],
)
def test_other_tensors_do_not(x):
    assert not fits_kernels(x, nn.Identity())


def test_hooks_autocast_and_tracing_need_pytorch():
    x, module = torch.ones(3), nn.Sequential(nn.Identity())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not fits_kernels(x, module)
    seen = []
    torch.jit.trace(lambda x: seen.append(fits_kernels(x, module)) or x + 1, x, check_trace=False)
    assert seen == [False]
    module[0].register_forward_hook(lambda *_: None)
    assert not fits_kernels(x, module)


def test_without_numba_the_network_is_the_same_and_says_so_once(no_numba, monkeypatch, recwarn):
    torch.manual_seed(0)
    network = CRNN(n_RNN_cell=8, nb_filters=[4] * 7, use_embeddings=False).eval()
    mel = torch.randn(2, 128, 40)
    with torch.no_grad():
        plain = network(mel), network(mel)
        told = [str(one.message) for one in recwarn if "numba" in str(one.message)]
        monkeypatch.undo()
        choice.has_kernels.cache_clear()
        fast = network(mel)
    assert len(told) == 1
    torch.testing.assert_close(fast.strong, plain[0].strong, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(fast.weak, plain[0].weak, rtol=1e-5, atol=1e-6)
