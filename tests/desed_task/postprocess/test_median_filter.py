"""The class-wise median filter equals the published one."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import median_filter

from desed_task.errors import InputError
from desed_task.postprocess import ClassMedianFilter, class_thresholds
from desed_task.postprocess import median_filter as median_filter_module


def test_it_equals_the_published_filter(parity):
    reference = np.load(parity("median_filter.npz"))
    smooth = ClassMedianFilter(reference["window"].tolist())
    np.testing.assert_array_equal(smooth(reference["scores"]), reference["filtered"])


def test_each_class_is_filtered_alone_with_its_own_length():
    scores = np.random.default_rng(0).uniform(size=(40, 3))
    filtered = ClassMedianFilter([1, 4, 9])(scores)
    for column, length in enumerate((1, 4, 9)):
        expected = median_filter(scores[:, column], size=length)
        np.testing.assert_array_equal(filtered[:, column], expected)


@pytest.mark.parametrize("length", [2, 3, 4, 9, 20, 155, 400])
@pytest.mark.parametrize("shape", [(40, 3), (5, 40, 3), (2, 3, 7, 3), (1, 3), (0, 40, 3)])
def test_each_frame_has_the_median_of_its_surroundings(length, shape):
    """Lengths beyond the signal (where scipy reflects it wrongly) and even ones too, and ties."""
    values = np.random.default_rng(length).random(shape).round(1).astype(np.float32)
    found = ClassMedianFilter([length] * 3)(values)
    assert found.shape == shape and found.dtype == values.dtype
    if not len(values):
        return
    reach = [(0, 0)] * (len(shape) - 2) + [(length // 2, length // 2), (0, 0)]
    around = sliding_window_view(np.pad(values, reach, mode="symmetric"), length, axis=-2)
    expected = np.sort(around, axis=-1)[..., : shape[-2], :, length // 2]
    np.testing.assert_array_equal(found, expected)
    if length < 20 <= shape[-2]:
        size = (*(1,) * (len(shape) - 2), length, 1)
        np.testing.assert_array_equal(found, median_filter(values, size=size))


@pytest.mark.parametrize("most", [1, 50, 120, 10**6])
@pytest.mark.parametrize("shape", [(40, 7), (3, 40, 7), (0, 40, 7)])
def test_classes_are_filtered_in_parts_as_together(most, shape, monkeypatch):
    lengths = [3, 5, 3, 1, 3, 5, 3]
    values = np.random.default_rng(most).random(shape).astype(np.float32)
    expected = ClassMedianFilter(lengths)(values)
    monkeypatch.setattr(median_filter_module, "_MOST_VALUES", most)
    np.testing.assert_array_equal(ClassMedianFilter(lengths)(values), expected)


def test_many_frames_need_little_more_memory_than_two_copies():
    """As an hour with 447 classes has."""
    values = np.random.default_rng(0).random((50_000, 447), dtype=np.float32)
    tracemalloc.start()
    try:
        filtered = ClassMedianFilter([9] * 447)(values)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * filtered.nbytes


def test_lengths_that_do_not_fit():
    with pytest.raises(InputError, match="has 2 lengths, the scores 3 classes"):
        ClassMedianFilter([3, 3])(np.zeros((5, 3)))
    with pytest.raises(InputError, match="at least 1"):
        ClassMedianFilter([3, 0])


def test_a_threshold_of_one_class_leaves_the_others_at_a_half():
    labels = ("Dog", "Cat", "Speech")
    assert class_thresholds({"Cat": 0.25}, labels).tolist() == [0.5, 0.25, 0.5]
    assert class_thresholds({}, labels).tolist() == [0.5] * 3
    assert class_thresholds(0.75, labels).tolist() == [0.75] * 3
