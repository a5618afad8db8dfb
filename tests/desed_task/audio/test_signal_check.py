"""Silence and channels that cancel are named; what is merely quiet, one-sided or wide is not."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import soundfile as sf

from desed_task.audio.inspection import inspect_audio
from desed_task.audio.resampling import resample_folder
from desed_task.audio.signal_check import SignalCheck
from desed_task.audio.streaming import stream_file

RATE = 8000
SILENT, CANCELS, PARTLY = "is digitally silent;", "its channels cancel each", "silent in"


def noise(seconds=4, channels=1, level=0.1, seed=0):
    return level * np.random.default_rng(seed).normal(size=(seconds * RATE, channels))


def opposite(left, gain=1.0):
    return np.hstack([left, -gain * left])


def half_and_half(first, second):
    return np.concatenate([first, second])


NAMED = {
    "opposite": (opposite(noise()), f"{CANCELS} other .opposite phase. in 4.0 of 4.0 s"),
    "nearly": (opposite(noise(), 0.8), CANCELS),
    "with an offset": (opposite(noise()) + 0.3, CANCELS),
    "four channels": (np.hstack([opposite(noise()), opposite(noise(seed=1))]), CANCELS),
    "very quiet": (opposite(noise(level=1e-3)), CANCELS),
    "a second of it": (half_and_half(noise(3, 2), opposite(noise(1))), "in 1.0 of 4.0 s"),
    "silence around": (half_and_half(np.zeros((RATE * 3, 2)), opposite(noise(1))), CANCELS),
    "zeros": (np.zeros((4 * RATE, 1)), SILENT),
    "both zero": (np.zeros((4 * RATE, 2)), SILENT),
    "constant": (np.full((4 * RATE, 2), [0.5, -0.5]), SILENT),
    "dithered": (np.random.default_rng(0).integers(-1, 2, (4 * RATE, 2)) / 32768, SILENT),
    "mostly zeros": (half_and_half(np.zeros((RATE * 3, 1)), noise(1)), f"{PARTLY} 3.0 of 4.0 s"),
    "short": (opposite(noise())[:300], CANCELS),
}
FINE = {
    "mono": noise(),
    "equal": np.hstack([noise()] * 2),
    "independent": noise(channels=2),
    "many channels": noise(channels=8),
    "dead channel": np.hstack([noise(), np.zeros((4 * RATE, 1))]),
    "one of six": np.hstack([noise(), np.zeros((4 * RATE, 5))]),
    "half opposed": opposite(noise(), 0.4),
    "quiet": noise(level=1e-3),
    "a moment": half_and_half(noise(15, 2), opposite(noise(1))),
    "some zeros": half_and_half(np.zeros((RATE, 1)), noise(3)),
    "one sample": noise()[:1] + 0.1,
}


def remark(samples, block):
    check = SignalCheck(RATE)
    for start in range(0, len(samples), block):
        check.add(samples[start : start + block].astype(np.float32))
    return check


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("block", [RATE, 10 * RATE])
def test_what_the_network_cannot_hear_is_named(name, block):
    samples, text = NAMED[name]
    check = remark(samples, block)
    parts = text.split(" other ")
    assert parts[0] in check.remark()
    assert ("cancel" in text or "in 1.0" in text) == check.cancels
    assert (text == SILENT) == check.silent


@pytest.mark.parametrize("name", [name for name in FINE if name != "one sample"])
def test_other_recordings_are_not_named(name):
    assert remark(FINE[name], RATE).remark() == ""


def test_a_stream_warns_of_its_file_once_and_gives_the_same_samples(tmp_path):
    for name, (samples, _) in NAMED.items():
        path = tmp_path / f"{name}.wav"
        sf.write(path, samples, RATE, subtype="FLOAT")
        with pytest.warns(UserWarning, match=f"{name}.wav: (is dig|its chan)") as told:
            found = np.concatenate(list(stream_file(path, RATE)))
        assert len(told) == 1
        np.testing.assert_allclose(found, samples.mean(axis=1), atol=1e-6)
    for name, samples in FINE.items():
        if name != "one sample":
            sf.write(tmp_path / "fine.wav", samples, RATE)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                list(stream_file(tmp_path / "fine.wav", RATE))


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_the_inspection_tells_both_apart(subtype, tmp_path):
    path = tmp_path / "a.wav"
    for samples, expected in (
        (opposite(noise()), (False, True)),
        (np.zeros((RATE, 2)), (True, False)),
        (noise(channels=2), (False, False)),
    ):
        sf.write(path, samples, RATE, subtype=subtype)
        found = inspect_audio(path)
        assert (found.silent, found.cancels) == expected


def test_a_resampled_folder_lists_them(tmp_path):
    (tmp_path / "in").mkdir()
    for name, samples in (("a", noise()), ("b", opposite(noise())), ("ç", np.zeros(RATE))):
        sf.write(tmp_path / "in" / f"{name}.wav", samples, RATE)
    report = resample_folder(tmp_path / "in", tmp_path / "out", progress=False)
    assert report.done == 3
    assert [path.name for path in report.mute] == ["b.wav", "ç.wav"]
    assert resample_folder(tmp_path / "in", tmp_path / "out", progress=False).mute == ()
