"""Scores on frames of another length."""

from __future__ import annotations

import numpy as np
import pytest

from desed_task.inference.scorers.resampling import StepResampler


def direct(rows, source, target, n_frames):
    """Sample by sample: the mean of what covers a frame; the last row goes on behind the end."""
    samples = np.repeat(rows.astype(np.float64), source, axis=0)
    found = []
    for frame in range(n_frames):
        part = samples[frame * target : (frame + 1) * target]
        found.append(part.mean(axis=0) if len(part) else rows[-1])
    return np.array(found)


@pytest.mark.parametrize(
    ("source", "target"), [(1024, 640), (640, 1024), (640, 640), (7, 3), (3, 7), (1, 10), (10, 1)]
)
@pytest.mark.parametrize("n_rows", [1, 2, 17])
@pytest.mark.parametrize("chunk", [1, 5, 17])
def test_means_over_time_are_exact(source, target, n_rows, chunk):
    rows = np.random.default_rng(1).random((n_rows, 3)).astype(np.float32)
    resampler = StepResampler(source, target)
    found = [resampler.add(rows[start : start + chunk]) for start in range(0, n_rows, chunk)]
    n_final = sum(map(len, found))
    assert n_final == n_rows * source // target
    n_frames = n_final + 3
    found = np.concatenate([*found, resampler.finish(n_frames)])
    assert found.dtype == np.float32 and len(found) == n_frames
    np.testing.assert_allclose(found, direct(rows, source, target, n_frames), rtol=1e-6)


def test_what_lies_within_one_frame_is_kept_to_the_bit():
    rows = np.random.default_rng(1).random((10, 2)).astype(np.float32)
    resampler = StepResampler(8, 2)
    np.testing.assert_array_equal(resampler.add(rows), np.repeat(rows, 4, axis=0))


def test_nothing_is_kept_of_what_is_done():
    resampler = StepResampler(1024, 640)
    for _ in range(50):
        assert len(resampler.add(np.ones((100, 2), np.float32))) in (160,)
    assert len(resampler._kept) < 5


def test_chunks_without_rows_are_nothing():
    resampler = StepResampler(1024, 640)
    assert resampler.add(np.empty((0, 2), np.float32)).shape == (0, 2)
    assert resampler.add(np.ones((5, 2), np.float32)).shape == (8, 2)
    assert resampler.add(np.empty((0, 2), np.float32)).shape == (0, 2)
    assert resampler.finish(8).shape == (0, 2)
