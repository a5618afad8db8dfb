"""Batch norm over several processes, here with a partner that has nothing to add."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from desed_task.nnet import synced_norm
from desed_task.nnet.synced_norm import SyncedBatchNorm2d


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_it_computes_what_pytorch_does_in_every_precision(dtype, monkeypatch):
    monkeypatch.setattr(synced_norm, "n_processes", lambda: 2)
    generator = torch.Generator().manual_seed(1)
    # A mean whose sum half precision would round by more than the variance.
    image = (torch.randn(7, 3, 50, 9, generator=generator) + 20).to(dtype)
    above = torch.randn(image.shape, generator=generator).to(dtype)
    found = []
    for kind in (nn.BatchNorm2d, SyncedBatchNorm2d):
        norm = kind(3).to(torch.float64 if dtype == torch.float64 else torch.float32)
        given = image.clone().requires_grad_()
        out = norm(given)
        out.backward(above)
        assert out.dtype == dtype
        found.append((out, given.grad, norm.running_mean, norm.running_var))
    rounding = 1e-2 if dtype == torch.bfloat16 else 1e-4
    for one, other, tolerance in zip(*found, [rounding, rounding, 1e-4, 1e-4], strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)
