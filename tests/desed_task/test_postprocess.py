"""The class-wise median filter equals the published one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import median_filter

from desed_task.errors import InputError
from desed_task.postprocess import ClassMedianFilter, class_thresholds


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
