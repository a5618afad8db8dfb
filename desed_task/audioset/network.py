"""Waveforms to scores of AudioSet's classes: encoder, sequence model if there is one, heads."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from desed_task.encoders.interface import Encoder
from desed_task.labels import FrameGrid

GRID: Final = FrameGrid(
    n_frames=250, hop_samples=160, net_subsample=4, sample_rate=16000, clip_s=10.0
)
"""Frames of 40 ms in windows of 10 s."""


class AudioSetLogits(NamedTuple):
    """Outputs of the heads.

    Attributes:
        strong: (batch, frame, class).
        weak: (batch, class); None for a network without that head.
    """

    strong: Tensor
    weak: Tensor | None


def to_frames(tokens: Tensor, n_frames: int = GRID.n_frames) -> Tensor:
    """Tokens (batch, token, feature) to frames (batch, frame, feature).

    More tokens are averaged, whatever a token is: those of several bands at one time are mixed
    with their neighbours in time, as in training. Fewer ones are interpolated linearly between
    their middles.
    """
    n_tokens = tokens.shape[1]
    if n_tokens == n_frames:
        return tokens
    features = tokens.transpose(1, 2)
    if n_tokens > n_frames:
        framed = functional.adaptive_avg_pool1d(features, n_frames)
    else:
        framed = functional.interpolate(features, n_frames, mode="linear", align_corners=False)
    return framed.transpose(1, 2)


class AudioSetNetwork(nn.Module):
    """An encoder with heads for events and, in some files, for clips.

    Args:
        encoder: waveforms to tokens.
        seq_model: (batch, frame, feature) to the same with other features; None for none.
        strong_head: from frames to the logits of classes.
        weak_head: the same from the mean over frames; None for none.
    """

    def __init__(
        self,
        encoder: Encoder,
        seq_model: nn.GRU | None,
        strong_head: nn.Linear,
        weak_head: nn.Linear | None,
    ) -> None:
        super().__init__()
        self.encoder, self.seq_model = encoder, seq_model
        self.strong_head, self.weak_head = strong_head, weak_head

    def forward(self, waveform: Tensor) -> AudioSetLogits:
        """Logits of waveforms (batch, sample) at 16 kHz; 250 frames, whatever their length.

        In training the length was 10 s, and shorter clips ended in zeros.
        """
        frames = to_frames(self.encoder(waveform))
        if self.seq_model is not None:
            frames, _ = self.seq_model(frames)
        weak = None if self.weak_head is None else self.weak_head(frames.mean(dim=1))
        return AudioSetLogits(self.strong_head(frames), weak)

    @torch.inference_mode()
    def scores(self, waveform: Tensor) -> Tensor:
        """(batch, frame, class) probabilities of waveforms (batch, sample)."""
        scores: Tensor = self(waveform).strong.float().sigmoid()
        return scores
