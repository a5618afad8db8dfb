"""PSDS over all thresholds: as sed_scores_eval has it, to 1e-9, ties and odd clips included."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from desed_task.evaluation import sed_scores_eval_metrics as package
from desed_task.evaluation.exact_psds import _points, class_changes, exact_psds, several_exact_psds
from desed_task.evaluation.psds import PSDS1, PSDS2, PsdsSpec, area, seconds_of_classes, staircase
from desed_task.evaluation.scores import Detections, FrameScores, Scores
from desed_task.evaluation.threshold_runs import find_rises, find_runs
from desed_task.labels import FrameGrid, Vocabulary
from desed_task.postprocess import ClassMedianFilter

GRID = FrameGrid()
SPECS = {
    "psds1": PSDS1,
    "psds2": PSDS2,
    "loose": PsdsSpec(dtc=0.3, gtc=0.2, cttc=0.1, alpha_ct=1.0, alpha_st=0.0, max_efpr=400.0),
}


def corpus(n_clips: int, n_classes: int, seed: int, decimals: int | None = None):
    """Events of random times in smooth noise that rises, mostly, where they are."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n_clips, GRID.n_frames, n_classes)).cumsum(axis=1) / 4 - 2
    events = []
    for clip in range(n_clips):
        for label in range(n_classes):
            times = np.sort(rng.uniform(0, 10, size=2 * rng.integers(n_clips == 1, 4)))
            before_s = -1.0
            for onset_s, offset_s in times.reshape(-1, 2).round(decimals or 15):
                if before_s < onset_s < offset_s:
                    before_s = offset_s
                    events.append((clip, label, onset_s, offset_s))
                    frames = slice(int(onset_s / 0.064), int(np.ceil(offset_s / 0.064)))
                    noise[clip, frames, label] += rng.normal(3, 2)
    values = (1 / (1 + np.exp(-noise))).astype(np.float32)
    values = ClassMedianFilter([7] * n_classes)(values)
    if decimals is not None:
        values = values.round(decimals)
    columns = np.array(events).T
    truth = Detections(columns[0].astype(int), columns[1].astype(int), columns[2], columns[3])
    names = tuple(f"clip{index}" for index in range(n_clips))
    labels = Vocabulary([f"class {label}" for label in range(n_classes)])
    return Scores(names, values, GRID.boundaries_s, labels), truth


def oracle(scores: Scores, truth: Detections, spec: PsdsSpec):
    """What sed_scores_eval says."""
    listed = {clip_id: [] for clip_id in scores.clip_ids}
    for clip, label, onset_s, offset_s in zip(
        truth.clip_index, truth.label_index, truth.onset_s, truth.offset_s, strict=True
    ):
        event = (float(onset_s), float(offset_s), scores.vocabulary[int(label)])
        listed[scores.clip_ids[clip]].append(event)
    lengths = dict.fromkeys(scores.clip_ids, 10.0)
    return package.psds(package.as_frames(scores), listed, lengths, spec)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("decimals", [None, 1, 2])
@pytest.mark.parametrize(("n_clips", "n_classes"), [(1, 2), (25, 5), (60, 1)])
def test_as_sed_scores_eval(n_clips, n_classes, decimals, spec):
    scores, truth = corpus(n_clips, n_classes, seed=n_clips, decimals=decimals)
    there = np.unique(truth.label_index)
    assert len(there) == n_classes
    found = exact_psds(scores, truth, dataset_s=10.0 * n_clips, spec=spec)
    expected = oracle(scores, truth, spec)
    assert found.value == pytest.approx(expected.value, abs=1e-9)
    assert found.per_class == pytest.approx(expected.per_class, abs=1e-9)
    for label, roc in found.class_rocs.items():
        # The curves are the same staircase, whatever edges they are told by.
        other = expected.class_rocs[label]
        for limit in (1.0, 10.0, 50.0, spec.max_efpr):
            assert area(roc, limit) == pytest.approx(area(other, limit), abs=1e-9)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("n_longer", [1, 7, 25])
def test_clips_of_other_lengths_count_alike(n_longer, spec):
    scores, truth = corpus(25, 3, seed=5, decimals=2)
    first, draws = 25 - n_longer, np.random.default_rng(0)
    longer = []
    for row in range(first, 25):
        more = draws.uniform(0, 0.9, (row, 3)).round(2).astype(np.float32)
        values = np.concatenate([scores.values[row], more])
        grid = FrameGrid(n_frames=len(values), clip_s=30.0)
        longer.append(FrameScores(values, grid.boundaries_s))
    ragged = Scores(
        scores.clip_ids, scores.values[:first], GRID.boundaries_s, scores.vocabulary, tuple(longer)
    )
    found = exact_psds(ragged, truth, dataset_s=250.0, spec=spec)
    expected = oracle(ragged, truth, spec)
    assert found.value == pytest.approx(expected.value, abs=1e-9)
    assert found.per_class == pytest.approx(expected.per_class, abs=1e-9)
    assert found.per_class != exact_psds(scores, truth, dataset_s=250.0, spec=spec).per_class


