"""Errors at the thresholds in force, the worst clips, and the tables: everything adds up."""

from __future__ import annotations

import json

import numpy as np
import pytest

from desed_task.file_names import unescape_name
from local.error_report import tables
from local.error_report.tables import CAUSES, ERROR_EDGES_S, class_rows, event_verdicts, histogram
from tests.local.error_report.small_sets import errors_of, random_errors
from tests.published_task import DEVTEST

CLIPS = ("b/日本", "a", "c\t1", "e\udcff", "d")


def table_of(errors) -> list[dict[str, str]]:
    head, *lines = tables.format_events(errors, event_verdicts(errors)).splitlines()
    return [dict(zip(head.split("\t"), line.split("\t"), strict=True)) for line in lines]


@pytest.mark.parametrize("seed", range(12))
def test_the_tables_add_up(seed):
    errors = random_errors(seed, CLIPS[: 1 + seed % len(CLIPS)])
    table = table_of(errors)
    assert len(table) == len(errors.truth) + int((~errors.verdicts.right).sum())
    content = tables.errors_as_json(errors, {}, {})
    json.dumps(content, allow_nan=False)
    for label, of_class in content["classes"].items():
        rows = [row for row in table if row["event_label"] == label]
        counts = {
            kind: sum(row["verdict"] == kind for row in rows)
            for kind in ("hit", "miss", "false alarm")
        }
        assert counts["hit"] == of_class["hits"]
        assert counts["hit"] + counts["miss"] == of_class["events"]
        assert of_class["right"] + counts["false alarm"] == of_class["detections"]
        for kind, key in (("miss", "misses"), ("false alarm", "false_alarms")):
            for cause in CAUSES:
                found = [row for row in rows if (row["verdict"], row["cause"]) == (kind, cause)]
                assert len(found) == of_class[key][cause]
                confused = [row["other_label"] for row in found if cause == "confused"]
                pairs = content["missed_as" if kind == "miss" else "false_in"].get(label, {})
                assert not confused or {n: confused.count(n) for n in confused} == pairs
        compared = [row for row in rows if row["onset_error"]]
        assert len(compared) == of_class["compared"] == sum(content["errors"]["onset"][label])
        for row in compared:
            for name in ("onset", "offset"):
                off_s = float(row[f"detected_{name}"]) - float(row[name])
                assert float(row[f"{name}_error"]) == pytest.approx(off_s, abs=1.1e-3)
    total = content["all_classes"]
    for key in ("events", "hits", "detections", "right", "compared"):
        assert total[key] == sum(one[key] for one in content["classes"].values())
    assert {unescape_name(row["filename"]) for row in table} <= {f"{clip}.wav" for clip in CLIPS}


def test_the_row_of_each_kind_of_mistake():
    errors = errors_of(
        ("a", "b"),
        [("a", "Dog", 1, 3), ("a", "Cat", 5, 7), ("b", "Speech", 2, 6), ("b", "Dog", 8, 9)],
        [
            ("a", "Dog", 1.2, 3),
            ("a", "Dishes", 5, 7),
            ("b", "Speech", 2, 3),
            ("b", "Blender", 0, 1),
        ],
    )
    rows = [
        (row["event_label"], row["verdict"], row["cause"], row["other_label"], row["detections"])
        for row in table_of(errors)
    ]
    assert rows == [
        ("Dog", "hit", "", "", "1"),
        ("Dishes", "false alarm", "confused", "Cat", ""),  # from the frame before 5 s
        ("Cat", "miss", "confused", "Dishes", "0"),
        ("Blender", "false alarm", "nothing there", "", ""),
        ("Speech", "miss", "inexact", "", "1"),
        ("Dog", "miss", "nothing there", "", "0"),
    ]
    highest = [row["highest_score"] for row in table_of(errors)]
    assert highest == ["0.9000", "0.9000", "0.1000", "0.9000", "0.9000", "0.1000"]
    (dog,) = [row for row in class_rows(errors) if row.label == "Dog"]
    assert (dog.recall, dog.precision, dog.n_compared) == (0.5, 1.0, 1)
    assert dog.onset_error_s == pytest.approx(0.216, abs=1e-6)  # a frame's border


