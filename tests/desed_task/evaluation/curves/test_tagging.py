"""Metrics of tags against sums written out clip by clip."""

from __future__ import annotations

import numpy as np
import pytest

from desed_task.evaluation.curves.tagging import TagCounts, lwlrap, tag_precision, tag_ranking


def made_up(seed: int, decimals: int, n_clips: int = 13, n_classes: int = 5):
    """Scores with many ties; one class is in no clip."""
    rng = np.random.default_rng(seed)
    scores = rng.random((n_clips, n_classes)).round(decimals).astype(np.float32)
    present = rng.random((n_clips, n_classes)) < 0.4
    present[:, 3] = False
    present[0, 0] = True
    return scores, present


@pytest.mark.parametrize("decimals", [1, 6])
@pytest.mark.parametrize("seed", range(3))
def test_ranking_and_precision_are_those_of_their_definitions(seed, decimals):
    scores, present = made_up(seed, decimals)
    shares: dict[int, list[float]] = {}
    for of_clip, there in zip(scores, present, strict=True):
        for label in np.flatnonzero(there):
            at_least = of_clip >= of_clip[label]
            shares.setdefault(int(label), []).append(there[at_least].sum() / at_least.sum())
    ranking = tag_ranking(scores, present)
    assert np.isnan(ranking[3])
    for label, of_label in shares.items():
        assert ranking[label] == pytest.approx(np.mean(of_label))
    every = [share for of_label in shares.values() for share in of_label]
    assert lwlrap(ranking, present.sum(0)) == pytest.approx(np.mean(every))
    precision = tag_precision(scores, present)
    assert np.isnan(precision[3])
    for label in shares:
        expected, recall = 0.0, 0.0
        for threshold in np.unique(scores[:, label])[::-1]:
            found = scores[:, label] >= threshold
            now = present[found, label].sum() / present[:, label].sum()
            expected += (now - recall) * present[found, label].mean()
            recall = now
        assert precision[label] == pytest.approx(expected)


def test_f1_counts_clips_above_the_threshold():
    scores = np.array([[0.9, 0.5], [0.2, 0.6], [0.7, 0.1]], dtype=np.float32)
    present = np.array([[True, True], [True, False], [True, False]])
    counts = TagCounts.at(scores, present, 0.5)
    assert [one.tolist() for one in counts] == [[2, 0], [0, 1], [3, 1]]
    assert counts.f1.tolist() == [pytest.approx(4 / 5), 0.0]
    assert counts.micro_f1 == pytest.approx(4 / 7)


def test_a_class_that_is_neither_there_nor_found_has_no_value():
    scores, present = np.zeros((2, 1), dtype=np.float32), np.zeros((2, 1), dtype=bool)
    assert np.isnan(TagCounts.at(scores, present, 0.5).f1).all()
    assert np.isnan(tag_ranking(scores, present)).all()
    assert np.isnan(lwlrap(tag_ranking(scores, present), present.sum(0)))
