"""Power spectra of centred frames and mel filter banks, as the STFT front ends of encoders have."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

HOP_SAMPLES: Final = 160
# Slaney's scale at 1000 Hz, and the logarithm of a step above.
_SLANEY_BEND: Final = 15.0
_SLANEY_STEP: Final = math.log(6.4) / 27


def power_spectrum(waveform: Tensor, window: Tensor, n_fft: int) -> Tensor:
    """Power of the centred STFT, reflected at both ends: (batch, bin, frame).

    Args:
        waveform: (batch, sample).
        window: (sample of a frame,), centred in `n_fft`.
        n_fft: length of the Fourier transform.

    Raises:
        ValueError: a waveform too short to be reflected.
    """
    if waveform.shape[-1] <= n_fft // 2:
        least = n_fft // 2 + 1
        raise ValueError(f"{waveform.shape[-1]} samples are too few to reflect; give {least}")
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


class PowerSpectrum(nn.Module):
    """`power_spectrum` with its window; a module, so that exports can replace it.

    Args:
        window: (sample of a frame,).
        n_fft: length of the Fourier transform.
    """

    window: Tensor

    def __init__(self, window: Tensor, n_fft: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", window, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """(batch, sample) to (batch, bin, frame); see `power_spectrum`."""
        return power_spectrum(waveform, self.window, self.n_fft)


def htk_mel_filters(n_mels: int, n_fft: int, f_min: float, f_max: float, rate: int) -> Tensor:
    """Triangles of height 1, linear in Hz, corners equally spaced in 2595 log10(1 + f / 700).

    Returns:
        (mel, bin), float32.
    """
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (f_min, f_max))
    mels = torch.linspace(low, high, n_mels + 2, dtype=torch.float64)
    corners = 700 * (10 ** (mels / 2595) - 1)
    return triangles(corners, n_fft, rate).float()


def slaney_mel_filters(n_mels: int, n_fft: int, f_min: float, f_max: float, rate: int) -> Tensor:
    """Triangles of equal area, linear in Hz, corners equally spaced on Slaney's scale.

    The scale is linear below 1000 Hz and logarithmic above; a triangle's height is 2 / its width
    in Hz.

    Returns:
        (mel, bin), float32.
    """
    corners = slaney_corners_hz(n_mels, f_min, f_max)
    width = (corners[2:] - corners[:-2])[:, None]
    return (triangles(corners, n_fft, rate) * 2 / width).float()


def slaney_corners_hz(n_mels: int, f_min: float, f_max: float) -> Tensor:
    """(mel + 2,) corners in Hz, equally spaced on Slaney's scale; float64."""
    low, high = (_slaney_mel(hz) for hz in (f_min, f_max))
    mels = torch.linspace(low, high, n_mels + 2, dtype=torch.float64)
    above = 1000 * torch.exp((mels - _SLANEY_BEND) * _SLANEY_STEP)
    return torch.where(mels < _SLANEY_BEND, mels * 200 / 3, above)


def _slaney_mel(hz: float) -> float:
    if hz < 1000:
        return 3 * hz / 200
    return _SLANEY_BEND + math.log(hz / 1000) / _SLANEY_STEP


def triangles(corners_hz: Tensor, n_fft: int, rate: int) -> Tensor:
    """Triangles of height 1 between neighbouring corners, (mel, bin), float64."""
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * rate / n_fft
    left, centre, right = (c[:, None] for c in (corners_hz[:-2], corners_hz[1:-1], corners_hz[2:]))
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0)
