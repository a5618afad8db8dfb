"""fPaSST: PaSST with one token every 40 ms.

Koutini et al., "Efficient Training of Audio Transformers with Patchout", Interspeech 2022; the
frame-wise form is from Schmid et al., "Effective Pre-Training of Audio Transformers for Sound Event
Detection", ICASSP 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from desed_task.encoders.files.tensors import encoder_of_tensors
from desed_task.encoders.interface import Encoder, EncoderWeights
from desed_task.encoders.kaldi_fbank import PREEMPHASIS, kaldi_mel_filters
from desed_task.encoders.mel_spectrogram import HOP_SAMPLES, PowerSpectrum
from desed_task.encoders.vit.blocks import (
    NORM_EPS,
    BlockSizes,
    block_sizes,
    make_blocks,
    split_positions,
)
from desed_task.features import LOG_POWER_PER_DB, SpectrumLayout, mel_centres_hz

N_MELS: Final = 128
N_FFT: Final = 512
WINDOW_SAMPLES: Final = 400
LOW_HZ, HIGH_HZ = 0.0, 7000.0
LEAST_POWER: Final = 1e-7
# ln(power) to numbers around 0.
SHIFT, SCALE = 4.5, 5.0
FRAMES_PER_TOKEN: Final = 4
CONV_CHANNELS: Final = (16, 32, 64)
# Channels, bands and frames that the patch projection sees: four channels of 32 bands are stacked.
PATCH_SHAPE: Final = (16, N_MELS, 2)
N_POSITIONS: Final = 250
N_EXTRA: Final = 2
TITLE: Final = "fPaSST"
_TELLING = (
    "dist_token",
    "new_pos_embed",
    "freq_new_pos_embed",
    "time_new_pos_embed",
    "conv_in_1.weight",
    "conv_in_2.weight",
    "conv_in_3.weight",
)


class _PatchEmbed(nn.Module):
    """Two neighbouring columns of all channels and bands to one token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(PATCH_SHAPE[0], width, PATCH_SHAPE[1:])

    def forward(self, columns: Tensor) -> Tensor:
        """(batch, channel and band, column) to (batch, token, feature), one token per column.

        A token sees its column and the next one, which is zero behind the last.
        """
        padded = functional.pad(columns, (0, 1))
        # The convolution has one output per step in time, so it is a matrix product.
        pairs = padded.transpose(1, 2).unfold(1, 2, 1).flatten(2)
        tokens: Tensor = functional.linear(pairs, self.proj.weight.flatten(1), self.proj.bias)
        return tokens


