"""Verdicts on events against a plain computation, and cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from desed_task.evaluation.error_analysis import (
    NOTHING,
    boundary_errors,
    count_errors,
    judge_events,
    wrong_seconds,
)
from desed_task.evaluation.fscores import intersection_fscore
from desed_task.evaluation.scores import Detections

N_CLASSES = 4


def events(*rows: tuple[int, int, float, float]) -> Detections:
    """Events (clip, class, onset, offset)."""
    columns = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return Detections(columns[0].astype(int), columns[1].astype(int), columns[2], columns[3])


def random_events(rng: np.random.Generator, n_clips: int, grid_s: float) -> Detections:
    """Events on a coarse grid, so that equal times and shares of exactly half occur."""
    rows = []
    for clip in range(n_clips):
        for label in range(N_CLASSES - 1):  # the last class never occurs
            edges = np.unique(rng.integers(0, 40, 2 * rng.integers(0, 5)))
            edges = edges[: len(edges) // 2 * 2].reshape(-1, 2)
            rows += [(clip, label, grid_s * on, grid_s * off) for on, off in edges]
    return events(*rows)


def as_rows(of: Detections) -> list[tuple[int, int, float, float]]:
    columns = (of.clip_index, of.label_index, of.onset_s, of.offset_s)
    return [tuple(row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def common_s(one, other) -> float:
    return 0.0 if one[0] != other[0] else max(min(one[3], other[3]) - max(one[2], other[2]), 0.0)


def covered_s(one, others, label) -> float:
    return round(sum(common_s(one, other) for other in others if other[1] == label), 6)


def class_there(one, others) -> int:
    """The definition, read aloud."""
    half_s = round((one[3] - one[2]) / 2, 6)
    of_class = [covered_s(one, others, label) for label in range(N_CLASSES)]
    own_s = of_class[one[1]]
    if own_s > 0 and own_s >= half_s:
        return one[1]
    of_class[one[1]] = 0.0
    if max(of_class) > 0 and max(of_class) >= half_s:
        return of_class.index(max(of_class))
    return one[1] if own_s > 0 else NOTHING


@pytest.mark.parametrize("seed", range(60))
def test_verdicts_are_those_of_a_plain_computation(seed):
    rng = np.random.default_rng(seed)
    n_clips = int(rng.integers(1, 5))
    grid_s = float(rng.choice([0.25, 0.1, 0.064]))
    found, truth = random_events(rng, n_clips, grid_s), random_events(rng, n_clips, grid_s)
    if seed % 10 == 0:
        found = found.rows(np.zeros(len(found), dtype=bool))  # nothing is detected
    if seed % 10 == 1:
        truth = truth.rows(np.zeros(len(truth), dtype=bool))
    if seed % 10 == 2:
        order = rng.permutation(len(truth))
        truth = events(*(as_rows(truth)[row] for row in order))
    verdicts = judge_events(found, truth, N_CLASSES)
    detected, annotated = as_rows(found), as_rows(truth)
    right = [
        covered_s(one, annotated, one[1]) >= round((one[3] - one[2]) / 2, 6) for one in detected
    ]
    useful = [one for one, is_right in zip(detected, right, strict=True) if is_right]
    false = [one for one, is_right in zip(detected, right, strict=True) if not is_right]
    hit = [covered_s(one, useful, one[1]) >= round((one[3] - one[2]) / 2, 6) for one in annotated]
    assert verdicts.right.tolist() == right and verdicts.hit.tolist() == hit
    for one, is_hit, label in zip(annotated, hit, verdicts.detected_as, strict=True):
        own = [other for other in useful if other[1] == one[1]]
        assert label == (one[1] if is_hit else class_there(one, false + own))
    for one, is_right, label in zip(detected, right, verdicts.lies_in, strict=True):
        assert label == (one[1] if is_right else class_there(one, annotated))
    for one, n_right in zip(annotated, verdicts.n_right, strict=True):
        assert n_right == sum(
            other[1] == one[1] and common_s(one, other) > 1e-9 for other in useful
        )
    check_partners(verdicts, detected, annotated)
    check_sums(verdicts, found, truth)


def check_partners(verdicts, detected, annotated):
    """Pairs are of one class, overlap, and no event left over fits a detection left over."""
    partner, hit, right = verdicts.partner, verdicts.hit, verdicts.right
    used = partner[partner >= 0].tolist()
    assert len(set(used)) == len(used)
    for event, detection in enumerate(partner):
        if detection >= 0:
            assert hit[event] and right[detection]
            assert detected[detection][1] == annotated[event][1]
            assert common_s(detected[detection], annotated[event]) > 0
        elif hit[event]:
            free = [one for n, one in enumerate(detected) if right[n] and n not in used]
            assert covered_s(annotated[event], free, annotated[event][1]) == 0


def check_sums(verdicts, found, truth):
    """Nothing is counted twice or not at all, and the F-score of these counts is the metric's."""
    counts = count_errors(verdicts, found, truth, N_CLASSES)
    for total, of in ((counts.events, truth), (counts.detections, found)):
        assert total.tolist() == np.bincount(of.label_index, minlength=N_CLASSES).tolist()
    assert counts.hits.sum() + counts.misses.sum() == len(truth)
    assert counts.right.sum() + counts.false_alarms.sum() == len(found)
    labels = [f"class {number}" for number in range(N_CLASSES)]
    metric = intersection_fscore(found, truth, labels, dtc=0.5, gtc=0.5, decimals=6)
    assert list(metric.true_positives.values()) == counts.hits.tolist()
    assert list(metric.false_positives.values()) == counts.false_alarms.sum(axis=1).tolist()
    onset_s, offset_s = boundary_errors(verdicts, found, truth)
    assert np.isfinite(onset_s).tolist() == (verdicts.partner >= 0).tolist()
    assert np.isnan(onset_s).tolist() == np.isnan(offset_s).tolist()


