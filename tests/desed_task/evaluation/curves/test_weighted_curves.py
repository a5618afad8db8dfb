"""Weights of clips against corpora in which the clips are really repeated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from desed_task.evaluation.clip_counts import exact_psds_by_clip, segments_by_unit
from desed_task.evaluation.curves import by_clip, timing
from desed_task.evaluation.curves.collars import Collars, collar_changes
from desed_task.evaluation.curves.independent_psds import (
    non_oracle_psds,
    post_processing_independent_psds,
)
from desed_task.evaluation.curves.precision_recall import (
    average_precision,
    best_f1,
    intersection_criteria,
    points_of,
    points_of_values,
)
from desed_task.evaluation.curves.weighted import (
    OfUnits,
    WeightedAreas,
    WeightedRate,
    WeightedTimeErrors,
    WithNonOracle,
    further_areas,
)
from desed_task.evaluation.exact_psds import changes_of, found_of_classes, several_exact_psds
from desed_task.evaluation.scores import Detections, detect
from desed_task.evaluation.segments import Segments
from tests.desed_task.evaluation.curves.random_cases import COLLARS, SPECS, Case, random_case

CRITERIA = {"dtc": 0.5, "gtc": 0.5}
HALF = 0.5


def weighted(case: Case):
    """Every weighted metric of the events of a corpus."""
    duration_s, n_units = case.duration_s, len(case.duration_s)
    exact = exact_psds_by_clip(case.decoded, case.truth, duration_s=duration_s, specs=SPECS)
    # Those that follow must not depend on the clips that are counted alone.
    members = [lambda one=one: one for one in case.members()]
    half = detect(case.decoded, HALF)
    counts = timing.false_events(half, case.truth, (n_units, len(case.labels)), HALF)
    return [
        *(WithNonOracle(psds) for psds in exact),
        *by_clip.unions_by_clip(members, case.truth, duration_s=duration_s, specs=SPECS),
        *by_clip.precision_by_clip(
            case.decoded, case.truth, duration_s=duration_s, collars=Collars(**COLLARS), **CRITERIA
        ),
        WeightedTimeErrors(timing.time_errors(half, case.truth)),
        WeightedRate(counts.sum(axis=1), duration_s),
    ]


def plain(case: Case) -> list[float]:
    """The same of a corpus as it is, over the classes that occur in it."""
    present = np.unique(case.truth.label_index)
    labels = [case.labels[index] for index in present]
    all_false = case.decoded
    truth = Detections(
        case.truth.clip_index,
        np.searchsorted(present, case.truth.label_index),
        case.truth.onset_s,
        case.truth.offset_s,
    )
    everything, case = (
        case,
        case._replace(
            raw=case.raw.select(labels=labels),
            decoded=case.decoded.select(labels=labels),
            truth=truth,
        ),
    )
    by_member = [
        several_exact_psds(one, case.truth, dataset_s=case.dataset_s, specs=SPECS)
        for one in case.members()
    ]
    found = []
    for psds, spec in zip(by_member[0], SPECS, strict=True):
        found += [psds.value, non_oracle_psds(psds, spec).value]
    for of_spec, spec in zip(zip(*by_member, strict=True), SPECS, strict=True):
        found.append(post_processing_independent_psds(of_spec, spec).value)
    criteria, collars = intersection_criteria(**CRITERIA), Collars(**COLLARS)
    classes = list(found_of_classes(case.decoded, case.truth))
    for kind in (
        [changes_of(one, criteria) for one in classes],
        [collar_changes(one, collars) for one in classes],
    ):
        each = [(points_of(one), n) for one, n in zip(kind, case.n_true(), strict=True)]
        found.append(np.mean([average_precision(*one) for one in each]))
        found.append(np.mean([best_f1(*one).value for one in each]))
    errors = timing.time_errors(detect(case.decoded, HALF), case.truth)
    found += [float(np.median(x)) if len(x) else np.nan for x in errors[2:]]
    counts = timing.false_events(
        detect(all_false, HALF),
        everything.truth,
        (len(case.duration_s), len(everything.labels)),
        HALF,
    )
    return [*found, float(timing.per_hour(counts.sum(), case.dataset_s))]


def values_of(metrics, weights):
    return [value for metric in metrics for value in metric.values(np.asarray(weights, float))]


@pytest.mark.parametrize("seed", range(36))
def test_weights_are_repetitions(seed):
    """Weights of 1 first; then some clips twice or not at all."""
    case, rng = random_case(seed, n_clips=5), np.random.default_rng(seed)
    metrics = weighted(case)
    for weights in (np.ones(5, dtype=int), *rng.multinomial(5, np.full(5, 0.2), size=2)):
        repeated = case.repeated(weights)
        if not len(repeated.truth):
            continue
        assert values_of(metrics, weights) == pytest.approx(plain(repeated), abs=1e-9, nan_ok=True)


def test_nothing_drawn_has_no_value():
    found = values_of(weighted(random_case(2, n_clips=3)), np.zeros(3))
    assert np.isnan(found).all()


@pytest.mark.parametrize("boxes", [False, True])
def test_thresholds_are_left_out_of_a_union_only_where_they_are_beyond(boxes):
    """A large corpus of short curves: most resamples need few thresholds, odd weights need all."""
    for seed in range(1 if boxes else 2, 100, 3):
        case = random_case(seed, n_clips=60)
        case = case._replace(truth=case.truth.rows(case.truth.clip_index < 6))
        if len(np.unique(case.truth.label_index)) == len(case.labels) > 1:
            break
    specs = [replace(spec, max_efpr=40.0) for spec in SPECS]
    members = case.members()
    unions = by_clip.unions_by_clip(
        [lambda one=one: one for one in members],
        case.truth,
        duration_s=case.duration_s,
        specs=specs,
    )
    assert not any(member.complete.all() for member in unions[0].members[1:])
    odd = np.zeros(60)
    odd[:6] = 1
    odd[6] = 400  # hours with a single clip's detections
    for weights, allowed in ((np.ones(60), True), (odd, False)):
        assert all(m.allows(weights) for m in unions[0].members[1:]) is allowed
        whole = [
            exact_psds_by_clip(one, case.truth, duration_s=case.duration_s, specs=specs)
            for one in members
        ]
        for number, union in enumerate(unions):
            curves = [one[number].points(weights) for one in whole]
            expected = whole[0][number].area_of(
                [by_clip_union(of_class) for of_class in zip(*curves, strict=True)]
            )
            assert union.values(weights)[0] == pytest.approx(expected, abs=1e-12)


def by_clip_union(rocs):
    from desed_task.evaluation.psds import staircase

    return staircase(*(np.concatenate(column) for column in zip(*rocs, strict=True)))


def test_a_group_is_the_corpus_of_its_clips():
    case = random_case(8, n_clips=5)
    (metric, _) = exact_psds_by_clip(
        case.decoded, case.truth, duration_s=case.duration_s, specs=SPECS
    )
    chosen = np.array([True, False, True, True, False])
    weights = np.array([2.0, 5.0, 0.0, 1.0, 3.0])
    assert OfUnits(metric, chosen).values(weights) == metric.values(weights * chosen)


def test_segments_are_weighted_by_recording():
    rng = np.random.default_rng(4)
    unit = np.repeat(np.arange(6), 12)
    active = rng.random((72, 3)) < 0.4
    active[:, 2] = unit == 5  # in one recording only
    values = (rng.random((72, 3)) + 0.4 * active).round(1)
    metric = WeightedAreas(segments_by_unit(Segments(values, active, unit), 6, max_fpr=0.1))
    for weights in ([1] * 6, [3, 0, 1, 0, 1, 1], [1, 1, 0, 2, 2, 0]):
        rows = np.concatenate([np.flatnonzero(unit == u) for u in np.repeat(range(6), weights)])
        expected = []
        for label in np.flatnonzero(active[rows].any(axis=0)):
            there = active[rows, label]
            points = points_of_values(values[rows, label], there)
            rates = points.false / (~there).sum(), points.true / there.sum()
            areas = further_areas(*rates, 0.1)
            expected.append((average_precision(points, there.sum()), *areas))
        found = metric.values(np.array(weights, dtype=float))
        assert found == pytest.approx(np.mean(expected, axis=0), abs=1e-12)
    always = Segments(np.array([[0.9], [0.1]]), np.ones((2, 1), dtype=bool), np.zeros(2, dtype=int))
    precision, *areas = WeightedAreas(segments_by_unit(always, 1, max_fpr=0.1)).values(np.ones(1))
    assert precision == 1.0 and np.isnan(areas).all()