def test_thresholds_are_those_of_the_classes():
    truth = [("a", "Dog", 1, 3), ("a", "Cat", 5, 7)]
    for threshold, hits in ((0.5, 2), (0.95, 0), ({"Dog": 0.95}, 1)):
        errors = errors_of(("a",), truth, truth, threshold)
        assert errors.counts.hits.sum() == hits
    # Everything is one event.
    errors = errors_of(("a",), truth, truth, {"Dog": 0.05})
    assert errors.counts.detections[DEVTEST.known.index("Dog")] == 1
    assert errors.thresholds.tolist().count(0.5) == len(DEVTEST.known) - 1


def test_thresholds_of_classes_that_the_set_does_not_have_are_left_out():
    """As tuning writes them for all classes of the network, and for other detectors."""
    limits = {"Dog": 0.3, "car": 0.9, "Beep, bleep": 0.2}
    events = [("a", "Dog", 0.0, 1.0)]
    found, alone = (errors_of(["a"], events, events, one) for one in (limits, {"Dog": 0.3}))
    assert found.thresholds.tolist() == alone.thresholds.tolist() and 0.3 in found.thresholds


def test_only_what_the_set_is_annotated_with_is_judged():
    errors = errors_of(("a",), [("a", "Speech", 1, 3)], [("a", "people talking", 1, 3)])
    assert errors.labels == DEVTEST.known
    assert len(errors.found) == 0 and errors.verdicts.detected_as.tolist() == [-1]


def test_clips_without_events_and_without_scores_are_counted():
    errors = errors_of(
        ("a", "b"),
        [("a", "Dog", 1, 3)],
        [("b", "Dog", 1, 3)],
        left_out=("x", "y"),
        durations={"a": 10.0, "b": 10.0},
    )
    # The clip without events is scored here, and what is detected in it is false.
    assert errors.n_left_out == 2 and errors.counts.false_alarms.sum() == 1
    assert tables.errors_as_json(errors, {}, {})["clips_left_out"] == 2


def test_the_worst_clips_are_those_with_most_wrong_seconds():
    truth = [("c", "Dog", 1, 4), ("d", "Dog", 1, 4), ("b", "Cat", 1, 4), ("a", "Cat", 0, 9.984)]
    found = [("a", "Cat", 0, 9.984), ("d", "Cat", 0, 1.92)]
    errors = errors_of(("a", "d", "c", "b"), truth, found)
    worst = [errors.clip_ids[clip] for clip in errors.worst_clips().tolist()]
    # Of equal ones, the first by name; none without an error.
    assert worst == ["d", "b", "c"]
    assert errors.wrong_s.tolist() == [0.0, pytest.approx(4.92), 3.0, 3.0]
    assert len(errors.worst_clips(1)) == 1


def test_padding_does_not_make_a_clip_worse():
    truth, found = [("a", "Dog", 0.96, 2.56)], [("a", "Dog", 0.96, 9.6), ("a", "Cat", 5.12, 9.6)]
    errors = errors_of(("a",), truth, found, durations={"a": 2.56})
    # What begins in the padding is no detection; what reaches into it is judged as a whole.
    assert len(errors.found) == 1 and not errors.verdicts.right.any()
    assert errors.wrong_s.tolist() == [0.0]


def test_clips_scored_in_windows():
    truth = [("long", "Dog", 30, 40), ("short", "Cat", 1, 2)]
    errors = errors_of(
        ("long", "short"),
        truth,
        [("long", "Dog", 31, 39.5), ("long", "Cat", 1, 2)],
        long_s={"long": 64.0},
        durations={"long": 64.0, "short": 10.0},
    )
    assert errors.clip_ids == ("short", "long") and errors.duration_s.tolist() == [10.0, 64.0]
    assert [row["verdict"] for row in table_of(errors)] == ["miss", "false alarm", "hit"]


def test_the_bins_of_errors():
    assert len(ERROR_EDGES_S) == 26 and np.diff(ERROR_EDGES_S) == pytest.approx(0.2)
    counts = histogram(np.array([-99, -2.5, -0.1, 0.0, 0.1 - 1e-9, 2.4, 2.5, 99.0]))
    assert (counts[0], counts[12], counts[13], counts[-1], sum(counts)) == (2, 2, 1, 3, 8)
    assert sum(histogram(np.array([]))) == 0


def test_nothing_to_find():
    errors = errors_of(("a", "b"), [], [])
    assert len(errors.worst_clips()) == 0 and table_of(errors) == []
    total = tables.total_row(errors)
    assert (total.recall, total.precision, total.onset_error_s) == (None, None, None)
