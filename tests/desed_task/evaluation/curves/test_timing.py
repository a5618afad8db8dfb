"""Errors of onsets and offsets, and false events per hour, in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from desed_task.evaluation.curves.timing import (
    false_events,
    matched_events,
    per_hour,
    time_errors,
    weighted_median,
)
from desed_task.evaluation.scores import Detections


def events(*rows):
    clip, label, onset_s, offset_s = (np.array(column) for column in zip(*rows, strict=True))
    return Detections(clip, label, onset_s.astype(float), offset_s.astype(float))


def test_an_event_has_one_partner_of_its_class_and_clip():
    truth = events((0, 0, 1, 3), (0, 0, 5, 9), (1, 0, 2, 4), (1, 1, 2, 4))
    found = events(
        (0, 0, 1.5, 3.5),  # late by half a second, at both ends
        (0, 0, 5.0, 6.9),  # less than half of the event
        (0, 1, 1.0, 3.0),  # another class
        (1, 0, 1.9, 3.0),  # 0.1 s early, and ends 1 s early
        (2, 1, 2.0, 4.0),  # another clip
    )
    errors = time_errors(found, truth)
    assert errors.clip.tolist() == [0, 1] and errors.label.tolist() == [0, 0]
    assert errors.onset_s == pytest.approx([0.5, -0.1])
    assert errors.offset_s == pytest.approx([0.5, -1.0])


def test_two_halves_are_one_match():
    """Each has exactly half of the event; so does one detection of two events."""
    truth, halves = events((0, 0, 0, 4)), events((0, 0, 0, 2), (0, 0, 2.1, 4.1))
    assert len(matched_events(halves, truth).found) == 1
    assert len(matched_events(truth, halves).found) == 1
    # A chain: the first must leave the second event to the second detection.
    truth = events((0, 0, 0, 2), (0, 0, 2.1, 4.1))
    found = events((0, 0, 1, 3.1), (0, 0, 3.1, 4.1))
    assert len(matched_events(found, truth).found) == 1
    both = events((0, 0, 0.5, 2.05), (0, 0, 3.0, 4.1))
    one, other = matched_events(both, truth)
    assert sorted(one.tolist()) == [0, 1] and other.tolist() == [0, 1]


def test_medians_count_weights():
    values = np.array([3.0, -1.0, 0.5, 10.0])
    rng = np.random.default_rng(0)
    for weights in [*rng.integers(0, 4, (40, 4)), np.ones(4, dtype=int)]:
        if weights.sum():
            expected = np.median(np.repeat(values, weights))
            assert weighted_median(values, weights.astype(float)) == pytest.approx(expected)
    assert np.isnan(weighted_median(values, np.zeros(4)))
    assert np.isnan(weighted_median(np.zeros(0), np.zeros(0)))


def test_false_events_are_those_that_lie_outside():
    truth = events((0, 0, 1, 3))
    found = events((0, 0, 2, 4), (0, 0, 2.1, 4.2), (0, 1, 1, 3), (1, 0, 1, 3))
    counts = false_events(found, truth, (3, 2), 0.5)
    # Half of the first lies in the event, less of the second.
    assert counts.tolist() == [[1, 1], [1, 0], [0, 0]]
    assert per_hour(counts.sum(axis=0), 1800.0).tolist() == [4.0, 2.0]