def test_scores_that_say_nothing_and_all():
    scores, truth = corpus(20, 3, seed=1)
    flat = exact_psds(scores.map(np.zeros_like), truth, dataset_s=200.0, spec=PSDS1)
    assert flat.value == pytest.approx(oracle(scores.map(np.zeros_like), truth, PSDS1).value)
    perfect = np.zeros_like(scores.values)
    for clip, label, onset_s, offset_s in zip(
        truth.clip_index, truth.label_index, truth.onset_s, truth.offset_s, strict=True
    ):
        perfect[clip, int(onset_s / 0.064) : int(np.ceil(offset_s / 0.064)), label] = 1.0
    known = scores.map(lambda _: perfect)
    found = exact_psds(known, truth, dataset_s=200.0, spec=PSDS2)
    assert found.value == pytest.approx(oracle(known, truth, PSDS2).value, abs=1e-9)
    assert found.value > 0.7


def test_a_share_that_meets_a_criterion_exactly_counts():
    # 7 of 10 frames, in numbers that binary fractions do not hold.
    values = np.zeros((1, GRID.n_frames, 1), dtype=np.float32)
    values[0, 10:20] = 0.9
    scores = Scores(("clip",), values, GRID.boundaries_s, Vocabulary(["Dog"]))
    true = np.array([10 * 0.064]), np.array([17 * 0.064])
    truth = Detections(np.array([0]), np.array([0]), *true)
    assert exact_psds(scores, truth, dataset_s=10.0, spec=PSDS1).value == pytest.approx(1.0)
    less = Detections(np.array([0]), np.array([0]), true[0], true[1] - 1e-4)
    assert exact_psds(scores, less, dataset_s=10.0, spec=PSDS1).value == 0.0


def test_runs_are_what_thresholds_separate():
    rng = np.random.default_rng(5)
    signals = rng.integers(0, 6, size=(40, 12))
    runs = find_runs(signals)
    found = set(zip(*(column.tolist() for column in runs), strict=True))
    expected = {}
    for index, signal in enumerate(signals):
        for threshold in range(-1, 6):
            active = np.concatenate([[False], signal > threshold, [False]])
            edges = np.flatnonzero(np.diff(active.astype(int)))
            for first, last in list(pairwise(edges.tolist()))[::2]:
                expected.setdefault((index, first, last), []).append(threshold)
    # At -1 a whole signal is detected, as at any lower threshold.
    lowest = {-1: -np.inf}
    assert {
        (*key, lowest.get(min(seen), min(seen)), max(seen) + 1) for key, seen in expected.items()
    } == found


def test_rises_count_the_runs_of_a_threshold():
    signals = np.random.default_rng(6).integers(0, 6, size=(40, 12)).astype(float)
    signals[3, 2:5] = -np.inf
    runs, rises = find_runs(signals), find_rises(signals)
    for threshold in range(-1, 6):
        found, counted = (
            np.bincount(one.signal[(one.low <= threshold) & (threshold < one.high)], minlength=40)
            for one in (runs, rises)
        )
        np.testing.assert_array_equal(counted, found)


def test_several_psds_are_each_of_them():
    scores, truth = corpus(25, 4, seed=9)
    specs = list(SPECS.values())
    together = several_exact_psds(scores, truth, dataset_s=250.0, specs=specs)
    for spec, found in zip(specs, together, strict=True):
        alone = exact_psds(scores, truth, dataset_s=250.0, spec=spec)
        assert found.value == pytest.approx(alone.value, abs=1e-12)
        assert found.per_class == pytest.approx(alone.per_class, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_efpr", [5.0, 50.0, 370.0, 1e6])
def test_thresholds_beyond_the_curve_change_nothing(dtype, max_efpr):
    """Clips with a single class, whose scores fall to one long run: false positives get fewer."""
    scores, truth = corpus(30, 3, seed=4)
    kept = truth.label_index == truth.clip_index % 3
    truth = truth.rows(kept)
    scores = scores.map(lambda values: (values - 0.2).astype(dtype))  # below 0 as well
    spec = replace(PSDS2, max_efpr=max_efpr)
    everything = [
        staircase(*(column[::-1] for column in _points(changes, n_true, class_s, 300.0, spec)))
        for class_s in [seconds_of_classes(truth, 3)]
        for label, (changes,) in enumerate(class_changes(scores, truth, [spec]))
        for n_true in [int((truth.label_index == label).sum())]
    ]
    found = exact_psds(scores, truth, dataset_s=300.0, spec=spec)
    for roc, whole in zip(found.class_rocs.values(), everything, strict=True):
        np.testing.assert_allclose(roc.efpr, whole.efpr, atol=1e-9)
        np.testing.assert_array_equal(roc.tpr, whole.tpr)
    assert found.value == pytest.approx(oracle(scores, truth, spec).value, abs=1e-9)
    n_all, n_kept = (
        sum(len(changes.score) for (changes,) in class_changes(scores, truth, [spec], most))
        for most in (np.inf, max_efpr / 12 + 1)
    )
    assert n_kept < n_all / 2 if max_efpr < 100 else n_kept == n_all