@pytest.mark.parametrize(
    ("found", "truth", "detected_as", "lies_in"),
    [
        # A dog that was taken for a cat.
        ([(0, 1, 2, 4)], [(0, 0, 2, 4)], [1], [0]),
        # Another clip is another place.
        ([(1, 1, 2, 4)], [(0, 0, 2, 4)], [NOTHING], [NOTHING]),
        # Half of each is enough, less is not.
        ([(0, 1, 3, 5)], [(0, 0, 2, 4)], [1], [0]),
        ([(0, 1, 3.01, 5.01)], [(0, 0, 2, 4)], [NOTHING], [NOTHING]),
        # The long detection lies in nothing, but the short event was taken for it.
        ([(0, 1, 0, 9)], [(0, 0, 2, 4)], [1], [NOTHING]),
        # Too long and too short detections of its own class.
        ([(0, 0, 0, 9)], [(0, 0, 2, 4)], [0], [0]),
        ([(0, 0, 2, 2.5)], [(0, 0, 2, 4)], [0], [0]),
        # A right detection of another class is a second sound.
        ([(0, 1, 2, 4)], [(0, 0, 2, 4), (0, 1, 2, 4)], [NOTHING, 1], [1]),
        # Of two classes, the one that covers more; then the first.
        ([(0, 2, 2, 4), (0, 1, 2, 3.5)], [(0, 0, 2, 4)], [2], [0, 0]),
        ([(0, 2, 2, 4), (0, 1, 2, 4)], [(0, 0, 2, 4)], [1], [0, 0]),
        # Two parts of one class together.
        ([(0, 1, 2, 2.5), (0, 1, 3, 3.5)], [(0, 0, 2, 4)], [1], [0, 0]),
        # Events that touch have nothing in common, whatever rounding makes of 0.1 + 0.2.
        ([(0, 0, 0.1 + 0.2, 1)], [(0, 0, 0, 0.3 + 1e-9)], [NOTHING], [NOTHING]),
    ],
)
def test_what_it_was_instead(found, truth, detected_as, lies_in):
    for order in (1, -1):  # the order of the events is none of the times
        verdicts = judge_events(events(*found[::order]), events(*truth[::order]), N_CLASSES)
        assert verdicts.detected_as.tolist() == detected_as[::order]
        assert verdicts.lies_in.tolist() == lies_in[::order]


