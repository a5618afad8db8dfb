"""Hysteresis, joined gaps, shortest events and merged classes, against a plain second program."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from desed_task.errors import InputError
from desed_task.labels import active_runs
from desed_task.postprocess.event_rules import EventRules
from desed_task.postprocess.ruled_events import SoundEvent

LABELS = ("bark", "Türglocke", "door opens/closes", "beep")
FRAME_S = 0.064


def grid(n_frames, end_s=None):
    boundaries_s = np.arange(n_frames + 1) * FRAME_S
    return boundaries_s if end_s is None else np.minimum(boundaries_s, end_s)


def published_events(scores, boundaries_s, limits):
    """Events as they were before there were rules, line by line."""
    events = []
    for first, last, label in zip(*active_runs(scores > limits), strict=True):
        onset_s, offset_s = float(boundaries_s[first]), float(boundaries_s[last])
        confidence = float(scores[first:last, label].mean(dtype=np.float64))
        events.append(SoundEvent(onset_s, offset_s, LABELS[label], confidence))
    return tuple(sorted(events, key=lambda event: (event.onset_s, event.offset_s, event.label)))


def slow_spans(scores, boundaries_s, threshold, low, gap_s, shortest_s):
    """First and last frames of the events of one class, frame by frame."""
    runs, start = [], None
    for frame, value in enumerate([*scores, -1.0]):
        if value > low and start is None:
            start = frame
        elif value <= low and start is not None:
            if max(scores[start:frame]) > threshold:
                runs.append([start, frame])
            start = None
    joined = runs[:1]
    for start, stop in runs[1:]:
        between_s = boundaries_s[start] - boundaries_s[joined[-1][1]]
        if round(between_s, 6) < round(gap_s, 6):
            joined[-1][1] = stop
        else:
            joined.append([start, stop])
    return [
        (start, stop)
        for start, stop in joined
        if round(boundaries_s[stop] - boundaries_s[start], 6) >= round(shortest_s, 6)
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(157, 4), (1, 4), (0, 4), (40, 1)])
def test_without_rules_events_are_those_of_before_to_the_bit(shape, dtype):
    random = np.random.default_rng(shape[0])
    scores = random.random(shape).astype(dtype)
    labels = LABELS[: shape[1]]
    thresholds = {"bark": 0.3, "beep": 0.0} if shape[1] > 1 else {"bark": 0.3}
    rules = EventRules().of_classes(labels, thresholds)
    boundaries_s = grid(shape[0], end_s=10.0)
    found = rules.events_of_scores(scores, boundaries_s)
    assert found.events == published_events(scores, boundaries_s, rules.thresholds)
    assert found.mean_scores == tuple(event.confidence for event in found.events)
    kinds = {tuple(map(type, event)) for event in found.events}
    assert kinds <= {(float, float, str, float)}


@pytest.mark.parametrize("seed", range(30))
def test_rules_of_scores_equal_a_plain_program(seed):
    random = np.random.default_rng(seed)
    n_frames = int(random.integers(1, 80))
    # Ties with thresholds, gaps and durations that are whole numbers of frames.
    scores = random.integers(0, 11, (n_frames, len(LABELS))).astype(np.float32) / 10
    limits = random.choice([0.2, 0.5, 0.7], len(LABELS))
    low = np.minimum(random.choice([0.0, 0.2, 0.5], len(LABELS)), limits)
    gaps_s, shortest_s = (
        random.choice([0.0, 1, 2, 3], len(LABELS)) * FRAME_S * random.choice([1.0, 0.99])
        for _ in range(2)
    )
    rules = EventRules(
        low_threshold=dict(zip(LABELS, low.tolist(), strict=True)),
        min_duration_s=dict(zip(LABELS, shortest_s.tolist(), strict=True)),
        merge_gap_s=dict(zip(LABELS, gaps_s.tolist(), strict=True)),
    )
    boundaries_s = grid(n_frames, end_s=(n_frames - 0.4) * FRAME_S)
    thresholds = dict(zip(LABELS, limits.tolist(), strict=True))
    found = rules.of_classes(LABELS, thresholds).events_of_scores(scores, boundaries_s)
    expected = []
    for place, label in enumerate(LABELS):
        signal = scores[:, place]
        spans = slow_spans(
            signal, boundaries_s, limits[place], low[place], gaps_s[place], shortest_s[place]
        )
        for first, last in spans:
            mean = float(signal[first:last].mean(dtype=np.float64))
            expected.append(SoundEvent(boundaries_s[first], boundaries_s[last], label, mean))
    assert found.events == tuple(sorted(expected, key=lambda event: event[:3]))


def test_a_gap_as_long_as_the_rule_separates_and_an_event_as_long_stays():
    scores = np.array([[0.9, 0.9, 0, 0, 0, 0.9, 0, 0, 0.9]]).T
    boundaries_s = np.arange(10) * 0.1  # 0.3 - 0.2 is not 0.1, and 0.5 - 0.2 not 0.3
    for gap_s, spans in (
        (0.3, [(0, 0.2), (0.5, 0.9)]),
        (0.2, [(0, 0.2), (0.5, 0.6), (0.8, 0.9)]),
        (0.300001, [(0, 0.9)]),
    ):
        rules = EventRules(merge_gap_s=gap_s).of_classes(["bark"])
        events = rules.events_of_scores(scores, boundaries_s).events
        assert [event[:2] for event in events] == [pytest.approx(span) for span in spans]
    for shortest_s, n_events in ((0.1, 3), (0.100001, 1), (0.2, 1), (0.200001, 0)):
        rules = EventRules(min_duration_s=shortest_s).of_classes(["bark"])
        assert len(rules.events_of_scores(scores, boundaries_s).events) == n_events


def test_gaps_are_joined_before_short_events_are_dropped():
    scores = np.array([[0.9, 0, 0.6, 0, 0, 0, 0.9]]).T
    rules = EventRules(min_duration_s=0.15, merge_gap_s=0.15).of_classes(["bark"])
    (event,) = rules.events_of_scores(scores, np.arange(8) * 0.1).events
    assert event[:3] == (0, pytest.approx(0.3), "bark")
    assert event.confidence == pytest.approx(0.5)  # over three frames, the gap's too


def test_hysteresis_ends_at_the_low_threshold_and_needs_a_peak():
    scores = np.array([[0.3, 0.6, 0.4, 0.2, 0.4, 0.5, 0.3, 0.0, 0.7]], dtype=np.float32).T
    rules = EventRules(low_threshold=0.25).of_classes(["bark"], 0.5)
    events = rules.events_of_scores(scores, np.arange(10.0)).events
    # The run from 4 to 7 has a frame at the threshold, but none above it.
    assert [event[:2] for event in events] == [(0, 3), (8, 9)]
    assert events[0].confidence == pytest.approx(1.3 / 3)
    equal = EventRules(low_threshold=0.5).of_classes(["bark"], 0.5)
    plain = EventRules().of_classes(["bark"], 0.5)
    times_s = np.arange(10.0)
    assert equal.events_of_scores(scores, times_s) == plain.events_of_scores(scores, times_s)


def boxes_of(*rows):
    return [SoundEvent(*row) for row in rows]


def test_boxes_are_joined_with_means_weighted_by_duration():
    boxes = boxes_of(
        (3.0, 6.0, "bark", 0.8),
        (0.0, 1.0, "bark", 0.6),
        (1.2, 1.5, "bark", 0.5),
        (6.1, 6.2, "beep", 0.9),
        (1.1, 2.9, "beep", 0.1),
    )
    rules = EventRules(merge_gap_s={"bark": 2.5, "beep": 0}).of_classes(LABELS, {"beep": 0.2})
    found = rules.events_of_boxes(boxes)
    assert [event[:3] for event in found.events] == [(0.0, 6.0, "bark"), (6.1, 6.2, "beep")]
    # A box at the threshold is no event, and does not count in the mean.
    assert found.events[0].confidence == pytest.approx((0.6 * 1 + 0.8 * 3) / 4)
    assert found.events[1].confidence == 0.9
    alone = EventRules().of_classes(LABELS, 0.55).events_of_boxes(boxes)
    assert alone.events == tuple(sorted(box for box in boxes if box.confidence > 0.55))
    assert EventRules().of_classes(LABELS).events_of_boxes([]).events == ()


def test_boxes_of_an_unknown_class_are_refused():
    with pytest.raises(InputError, match="unknown classes: meow"):
        EventRules().of_classes(LABELS).events_of_boxes(boxes_of((0.0, 1.0, "meow", 0.9)))


def test_merged_classes_are_the_union_of_their_events():
    boxes = boxes_of(
        (0.0, 1.0, "bark", 0.6),
        (0.5, 2.0, "Türglocke", 0.9),
        (0.6, 0.7, "beep", 0.7),
        (2.0, 3.0, "beep", 0.8),  # touches
        (3.1, 4.0, "bark", 0.95),
        (0.2, 9.0, "door opens/closes", 0.99),
    )
    rules = EventRules(merged_classes={"jede Warnung": ["bark", "Türglocke", "beep"]})
    found = rules.of_classes(LABELS).events_of_boxes(boxes)
    assert found.events == (
        SoundEvent(0.0, 3.0, "jede Warnung", 0.9),
        SoundEvent(0.2, 9.0, "door opens/closes", 0.99),
        SoundEvent(3.1, 4.0, "jede Warnung", 0.95),
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_union_is_active_where_one_of_its_classes_is(seed):
    random = np.random.default_rng(seed)
    scores = random.random((60, len(LABELS)))
    members = LABELS[:3]
    alone = EventRules(min_duration_s=0.1).of_classes(LABELS, 0.6)
    rules = EventRules(min_duration_s=0.1, merged_classes={"any": members})
    united = rules.of_classes(LABELS, 0.6).events_of_scores(scores, grid(60)).events
    parts = alone.events_of_scores(scores, grid(60)).events
    middles_s = (np.arange(60) + 0.5) * FRAME_S

    def active(events, labels):
        own = [event for event in events if event.label in labels]
        return [any(e.onset_s < t < e.offset_s for e in own) for t in middles_s]

    assert active(united, {"any"}) == active(parts, set(members))
    assert active(united, {"beep"}) == active(parts, {"beep"})
    merged = sorted(event for event in united if event.label == "any")
    assert all(a.offset_s < b.onset_s for a, b in itertools.pairwise(merged))
    for event in merged:
        of_event = [
            part.confidence
            for part in parts
            if part.label in members and event.onset_s <= part.onset_s < event.offset_s
        ]
        assert event.confidence == max(of_event)


def test_confidences_are_calibrated_before_classes_are_merged():
    boxes = boxes_of((0.0, 2.0, "bark", 0.6), (1.0, 3.0, "beep", 0.9), (5.0, 6.0, "beep", 0.55))
    rules = EventRules(merged_classes={"any": ["bark", "beep"]}).of_classes(LABELS)
    share = {"bark": 0.9, "beep": 0.1}
    found = rules.events_of_boxes(boxes, lambda label, scores: scores * share[label])
    assert [event.confidence for event in found.events] == pytest.approx([0.54, 0.055])
    assert found.mean_scores == (0.9, 0.55)


@pytest.mark.parametrize(
    ("rules", "threshold", "parts"),
    [
        (
            {"low_threshold": 0.6},
            0.5,
            ["0.6 is above the threshold 0.5 of bark, Türglocke, door opens/closes and 1 more"],
        ),
        (
            {"low_threshold": 0.4},
            {"beep": 0.3},
            ["low_threshold: 0.4 is above the threshold 0.3 of beep; lower it, or raise"],
        ),
        ({"low_threshold": 1.0}, 0.5, ["low_threshold: 1.0: give a threshold from 0 to below 1"]),
        ({"low_threshold": {"beep": -0.1}}, 0.5, ["low_threshold: -0.1 for beep: give a thresh"]),
        ({"min_duration_s": -1}, 0.5, ["min_duration_s: -1: give seconds, 0 or more"]),
        ({"min_duration_s": {"bark": float("nan")}}, 0.5, ["min_duration_s: nan for bark: give"]),
        ({"merge_gap_s": float("inf")}, 0.5, ["merge_gap_s: inf: give seconds"]),
        ({"merge_gap_s": "0.2"}, 0.5, ["merge_gap_s: '0.2': give seconds"]),
        ({"merge_gap_s": {"bark": True}}, 0.5, ["merge_gap_s: True for bark: give seconds"]),
        ({"merge_gap_s": {"Bark": 1}}, 0.5, ["merge_gap_s: unknown label 'Bark'; known: bark, T"]),
        ({}, {"Bark": 0.5}, ["unknown label 'Bark'; known: bark"]),
        ({}, 1.5, ["a threshold of 1.5 for bark"]),
        ({"merged_classes": {"beep": ["bark"]}}, 0.5, ["'beep' is the name of a class; give ano"]),
        ({"merged_classes": {"any": []}}, 0.5, ["any is made of no class; name at least one"]),
        ({"merged_classes": {" ": ["bark"]}}, 0.5, ["' ' is not a name"]),
        ({"merged_classes": {"a\tb": ["bark"]}}, 0.5, [r"'a\tb' is not a name"]),
        ({"merged_classes": {"any": ["bark", "cat"]}}, 0.5, ["any: unknown label 'cat'; known"]),
        (
            {"merged_classes": {"a": ["bark", "beep"], "b": ["beep"]}},
            0.5,
            ["beep is in a and in b; keep it in one of them"],
        ),
        (
            {"merged_classes": {"any": ["bark", "beep"]}, "merge_gap_s": {"any": 1}},
            {"any": 0.5},
            [
                "threshold: 'any' is a merged class, not one of the network's; give values for "
                "those that it is made of: bark, beep",
                "merge_gap_s: 'any' is a merged class",
            ],
        ),
        (
            {"min_duration_s": -2, "merge_gap_s": {"x": 1}, "merged_classes": {"any": []}},
            {"y": 1},
            [
                "unknown label 'y'",
                "min_duration_s: -2",
                "unknown label 'x'",
                "any is made of no class",
            ],
        ),
    ],
)
def test_rules_that_cannot_be_meant_are_all_named_at_once(rules, threshold, parts):
    with pytest.raises(InputError) as caught:
        EventRules(**rules).of_classes(LABELS, threshold)
    assert [part for part in parts if part not in str(caught.value)] == []


def test_hysteresis_of_boxes_is_refused():
    with pytest.raises(InputError, match="a box has one confidence; leave it out"):
        EventRules(low_threshold=0.3).of_classes(LABELS, boxes=True)
    EventRules(low_threshold={}, merge_gap_s=1).of_classes(LABELS, boxes=True)


def test_given_rules_are_plain():
    assert EventRules().given == {}
    assert EventRules(low_threshold={}, min_duration_s=0).given == {}
    rules = EventRules(low_threshold=0.0, merged_classes={"any": ("bark", "beep")})
    assert rules.given == {"low_threshold": 0.0, "merged_classes": {"any": ["bark", "beep"]}}
