"""Wavmix, device responses and gain against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from desed_task.audio.files import write_wav
from desed_task.augment.groups import RowGroups
from desed_task.augment.responses import DeviceResponses, read_responses, responses_sha256
from desed_task.augment.rows import BatchShare
from desed_task.augment.step import RowMix
from desed_task.augment.waveforms import (
    DeviceDraw,
    amplify,
    convolve,
    draw_devices,
    draw_gains,
    draw_wavmix,
    mix_waveforms,
)
from desed_task.errors import InputError
from tests.desed_task.augment.made import ROLES, SOURCE, STRONG, seeded

CORPORA = RowGroups.of(SOURCE, [(one,) for one in ROLES.strong], ROLES.n_sources)


def test_wavmix_blends_clips_without_their_means_and_labels_alike():
    waveform = torch.randn(3, 100, generator=seeded()) + torch.tensor([[1.0], [2.0], [3.0]])
    target = torch.tensor([[[1.0]], [[0.4]], [[0.0]]])
    mix = RowMix(torch.tensor([1, 0, 2]), torch.tensor([0.7, 0.6, 1.0]))
    mixed, (labels, pseudo) = mix_waveforms(waveform, (target, 1 - target), mix)
    first, second, third = waveform - waveform.mean(1, keepdim=True)
    assert torch.allclose(mixed[0], 0.7 * first + 0.3 * second, atol=1e-6)
    assert torch.equal(mixed[2], waveform[2]) and not torch.equal(mixed[2], third)
    assert torch.allclose(labels.flatten(), torch.tensor([0.82, 0.64, 0.0]))
    assert torch.allclose(pseudo.flatten(), torch.tensor([0.18, 0.36, 1.0]))


def test_wavmix_stays_within_strong_corpora_and_its_probability():
    seen, n_mixed, n = [], 0, 400
    draws = seeded()
    for _ in range(n):
        mix = draw_wavmix(CORPORA, 0.5, 0.2, draws)
        assert torch.equal(SOURCE[mix.partner], SOURCE)
        assert torch.equal(mix.share[~STRONG], torch.ones(int((~STRONG).sum())))
        n_mixed += int((mix.share[STRONG] < 1).sum())
        seen.append(mix.share[STRONG])
    shares = torch.cat(seen)
    assert shares.min() >= 0.5 and shares.min() < 0.52
    # A few shares of Beta(0.2, 0.2) round to 1.
    assert n_mixed / (n * int(STRONG.sum())) == pytest.approx(0.5, abs=0.03)


def test_convolution_is_numpys_without_the_delay_of_the_response():
    waveform = torch.randn(3, 500, generator=seeded())
    kernel = torch.zeros(2, 40)
    kernel[0, :7] = torch.tensor([0.1, -0.3, 1.0, 0.5, -0.2, 0.1, 0.05])
    kernel[1, 25] = 1.0
    responses = DeviceResponses(kernel, kernel.abs().argmax(1))
    draw = DeviceDraw(torch.tensor([0, 2]), torch.tensor([0, 1]))
    heard = convolve(waveform, draw, responses)
    expected = np.convolve(waveform[0].numpy(), kernel[0].numpy())[2:502]
    assert np.allclose(heard[0].numpy(), expected, atol=1e-5)
    assert torch.equal(heard[1], waveform[1])
    # A click that comes 25 samples late is heard where it was: labels stay right.
    assert torch.allclose(heard[2], waveform[2], atol=1e-5)


def test_devices_and_gains_have_their_distributions_and_processes_share_them():
    draw = draw_devices(5000, 3, 0.3, seeded())
    assert len(draw.rows) / 5000 == pytest.approx(0.3, abs=0.02)
    assert torch.bincount(draw.responses).div(len(draw.rows)).sub(1 / 3).abs().max() < 0.05
    gains = draw_gains(5000, 6.0, seeded())
    assert -6 <= gains.min() < -5.9 and 5.9 < gains.max() <= 6
    whole = draw_gains(8, 6.0, seeded(1))
    own = draw_gains(4, 6.0, seeded(1), BatchShare(1, 2, 8))
    assert torch.equal(own, whole[1::2])
    louder = amplify(torch.ones(2, 3), torch.tensor([20.0, -20.0]))
    assert torch.allclose(louder[:, 0], torch.tensor([10.0, 0.1]))


def test_responses_are_read_resampled_and_named_if_bad(tmp_path, capsys):
    folder = tmp_path / "Geräte 1"
    (folder / "more").mkdir(parents=True)
    slow = np.hanning(481).astype(np.float32)  # its sum, and so its gain, is 240
    write_wav(folder / "b é.wav", slow, 48000, "FLOAT")
    write_wav(folder / "a.wav", np.array([0, 16384, 0], dtype=np.int16), 16000, "PCM_16")
    (folder / "b é.wav").rename(folder / "more" / "b é.wav")
    found = read_responses(folder, 16000, 16000)
    told = f"{folder}: 2 device responses; 1 resampled from 48000 to 16000 Hz\n"
    assert capsys.readouterr().out == told
    (folder / "more" / "b é.wav").rename(folder / "b é.wav")
    assert found.delay.tolist() == [1, 80]
    assert found.samples.sum(1).tolist() == pytest.approx([0.5, 240.0], rel=0.01)
    before = responses_sha256(folder)
    (folder / "b é.wav").rename(folder / "c.wav")
    assert responses_sha256(folder) == before  # the same responses in the same order
    write_wav(folder / "silent.wav", np.zeros(9, dtype=np.int16), 16000, "PCM_16")
    assert responses_sha256(folder) != before
    write_wav(folder / "stereo.wav", np.ones((9, 2), dtype=np.int16), 16000, "PCM_16")
    write_wav(folder / "long.wav", np.ones(17000, dtype=np.int16), 16000, "PCM_16")
    (folder / "broken.wav").write_bytes(b"no audio")
    with pytest.raises(InputError) as raised:
        read_responses(folder, 16000, 16000)
    message = str(raised.value)
    assert all(f"{name}.wav" in message for name in ("silent", "stereo", "long", "broken"))
    assert "a.wav" not in message
    assert "has 2 channels" in message and "lasts 1.0625 s and a clip 1 s" in message
    with pytest.raises(InputError, match=r"augment\.device_dir: .*no such folder"):
        read_responses(tmp_path / "none", 16000, 16000)
