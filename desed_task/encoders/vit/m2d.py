"""M2D: patches of 16 bands and 16 frames; the five bands of a moment are one token.

Niizumi et al., "Masked Modeling Duo: Towards a Universal Audio Pre-Training Framework", TASLP 2024.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from desed_task.encoders.files.tensors import encoder_of_tensors
from desed_task.encoders.interface import Encoder, EncoderWeights, StateDict
from desed_task.encoders.mel_spectrogram import (
    HOP_SAMPLES,
    PowerSpectrum,
    slaney_corners_hz,
    slaney_mel_filters,
)
from desed_task.encoders.vit.blocks import NORM_EPS, BlockSizes, block_sizes, make_blocks
from desed_task.features import LOG_POWER_PER_DB, SpectrumLayout

N_MELS: Final = 80
N_FFT: Final = 400
F_MIN, F_MAX = 50.0, 8000.0
LEAST_POWER: Final = 2.0**-23
# ln(power) to numbers around 0.
SHIFT, SCALE = 7.1, 4.2
PATCH: Final = 16
N_BANDS: Final = N_MELS // PATCH
# Longer inputs are computed in pieces of so many frames (10 s), of which the last one is dropped.
PIECE_FRAMES: Final = 1001
N_TIMES: Final = PIECE_FRAMES // PATCH
N_POSITIONS: Final = 1 + N_BANDS * N_TIMES
TITLE: Final = "M2D"
_BACKBONE = "backbone."
_TELLING = ("norm_stats", "cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight")


class _PatchEmbed(nn.Module):
    """Patches of 16 bands and 16 frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, PATCH, stride=PATCH)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, band, frame) to (batch, band of patches, time, feature)."""
        patches: Tensor = self.proj(features[:, None])
        return patches.permute(0, 2, 3, 1)


class _Backbone(nn.Module):
    """The weights, under their published names."""

    def __init__(self, sizes: BlockSizes) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, sizes.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, N_POSITIONS, sizes.width))
        self.patch_embed = _PatchEmbed(sizes.width)
        self.blocks = make_blocks(sizes)
        self.norm = nn.LayerNorm(sizes.width, eps=NORM_EPS)


class M2d(Encoder):
    """M2D. Inputs longer than 10 s are computed in pieces of 10 s, as published.

    A last piece of 993 to 1000 frames, at which the published code fails, gives 62 tokens as one
    of 1001 does.
    """

    name = "m2d"
    prefixes = ("model.", "model.m2d.", "")
    unused = (f"{_BACKBONE}norm_stats", "to_spec.", f"{_BACKBONE}to_spec.")
    spectrum = SpectrumLayout(
        LOG_POWER_PER_DB / SCALE,
        tuple(slaney_corners_hz(N_MELS, F_MIN, F_MAX)[1:-1].tolist()),
        Encoder.sample_rate / HOP_SAMPLES,
    )
    filters: Tensor

    def __init__(self, sizes: BlockSizes) -> None:
        """Of these sizes; `width` is that of five tokens of the blocks."""
        super().__init__()
        self.width = N_BANDS * sizes.width
        self.power_spectrum = PowerSpectrum(torch.hann_window(N_FFT), N_FFT)
        filters = slaney_mel_filters(N_MELS, N_FFT, F_MIN, F_MAX, self.sample_rate)
        self.register_buffer("filters", filters, persistent=False)
        self.backbone = _Backbone(sizes)

    @classmethod
    def is_in(cls, state: Mapping[str, Tensor]) -> float:
        """The share of its names among the tensors; its number of positions counts as one."""
        named = _with_backbone(state)
        n_found = sum(_BACKBONE + name in named for name in _TELLING)
        positions = named.get(f"{_BACKBONE}pos_embed")
        n_found += positions is not None and positions.shape[1:2] == (N_POSITIONS,)
        return n_found / (len(_TELLING) + 1)

    @classmethod
    def from_weights(cls, weights: EncoderWeights) -> M2d:
        """See `Encoder`."""
        state, origin = _with_backbone(weights.state), weights.origin
        if state.keys() != weights.state.keys():
            origin = origin.with_names(_BACKBONE, "")
        sizes = block_sizes(state, origin, TITLE, f"{_BACKBONE}blocks.")
        return encoder_of_tensors(lambda: cls(sizes), state, origin, TITLE)

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer's blocks, from the input on."""
        return self.backbone.blocks

    @property
    def final_modules(self) -> Sequence[nn.Module]:
        """The final norm."""
        return (self.backbone.norm,)

    @property
    def token_rate(self) -> float:
        """6.25 Hz."""
        return self.sample_rate / HOP_SAMPLES / PATCH

    def n_tokens(self, n_samples: int) -> int:
        """Tokens of a waveform of `n_samples`; none of fewer than the front end reflects."""
        if n_samples <= N_FFT // 2:
            return 0
        pieces, rest = divmod(n_samples // HOP_SAMPLES + 1, PIECE_FRAMES)
        return pieces * N_TIMES + min(N_TIMES, -(-rest // PATCH))

    def front_end(self, waveform: Tensor) -> Tensor:
        """Log mel, (batch, band, frame), of (batch, sample)."""
        power: Tensor = self.power_spectrum(waveform)
        with torch.autocast(waveform.device.type, enabled=False):
            mel = self.filters @ power
        return ((mel + LEAST_POWER).log() + SHIFT) / SCALE

    def tokens(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens of what `front_end` gives; see `Encoder`."""
        rest = features.shape[2] % PIECE_FRAMES
        # As of a whole piece, what is behind the last position is dropped.
        if rest <= N_TIMES * PATCH:
            features = functional.pad(features, (0, -rest % PATCH))
        pieces = torch.split(features, PIECE_FRAMES, dim=2)
        done, first = [], 0
        for piece in pieces:
            n = piece.shape[2] // PATCH
            done.append(self._piece(piece, None if mask is None else mask[:, first : first + n]))
            first += n
        return torch.cat(done, dim=1)

    def _piece(self, features: Tensor, mask: Tensor | None) -> Tensor:
        """Tokens of at most 1001 frames."""
        its = self.backbone
        patches = its.patch_embed(features)
        batch, _, n_times, _ = patches.shape
        positions = its.pos_embed[0, 1:].view(N_BANDS, N_TIMES, -1)[:, :n_times]
        first = (its.cls_token + its.pos_embed[:, :1]).expand(batch, -1, -1)
        whole = torch.cat([first, (patches + positions).flatten(1, 2)], dim=1)
        if mask is not None:
            # Attention over nothing is not a number; the class token always gets some.
            mask = functional.pad(mask.repeat(1, N_BANDS), (1, 0), value=True)
        normed = its.norm(self.run_blocks(whole, mask)[:, 1:])
        # Band-major patches to moments with all their bands.
        bands: Tensor = normed.unflatten(1, (N_BANDS, n_times)).transpose(1, 2)
        return bands.flatten(2)


def _with_backbone(state: Mapping[str, Tensor]) -> StateDict:
    """The tensors as PretrainedSED names them; the original has them without `backbone.`."""
    if any(name.startswith(_BACKBONE) for name in state):
        return dict(state)
    return {_BACKBONE + name: value for name, value in state.items()}
