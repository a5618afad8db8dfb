"""The spectrogram of a timeline: the same however the blocks come, never more than its columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from desed_task.features import LogMel, to_db
from local.predict.mel_image import MelImage

HOP = 256


def sweep(n_samples):
    """A tone that rises through the recording."""
    hz = np.linspace(100, 7000, n_samples)
    return np.sin(2 * np.pi * np.cumsum(hz) / 16000).astype(np.float32)


def pictured(samples, block, **arguments):
    picture = MelImage({}, **arguments)
    blocks = [samples[start : start + block] for start in range(0, len(samples), block)]
    handed_on = list(picture.watch(blocks))
    np.testing.assert_array_equal(np.concatenate(handed_on), samples)
    return picture


def test_a_short_recording_shows_every_hop():
    samples = sweep(5 * 16000)
    picture = pictured(samples, 3000)
    mel = LogMel()(torch.from_numpy(samples)[None])[0, :, : picture.decibel.shape[1]]
    assert picture.decibel.shape == (128, 313)
    assert picture.column_s == HOP / 16000
    np.testing.assert_allclose(picture.decibel, to_db(mel).numpy(), atol=1e-3)


@pytest.mark.parametrize("seconds", [1, 19.3, 60, 131.7, 400])
def test_columns_are_bounded_and_cover_the_recording(seconds):
    samples = sweep(int(seconds * 16000))
    picture = pictured(samples, 16000, most_columns=100)
    n_columns = picture.decibel.shape[1]
    assert n_columns <= 200
    assert seconds <= 2 * HOP * 100 / 16000 or n_columns >= 99
    covered_s = n_columns * picture.column_s
    assert seconds - 1e-9 <= covered_s < seconds + picture.column_s + HOP / 16000
    # The tone rises in the picture as it does in the recording.
    ridge = picture.decibel.argmax(axis=0)
    assert (np.diff(ridge[1:-1]) >= 0).all() and ridge[-2] > ridge[1]


def test_blocks_do_not_matter():
    samples = sweep(100 * 16000)
    one, other = (
        pictured(samples, 160000, most_columns=100),
        pictured(samples, 777, most_columns=100),
    )
    np.testing.assert_allclose(one.decibel, other.decibel, atol=1e-4)


def test_averaging_keeps_the_mean_magnitude():
    samples = np.random.default_rng(0).normal(size=64 * 16000).astype(np.float32)
    fine, coarse = pictured(samples, 16000), pictured(samples, 16000, most_columns=100)
    means = [10 ** (picture.decibel.astype(float) / 20) for picture in (fine, coarse)]
    np.testing.assert_allclose(means[0].mean(axis=1), means[1].mean(axis=1), rtol=0.02)


@pytest.mark.parametrize("n_samples", [1, 255, 256, 1600])
def test_what_is_shorter_than_a_window_has_a_picture(n_samples):
    assert pictured(sweep(n_samples), 10**6).decibel.shape == (128, -(-n_samples // HOP))
