"""Our front ends against torchaudio's, where it can be imported (the extra [torchaudio])."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest
import torch

from desed_task.encoders.kaldi_fbank import KaldiFbank
from desed_task.features import LogMel, to_db

TOLERANCE = 1e-5
RATES = (16000, 44100)


@pytest.fixture(scope="module")
def torchaudio() -> Any:
    """The package; `.ci/run` asks for it in its second environment."""
    try:
        for part in ("transforms", "functional", "compliance.kaldi"):
            importlib.import_module(f"torchaudio.{part}")
        return importlib.import_module("torchaudio")
    except (ImportError, OSError, RuntimeError) as error:
        # RuntimeError: of a torch for another CUDA version; OSError: of one for none.
        why = f"torchaudio cannot be imported beside torch {torch.__version__}: {error}"
        if "NEEDS_TORCHAUDIO" in os.environ:
            pytest.fail(why)
        pytest.skip(why)


def waveforms(rate: int) -> dict[str, torch.Tensor]:
    """Two clips of each kind of sound, (clip, sample) in [-1, 1]."""
    generator = torch.Generator().manual_seed(7)
    time_s = torch.arange(2 * rate) / rate
    tones = [level * torch.sin(2 * torch.pi * hz * time_s) for level, hz in ((1, 440), (1e-4, 3e3))]
    return {
        "noise": 0.1 * torch.randn(2, 2 * rate, generator=generator),
        "tones": torch.stack(tones),
        "clicks": (torch.rand(2, rate, generator=generator) > 0.999).float(),
        "odd length": 0.3 * torch.randn(2, rate - 3655, generator=generator),
        "silence": torch.zeros(2, rate),
    }


@pytest.mark.parametrize(
    "shape",
    [
        {"sample_rate": 16000, "n_fft": 2048, "hop": 256, "win": 2048, "n_mels": 128},  # published
        {"sample_rate": 16000, "n_fft": 1024, "hop": 320, "win": 800, "n_mels": 64},
        {"sample_rate": 44100, "n_fft": 2048, "hop": 441, "win": 1764, "n_mels": 80},
    ],
)
@pytest.mark.parametrize(("low_hz", "below_nyquist_hz"), [(0.0, 0.0), (50.0, 1000.0)])
def test_mel_magnitudes_are_torchaudio_s(torchaudio, shape, low_hz, below_nyquist_hz):
    band = {"f_min": low_hz, "f_max": shape["sample_rate"] / 2 - below_nyquist_hz}
    common = {name: shape[name] for name in ("sample_rate", "n_fft", "n_mels")}
    theirs = torchaudio.transforms.MelSpectrogram(
        **common,
        **band,
        win_length=shape["win"],
        hop_length=shape["hop"],
        window_fn=torch.hamming_window,
        wkwargs={"periodic": False},
        power=1,
    )
    ours = LogMel(**common, **band, win=shape["win"], hop_samples=shape["hop"])
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }
    torch.testing.assert_close(ours.mel_scale.fb, theirs.mel_scale.fb, rtol=0, atol=TOLERANCE)
    for kind, clips in waveforms(shape["sample_rate"]).items():
        expected = theirs(clips)
        together, alone = ours(clips), torch.cat([ours(clip[None]) for clip in clips])
        largest = float(expected.max())
        for found in (together, alone):
            torch.testing.assert_close(
                found, expected, rtol=0, atol=TOLERANCE * largest, msg=lambda why, k=kind: k + why
            )


def test_decibels_are_torchaudio_s(torchaudio):
    theirs = torchaudio.transforms.AmplitudeToDB(stype="amplitude")
    theirs.amin = 1e-5  # as in the published code
    magnitudes = torch.logspace(-7, 5, 1000)
    expected = theirs(magnitudes).clamp(-50, 80)
    torch.testing.assert_close(to_db(magnitudes), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("n_mels", [128, 64])
def test_kaldi_s_filter_bank_is_torchaudio_s(torchaudio, rate, n_mels):
    """In nepers, on the scale of 16-bit integers, as BEATs is given it."""
    fbank = torchaudio.compliance.kaldi.fbank
    options = {"num_mel_bins": n_mels, "frame_length": 25, "frame_shift": 10}
    ours = KaldiFbank(n_mels, sample_rate=rate)
    for kind, clips in waveforms(rate).items():
        scaled = clips * 2**15
        expected = [fbank(clip[None], sample_frequency=rate, **options) for clip in scaled]
        torch.testing.assert_close(
            ours(scaled), torch.stack(expected), rtol=0, atol=TOLERANCE, msg=lambda w, k=kind: k + w
        )
