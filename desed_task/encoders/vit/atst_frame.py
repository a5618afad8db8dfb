"""ATST-Frame: one token every 40 ms.

Li et al., "Self-supervised Audio Teacher-Student Transformer for Both Clip-level and Frame-level
Tasks", TASLP 2024.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from desed_task.encoders.files.tensors import encoder_of_tensors
from desed_task.encoders.interface import Encoder, EncoderWeights
from desed_task.encoders.mel_spectrogram import HOP_SAMPLES, PowerSpectrum, htk_mel_filters
from desed_task.encoders.vit.blocks import (
    NORM_EPS,
    BlockSizes,
    block_sizes,
    make_blocks,
    split_positions,
)
from desed_task.features import SpectrumLayout, mel_centres_hz

N_MELS: Final = 64
N_FFT: Final = 1024
F_MIN, F_MAX = 60.0, 7800.0
PATCH_FRAMES: Final = 4
# Tokens that fit, behind the first position, which is unused.
N_POSITIONS: Final = 250
TITLE: Final = "ATST-Frame"
# Decibel below the loudest value of a clip, lower and upper limit, and the range that becomes
# -1 to 1.
RANGE_DB: Final = 80.0
LIMITS_DB: Final = (-50.0, 80.0)
LOWEST_DB, SPAN_DB = -79.6482, 130.3324
_TELLING = ("patch_embed.patch_embed.weight", "patch_embed.patch_embed.bias", "pos_embed")


class _PatchEmbed(nn.Module):
    """Four frames of all bands to one token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patch_embed = nn.Linear(N_MELS * PATCH_FRAMES, width)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, band, frame) to (batch, token, feature); a rest below four frames is dropped."""
        # (batch, band, token, frame of the token); values are ordered by band, then frame.
        patches = features.unfold(2, PATCH_FRAMES, PATCH_FRAMES)
        tokens: Tensor = self.patch_embed(patches.transpose(1, 2).flatten(2))
        return tokens


class AtstFrame(Encoder):
    """ATST-Frame. Longer inputs than it has positions for (10 s) are computed in pieces."""

    name = "atst_frame"
    prefixes = ("model.atst.", "", "model.teacher.encoder.", "encoder.encoder.")
    unused = ("mask_embed", "cls_token")
    spectrum = SpectrumLayout(
        2 / SPAN_DB, mel_centres_hz(N_MELS, F_MIN, F_MAX), Encoder.sample_rate / HOP_SAMPLES
    )
    filters: Tensor

    def __init__(self, sizes: BlockSizes) -> None:
        """Of these sizes."""
        super().__init__()
        width = self.width = sizes.width
        self.power_spectrum = PowerSpectrum(torch.hann_window(N_FFT), N_FFT)
        filters = htk_mel_filters(N_MELS, N_FFT, F_MIN, F_MAX, self.sample_rate)
        self.register_buffer("filters", filters, persistent=False)
        self.pos_embed = nn.Parameter(torch.zeros(1, N_POSITIONS + 1, width))
        self.patch_embed = _PatchEmbed(width)
        self.blocks = make_blocks(sizes, qkv_bias=False)
        self.norm_frame = nn.LayerNorm(width, eps=NORM_EPS)

    @classmethod
    def is_in(cls, state: Mapping[str, Tensor]) -> float:
        """The share of its most telling names among the tensors."""
        n_found = sum(name in state for name in _TELLING)
        n_found += "norm_frame.weight" in state or "norm.weight" in state
        return n_found / (len(_TELLING) + 1)

    @classmethod
    def from_weights(cls, weights: EncoderWeights) -> AtstFrame:
        """See `Encoder`."""
        state, origin = dict(weights.state), weights.origin
        for kind in ("weight", "bias"):  # the name in self-supervised originals
            norm = state.pop(f"norm.{kind}", None)
            if norm is not None:
                state.setdefault(f"norm_frame.{kind}", norm)
                origin = origin.with_names("norm_frame.", "norm.")
        sizes = block_sizes(state, origin, TITLE)
        return encoder_of_tensors(lambda: cls(sizes), state, origin, TITLE)

    @property
    def final_modules(self) -> Sequence[nn.Module]:
        """The final norm."""
        return (self.norm_frame,)

    @property
    def token_rate(self) -> float:
        """25 Hz."""
        return self.sample_rate / HOP_SAMPLES / PATCH_FRAMES

    def n_tokens(self, n_samples: int) -> int:
        """Tokens of a waveform of `n_samples`; none of fewer than the front end reflects."""
        return (n_samples // HOP_SAMPLES + 1) // PATCH_FRAMES if n_samples > N_FFT // 2 else 0

    def front_end(self, waveform: Tensor) -> Tensor:
        """Mel decibel, (batch, band, frame), of (batch, sample); the floor is each clip's own."""
        power = self.power_spectrum(waveform)
        with torch.autocast(waveform.device.type, enabled=False):
            mel = self.filters @ power
        decibel = 10 * mel.clamp(min=1e-10).log10()
        floor = decibel.amax(dim=(1, 2), keepdim=True) - RANGE_DB
        decibel = torch.maximum(decibel, floor).clamp(*LIMITS_DB)
        return 2 * (decibel - LOWEST_DB) / SPAN_DB - 1

    def tokens(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens of what `front_end` gives; see `Encoder`."""
        pieces = split_positions(self.patch_embed(features), mask, N_POSITIONS)
        return torch.cat([self._piece(*piece) for piece in pieces], dim=1)

    def _piece(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        tokens = tokens + self.pos_embed[:, 1 : tokens.shape[1] + 1]
        normed: Tensor = self.norm_frame(self.run_blocks(tokens, mask))
        return normed
