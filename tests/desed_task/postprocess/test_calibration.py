"""Calibrated confidence: the fit against scikit-learn, its storage, and what it gains."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import yaml
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression

from desed_task.errors import InputError
from desed_task.evaluation.boxes import Boxes
from desed_task.evaluation.scores import Detections, FrameScores, Scores, detect
from desed_task.labels import Vocabulary
from desed_task.postprocess.calibration import Calibration, logits
from desed_task.postprocess.calibration_fit import (
    ScoredEvents,
    confidences,
    fit_calibration,
    right_events,
    scored_events,
)
from desed_task.postprocess.calibration_quality import (
    calibration_error,
    cross_fitted,
    fit_and_measure,
    folds_of,
    log_loss,
    measure_calibration,
)

LABELS = ("bark", "Türglocke", "beep")
KINDS = ("isotonic", "temperature")


def synthetic(n_events=3000, seed=0, n_clips=200, kind="isotonic"):
    """Events of three uneven classes whose scores say too much: a probability is the score squared,
    or as if logits were three times too large.
    """
    random = np.random.default_rng(seed)
    # Some scores are equal, and 0 and 1 occur.
    confidence = random.random(n_events).round(2)
    label_index = random.choice(3, n_events, p=[0.6, 0.39, 0.01])
    too_large = 1 / (1 + np.exp(-logits(confidence) / 3))
    probability = confidence**2 if kind == "isotonic" else too_large
    return ScoredEvents(
        random.integers(0, n_clips, n_events),
        label_index,
        confidence,
        random.random(n_events) < probability,
        confidence > 0.3,
    )


def clips(n_clips=200):
    return [f"clip{number:03d}" for number in range(n_clips)]


def test_the_isotonic_curve_is_that_of_scikit_learn():
    events = synthetic()
    fitted = fit_calibration(events, LABELS)
    own = events.rows(events.label_index == 0)
    confidence = np.concatenate([[0], own.confidence, [1]])
    right = np.concatenate([[1], own.right, [0]])
    oracle = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(confidence, right)
    scores = np.linspace(0, 1, 1001)
    np.testing.assert_allclose(fitted.apply("bark", scores), oracle.predict(scores), atol=1e-9)


def test_the_temperature_has_the_least_log_loss():
    events = synthetic()
    fitted = fit_calibration(events, LABELS, kind="temperature")
    own = events.rows((events.label_index == 1) & events.in_force)

    def loss(inverse):
        return log_loss(1 / (1 + np.exp(-logits(own.confidence) * inverse)), own.right)

    best = minimize_scalar(loss, bounds=(0.01, 20), method="bounded", options={"xatol": 1e-9})
    found = 1 / fitted.curves["Türglocke"].temperature
    assert found == pytest.approx(best.x, abs=1e-4)
    assert loss(found) <= best.fun + 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_rise_with_the_score_and_stay_in_range(kind):
    fitted = fit_calibration(synthetic(), LABELS, kind=kind)
    scores = np.concatenate([[0.0, 1e-300, 1e-9], np.linspace(0, 1, 997), [1.0]])
    for label in LABELS:
        values = fitted.apply(label, scores)
        assert values.shape == scores.shape and values[0] >= 0 and values[-1] <= 1
        assert (np.diff(values) >= 0).all() and values[0] < values[-1]
    one = fitted.apply("bark", 0.5)
    assert one.shape == () and float(one) == fitted.apply("bark", [0.5])[0]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_better_on_clips_that_it_was_not_fitted_on(kind):
    events, unseen = synthetic(kind=kind), synthetic(seed=1, kind=kind)
    rows = measure_calibration(events, LABELS, clips(), kind=kind)
    assert [row.label for row in rows] == ["", *LABELS]
    assert rows[0].n_events == events.in_force.sum() == sum(row.n_events for row in rows[1:])
    for row in rows[:3]:
        assert row.calibrated_error < 0.7 * row.error
        assert row.calibrated_log_loss < row.log_loss
    fitted = fit_calibration(events, LABELS, kind=kind)
    own = unseen.rows((unseen.label_index == 0) & unseen.in_force)
    after = calibration_error(fitted.apply("bark", own.confidence), own.right)
    # The cross-fitted figure is what another sample shows, not the fit's own.
    assert after == pytest.approx(rows[1].calibrated_error, abs=0.04)


def test_a_class_with_few_events_has_the_curve_of_all():
    events = synthetic()
    n_few = int((events.in_force & (events.label_index == 2)).sum())
    assert 0 < n_few < 50
    fitted = fit_calibration(events, LABELS)
    assert fitted.pooled_labels == ("beep",) and fitted.n_events["beep"] == n_few
    assert f"fewer than 50 events (beep {n_few})" in str(fitted)
    scores = np.linspace(0, 1, 11)
    np.testing.assert_array_equal(fitted.apply("beep", scores), fitted.pooled(scores))
    assert not np.array_equal(fitted.apply("bark", scores), fitted.pooled(scores))
    with_own = fit_calibration(events, LABELS, min_events=n_few)
    assert with_own.pooled_labels == () and "curve of all" not in str(with_own)
    # A class without any event, too.
    none = fit_calibration(events, (*LABELS, "meow"))
    assert none.n_events["meow"] == 0 and none.apply("meow", 0.5) == none.pooled(0.5)
    with pytest.raises(InputError, match="'meow' is not calibrated; calibrated are bark, Tür"):
        fitted.apply("meow", 0.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("score", [0.0, 0.5, 1.0, None])
def test_one_sided_labels_and_extreme_scores_give_finite_values(kind, right, score):
    n_events = 60
    confidence = np.linspace(0, 1, n_events) if score is None else np.full(n_events, score)
    index = np.zeros(n_events, dtype=np.int64)
    events = ScoredEvents(
        index, index, confidence, np.full(n_events, right), np.ones(n_events, dtype=bool)
    )
    values = fit_calibration(events, LABELS, kind=kind).apply("bark", np.linspace(0, 1, 101))
    assert np.isfinite(values).all() and (np.diff(values) >= 0).all()
    assert values.min() >= 0 and values.max() <= 1
    if kind == "isotonic" and score is None:
        assert abs(values[50] - right) == pytest.approx(1 / (n_events + 1), rel=0.1)


def test_the_fit_does_not_depend_on_the_order_of_events():
    events = synthetic()
    mixed = np.random.default_rng(5).permutation(len(events.right))
    for kind in KINDS:
        plain = fit_calibration(events, LABELS, kind=kind)
        other = fit_calibration(events.rows(mixed), LABELS, kind=kind)
        scores = np.linspace(0, 1, 101)
        for label in LABELS:
            np.testing.assert_allclose(plain.apply(label, scores), other.apply(label, scores))
        assert fit_calibration(events, LABELS, kind=kind) == plain


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("write", "read"),
    [(json.dumps, json.loads), (lambda v: yaml.safe_dump(v, sort_keys=False), yaml.safe_load)],
    ids=["json", "yaml"],
)
def test_it_comes_back_from_a_file_exactly(kind, write, read):
    thresholds = {"bark": 0.1 + 0.2, "Türglocke": 1e-7, "beep": 0.0}
    fitted = fit_calibration(
        synthetic(), LABELS, kind=kind, thresholds=thresholds, decoder="threshold_boxes"
    )
    again = Calibration.from_plain(read(write(fitted.to_plain())))
    assert again == fitted
    assert (again.thresholds, again.decoder) == (thresholds, "threshold_boxes")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "platt"}, "kind: 'platt'; known: isotonic, temperature"),
        ({"curves": None}, "curves: None is not a section of classes"),
        ({"curves": {3: {}}}, "is not a section of classes"),
        ({"pooled": {"temperature": 1.0}}, "pooled: {'temperature': 1.0} is not a curve"),
        ({"pooled": {"confidence": [0, 1], "probability": [0.5]}}, "lists of different lengths"),
        ({"pooled": {"confidence": [0, 0], "probability": [0, 1]}}, "confidence: does not rise"),
        ({"pooled": {"confidence": [0, 1], "probability": [1, 0]}}, "probability: does not rise"),
        ({"pooled": {"confidence": [0, 2], "probability": [0, 1]}}, "else than numbers from 0"),
        ({"pooled": {"confidence": [0, "1"], "probability": [0, 1]}}, "else than numbers from"),
        ({"pooled": {"confidence": [], "probability": []}}, "[] is not a list of numbers"),
        ({"pooled": {"confidence": "01", "probability": [0]}}, "'01' is not a list of numbers"),
        ({"pooled": {"confidence": [0, float("nan")], "probability": [0, 1]}}, "else than num"),
        ({"n_events": {"bark": -1}}, "n_events.bark: -1 is not a number of events"),
        ({"n_events": {"bark": 1.5}}, "n_events.bark: 1.5 is not a number of events"),
        ({"n_events": {}}, "curves.bark: not in n_events"),
        ({"thresholds": {"bark": 1}}, "thresholds.bark: 1 is not from 0 to below 1"),
        ({"min_events": True}, "min_events: True is not a number"),
        ({"decoder": 1}, "decoder: 1 is not a name"),
        ({"colour": 1}, "colour: unknown key"),
    ],
)
def test_stored_values_that_cannot_be_used_are_named(changes, message):
    plain = fit_calibration(synthetic(), LABELS).to_plain()
    with pytest.raises(InputError) as caught:
        Calibration.from_plain({**plain, **changes}, "best.yaml")
    assert message in str(caught.value) and str(caught.value).startswith("best.yaml: cannot")


def test_missing_keys_and_other_values_are_named():
    with pytest.raises(InputError, match="kind: missing"):
        Calibration.from_plain({}, "x")
    with pytest.raises(InputError, match="is not a section of keys"):
        Calibration.from_plain([1], "x")
    plain = fit_calibration(synthetic(), LABELS, kind="temperature").to_plain()
    for wrong in (0, -1, "1", None, float("inf")):
        plain["pooled"]["temperature"] = wrong
        with pytest.raises(InputError, match="is not above 0"):
            Calibration.from_plain(plain, "x")


def test_what_cannot_be_fitted_is_refused():
    events = synthetic(100)
    with pytest.raises(InputError, match="calibration 'platt': give one of isotonic, temp"):
        fit_calibration(events, LABELS, kind="platt")
    with pytest.raises(InputError, match="no event is detected at the thresholds"):
        fit_calibration(events._replace(in_force=np.zeros(100, dtype=bool)), LABELS)
    with pytest.raises(InputError, match="no event is detected"):
        fit_calibration(events.rows(np.zeros(100, dtype=bool)), LABELS)
    for wrong in (np.nan, 1.01, -0.01):
        confidence = events.confidence.copy()
        confidence[7] = wrong
        with pytest.raises(InputError, match="scores must lie in"):
            fit_calibration(events._replace(confidence=confidence), LABELS)
    with pytest.raises(InputError, match="class number 2, counted from 0, for 2 labels"):
        fit_calibration(synthetic(), LABELS[:2])
    with pytest.raises(InputError, match=r"1 clip or recording in .* cannot be split"):
        measure_calibration(events, LABELS, ["only"] * 200)


def test_units_are_never_split_and_their_order_does_not_matter():
    units = [f"recording{number % 7}" for number in range(40)]
    folds = folds_of(units, 3)
    by_unit = {unit: set() for unit in units}
    for unit, fold in zip(units, folds, strict=True):
        by_unit[unit].add(int(fold))
    assert all(len(found) == 1 for found in by_unit.values())
    sizes = np.bincount([found.pop() for found in by_unit.values()])
    assert sorted(sizes) == [2, 2, 3]
    np.testing.assert_array_equal(folds_of(units[::-1], 3), folds[::-1])
    assert len(set(folds_of(units, 100).tolist())) == 7


def test_cross_fitted_values_do_not_see_the_labels_of_their_own_clips():
    events, units = synthetic(), clips()
    plain = cross_fitted(events, LABELS, units)
    in_fold = folds_of(units, 5)[events.clip_index] == 2
    right = events.right.copy()
    right[in_fold] = ~right[in_fold]
    other = cross_fitted(events._replace(right=right), LABELS, units)
    np.testing.assert_array_equal(other[in_fold], plain[in_fold])
    assert not np.array_equal(other[~in_fold], plain[~in_fold])


def test_errors_have_closed_forms():
    right = np.array([True, False, True, True])
    confidence = np.array([0.95, 0.95, 0.25, 1.0])
    # Bins of 0.9 to 1 (three events, two of them right) and 0.2 to 0.3.
    assert calibration_error(confidence, right) == pytest.approx((0.9 + 0.75) / 4)
    assert log_loss(np.array([0.25, 1.0, 0.0]), np.array([True, True, False])) == pytest.approx(
        np.log(4) / 3, abs=1e-5
    )
    none = np.zeros(0), np.zeros(0, dtype=bool)
    assert np.isnan(calibration_error(*none)) and np.isnan(log_loss(*none))


# ---- from scores to the events that are fitted on


def events_of(*rows):
    columns = np.array(rows, dtype=float).reshape(-1, 4).T
    return Detections(columns[0].astype(int), columns[1].astype(int), *columns[2:])


def test_right_events_meet_both_criteria():
    truth = events_of((0, 0, 0, 10), (0, 1, 4, 6), (1, 0, 0, 1))
    found = events_of(
        (0, 0, 0, 5),  # covers half
        (0, 0, 5.5, 5.6),  # tiny, but the event is covered by it and the first one
        (0, 1, 5.1, 5.9),  # covers less than half
        (1, 0, 0, 2),  # half of it inside
        (1, 0, 3, 3.5),  # beside
        (0, 1, 20, 21),
    )
    assert right_events(found, truth, 2).tolist() == [True, True, False, True, False, False]
    assert right_events(found.rows(np.zeros(6, dtype=bool)), truth, 2).tolist() == []
    none = truth.rows(np.zeros(3, dtype=bool))
    assert not right_events(found, none, 2).any()


def scores_of(seed=0, n_clips=6, n_frames=50):
    random = np.random.default_rng(seed)
    values = random.random((n_clips, n_frames, 3)).round(1).astype(np.float32)
    longer = FrameScores(random.random((80, 3)), np.arange(81) * 0.1)
    names = (*(f"clip{number}" for number in range(n_clips)), "long")
    return Scores(names, values, np.arange(n_frames + 1) * 0.1, Vocabulary(LABELS), (longer,))


def boxes_of(scores):
    """The runs of scores above 0.3 as boxes."""
    found = detect(scores, 0.3)
    ends_s = np.array([float(scores.of(clip).boundaries_s[-1]) for clip in scores.clip_ids])
    columns = found.clip_index, found.label_index, found.onset_s, found.offset_s
    return Boxes(scores.clip_ids, scores.vocabulary, ends_s, *columns, confidences(scores, found))


@pytest.mark.parametrize("as_boxes", [False, True])
def test_mean_scores_of_detections(as_boxes):
    scores = scores_of()
    decoded = boxes_of(scores) if as_boxes else scores
    found = detect(decoded, np.array([0.5, 0.35, 0.6]))
    values = confidences(decoded, found)
    assert len(found) > 100 and len(set(found.label_index)) == 3
    for event, value in enumerate(values):
        frames = scores.of(scores.clip_ids[found.clip_index[event]])
        times_s = np.round([found.onset_s[event], found.offset_s[event]], 9)
        inside = (np.round(frames.boundaries_s[:-1], 9) >= times_s[0]) & (
            np.round(frames.boundaries_s[1:], 9) <= times_s[1]
        )
        expected = frames.values[inside, found.label_index[event]].mean(dtype=np.float64)
        assert value == pytest.approx(expected, abs=1e-12)
    assert confidences(decoded, found.rows(np.zeros(len(found), dtype=bool))).tolist() == []


@pytest.mark.parametrize("as_boxes", [False, True])
def test_each_part_of_the_range_is_seen_once(as_boxes):
    scores = scores_of()
    decoded = boxes_of(scores) if as_boxes else scores
    thresholds = np.array([0.5, 0.7, 0.0])
    truth = detect(scores_of(seed=1), 0.6)
    events = scored_events(decoded, truth, thresholds)
    in_force = detect(decoded, thresholds)
    own = events.rows(events.in_force)
    np.testing.assert_array_equal(own.clip_index, in_force.clip_index)
    np.testing.assert_array_equal(own.confidence, confidences(decoded, in_force))
    np.testing.assert_array_equal(own.right, right_events(in_force, truth, 3))
    below = events.rows(~events.in_force)
    limits = thresholds[below.label_index]
    assert (below.confidence <= limits).all() and len(below.confidence)
    if as_boxes:  # whose borders do not change: each one once
        assert len(events.right) == len(decoded)
    for label, share in itertools.product((0, 1), range(1, 9)):
        span = np.array([share / 10, (share + 1) / 10]) * thresholds[label]
        inside = (events.confidence > span[0]) & (events.confidence <= span[1])
        n_found = int((inside & (events.label_index == label)).sum())
        found = detect(decoded, np.full(3, span[0]))
        values = confidences(decoded, found)
        expected = (found.label_index == label) & (values > span[0]) & (values <= span[1])
        assert n_found == pytest.approx(expected.sum(), abs=as_boxes)


@pytest.mark.parametrize("as_boxes", [False, True])
def test_from_scores_to_a_measured_calibration(as_boxes):
    scores = scores_of(n_clips=30)
    decoded = boxes_of(scores) if as_boxes else scores
    truth, thresholds = detect(scores_of(n_clips=30), 0.6), np.array([0.5, 0.6, 0.4])
    fitted, rows = fit_and_measure(
        decoded, truth, thresholds, scores.clip_ids, kind="temperature", decoder="median"
    )
    assert fitted.thresholds == dict(zip(LABELS, thresholds.tolist(), strict=True))
    assert (fitted.decoder, fitted.pooled_labels) == ("median", ())
    assert rows == measure_calibration(
        scored_events(decoded, truth, thresholds), LABELS, scores.clip_ids, kind="temperature"
    )
    assert [row.n_events for row in rows[1:]] == list(fitted.n_events.values())
