"""PSDS by threshold: closed forms, and agreement with the exact one where both see the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from desed_task.evaluation import sed_scores_eval_metrics as package
from desed_task.evaluation.intersection import intersection_counts
from desed_task.evaluation.psds import (
    PSDS1,
    PSDS2,
    PsdsSpec,
    Roc,
    area,
    psds_from_thresholds,
)
from desed_task.evaluation.scores import Detections, Scores, detect
from desed_task.labels import FrameGrid, Vocabulary

LABELS = ("Dog", "Cat")
VOCABULARY = Vocabulary(LABELS)


def events(*rows):
    columns = np.array(rows, dtype=float).reshape(-1, 4).T
    return Detections(columns[0].astype(int), columns[1].astype(int), columns[2], columns[3])


def test_the_published_parameters():
    assert PsdsSpec(dtc=0.7, gtc=0.7, cttc=None, alpha_ct=0.0, alpha_st=1.0) == PSDS1
    assert PsdsSpec(dtc=0.1, gtc=0.1, cttc=0.3, alpha_ct=0.5, alpha_st=1.0) == PSDS2
    assert PSDS1.max_efpr == 100.0


def test_the_area_of_a_staircase():
    roc = Roc(np.array([0.0, 20.0, 150.0]), np.array([0.0, 0.5, 1.0]))
    assert area(roc, 100.0) == pytest.approx(0.8 * 0.5)
    assert area(roc, 200.0) == pytest.approx((130 * 0.5 + 50 * 1.0) / 200)


def test_perfect_detections_score_one_and_none_score_zero():
    truth = events((0, 0, 1, 2), (0, 1, 3, 5), (1, 1, 0, 9))
    perfect = psds_from_thresholds([truth], truth, LABELS, dataset_s=20.0, spec=PSDS1)
    assert perfect.value == 1.0 and perfect.per_class == {"Dog": 1.0, "Cat": 1.0}
    nothing = psds_from_thresholds([events()], truth, LABELS, dataset_s=20.0, spec=PSDS1)
    assert nothing.value == 0.0


def test_the_deviation_between_classes_is_subtracted():
    truth = events((0, 0, 1, 2), (0, 1, 3, 5))
    only_dog = events((0, 0, 1, 2))
    psds = psds_from_thresholds([only_dog], truth, LABELS, dataset_s=10.0, spec=PSDS1)
    # Rates 1 and 0: mean 0.5, deviation 0.5.
    assert psds.value == 0.0 and psds.per_class == {"Dog": 1.0, "Cat": 0.0}


def test_cross_triggers_are_counted_by_the_class_triggered():
    truth = events((0, 0, 0, 4), (0, 1, 6, 8))
    found = events((0, 1, 1, 3), (0, 1, 6, 8), (0, 0, 9, 10))
    counts = intersection_counts(found, truth, 2, dtc=0.5, gtc=0.5, cttc=0.3)
    assert counts.cross_triggers.tolist() == [[0, 0], [1, 0]]
    assert counts.false_positives.tolist() == [1, 1]
    assert counts.true_positives.tolist() == [0, 1]


@pytest.mark.parametrize("sparse", [False, True])
def test_every_score_its_own_threshold_gives_the_exact_psds(sparse):
    """Sparse: two clips have no event, lengths vary, and Cat's scores rise in those only."""
    rng = np.random.default_rng(3)
    grid = FrameGrid()
    values = np.repeat(np.round(rng.uniform(size=(8, 12, 2)), 1), 13, axis=1)
    truth_rows, truth_by_clip = [], {}
    for clip in range(8):
        truth_by_clip[f"c{clip}"] = []
        for label in range(2):
            if sparse and clip in (2, 5):
                continue
            first = int(rng.integers(0, 100))
            last = first + int(rng.integers(10, 50))
            values[clip, first:last, label] = np.round(values[clip, first:last, label] / 3 + 0.6, 1)
            onset, offset = grid.boundaries_s[[first, last]]
            truth_rows.append((clip, label, onset, offset))
            truth_by_clip[f"c{clip}"].append((onset, offset, LABELS[label]))
    durations = dict.fromkeys(truth_by_clip, 10.0)
    if sparse:
        values[..., 1] = 0.0
        values[[2, 5], 3:9, 1] = 0.8
        durations = {name: 10.0 - number / 2 for number, name in enumerate(truth_by_clip)}
    scores = Scores(tuple(truth_by_clip), values, grid.boundaries_s, VOCABULARY)
    points = [detect(scores, threshold) for threshold in np.unique(values) - 1e-6]
    for published in (PSDS1, PSDS2):
        # 80 s hold few false positives an hour: one is 45.
        spec = replace(published, max_efpr=2000.0)
        exact = package.psds(package.as_frames(scores), truth_by_clip, durations, spec)
        swept = psds_from_thresholds(
            points, events(*truth_rows), LABELS, dataset_s=sum(durations.values()), spec=spec
        )
        assert exact.per_class["Dog"] > 0.01
        assert swept.value == pytest.approx(exact.value, abs=1e-9)
        assert swept.per_class == pytest.approx(exact.per_class, abs=1e-9)


def test_a_share_that_just_meets_its_criterion_meets_it():
    """Halves and quarters are exact, so that nothing is left to rounding."""
    truth = events((0, 0, 0, 1), (0, 1, 4, 6))
    found = events((0, 0, 0.5, 1.5), (0, 1, 0.5, 4.5))
    counts = intersection_counts(found, truth, 2, dtc=0.5, gtc=0.5, cttc=0.125)
    assert counts.true_positives.tolist() == [1, 0]
    assert counts.false_positives.tolist() == [0, 1]
    assert counts.cross_triggers.tolist() == [[0, 0], [1, 0]]
    stricter = intersection_counts(found, truth, 2, dtc=0.5, gtc=0.5625, cttc=0.1875)
    assert stricter.true_positives.tolist() == [0, 0]
    assert stricter.cross_triggers.tolist() == [[0, 0], [0, 0]]
