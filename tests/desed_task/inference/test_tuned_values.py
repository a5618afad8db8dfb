"""Tuned decoders, thresholds and calibrations of a checkpoint, and rules, in a detector."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import yaml

from desed_task.atomic_files import sha256_of
from desed_task.checkpoints.spec import build_detector
from desed_task.errors import InputError
from desed_task.inference import EventRules, SoundEventDetector, TunedValues
from desed_task.postprocess import class_thresholds
from desed_task.postprocess.calibration import Calibration, IsotonicCurve, TemperatureCurve
from tests.desed_task.checkpoints.example_checkpoints import ours, saved, small_spec, tensors

RATE = 16000
LOW = 0.05
HALF = IsotonicCurve((0.0, 1.0), (0.0, 0.5))


@pytest.fixture(scope="module")
def spec():
    return small_spec(use_embeddings=False)


@pytest.fixture(scope="module")
def noise():
    return 0.1 * np.random.default_rng(0).normal(size=12 * RATE)


def calibration_of(labels, **changes):
    values = {
        "kind": "isotonic",
        "curves": {},
        "pooled": HALF,
        "n_events": dict.fromkeys(labels, 0),
    }
    return Calibration(**{**values, **changes})


def tuned_for(spec, **changes):
    values = {
        "origin": "best.yaml",
        "checkpoint_sha256": "",
        "median_filter": (1,) * len(spec.classes),
        "decoder": {"kind": "boxes", "step_filter_s": {"Dog": 0.32}},
        "threshold": {"Dog": 0.3},
    }
    return TunedValues(**{**values, **changes})


def detector_of(spec, **settings):
    return SoundEventDetector(build_detector(spec, tensors(spec), "small"), **settings)


def test_a_detector_uses_all_tuned_values(spec, noise):
    plain, tuned = detector_of(spec), detector_of(spec, tuned=tuned_for(spec))
    assert plain.detect(noise, RATE).boxes == ()
    found = tuned.detect(noise, RATE)
    assert found.boxes and found.confidence_is == tuned.confidence_is == "mean score"
    limits = dict(zip(spec.classes, class_thresholds({"Dog": 0.3}, spec.classes), strict=True))
    assert found.events == tuple(b for b in found.boxes if b.confidence > limits[b.label])
    low = tuned.detect(noise, RATE, threshold=LOW)
    assert len(low.events) > len(found.events) and low.boxes == found.boxes
    assert tuned.post_processing.settings.step_filter_s == {"Dog": 0.32}
    filtered = detector_of(spec, tuned=tuned_for(spec, decoder={}))
    assert filtered.post_processing.median_filter == (1,) * len(spec.classes)
    unfiltered = filtered.detect(noise, RATE)
    np.testing.assert_array_equal(unfiltered.scores, unfiltered.unprocessed)


def test_another_decoder_keeps_the_other_settings(spec):
    tuned = tuned_for(spec)
    other = detector_of(spec, tuned=tuned, decoder="threshold_boxes").post_processing
    assert (other.settings.kind, other.settings.step_filter_s) == ("threshold_boxes", {"Dog": 0.32})
    longer = detector_of(spec, decoder={"kind": "boxes", "merge_abs": 0.2}).post_processing
    assert (longer.settings.kind, longer.settings.merge_abs) == ("boxes", 0.2)
    assert longer.median_filter == spec.median_filter
    with pytest.raises(InputError, match="kind"):
        detector_of(spec, decoder="fountain")


def test_rules_of_a_detector_are_those_of_its_scores(spec, noise):
    detector = detector_of(spec)
    plain = detector.detect(noise, RATE, threshold=LOW)
    assert plain.mean_scores == tuple(event.confidence for event in plain.events)
    rules = EventRules(
        low_threshold=0.01,
        merge_gap_s=0.3,
        min_duration_s=0.2,
        merged_classes={"Tiere": ["Dog", "Cat"]},
    )
    found = detector.detect(noise, RATE, threshold=LOW, rules=rules)
    ruled = rules.of_classes(spec.classes, LOW).events_of_scores(found.scores, found.boundaries_s)
    assert (found.events, found.mean_scores) == ruled
    assert found.events != plain.events
    np.testing.assert_array_equal(found.scores, plain.scores)
    assert not {"Dog", "Cat"} & {event.label for event in found.events}
    with pytest.raises(InputError, match="a box has one confidence"):
        detector_of(spec, decoder="boxes").detect(noise, RATE, rules=rules)
    with pytest.raises(InputError, match="'Tiere' is a merged class"):
        detector.detect(noise, RATE, threshold={"Tiere": 0.4}, rules=rules)


def test_a_calibration_changes_confidences_and_nothing_else(spec, noise):
    calibration = calibration_of(spec.classes[:3])
    tuned = tuned_for(spec, decoder={}, calibration=calibration, network="teacher")
    detector = detector_of(spec, tuned=tuned)
    assert detector.network is not detector_of(spec).network
    found = detector.detect(noise, RATE, threshold=LOW)
    plain = detector_of(spec, tuned=tuned, calibrated=False).detect(noise, RATE, threshold=LOW)
    assert [event[:3] for event in found.events] == [event[:3] for event in plain.events]
    assert found.mean_scores == plain.mean_scores
    known = [event.label in spec.classes[:3] for event in found.events]
    assert 0 < sum(known) < len(known)
    expected = [
        mean / 2 if of_known else mean
        for mean, of_known in zip(found.mean_scores, known, strict=True)
    ]
    assert [event.confidence for event in found.events] == pytest.approx(expected)
    others = ", ".join(spec.classes[3:])
    assert found.confidence_is == f"calibrated (isotonic); mean score for {others}"
    assert plain.confidence_is == "mean score"
    whole = replace(tuned, calibration=calibration_of(spec.classes))
    assert detector_of(spec, tuned=whole).confidence_is == "calibrated (isotonic)"


@pytest.mark.parametrize(
    ("changes", "settings", "why"),
    [
        ({"network": "teacher"}, {"role": "student"}, "is that of the teacher, not of the student"),
        ({}, {"decoder": "median"}, "is for events of the decoder boxes, not of median"),
        (
            {},
            {"decoder": {"merge_rel": 3.0}},
            "is for events of the decoder with the settings that",
        ),
        ({"calibration": None}, {}, "contains no calibration"),
    ],
)
def test_a_calibration_of_other_events_is_not_used_silently(spec, changes, settings, why):
    calibration = calibration_of(spec.classes, decoder="boxes")
    tuned = tuned_for(spec, **{"calibration": calibration, **changes})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        detector = detector_of(spec, tuned=tuned, **settings)
    assert detector.confidence_is == "mean score"
    texts = [str(warning.message) for warning in told]
    if tuned.calibration is not None:
        assert any(f"best.yaml: its calibration {why}" in one for one in texts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match=why):
            detector_of(spec, tuned=tuned, **settings, calibrated=True)
        assert detector_of(spec, tuned=tuned, **settings, calibrated=False)


def test_settings_of_other_decoders_do_not_matter_for_a_calibration(spec):
    tuned = tuned_for(spec, calibration=calibration_of(spec.classes, decoder="boxes"))
    detector = detector_of(spec, tuned=tuned, decoder={"threshold": 0.3})
    assert detector.confidence_is == "calibrated (isotonic)"


def test_what_was_tuned_for_another_network_is_told(spec):
    with pytest.warns(UserWarning, match="tuned on scores of the teacher, used with the student"):
        detector_of(spec, tuned=tuned_for(spec, network="teacher"), role="student")


def test_calibrated_confidence_needs_tuned_values(spec):
    with pytest.raises(InputError, match="needs values that were tuned for the checkpoint"):
        detector_of(spec, calibrated=True)
    with pytest.raises(InputError, match="has 2 lengths for the 27 classes of the checkpoint"):
        detector_of(spec, tuned=tuned_for(spec, median_filter=(1, 3)))


@pytest.mark.parametrize("dump", [json.dumps, yaml.safe_dump])
def test_they_come_from_a_file_for_their_checkpoint_only(spec, tmp_path, dump):
    first, second = (
        saved(ours(spec, seed=seed), tmp_path / f"prüf {seed}.ckpt") for seed in (1, 2)
    )
    calibration = calibration_of(spec.classes, kind="temperature", pooled=TemperatureCurve(1.5))
    content = {
        "net": {"median_filter": [3] * 27, "dropout": 0.5},
        "decoder": {"kind": "threshold_boxes", "threshold": 0.2},
        "predict": {"threshold": {"Speech": 0.6}},
        "tuned": {
            "checkpoint_sha256": sha256_of(first),
            "network": "teacher",
            "calibration": calibration.to_plain(),
        },
    }
    tuned = TunedValues.from_config(yaml.safe_load(dump(content)), "best.yaml")
    assert tuned.calibration == calibration and tuned.threshold == {"Speech": 0.6}
    detector = SoundEventDetector.from_checkpoint(first, tuned=tuned)
    assert detector.confidence_is == "calibrated (temperature)"
    assert detector.post_processing.settings.kind == "threshold_boxes"
    with pytest.raises(InputError) as caught:
        SoundEventDetector.from_checkpoint(second, tuned=tuned)
    told = str(caught.value)
    assert "best.yaml: tuned for another checkpoint (SHA-256 " in told
    assert f"than {second} (" in told and "optuna_pretrained.py --test_from_checkpoint" in told
    plain = SoundEventDetector.from_checkpoint(second)
    assert plain.confidence_is == "mean score"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "contains nothing that was tuned for a checkpoint"),
        ([], "contains nothing that was tuned"),
        ({"net": {"median_filter": [1]}}, "contains nothing that was tuned"),
        ({"tuned": {"checkpoint_sha256": ""}}, "contains nothing that was tuned"),
        ({"tuned": {"checkpoint_sha256": 5}}, "contains nothing that was tuned"),
        ({"tuned": {"checkpoint_sha256": "ab"}}, "net.median_filter: None is not a list"),
        (
            {"tuned": {"checkpoint_sha256": "ab"}, "net": {"median_filter": [1.5]}},
            "net.median_filter: \\[1.5\\] is not a list",
        ),
        (
            {
                "tuned": {"checkpoint_sha256": "ab", "calibration": {"kind": "x"}},
                "net": {"median_filter": [1]},
            },
            "best.yaml: tuned.calibration: cannot be used; fit it again",
        ),
    ],
)
def test_other_files_are_refused(content, message):
    with pytest.raises(InputError, match=message):
        TunedValues.from_config(content, "best.yaml")


@pytest.mark.parametrize("decoder", ["boxes", ["kind"], 3])
def test_a_decoder_that_is_no_section_is_not_taken_for_the_default(decoder):
    content = {"tuned": {"checkpoint_sha256": "ab"}, "net": {"median_filter": [1]}}
    with pytest.raises(InputError, match=r"best\.yaml: decoder: .* is not a section of keys"):
        TunedValues.from_config({**content, "decoder": decoder}, "best.yaml")


@pytest.mark.parametrize("decoder", [["boxes"], 3])
def test_settings_of_a_decoder_are_a_kind_or_keys(spec, decoder):
    with pytest.raises(InputError, match="is neither a kind nor a section of keys"):
        SoundEventDetector(build_detector(spec, tensors(spec), "small"), decoder=decoder)


@pytest.mark.parametrize("threshold", ["loud", {"Dog": "loud"}, [0.1, 0.2]])
def test_thresholds_that_are_no_numbers(spec, threshold):
    with pytest.raises(InputError, match="give a number from 0 to below 1, or one per class"):
        class_thresholds(threshold, spec.classes)
    with pytest.raises(InputError, match="unknown label 'Dgo'"):
        class_thresholds({"Dgo": 0.1}, spec.classes)
