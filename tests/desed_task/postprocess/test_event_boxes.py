"""Change-point event boxes: black-box cases, closed forms, and a second program of the rules."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from desed_task.errors import InputError
from desed_task.postprocess import event_boxes
from desed_task.postprocess.event_boxes import BoxSettings, find_step_boxes


def curve(*pieces: tuple[float, int]) -> np.ndarray:
    return np.concatenate([np.full(n, value) for value, n in pieces])


TWO_HILLS = curve((0, 10), (0.9, 10), (0.4, 10), (0.6, 10), (0, 10))


def test_it_gives_the_boxes_of_the_published_program(parity):
    cases = json.loads(parity("csebbs_cases.json").read_text())
    assert len(cases) == 60
    for case in cases:
        settings = {key: case[key] for key in ("hop_s", "step_filter_s", "merge_abs", "merge_rel")}
        found = np.array(event_boxes(case["scores"], **settings))
        expected = np.array(case["boxes"])
        assert found.shape == expected.shape, settings
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("scores", "settings", "boxes"),
    [
        (curve((0.1, 10), (0.9, 10), (0.1, 20)), {}, [(0, 9, 0.1), (10, 20, 0.9), (21, 40, 0.1)]),
        (
            TWO_HILLS,
            {},
            [(0, 9, 0), (10, 20, 0.9), (21, 29, 0.4), (30, 40, 0.6), (41, 50, 0)],
        ),
        (TWO_HILLS, {"merge_abs": 0.3}, [(0, 9, 0), (10, 20, 0.9), (21, 40, 0.50526), (41, 50, 0)]),
        (TWO_HILLS, {"merge_abs": 0.51}, [(0, 9, 0), (10, 40, 0.63333), (41, 50, 0)]),
        (TWO_HILLS, {"merge_rel": 2.25}, [(0, 9, 0), (10, 40, 0.63333), (41, 50, 0)]),
        (curve((0.9, 1), (0, 19)), {"step_filter_s": 8}, [(0, 4, 0.225), (5, 20, 0)]),
        (np.zeros(7), {}, [(0, 7, 0)]),
        (np.full(7, 0.25), {}, [(0, 7, 0.25)]),
        ([0.5], {}, [(0, 1, 0.5)]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_closed_forms(scores, settings, boxes, dtype):
    found = event_boxes(
        np.asarray(scores, dtype=dtype), hop_s=1.0, **{"step_filter_s": 2.0, **settings}
    )
    np.testing.assert_allclose(found, boxes, atol=1e-5 if dtype != np.float16 else 1e-3)


def boxes_by_the_rules(
    scores: list[Fraction],
    hop: Fraction,
    length: Fraction,
    merge_abs: Fraction | None,
    merge_rel: Fraction | None,
) -> list[tuple[Fraction, Fraction, Fraction]]:
    """The rules once more, point by point and in exact numbers."""
    end, half = hop * len(scores), length / 2

    def integral(time: Fraction) -> Fraction:
        time = max(Fraction(0), min(time, end))
        frame = min(int(time / hop), len(scores) - 1)
        return hop * sum(scores[:frame]) + (time - frame * hop) * scores[frame]

    borders = [hop * k for k in range(len(scores) + 1)]
    points = sorted(
        {t + s for t in borders for s in (-half, Fraction(0), half) if 0 <= t + s <= end}
    )
    delta = [(integral(t + half) - 2 * integral(t) + integral(t - half)) / half for t in points]
    found, onset = [], None
    for place, time in enumerate(points):
        above = place == 0 or delta[place] > delta[place - 1]
        below_next = place + 1 == len(points) or delta[place] < delta[place + 1]
        if above and not below_next:
            onset = time
        elif not above and below_next:
            found.append((onset, time))
            onset = None
    assert onset is None

    def frames(start: Fraction, stop: Fraction) -> list[Fraction]:
        return [x for k, x in enumerate(scores) if hop * k < stop and hop * (k + 1) > start]

    merged = [found[0]]
    for before, after in pairwise(found):
        low = min(frames(before[1], after[0]))
        peak = max(max(frames(*before)), max(frames(*after)))
        small = Fraction(1, 1000)
        joins = merge_abs is not None or merge_rel is not None
        joins &= merge_abs is None or peak - low < merge_abs
        joins &= merge_rel is None or (peak + small) / (low + small) < merge_rel
        if joins:
            merged[-1] = merged[-1][0], after[1]
        else:
            merged.append(after)
    return [(a, b, (integral(b) - integral(a)) / (b - a + Fraction(1, 10**6))) for a, b in merged]


@pytest.mark.parametrize("seed", range(60))
def test_the_rules_hold_to_the_last_tie(seed):
    """Scores of one decimal tie all the time, and no sum of floats is exact."""
    draw = np.random.default_rng(seed)
    tenths = draw.integers(0, 11, draw.integers(1, 40))
    if seed % 3 == 0:
        tenths = np.repeat(tenths, draw.integers(1, 4, len(tenths)))  # ledges
    hop = [Fraction(64, 1000), Fraction(1), Fraction(1, 3)][seed % 3]
    length = [Fraction(32, 100), Fraction(1, 10), Fraction(2), Fraction(19, 50)][seed % 4]
    merge_abs = [None, Fraction(3, 10), Fraction(2, 10)][seed % 3]
    merge_rel = [Fraction(2), None, Fraction(3, 2), None][seed % 4]
    expected = boxes_by_the_rules(
        [Fraction(int(t), 10) for t in tenths], hop, length, merge_abs, merge_rel
    )
    settings = {
        "hop_s": float(hop),
        "step_filter_s": float(length),
        "merge_abs": None if merge_abs is None else float(merge_abs),
        "merge_rel": None if merge_rel is None else float(merge_rel),
    }
    for dtype in (np.float64, np.float32):
        found = event_boxes((tenths / 10).astype(dtype), **settings)
        np.testing.assert_allclose(
            np.array(found), np.array(expected, dtype=float), atol=2e-8, err_msg=str(settings)
        )


def test_a_fall_of_exactly_the_limit_does_not_merge_whatever_the_rounding():
    """In floats .7 - .4 is a little less than .3, .9 - .6 a little more."""
    for low, high in ((0.4, 0.7), (0.6, 0.9), (0.2, 0.5), (0.1, 0.4)):
        scores = curve((high, 10), (low, 10), (high, 10))
        found = event_boxes(scores, hop_s=1, step_filter_s=2, merge_abs=0.3)
        assert len(found) == 3, (low, high)
        assert len(event_boxes(scores, hop_s=1, step_filter_s=2, merge_abs=0.3001)) == 1


def test_many_curves_at_once_have_the_boxes_of_each_alone():
    draw = np.random.default_rng(1)
    scores = draw.random((1100, 23)).round(2)  # more than one chunk
    boundaries_s = np.arange(24) * 0.064
    settings = BoxSettings(0.3, 0.2, 2.0)
    found = settings.merge(find_step_boxes(scores, boundaries_s, 0.3))
    assert (np.diff(found.signal) >= 0).all()
    for row in (0, 1, 511, 512, 1099):
        own = found.signal == row
        alone = event_boxes(scores[row], hop_s=0.064, step_filter_s=0.3, merge_abs=0.2, merge_rel=2)
        columns = [column[own] for column in found[1:]]
        np.testing.assert_array_equal(np.stack(columns, axis=1), np.array(alone))


def test_no_curves_have_no_boxes():
    found = find_step_boxes(np.zeros((0, 5)), np.arange(6.0), 2.0)
    assert all(len(column) == 0 for column in BoxSettings().merge(found))


def test_boxes_of_one_curve_never_touch_and_alternate_with_gaps():
    draw = np.random.default_rng(2)
    for length in (0.064, 0.1, 0.5, 3.0, 100.0):
        found = find_step_boxes(draw.random((50, 60)).round(1), np.arange(61) * 0.064, length)
        assert (found.offset_s > found.onset_s).all()
        same = found.signal[1:] == found.signal[:-1]
        assert (found.onset_s[1:][same] > found.offset_s[:-1][same]).all()
        assert set(found.signal) == set(range(50))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scores": []}, "shape"),
        ({"scores": [[0.5, 0.5]]}, r"shape \(1, 2\)"),
        ({"scores": [0.5, np.nan]}, "not finite"),
        ({"hop_s": 0}, "hop_s is 0"),
        ({"hop_s": np.inf}, "hop_s is inf"),
        ({"hop_s": "a"}, "hop_s is 'a'"),
        ({"step_filter_s": 0}, "step_filter_s is 0;"),
        ({"step_filter_s": -1}, "step_filter_s is -1;"),
        ({"step_filter_s": np.nan}, "step_filter_s is nan;"),
        ({"step_filter_s": True}, "step_filter_s is True;"),
        ({"merge_abs": -0.1}, "merge_abs is -0.1;"),
        ({"merge_rel": "2"}, "merge_rel is '2';"),
        ({"merge_rel": np.nan}, "merge_rel is nan;"),
    ],
)
def test_what_cannot_be_used_is_named(given, message):
    settings = {"scores": [0.1, 0.9], "hop_s": 1.0, "step_filter_s": 2.0, **given}
    with pytest.raises(InputError, match=message):
        event_boxes(settings.pop("scores"), **settings)