class FramePasst(Encoder):
    """fPaSST. Longer inputs than it has positions for (10 s) are computed in pieces.

    The published code drops all tokens behind the first 250; those are the same here.
    """

    name = "fpasst"
    prefixes = ("model.", "model.fpasst.", "")
    unused = ("head.", "head_dist.", "mel.")
    spectrum = SpectrumLayout(
        LOG_POWER_PER_DB / SCALE,
        mel_centres_hz(N_MELS, LOW_HZ, HIGH_HZ),
        Encoder.sample_rate / HOP_SAMPLES,
    )
    filters: Tensor

    def __init__(self, sizes: BlockSizes) -> None:
        """Of these sizes."""
        super().__init__()
        width = self.width = sizes.width
        self.power_spectrum = PowerSpectrum(torch.hann_window(WINDOW_SAMPLES), N_FFT)
        filters = kaldi_mel_filters(
            N_MELS,
            N_FFT,
            self.sample_rate,
            low_hz=LOW_HZ,
            high_hz=HIGH_HZ,
            dtype=torch.float64,
        )
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
        self.new_pos_embed = nn.Parameter(torch.zeros(1, N_EXTRA, width))
        self.freq_new_pos_embed = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.time_new_pos_embed = nn.Parameter(torch.zeros(1, width, 1, N_POSITIONS))
        first, second, third = CONV_CHANNELS
        self.conv_in_1 = nn.Conv2d(1, first, 3, stride=2, padding=1)
        self.conv_in_2 = nn.Conv2d(first, second, 3, padding=1)
        self.conv_in_3 = nn.Conv2d(second, third, 3, stride=2, padding=1)
        self.patch_embed = _PatchEmbed(width)
        self.blocks = make_blocks(sizes)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)

    @classmethod
    def is_in(cls, state: Mapping[str, Tensor]) -> float:
        """The share of its most telling names among the tensors."""
        return sum(name in state for name in _TELLING) / len(_TELLING)

    @classmethod
    def from_weights(cls, weights: EncoderWeights) -> FramePasst:
        """See `Encoder`."""
        state, origin = weights.state, weights.origin
        sizes = block_sizes(state, origin, TITLE)
        return encoder_of_tensors(lambda: cls(sizes), state, origin, TITLE)

    @property
    def final_modules(self) -> Sequence[nn.Module]:
        """The final norm."""
        return (self.norm,)

    @property
    def token_rate(self) -> float:
        """25 Hz."""
        return self.sample_rate / HOP_SAMPLES / FRAMES_PER_TOKEN

    def n_tokens(self, n_samples: int) -> int:
        """Tokens of a waveform of `n_samples`; none of fewer than the front end reflects."""
        emphasised = n_samples - 1
        if emphasised <= N_FFT // 2:
            return 0
        # Each of two convolutions halves the frames and rounds up.
        return (emphasised // HOP_SAMPLES + FRAMES_PER_TOKEN) // FRAMES_PER_TOKEN

    def front_end(self, waveform: Tensor) -> Tensor:
        """Log mel, (batch, band, frame), of (batch, sample)."""
        if not self.n_tokens(waveform.shape[-1]):
            raise ValueError(f"{waveform.shape[-1]} samples are too few; give {N_FFT // 2 + 2}")
        emphasised = waveform[..., 1:] - PREEMPHASIS * waveform[..., :-1]
        power: Tensor = self.power_spectrum(emphasised)
        with torch.autocast(waveform.device.type, enabled=False):
            mel = self.filters @ power[:, : N_FFT // 2]
        return (mel.clamp(min=LEAST_POWER).log() + SHIFT) / SCALE

    def tokens(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens of what `front_end` gives; see `Encoder`."""
        maps = features[:, None]
        n_columns = None if mask is None else _frames_of_clips(features, mask)
        for conv in (self.conv_in_1, self.conv_in_2, self.conv_in_3):
            maps = functional.gelu(conv(maps))
            if n_columns is not None:
                # The next one sees zeros behind the end of a clip, as if it were alone.
                n_columns = (n_columns + conv.stride[1] - 1) // conv.stride[1]
                place = torch.arange(maps.shape[3], device=maps.device)
                maps = maps * (place < n_columns[:, None])[:, None, None]
        # (batch, channel, band, column): channels and bands become one axis.
        pieces = split_positions(self.patch_embed(maps.flatten(1, 2)), mask, N_POSITIONS)
        return torch.cat([self._piece(*piece) for piece in pieces], dim=1)

    def _piece(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Tokens of one piece; two extra ones stand before them inside."""
        positions = self.time_new_pos_embed[..., : tokens.shape[1]] + self.freq_new_pos_embed
        extra = torch.cat([self.cls_token, self.dist_token], dim=1) + self.new_pos_embed
        positioned = tokens + positions[:, :, 0].transpose(1, 2)
        whole = torch.cat([extra.expand(tokens.shape[0], -1, -1), positioned], dim=1)
        if mask is not None:
            mask = functional.pad(mask, (N_EXTRA, 0), value=True)
        normed: Tensor = self.norm(self.run_blocks(whole, mask)[:, N_EXTRA:])
        return normed


def _frames_of_clips(features: Tensor, mask: Tensor) -> Tensor:
    """Frames of clips that have zeros behind their end, (batch,), as the mask counts tokens only.

    Args:
        features: (batch, band, frame).
        mask: (batch, token) bool.
    """
    number = torch.arange(1, features.shape[2] + 1, device=features.device)
    last = (features.ne(0).any(dim=1) * number).amax(dim=1)
    most = mask.sum(dim=1) * FRAMES_PER_TOKEN
    return torch.minimum(torch.maximum(last, most - FRAMES_PER_TOKEN + 1), most)
