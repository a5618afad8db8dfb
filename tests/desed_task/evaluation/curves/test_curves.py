"""Metrics over all thresholds against sed_scores_eval, inequalities, and closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from desed_task.evaluation import fscores
from desed_task.evaluation import sed_scores_eval_metrics as package
from desed_task.evaluation.boxes import Boxes
from desed_task.evaluation.curves.collars import Collars, collar_changes
from desed_task.evaluation.curves.independent_psds import (
    non_oracle_psds,
    non_oracle_roc,
    post_processing_independent_psds,
)
from desed_task.evaluation.curves.precision_recall import (
    Points,
    average_precision,
    best_f1,
    intersection_criteria,
    points_of,
    points_of_values,
)
from desed_task.evaluation.curves.roc_areas import mcclish, staircase_area, trapezoid_area
from desed_task.evaluation.exact_psds import changes_of, found_of_classes, several_exact_psds
from desed_task.evaluation.psds import Roc, effective_roc
from desed_task.evaluation.scores import Detections, Scores, detect
from desed_task.labels import Vocabulary
from tests.desed_task.evaluation.curves.random_cases import (
    COLLARS,
    FRAME_S,
    SPECS,
    random_case,
)

N_CASES = 80
CRITERIA = {"dtc": 0.5, "gtc": 0.5}


def events_of(case):
    listed = {clip_id: [] for clip_id in case.raw.clip_ids}
    for clip, label, onset_s, offset_s in zip(*vars(case.truth).values(), strict=True):
        event = (float(onset_s), float(offset_s), case.labels[label])
        listed[case.raw.clip_ids[clip]].append(event)
    return listed


def curves_of(case):
    """Average precision and best F1 of each class, by intersection and by collars."""
    found = {}
    criteria, collars = intersection_criteria(**CRITERIA), Collars(**COLLARS)
    for label, n_true, of_class in zip(
        case.labels, case.n_true(), found_of_classes(case.decoded, case.truth), strict=True
    ):
        changes = changes_of(of_class, criteria), collar_changes(of_class, collars)
        for kind, one in zip(("intersection", "collar"), changes, strict=True):
            points = points_of(one)
            precision = average_precision(points, n_true)
            # The package fails for a class whose detections are neither true nor false.
            counted = points.true.any() or points.false.any()
            found[kind, label] = precision if counted else None, best_f1(points, n_true)
    return found


def test_average_precision_and_best_f1_are_those_of_the_package():
    """Of many corpora; a best threshold gives the F1 that it promises."""
    kinds, n_empty = set(), 0
    for seed in range(N_CASES):
        case = random_case(seed)
        found = curves_of(case)
        if any(
            best.threshold == np.inf and precision is None for precision, best in found.values()
        ):
            n_empty += 1
            continue
        kinds.add(type(case.decoded))
        frames, truth = package.as_frames(case.decoded), events_of(case)
        theirs = {
            "intersection": package.intersection_curve(frames, truth, **CRITERIA),
            "collar": package.collar_curve(frames, truth, **COLLARS),
        }
        for (kind, label), (precision, best) in found.items():
            told = f"seed {seed}, {kind}, {label}"
            (_, precisions), (_, f1) = theirs[kind]
            assert best.value == pytest.approx(f1[label], abs=1e-9), told
            assert precision == pytest.approx(precisions[label], abs=1e-9), told
            found = detect(case.decoded, best.threshold)
            score = (
                fscores.intersection_fscore(found, case.truth, case.labels, **CRITERIA, decimals=6)
                if kind == "intersection"
                else fscores.collar_fscore(found, case.truth, case.labels, **COLLARS, decimals=6)
            )
            assert best.value == pytest.approx(score.per_class[label], abs=1e-9), told
    assert kinds == {Scores, Boxes} and n_empty < N_CASES / 20


def test_non_oracle_psds_and_pi_psds_are_bounds():
    """Of each class always; of their mean less the deviation only without the deviation."""
    strict = 0
    for seed in range(N_CASES):
        case = random_case(seed)
        specs = [replace(spec, alpha_st=0.0) for spec in SPECS]
        members = [
            several_exact_psds(one, case.truth, dataset_s=case.dataset_s, specs=specs)
            for one in case.members()
        ]
        for number, spec in enumerate(specs):
            of_spec = [member[number] for member in members]
            union = post_processing_independent_psds(of_spec, spec)
            for psds in of_spec:
                low = non_oracle_psds(psds, spec)
                assert low.value <= psds.value + 1e-12
                assert psds.value <= union.value + 1e-12
                for label, value in psds.per_class.items():
                    assert low.per_class[label] <= value + 1e-12
                    assert value <= union.per_class[label] + 1e-12
            strict += low.value < psds.value - 1e-6 < union.value - 2e-6
    assert strict > N_CASES / 4, "bounds that are mostly reached show nothing"


def test_pi_psds_is_that_of_the_package():
    for seed in range(0, N_CASES, 5):
        case = random_case(seed)
        truth, durations = events_of(case), case.durations()
        frames = [package.as_frames(one) for one in case.members()]
        for number, spec in enumerate(SPECS):
            members = [
                several_exact_psds(one, case.truth, dataset_s=case.dataset_s, specs=SPECS)[number]
                for one in case.members()
            ]
            found = post_processing_independent_psds(members, spec)
            value, per_class = package.union_psds(frames, truth, durations, spec)
            assert found.value == pytest.approx(value, abs=1e-9), seed
            assert found.per_class == pytest.approx(per_class, abs=1e-9), seed


def test_a_better_class_may_lower_a_psds_with_deviation():
    """Mean less deviation falls if the best of three classes gets better: no bound holds there."""
    curves = [Roc(np.zeros(1), np.array([tpr])) for tpr in (0.5, 0.5, 0.9)]
    better = [*curves[:2], Roc(np.zeros(1), np.ones(1))]
    before, after = (effective_roc(one, SPECS[0]).tpr[0] for one in (curves, better))
    assert after < before


def test_the_non_oracle_curve_follows_the_false_positive_rate():
    # By falling threshold: the rate rises, falls as events merge, and rises again.
    points = Roc(np.array([10.0, 30.0, 20.0, 20.0, 40.0]), np.array([0.4, 0.9, 0.7, 0.5, 0.6]))
    found = non_oracle_roc(points)
    assert found.efpr.tolist() == [0, 10, 20, 30, 40]
    assert found.tpr.tolist() == [0.0, 0.4, 0.5, 0.9, 0.6]
    # The last of the points without a false positive.
    begun = non_oracle_roc(Roc(np.zeros(2), np.array([0.3, 0.2])))
    assert begun.efpr.tolist() == [0.0] and begun.tpr.tolist() == [0.2]
    nothing = non_oracle_roc(Roc(np.zeros(0), np.zeros(0)))
    assert nothing.efpr.tolist() == [0.0] and nothing.tpr.tolist() == [0.0]


def test_average_precision_in_numbers():
    """Recall falls where events merge; of points of one recall the most precise counts."""
    points = Points(np.arange(5.0)[::-1], np.array([1.0, 2, 1, 2, 3]), np.array([1.0, 2, 0, 1, 9]))
    assert average_precision(points, 4) == pytest.approx(1 / 4 + 2 / 3 / 4 + 3 / 12 / 4)
    none = Points(np.zeros(0), np.zeros(0), np.zeros(0))
    assert average_precision(none, 3) == 0.0 and best_f1(none, 3) == (0.0, np.inf)
    only_false = Points(np.ones(1), np.zeros(1), np.ones(1))
    assert average_precision(only_false, 3) == 0.0 and best_f1(only_false, 3) == (0.0, np.inf)
    # Midway to the next score that changes anything.
    points = Points(np.array([0.9, 0.8, 0.2]), np.array([1.0, 1, 1]), np.array([0.0, 0, 5]))
    assert best_f1(points, 1) == (1.0, pytest.approx(0.55))
    assert best_f1(points._replace(false=np.zeros(3)), 1) == (1.0, -np.inf)


def test_collars_match_the_most_pairs_at_every_threshold():
    """Two short detections near one event, of which one may match, and near two of which both."""
    rows = np.zeros((1, 20, 1))
    rows[0, [2, 4], 0] = 0.9, 0.8
    scores = Scores(("clip",), rows, np.arange(21) * FRAME_S, Vocabulary(["Dog"]))
    (one,) = found_of_classes(scores, Detections(*_event(0.6, 0.9)))
    points = points_of(collar_changes(one, Collars(0.5, 0.5, 0.0)))
    assert points.true.tolist() == [1, 1, 0] and points.false.tolist() == [0, 1, 1]
    (two,) = found_of_classes(scores, Detections(*_event([0.4, 0.65], [0.6, 1.0])))
    points = points_of(collar_changes(two, Collars(0.5, 0.5, 0.0)))
    assert points.true.tolist() == [1, 2, 0] and points.false.tolist() == [0, 0, 1]


def _event(onset_s, offset_s):
    onset_s, offset_s = np.atleast_1d(onset_s), np.atleast_1d(offset_s)
    nothing = np.zeros(len(onset_s), dtype=np.int64)
    return nothing, nothing, onset_s, offset_s


# ---- areas of segments


def test_areas_are_those_of_scikit_learn():
    """Trapezoids, with McClish's correction in part; ties and all."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for case in range(N_CASES):
        n = int(rng.integers(3, 60))
        active = rng.random(n) < 0.4
        active[:2] = True, False
        values = rng.random(n) + 0.3 * active
        if case % 2:
            values = values.round(1)
        points = points_of_values(values, active)
        rates = points.false / (~active).sum(), points.true / active.sum()
        assert trapezoid_area(*rates) == pytest.approx(metrics.roc_auc_score(active, values))
        for limit in (0.1, 0.35, 1.0):
            share = trapezoid_area(*rates, limit)
            scaled = metrics.roc_auc_score(active, values, max_fpr=limit)
            assert mcclish(share, limit) == pytest.approx(scaled)
        precision = average_precision(points, active.sum())
        assert precision == pytest.approx(metrics.average_precision_score(active, values))


def test_areas_in_numbers():
    # Lines from (0, 0) over (0, .5) and (.5, .5) to (1, 1).
    rates = np.array([0.0, 0.5, 1.0]), np.array([0.5, 0.5, 1.0])
    assert trapezoid_area(*rates) == pytest.approx(0.625)
    assert trapezoid_area(*rates, 0.75) == pytest.approx((0.25 + 0.625 * 0.25) / 0.75)
    assert staircase_area(*rates) == pytest.approx(0.5)
    assert staircase_area(*rates, 0.75) == pytest.approx(0.5)
    chance, perfect = (np.array([1.0]), np.array([1.0])), (np.zeros(1), np.ones(1))
    for limit in (0.1, 1.0):
        assert trapezoid_area(*chance, limit) == pytest.approx(limit / 2)
        assert mcclish(trapezoid_area(*chance, limit), limit) == pytest.approx(0.5)
        for area in (staircase_area, trapezoid_area):
            assert mcclish(area(*perfect, limit), limit) == pytest.approx(1.0)
    assert mcclish(0.37, 1.0) == pytest.approx(0.37)
