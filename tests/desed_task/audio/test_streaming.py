"""Any format, rate and channels as blocks: the same samples as read at once."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile as sf
import soxr

from desed_task.audio.files import read_clip
from desed_task.audio.streaming import stream_array, stream_file
from desed_task.errors import InputError

RATE = 16000


def noise(n_samples, channels=1, seed=0):
    return 0.1 * np.random.default_rng(seed).normal(size=(n_samples, channels))


def whole(blocks):
    return np.concatenate(list(blocks))


def test_a_recording_at_the_rate_passes_untouched(tmp_path):
    path = tmp_path / "a.wav"
    sf.write(path, noise(5 * RATE, 2), RATE)
    blocks = list(stream_file(path, RATE, block_s=0.7))
    assert max(map(len, blocks)) == round(0.7 * RATE)
    clip = read_clip(path, sample_rate=RATE, n_samples=5 * RATE, rng=None)
    np.testing.assert_array_equal(whole(blocks), clip.waveform)


@pytest.mark.parametrize(
    ("ending", "rate", "channels"),
    [("wav", 8000, 1), ("flac", 44100, 2), ("ogg", 48000, 2), ("mp3", 22050, 1), ("wav", 96000, 6)],
)
def test_what_is_streamed_is_what_is_read_and_resampled_at_once(ending, rate, channels, tmp_path):
    path = tmp_path / f"a.{ending}"
    sf.write(path, noise(3 * rate + 17, channels), rate)
    samples, _ = sf.read(path, dtype="float32", always_2d=True)
    expected = soxr.resample(samples.mean(axis=1), rate, RATE, quality="HQ")
    np.testing.assert_allclose(whole(stream_file(path, RATE, block_s=0.31)), expected, atol=1e-6)


def test_an_array_gives_what_its_file_gives(tmp_path):
    path = tmp_path / "a.wav"
    sf.write(path, noise(2 * 44100, 2), 44100, subtype="FLOAT")
    samples, rate = sf.read(path, dtype="float32")
    np.testing.assert_array_equal(
        whole(stream_array(samples, rate, RATE, block_s=0.3)), whole(stream_file(path, RATE))
    )
    mono = samples[:, 0]
    np.testing.assert_array_equal(
        whole(stream_array(mono, RATE, RATE)), whole(stream_array(mono[:, None], RATE, RATE))
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_placed(value, tmp_path):
    path, samples = tmp_path / "a.wav", noise(8 * 8000, 2)
    samples[5 * 8000 + 8, 1] = value
    sf.write(path, samples, 8000, subtype="FLOAT")
    with pytest.raises(InputError, match=r"a.wav: .* not finite .* at 5.001 s in channel 2"):
        whole(stream_file(path, RATE, block_s=1.0))
    with pytest.raises(InputError, match=r"the waveform: .* not finite .* at 5.001 s in channel 2"):
        whole(stream_array(samples, 8000, RATE, block_s=1.0))


def test_files_that_are_no_recordings_are_named(tmp_path):
    (tmp_path / "text.wav").write_text("hello")
    (tmp_path / "nothing.wav").write_bytes(b"")
    sf.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    for name, reason in (
        ("text.wav", "not readable as audio"),
        ("nothing.wav", "not readable as audio"),
        ("empty.wav", "contains no samples"),
        ("absent.wav", "no such file"),
    ):
        with pytest.raises(InputError, match=rf"{name}: .*{reason}"):
            whole(stream_file(tmp_path / name, RATE))


@pytest.mark.parametrize("ending", ["flac", "mp3", "wav"])
def test_a_file_that_is_cut_short_is_named(ending, tmp_path):
    path = tmp_path / f"cut.{ending}"
    sf.write(path, noise(10 * 44100), 44100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"cut.{ending}: is (cut short|not readable)"):
        whole(stream_file(path, RATE))


@pytest.mark.parametrize(
    ("waveform", "rate", "reason"),
    [
        (np.zeros((2, 16000)), RATE, "sample, channel"),
        (np.zeros((4, 3, 2)), RATE, "sample, channel"),
        (np.zeros(()), RATE, "sample, channel"),
        (np.zeros(16000, dtype=np.int16), RATE, "int16: give floats"),
        (np.zeros(16000), 0, "sample rate of 0 Hz"),
    ],
)
def test_waveforms_that_cannot_be_taken(waveform, rate, reason):
    with pytest.raises(InputError, match=reason):
        whole(stream_array(waveform, rate, RATE))
