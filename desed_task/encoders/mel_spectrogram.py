"""Power spectra of centred frames and mel filter banks, as the STFT front ends of encoders have."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

HOP_SAMPLES: Final = 160


def power_spectrum(waveform: Tensor, window: Tensor, n_fft: int) -> Tensor:
    """Power of the centred STFT, reflected at both ends: (batch, bin, frame).

    Args:
        waveform: (batch, sample).
        window: (sample of a frame,), centred in `n_fft`.
        n_fft: length of the Fourier transform.
    """
    spectrum = torch.stft(
        waveform,
        n_fft,
        HOP_SAMPLES,
        len(window),
        window,
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    return torch.view_as_real(spectrum).square().sum(dim=-1)


def htk_mel_filters(n_mels: int, n_fft: int, f_min: float, f_max: float, rate: int) -> Tensor:
    """Triangles of height 1, linear in Hz, corners equally spaced in 2595 log10(1 + f / 700).

    Returns:
        (mel, bin), float32.
    """
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (f_min, f_max))
    mels = torch.linspace(low, high, n_mels + 2, dtype=torch.float64)
    corners = 700 * (10 ** (mels / 2595) - 1)
    return triangles(corners, n_fft, rate).float()


def triangles(corners_hz: Tensor, n_fft: int, rate: int) -> Tensor:
    """Triangles of height 1 between neighbouring corners, (mel, bin), float64."""
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * rate / n_fft
    left, centre, right = (c[:, None] for c in (corners_hz[:-2], corners_hz[1:-1], corners_hz[2:]))
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0)
