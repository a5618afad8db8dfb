"""The bootstrap against scipy's, closed forms and its own promise: how often intervals hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from desed_task.errors import InputError
from local.summary import bootstrap


def test_as_many_units_are_drawn_as_there_are():
    weights = bootstrap.draw_resamples(7, 300, (1, 0))
    assert weights.shape == (300, 7) and (weights.sum(axis=1) == 7).all()
    # Each unit is left out of about (1 - 1/7)^7 of the resamples.
    assert (weights == 0).mean() == pytest.approx((6 / 7) ** 7, abs=0.03)


def test_the_seed_decides_the_resamples():
    one, same, other, corpus = (
        bootstrap.draw_resamples(9, 20, seed) for seed in ((1, 0), (1, 0), (2, 0), (1, 1))
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other) and not np.array_equal(one, corpus)


def test_the_error_of_a_mean_is_scipy_s_and_the_closed_form():
    sample = np.random.default_rng(0).normal(size=50)
    means = bootstrap.draw_resamples(50, 8000, (3, 0)) @ sample / 50
    bias, error = bootstrap.bias_and_error(means, sample.mean())
    theirs = stats.bootstrap(
        (sample,), np.mean, n_resamples=8000, method="percentile", rng=np.random.default_rng(4)
    )
    assert error == pytest.approx(theirs.standard_error, rel=0.04)
    assert error == pytest.approx(sample.std() / np.sqrt(50), rel=0.03)
    assert abs(bias) < 0.05 * error
    # A mean of 50 normal values is normal: percentiles lie where the normal interval ends.
    found = bootstrap.interval(means, sample.mean())
    assert found == pytest.approx(tuple(theirs.confidence_interval), abs=0.15 * error)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(5)
    held = 0
    for trial in range(400):
        sample = rng.normal(2.0, 1.0, size=60)
        means = bootstrap.draw_resamples(60, 200, (trial, 0)) @ sample / 60
        low, high = bootstrap.interval(means, sample.mean())
        held += low <= 2.0 <= high
    assert 0.91 <= held / 400 <= 0.98


def test_bias_is_taken_off_and_bounds_are_kept():
    values = np.random.default_rng(6).normal(0.7, 0.05, size=4000)
    # Resampling adds 0.2 to an estimate of 0.5: the truth is guessed to be 0.3.
    assert bootstrap.interval(values, 0.5) == pytest.approx((0.202, 0.398), abs=0.005)
    assert bootstrap.interval(values, 0.35, (0.0, 1.0))[0] == 0.0


def test_p_values_agree_with_intervals():
    rng = np.random.default_rng(7)
    for shift in np.linspace(-0.3, 0.3, 25):
        values = rng.normal(shift + 0.01, 0.1, size=500)
        low, high = bootstrap.interval(values, shift)
        assert (bootstrap.p_value(values, shift) < 0.05) == (low > 0 or high < 0)


def test_nothing_differs_from_itself_and_a_gap_is_significant():
    assert bootstrap.p_value(np.zeros(200), 0.0) == 1.0
    assert bootstrap.p_value(np.full(200, 0.1), 0.1) == 0.0
    assert bootstrap.p_value(np.random.default_rng(0).normal(0.5, 0.1, 500), 0.5) < 1e-4


def test_p_values_of_no_difference_are_uniform():
    rng = np.random.default_rng(8)
    found = []
    for trial in range(400):
        difference = rng.normal(0.0, 1.0, 60)
        means = bootstrap.draw_resamples(60, 200, (trial, 1)) @ difference / 60
        found.append(bootstrap.p_value(means, difference.mean()))
    assert stats.kstest(found, "uniform").statistic < 0.12
    assert 0.02 <= np.mean(np.array(found) < 0.05) <= 0.09


def test_resamples_without_the_metric_are_left_out_unless_there_are_many():
    values = np.random.default_rng(9).normal(0.5, 0.1, 200)
    few, many = values.copy(), values.copy()
    few[:8], many[:12] = np.nan, np.nan
    assert bootstrap.interval(few, 0.5) == pytest.approx(bootstrap.interval(values, 0.5), abs=0.02)
    assert np.isnan(bootstrap.interval(many, 0.5)).all()
    assert np.isnan(bootstrap.p_value(many, 0.5))


def test_holm_s_correction():
    # Steps 4 x 0.005, 3 x 0.01, 2 x 0.03, 1 x 0.04; none below the one before it.
    assert bootstrap.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert bootstrap.holm([0.6, 0.5]) == [1.0, 1.0]
    assert bootstrap.holm([]) == []


@pytest.mark.parametrize("number", [-5, 1, 99])
def test_too_few_resamples_are_refused(number):
    with pytest.raises(InputError, match=rf"--resamples {number}: give 100 or more, or 0"):
        bootstrap.check_resamples(number)
    bootstrap.check_resamples(0)
    bootstrap.check_resamples(100)
