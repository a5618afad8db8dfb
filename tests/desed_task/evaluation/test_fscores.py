"""F-scores of detections in arrays against sed_eval, and in closed form."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sed_eval
from dcase_util.containers import MetaDataContainer

from desed_task.evaluation.fscores import (
    collar_fscore,
    intersection_fscore,
    segment_error_rate,
    segment_fscore,
    threshold_grid,
)
from desed_task.evaluation.scores import Detections, Scores, detect
from desed_task.labels import FrameGrid, Vocabulary
from local.scoring.own.criteria import COLLAR

LABELS = ("Dog", "Cat", "Speech")


def events(*rows):
    """(clip, label, onset, offset) rows as columns."""
    columns = np.array(rows, dtype=float).reshape(-1, 4).T
    return Detections(columns[0].astype(int), columns[1].astype(int), columns[2], columns[3])


def random_events(rng, n_events):
    """Events of which those of a class and clip do not overlap."""
    rows = []
    for clip in range(6):
        for label in range(3):
            edges = np.sort(rng.choice(100, size=2 * rng.integers(0, n_events), replace=False)) / 10
            rows += [(clip, label, on, off) for on, off in edges.reshape(-1, 2)]
    return events(*rows)


def container(found):
    rows = zip(found.clip_index, found.label_index, found.onset_s, found.offset_s, strict=True)
    return MetaDataContainer(
        [
            {"filename": f"{c}.wav", "event_label": LABELS[k], "onset": on, "offset": off}
            for c, k, on, off in rows
        ]
    )


@pytest.mark.parametrize("seed", range(5))
def test_collar_and_segment_f1_equal_sed_eval_s(seed):
    rng = np.random.default_rng(seed)
    truth = random_events(rng, 5)
    found = events(
        *zip(
            truth.clip_index,
            truth.label_index,
            (truth.onset_s + rng.choice([-0.37, -0.11, 0.04, 0.13], len(truth))).clip(min=0),
            truth.offset_s + rng.choice([0.0, 0.05, 0.17, 0.31, 1.3], len(truth)),
            strict=True,
        )
    )
    more = random_events(rng, 3)
    found = Detections(
        *(
            np.concatenate(pair)
            for pair in zip(vars(found).values(), vars(more).values(), strict=True)
        )
    )
    by_event = sed_eval.sound_event.EventBasedMetrics(
        list(LABELS),
        t_collar=0.2,
        percentage_of_length=0.2,
        empty_system_output_handling="zero_score",
    )
    by_segment = sed_eval.sound_event.SegmentBasedMetrics(list(LABELS), time_resolution=1.0)
    true, estimated = container(truth), container(found)
    for name in true.unique_files:
        of_file = {
            "reference_event_list": true.filter(filename=name),
            "estimated_event_list": estimated.filter(filename=name),
        }
        by_event.evaluate(**of_file)
        by_segment.evaluate(**of_file)
    listed = {int(name.removesuffix(".wav")) for name in true.unique_files}
    found = found.rows(np.isin(found.clip_index, list(listed)))
    ours = collar_fscore(found, truth, LABELS, **COLLAR)
    theirs = by_event.results_class_wise_average_metrics()["f_measure"]["f_measure"]
    assert ours.macro == pytest.approx(theirs)
    overall = by_event.results_overall_metrics()["f_measure"]["f_measure"]
    assert ours.micro == pytest.approx(overall)
    segments = segment_fscore(found, truth, LABELS, segment_s=1.0)
    theirs = by_segment.results_class_wise_average_metrics()["f_measure"]["f_measure"]
    assert segments.macro == pytest.approx(theirs)
    overall = by_segment.results_overall_metrics()
    assert segments.micro == pytest.approx(overall["f_measure"]["f_measure"])


@pytest.mark.parametrize("seed", range(3))
def test_the_error_rate_is_that_of_sed_eval(seed):
    rng = np.random.default_rng(seed)
    truth, found = random_events(rng, 5), random_events(rng, 3 + 2 * seed)
    by_segment = sed_eval.sound_event.SegmentBasedMetrics(list(LABELS), time_resolution=1.0)
    true, estimated = container(truth), container(found)
    for name in true.unique_files:
        one, other = (of.filter(filename=name) for of in (true, estimated))
        by_segment.evaluate(reference_event_list=one, estimated_event_list=other)
    listed = [int(name.removesuffix(".wav")) for name in true.unique_files]
    found = found.rows(np.isin(found.clip_index, listed))
    ours = segment_error_rate(found, truth, LABELS, segment_s=1.0)
    theirs = by_segment.results_overall_metrics()["error_rate"]
    assert ours.rate == pytest.approx(theirs["error_rate"])
    kinds = ("substitution", "deletion", "insertion")
    shares = [theirs[f"{kind}_rate"] for kind in kinds]
    assert [n / ours.references for n in ours[1:4]] == pytest.approx(shares)
    assert min(ours[1:4]) > 0
    for label, of_class in by_segment.results_class_wise_metrics().items():
        assert ours.per_class[label] == pytest.approx(of_class["error_rate"]["error_rate"])


def test_more_classes_than_a_thousand_are_told_apart():
    labels = tuple(f"class {number}" for number in range(1200))
    truth, found = events((0, 3, 0, 1)), events((0, 1027, 0, 1))
    score = segment_fscore(found, truth, labels, segment_s=1.0)
    assert score.micro == 0 and score.false_positives["class 1027"] == 1
    errors = segment_error_rate(found, truth, labels, segment_s=1.0)
    assert (errors.rate, errors.substitutions) == (1.0, 1)
    assert np.isnan(errors.per_class["class 1027"])


@pytest.mark.parametrize("number", range(3))
def test_events_just_a_collar_from_the_truth_count_as_published(parity, number):
    """Which side of the collar they fall to is a matter of the last bit of a frame's time."""
    case = json.loads(parity("frame_times.json").read_text())["cases"][number]
    clips = sorted({event["clip"] for event in case["true"]})
    vocabulary = Vocabulary(case["collar_f1"])
    values = np.zeros((len(clips), 156, len(vocabulary)))
    for event in case["found"]:
        frames = slice(event["first_frame"], event["end_frame"])
        values[clips.index(event["clip"]), frames, vocabulary.index(event["event_label"])] = 1.0
    truth = events(
        *(
            (
                clips.index(event["clip"]),
                vocabulary.index(event["event_label"]),
                event["onset"],
                event["offset"],
            )
            for event in case["true"]
        )
    )

    def collar_f1(boundaries_s):
        found = detect(Scores(tuple(clips), values, boundaries_s, vocabulary), 0.5)
        assert len(found) == len(case["found"])
        return collar_fscore(found, truth, vocabulary.labels, **COLLAR)

    ours = collar_f1(FrameGrid().boundaries_s)
    assert ours.macro == pytest.approx(case["collar_f1_macro"], abs=1e-12)
    assert ours.per_class == pytest.approx(case["collar_f1"], abs=1e-12)
    other = collar_f1(np.arange(157) * 0.064)
    assert other.macro == pytest.approx(case["of_0.064k_instead"], abs=1e-12)


