"""ASiT: patches of 16 bands and 16 frames, and a class token.

Atito et al., "ASiT: Local-Global Audio Spectrogram Vision Transformer for Event Classification",
TASLP 2024.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from desed_task.encoders.files.tensors import encoder_of_tensors
from desed_task.encoders.interface import Encoder, EncoderWeights
from desed_task.encoders.kaldi_fbank import FRAME_RATE, LOW_HZ, KaldiFbank, kaldi_mel_filters
from desed_task.encoders.vit.blocks import NORM_EPS, BlockSizes, block_sizes, make_blocks
from desed_task.features import LOG_POWER_PER_DB, SpectrumLayout, mel_centres_hz

N_MELS: Final = 128
N_FFT: Final = 512
FBANK_MEAN, FBANK_STD = -4.2677393, 4.5689974
PATCH: Final = 16
N_BANDS: Final = N_MELS // PATCH
# Patches over time that positions are stored for; the published code reads them as (8, 37).
N_TIMES: Final = 37
TITLE: Final = "ASiT"
_TELLING = ("cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight")
# Tensors of the other encoders of this form, and the number of M2D's positions.
_OTHERS = ("dist_token", "conv_in_1.weight", "norm_stats", "time_new_pos_embed")
M2D_POSITIONS: Final = 311


class _PatchEmbed(nn.Module):
    """Patches to tokens, time-major."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, PATCH, stride=PATCH)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, band, frame) to (batch, token, feature); a rest below 16 frames is dropped."""
        tokens: Tensor = self.proj(features.transpose(1, 2)[:, None]).flatten(2).transpose(1, 2)
        return tokens


class Asit(Encoder):
    """ASiT. The first token is the class token; the others run over bands, then over time.

    Positions are resized to the length of the input, as published. With `n_samples` they are
    resized to the length of each clip, so that its tokens are those of the clip alone. A clip of
    592 to 607 frames is the exception: 592 take the stored positions as they are, and among padding
    such a clip gets resized ones.
    """

    name = "asit"
    prefixes = ("model.", "model.asit.", "")
    unused = ("head.", "mask_embed", "masked_embed")
    spectrum = SpectrumLayout(
        LOG_POWER_PER_DB / (2 * FBANK_STD), mel_centres_hz(N_MELS, LOW_HZ, 8000), FRAME_RATE
    )

    def __init__(self, sizes: BlockSizes) -> None:
        """Of these sizes."""
        super().__init__()
        width = self.width = sizes.width
        filters = kaldi_mel_filters(N_MELS, N_FFT, self.sample_rate, dtype=torch.float64)
        self.fbank = KaldiFbank(
            N_MELS, sample_rate=self.sample_rate, window_power=1, filters=filters
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + N_BANDS * N_TIMES, width))
        self.patch_embed = _PatchEmbed(width)
        self.blocks = make_blocks(sizes)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)

    @classmethod
    def is_in(cls, state: Mapping[str, Tensor]) -> float:
        """The share of its names among the tensors; less for names that only others have."""
        share = sum(name in state for name in _TELLING) / len(_TELLING)
        positions = state.get("pos_embed")
        other = positions is not None and positions.shape[1:2] == (M2D_POSITIONS,)
        return share - 0.5 * (other or any(name in state for name in _OTHERS))

    @classmethod
    def from_weights(cls, weights: EncoderWeights) -> Asit:
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
        """Patches per second, all bands counted."""
        return self.sample_rate / self.fbank.shift_samples / PATCH * N_BANDS

    def n_tokens(self, n_samples: int) -> int:
        """Tokens of a waveform of `n_samples`, the class token included."""
        n_times = self.fbank.n_frames(n_samples) // PATCH
        return 1 + n_times * N_BANDS if n_times else 0

    def front_end(self, waveform: Tensor) -> Tensor:
        """The normalised Kaldi filter bank, (batch, band, frame), of (batch, sample)."""
        fbank: Tensor = self.fbank(waveform)
        return ((fbank - FBANK_MEAN) / (2 * FBANK_STD)).transpose(1, 2)

    def tokens(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens of what `front_end` gives; see `Encoder`."""
        patches = self.patch_embed(features)
        if mask is None:
            positions = self._positions(features.shape[2])
        else:
            positions = self._positions_of_clips(features.shape[2], mask)
        extra = (self.cls_token + self.pos_embed[:, :1]).expand(patches.shape[0], -1, -1)
        whole = torch.cat([extra, patches + positions], dim=1)
        normed: Tensor = self.norm(self.run_blocks(whole, mask))
        return normed

    def _positions(self, n_frames: int) -> Tensor:
        """Positions of the patches of so many frames, (1, token, feature)."""
        stored = self.pos_embed[:, 1:]
        if n_frames == N_TIMES * PATCH:
            return stored
        grid = stored.view(1, N_BANDS, N_TIMES, -1).permute(0, 3, 1, 2)
        size = (n_frames // PATCH, N_BANDS)
        resized = functional.interpolate(grid, size, mode="bicubic", align_corners=False)
        return resized.flatten(2).transpose(1, 2)

    def _positions_of_clips(self, n_frames: int, mask: Tensor) -> Tensor:
        """Positions of clips with padding, (batch, token, feature)."""
        n_all = n_frames // PATCH
        # At least one, as the mask of a clip too short for a token lets one through.
        lengths = [max(1, (n - 1) // N_BANDS) for n in mask.sum(dim=1).tolist()]
        known = {
            n: self._positions(n_frames if n == n_all else n * PATCH + 1) for n in {*lengths, n_all}
        }
        rows = []
        for n in lengths:
            # Tokens behind a clip's end get no attention, whatever their positions are.
            rows.append(functional.pad(known[n][0], (0, 0, 0, (n_all - n) * N_BANDS)))
        return torch.stack(rows)
