"""What reading a file's samples tells: digital silence, samples that are no numbers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import soundfile as sf

from desed_task.audio.files import read_clip
from desed_task.audio.inspection import inspect_audio
from desed_task.audio.resampling import resample_file
from desed_task.audio.streaming import stream_file
from desed_task.errors import InputError

RATE = 16000


def write(path, samples, subtype="PCM_16", rate=RATE):
    sf.write(path, samples, rate, subtype=subtype)
    return path


@pytest.fixture
def wav(tmp_path):
    return tmp_path / "clip.wav"


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("shape", [(3 * RATE,), (3 * RATE, 2)])
def test_zeros_are_silence_in_every_format(wav, subtype, shape):
    found = inspect_audio(write(wav, np.zeros(shape), subtype))
    assert found.silent
    assert found.finite
    assert found.info == (3 * RATE, RATE, len(shape), 3.0, subtype)


def test_an_offset_that_never_changes_is_silence_too(wav):
    assert inspect_audio(write(wav, np.full((2 * RATE, 2), [0.1, -0.3]))).silent


@pytest.mark.parametrize("place", [0, 1, RATE - 1, RATE, 5 * RATE, 10 * RATE - 1])
@pytest.mark.parametrize("channel", [0, 1])
def test_one_sample_that_differs_is_no_silence(wav, place, channel):
    """If by more than dither."""
    samples = np.zeros((10 * RATE, 2))
    samples[place, channel] = 2 / 32768
    assert inspect_audio(write(wav, samples)).silent
    samples[place, channel] = 3 / 32768
    assert not inspect_audio(write(wav, samples)).silent


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("step", [1 / 32768, 1 / 2**23])
def test_dithered_silence_is_silence_as_for_detection(wav, subtype, channels, step):
    dither = step * np.random.default_rng(0).integers(-1, 2, (5 * RATE, channels))
    assert inspect_audio(write(wav, dither, subtype)).silent
    with pytest.warns(UserWarning, match="is digitally silent; events"):
        list(stream_file(wav, RATE))


@pytest.mark.parametrize("value", [1e11, -1e30, 3e38])
@pytest.mark.parametrize("channels", [1, 2])
def test_absurd_samples_are_named_by_every_reader(wav, value, channels, tmp_path):
    """Their power is no number, and scores were said to be those of a network that diverged."""
    samples = 0.1 * np.random.default_rng(0).normal(size=(3 * RATE, channels))
    samples[20_000] = value
    write(wav, samples, "FLOAT")
    assert not inspect_audio(wav).finite
    text = r"clip.wav: contains samples that are not finite or beyond 1e\+10"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=rf"{text}, the first at 1.250 s in channel 1"):
            list(stream_file(wav, RATE))
    with pytest.raises(InputError, match=text):
        read_clip(wav, sample_rate=RATE, n_samples=30_000, rng=None)
    with pytest.raises(InputError, match=text):
        resample_file(wav, tmp_path / "b.wav", sample_rate=8000)
    write(wav, np.where(samples == samples[20_000], 2.0**31, samples), "FLOAT")
    assert inspect_audio(wav).finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 5 * RATE, 6 * RATE - 1])
@pytest.mark.parametrize("background", [0.0, 0.1])
def test_a_sample_that_is_no_number_is_found_wherever_it_is(wav, value, place, background):
    samples = background * np.random.default_rng(0).normal(size=6 * RATE)
    samples[place] = value
    found = inspect_audio(write(wav, samples, "FLOAT"))
    assert not found.finite
    assert not found.silent


def test_the_header_is_told_as_it_is(wav):
    noise = np.random.default_rng(0).normal(0, 0.1, (44100, 2))
    assert inspect_audio(write(wav, noise, rate=44100)).info == (44100, 44100, 2, 1.0, "PCM_16")


def test_files_that_cannot_be_read_are_refused(wav, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        inspect_audio(tmp_path / "absent.wav")
    write(wav, np.zeros(RATE))
    wav.write_bytes(wav.read_bytes()[:5000])
    with pytest.raises(InputError, match="is cut short"):
        inspect_audio(wav)
    with pytest.raises(InputError, match="contains no samples"):
        inspect_audio(write(wav, np.zeros(0)))