def test_errors_of_onsets_and_offsets_are_signed():
    found = events((0, 0, 2.1, 3.5), (1, 0, 1.7, 4.5), (2, 0, 2, 4))
    truth = events((0, 0, 2, 4), (1, 0, 2, 4), (2, 0, 2, 4), (3, 0, 2, 4))
    onset_s, offset_s = boundary_errors(judge_events(found, truth, 1), found, truth)
    np.testing.assert_array_equal(onset_s, [0.1, -0.3, 0.0, np.nan])
    np.testing.assert_array_equal(offset_s, [-0.5, 0.5, 0.0, np.nan])


def test_several_detections_of_one_event_and_one_of_several_events():
    # An event in pieces, of which the longest is compared with it.
    pieces, whole = events((0, 0, 0, 2), (0, 0, 3, 6), (0, 0, 7, 8)), events((0, 0, 0, 8))
    verdicts = judge_events(pieces, whole, 1)
    assert verdicts.hit.all() and verdicts.right.all()
    assert verdicts.n_right.tolist() == [3] and verdicts.partner.tolist() == [1]
    # Events that were detected as one; of equal ones the first is compared with it.
    verdicts = judge_events(whole, events((0, 0, 0, 3), (0, 0, 5, 8)), 1)
    assert verdicts.hit.all() and verdicts.right.all()
    assert verdicts.n_right.tolist() == [1, 1] and verdicts.partner.tolist() == [0, -1]
    verdicts = judge_events(whole, events((0, 0, 5, 8), (0, 0, 0, 3)), 1)
    assert verdicts.partner.tolist() == [-1, 0]
    for pieces, first in ((((0, 0, 0, 3), (0, 0, 5, 8)), 0), (((0, 0, 5, 8), (0, 0, 0, 3)), 1)):
        assert judge_events(events(*pieces), whole, 1).partner.tolist() == [first]


def test_a_detection_up_to_the_next_event_is_not_one_of_it():
    truth = events((0, 0, 0, 1), (0, 0, 1 - 1e-9, 2))
    verdicts = judge_events(events((0, 0, 0, 1)), truth, 1)
    assert verdicts.n_right.tolist() == [1, 0] and verdicts.detected_as.tolist() == [0, NOTHING]


def test_seconds_that_are_labelled_wrongly():
    found = events((0, 0, 1, 4), (0, 1, 0, 1), (2, 0, 0, 10))
    truth = events((0, 0, 2, 6), (1, 1, 0.1, 0.3), (2, 0, 0, 4), (2, 0, 6, 10))
    missed_s, false_s = wrong_seconds(found, truth, 4)
    assert missed_s.tolist() == [2.0, 0.2, 0.0, 0.0]
    assert false_s.tolist() == [2.0, 0.0, 2.0, 0.0]


def test_seconds_are_frames_that_differ():
    """An independent count: frames in which truth and detections differ, of all classes."""
    rng = np.random.default_rng(5)
    found, truth = random_events(rng, 6, 0.25), random_events(rng, 6, 0.25)
    frames = np.zeros((2, 6, N_CLASSES, 40), dtype=bool)
    for active, of in zip(frames, (found, truth), strict=True):
        for clip, label, onset_s, offset_s in as_rows(of):
            active[clip, label, round(4 * onset_s) : round(4 * offset_s)] = True
    missed_s, false_s = wrong_seconds(found, truth, 6)
    assert missed_s.tolist() == ((frames[1] & ~frames[0]).sum(axis=(1, 2)) / 4).tolist()
    assert false_s.tolist() == ((frames[0] & ~frames[1]).sum(axis=(1, 2)) / 4).tolist()


def test_nothing_at_all():
    nothing = events()
    verdicts = judge_events(nothing, nothing, N_CLASSES)
    counts = count_errors(verdicts, nothing, nothing, N_CLASSES)
    assert not counts.events.any() and not counts.detections.any()
    assert [seconds.tolist() for seconds in wrong_seconds(nothing, nothing, 1)] == [[0.0], [0.0]]
    assert [len(errors) for errors in boundary_errors(verdicts, nothing, nothing)] == [0, 0]