def test_matching_is_the_largest_possible():
    # Taken greedily, the first detection would use up the only event that the second can match.
    truth = events((0, 0, 1.0, 2.0), (0, 0, 1.3, 2.3))
    found = events((0, 0, 1.15, 2.15), (0, 0, 1.0, 2.0))
    score = collar_fscore(found, truth, LABELS, **COLLAR)
    assert score.true_positives["Dog"] == 2


def test_intersection_criteria():
    truth = events((0, 0, 0.0, 4.0), (0, 1, 6.0, 8.0))
    found = events((0, 0, 0.0, 1.0), (0, 0, 1.5, 3.0), (0, 1, 4.0, 7.0))
    score = intersection_fscore(found, truth, LABELS, dtc=0.5, gtc=0.5)
    # Two detections cover 2.5 of Dog's 4 s together; Cat's has a third of itself in the event.
    assert score.true_positives == {"Dog": 1, "Cat": 0, "Speech": 0}
    assert score.false_positives == {"Dog": 0, "Cat": 1, "Speech": 0}
    assert score.per_class["Dog"] == 1.0 and score.per_class["Cat"] == 0.0
    assert np.isnan(score.per_class["Speech"]) and score.macro == 0.5


def detections(rows, clips, labels):
    """Rows of a fixture as columns."""
    return events(
        *(
            (
                clips.index(row["filename"]),
                labels.index(row["event_label"]),
                row["onset"],
                row["offset"],
            )
            for row in rows
        )
    )


@pytest.mark.parametrize("number", range(6))
def test_psds_eval_has_no_f1_of_a_class_without_a_true_positive(parity, number):
    case = json.loads(parity("psds_eval_f1_nan.json").read_text())[number]
    clips, labels = list(case["durations"]), list(case["f1"])
    found, truth = (detections(case[key], clips, labels) for key in ("detections", "truth"))
    ours = intersection_fscore(found, truth, labels, dtc=0.5, gtc=0.5)
    theirs = ours.as_psds_eval()
    expected = {label: np.nan if f1 is None else f1 for label, f1 in case["f1"].items()}
    assert theirs.per_class == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert theirs.macro == pytest.approx(case["f1_macro_logged"], abs=1e-12)
    assert theirs.true_positives == ours.true_positives and theirs.micro == ours.micro
    # sed_scores_eval's rule, by which a validation is scored.
    assert ours.macro == pytest.approx(case["mean_with_zeros_instead"], abs=1e-12)


@pytest.mark.parametrize("n_found", [0, 3])
def test_sed_eval_counts_a_class_without_a_true_positive_as_zero(n_found):
    """Found at a wrong time, or not at all; Speech does not occur and has no value."""
    truth = events((0, 0, 1, 2), (1, 0, 1, 2), (0, 1, 4, 5), (1, 1, 4, 5))
    wrong = [(clip % 2, 1, 6.0 + clip, 6.5 + clip) for clip in range(n_found)]
    found = events((0, 0, 1, 2), (1, 0, 1, 2), *wrong)
    by_event = sed_eval.sound_event.EventBasedMetrics(
        list(LABELS[:2]),
        t_collar=0.2,
        percentage_of_length=0.2,
        empty_system_output_handling="zero_score",
    )
    for name in ("0.wav", "1.wav"):
        by_event.evaluate(
            container(truth).filter(filename=name), container(found).filter(filename=name)
        )
    theirs = by_event.results_class_wise_average_metrics()["f_measure"]["f_measure"]
    ours = collar_fscore(found, truth, LABELS, **COLLAR)
    assert ours.macro == theirs == 0.5
    assert ours.per_class["Cat"] == 0.0 and np.isnan(ours.per_class["Speech"])


def test_nothing_found_scores_zero():
    score = intersection_fscore(events(), events((0, 0, 0, 1)), LABELS, dtc=0.5, gtc=0.5)
    assert score.macro == 0.0
    assert collar_fscore(events(), events((0, 0, 0, 1)), LABELS, **COLLAR).micro == 0.0


def test_fifty_thresholds():
    np.testing.assert_allclose(threshold_grid(50), np.arange(0.01, 1.0, 0.02))
