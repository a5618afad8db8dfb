"""The recurrent part."""

from __future__ import annotations

import torch

from desed_task.nnet.RNN import BidirectionalGRU


def test_the_output_holds_both_directions_of_the_last_layer() -> None:
    rnn = BidirectionalGRU(4, 3, n_layers=2).eval()
    x = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0))
    out = rnn(x)
    assert out.shape == (2, 7, 6)
    changed = x.clone()
    changed[:, -1] += 1
    assert not torch.allclose(rnn(changed)[:, 0, 3:], out[:, 0, 3:])  # backwards from the end


def test_layers_are_stacked() -> None:
    names = BidirectionalGRU(4, 3, n_layers=2).state_dict()
    assert names["rnn.weight_ih_l1"].shape == (9, 6)
    assert "rnn.weight_ih_l1" not in BidirectionalGRU(4, 3, n_layers=1).state_dict()
