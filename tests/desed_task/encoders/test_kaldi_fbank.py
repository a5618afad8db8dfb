"""Kaldi's filterbank against its definition, written out sample by sample in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from desed_task.encoders.kaldi_fbank import KaldiFbank, kaldi_mel_filters

N_MELS, FRAME, SHIFT, N_FFT, RATE = 128, 400, 160, 512, 16000


def mel(frequency_hz: float) -> float:
    return 1127.0 * math.log(1.0 + frequency_hz / 700.0)


def definition(waveform: np.ndarray) -> np.ndarray:
    """The filterbank as Kaldi's documentation words it: loops, sums and a slow transform."""
    n = np.arange(FRAME)
    povey = (0.5 - 0.5 * np.cos(2 * math.pi * n / (FRAME - 1))) ** 0.85
    step = (mel(RATE / 2) - mel(20.0)) / (N_MELS + 1)
    rows = []
    for start in range(0, len(waveform) - FRAME + 1, SHIFT):
        frame = waveform[start : start + FRAME] - waveform[start : start + FRAME].mean()
        emphasised = [frame[max(i, 0)] - 0.97 * frame[max(i - 1, 0)] for i in range(FRAME)]
        windowed = np.concatenate([np.array(emphasised) * povey, np.zeros(N_FFT - FRAME)])
        k = np.arange(N_FFT // 2)
        turns = np.exp(-2j * math.pi / N_FFT * np.outer(k, np.arange(N_FFT)))
        power = np.abs(turns @ windowed) ** 2
        row = []
        for band in range(N_MELS):
            centre = mel(20.0) + (band + 1) * step
            weights = [max(0.0, 1 - abs(mel(i * RATE / N_FFT) - centre) / step) for i in k]
            row.append(math.log(max(float(power @ weights), float(np.finfo(np.float32).eps))))
        rows.append(row)
    return np.array(rows)


@pytest.fixture(scope="module")
def waveform() -> torch.Tensor:
    rng = np.random.default_rng(3)
    time_s = np.arange(1500) / RATE
    loud = 3000 * np.sin(2 * math.pi * 700 * time_s) + 500 + 20 * rng.normal(size=1500)
    return torch.tensor(np.stack([loud, rng.normal(size=1500)]), dtype=torch.float32)


def test_equals_the_definition(waveform: torch.Tensor) -> None:
    found = KaldiFbank(N_MELS)(waveform)
    assert found.shape == (2, 7, N_MELS)  # 1 + (1500 - 400) // 160
    for row, one in enumerate(waveform):
        expected = definition(one.double().numpy())
        # Float32 leaves noise of the loudest bins in the faintest.
        np.testing.assert_allclose(found[row], expected, rtol=0, atol=1e-3)


def test_silence_is_the_smallest_float_step() -> None:
    found = KaldiFbank(N_MELS)(torch.full((1, 560), 7.0))
    torch.testing.assert_close(found, torch.full((1, 2, N_MELS), math.log(2.0**-23)))


def test_triangles_add_up_to_one_between_the_outer_centres() -> None:
    total = kaldi_mel_filters(N_MELS, N_FFT, RATE).double().sum(dim=1)
    torch.testing.assert_close(total[3:249], torch.ones(246).double(), rtol=0, atol=1e-4)
    assert total[0] == 0


def test_nothing_of_it_is_in_a_checkpoint() -> None:
    assert KaldiFbank(N_MELS).state_dict() == {}


@pytest.mark.parametrize(("n_samples", "n_frames"), [(399, 0), (400, 1), (559, 1), (560, 2)])
def test_only_whole_frames_count(n_samples: int, n_frames: int) -> None:
    fbank = KaldiFbank(N_MELS)
    assert fbank.n_frames(n_samples) == n_frames
    if n_frames:
        assert fbank(torch.zeros(1, n_samples)).shape[1] == n_frames
    else:
        with pytest.raises(ValueError, match="399 samples, a frame has 400"):
            fbank(torch.zeros(1, n_samples))
