"""What reading a file's samples tells: digital silence, samples that are no numbers."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile as sf

from desed_task.audio.inspection import inspect_audio
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
    samples = np.zeros((10 * RATE, 2))
    samples[place, channel] = 2 / 32768
    assert not inspect_audio(write(wav, samples)).silent


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
