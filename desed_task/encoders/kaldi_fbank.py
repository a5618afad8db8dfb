"""Kaldi's log-mel filterbank for a batch of waveforms, on the device of the waveforms.

Kaldi's defaults without dither, as BEATs was trained on: frames that fit whole
(snip edges), mean removed, pre-emphasis, Povey window, power spectrum padded to a power of two,
triangles on the mel scale 1127 ln(1 + f / 700), natural logarithm. ASiT takes a Hann window.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

PREEMPHASIS = 0.97
LOW_HZ = 20.0
POVEY_POWER = 0.85
# Frames per second, by default.
FRAME_RATE = 100.0


class KaldiFbank(nn.Module):
    """Log-mel energies as Kaldi computes them."""

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        n_mels: int,
        *,
        sample_rate: int = 16000,
        frame_s: float = 0.025,
        shift_s: float = 0.010,
        window_power: float = POVEY_POWER,
        filters: Tensor | None = None,
    ) -> None:
        """Compute window and filters.

        Args:
            n_mels: triangles between 20 Hz and half the sample rate.
            sample_rate: in Hz.
            frame_s, shift_s: length of a frame and distance between frames in seconds.
            window_power: power of the symmetric Hann window; 1 for the window itself.
            filters: (n_fft / 2, mel); None for `kaldi_mel_filters` of these arguments.
        """
        super().__init__()
        self.frame_samples = int(sample_rate * frame_s)
        self.shift_samples = int(sample_rate * shift_s)
        self.n_fft = 2 ** math.ceil(math.log2(self.frame_samples))
        window = torch.hann_window(self.frame_samples, periodic=False).pow(window_power)
        # They follow from the arguments, so checkpoints need not contain them.
        self.register_buffer("window", window, persistent=False)
        if filters is None:
            filters = kaldi_mel_filters(n_mels, self.n_fft, sample_rate)
        self.register_buffer("filters", filters, persistent=False)

    def n_frames(self, n_samples: int) -> int:
        """Frames of a waveform of `n_samples`; only those that fit whole."""
        return max(0, 1 + (n_samples - self.frame_samples) // self.shift_samples)

    def forward(self, waveform: Tensor) -> Tensor:
        """Log-mel energies, (batch, frame, mel).

        Args:
            waveform: (batch, sample), float32, on the scale of 16-bit integers.

        Raises:
            ValueError: a waveform shorter than one frame.
        """
        if waveform.shape[-1] < self.frame_samples:
            raise ValueError(f"{waveform.shape[-1]} samples, a frame has {self.frame_samples}")
        frames = waveform.unfold(-1, self.frame_samples, self.shift_samples)
        frames = frames - frames.mean(dim=-1, keepdim=True)
        # The sample before a frame's first one is taken to equal it.
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        frames = (frames - PREEMPHASIS * before).mul_(self.window)
        spectrum = torch.view_as_real(torch.fft.rfft(frames, self.n_fft))
        power = spectrum.square().sum(dim=-1)
        # Kaldi leaves out the bin at half the sample rate.
        # Autocast would round powers to 8 bits before they are summed.
        with torch.autocast(waveform.device.type, enabled=False):
            mel = power[..., :-1] @ self.filters
        return mel.clamp_(min=torch.finfo(torch.float32).eps).log_()


def kaldi_mel_filters(
    n_mels: int,
    n_fft: int,
    sample_rate: int,
    *,
    low_hz: float = LOW_HZ,
    high_hz: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Kaldi's triangles, (n_fft / 2, mel), float32: straight lines over mel, not over Hz.

    Neighbouring triangles overlap by half; their corners are equally spaced in mel.

    Args:
        n_mels: number of triangles.
        n_fft: length of the Fourier transform; its bin at half the sample rate is left out.
        sample_rate: in Hz.
        low_hz: first corner.
        high_hz: last corner; None for half the sample rate.
        dtype: to compute in. Kaldi takes float32 and so does BEATs, as the rounding shows in
            embeddings of faint sounds (1e-4).
    """
    high_hz = sample_rate / 2 if high_hz is None else high_hz
    low, high = (1127.0 * math.log(1 + hz / 700.0) for hz in (low_hz, high_hz))
    corners = low + (high - low) / (n_mels + 1) * torch.arange(n_mels + 2, dtype=dtype)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    bins_hz = torch.arange(n_fft // 2, dtype=dtype) * (sample_rate / n_fft)
    mel = 1127.0 * (1 + bins_hz / 700.0).log()[:, None]
    rising = (mel - left) / (centre - left)
    falling = (right - mel) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0).float()
