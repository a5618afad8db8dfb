"""The recurrent part of the CRNN."""

from __future__ import annotations

from torch import Tensor, nn

from desed_task.kernels.choice import fits_kernels
from desed_task.nnet.fused_gru import fused_gru


class BidirectionalGRU(nn.Module):
    """Stacked bidirectional GRU over frames; parameters are named `rnn.*`.

    Args:
        n_in: features in.
        n_hidden: cells of each direction; 2 n_hidden features come out.
        n_layers: stacked layers. The published checkpoint has 2.
    """

    def __init__(self, n_in: int, n_hidden: int, n_layers: int = 2) -> None:
        super().__init__()
        self.rnn = nn.GRU(n_in, n_hidden, n_layers, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frame, n_in) -> (batch, frame, 2 n_hidden)."""
        if fits_kernels(x, self.rnn):
            return fused_gru(self.rnn, x)
        out: Tensor = self.rnn(x)[0]
        return out
