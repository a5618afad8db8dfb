"""The scorer of a detector of AudioSet's 447 classes."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from desed_task.audioset.classes import strong_classes
from desed_task.audioset.network import GRID, AudioSetNetwork
from desed_task.errors import count_of
from desed_task.inference.scorers.interface import Scorer
from desed_task.postprocess.decoders import DecoderSettings

# As in the published evaluation: 9 frames of 40 ms.
MEDIAN_FRAMES: Final = 9


class AudioSetScorer(Scorer):
    """A network with windows of 10 s; shorter recordings are padded with zeros, as in training.

    Args:
        network: encoder and heads.
        device: where to compute.
        path: its file.
        encoder: title of the encoder.
    """

    def __init__(
        self, network: AudioSetNetwork, *, device: torch.device, path: str = "", encoder: str = ""
    ) -> None:
        self.network, self.device, self.path = network.eval().to(device), device, path
        self.classes, self.grid = strong_classes(), GRID
        self.median_filter = (MEDIAN_FRAMES,) * len(self.classes)
        self.decoder: dict[str, Any] = DecoderSettings().to_plain()
        self._encoder = encoder or network.encoder.name

    @property
    def title(self) -> str:
        """Its encoder, and what it knows."""
        model = " with a GRU" if self.network.seq_model is not None else ""
        return (
            f"{self._encoder}{model}, {count_of(len(self.classes), 'class', 'classes')} of AudioSet"
        )

    def scores(self, waveform: Tensor) -> Tensor:
        """See `Scorer`."""
        return self.network.scores(waveform)
