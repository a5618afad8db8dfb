"""Decoders of whole sets of clips, their settings, and metrics of what they give."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from desed_task.errors import InputError
from desed_task.evaluation.boxes import Boxes, decoded_from_arrays
from desed_task.evaluation.scores import FrameScores, Scores, detect, detect_at, match_clips
from desed_task.labels import Vocabulary
from desed_task.postprocess import event_boxes
from desed_task.postprocess.decoders import (
    BOXES,
    KINDS,
    MEDIAN,
    THRESHOLD_BOXES,
    DecoderSettings,
    decoder_of,
)
from desed_task.postprocess.median_filter import ClassMedianFilter

LABELS = ("Dog", "Łoś", "Speech")
LENGTHS = (3, 1, 5)


def made_scores(seed: int = 0, n_clips: int = 5, dtype: type = np.float32) -> Scores:
    """Clips of 40 frames, and two longer ones."""
    draw = np.random.default_rng(seed)
    longer = tuple(
        FrameScores(draw.random((n, 3)).astype(dtype), np.arange(n + 1) * 0.064) for n in (55, 90)
    )
    names = (*(f"clip {n}" for n in range(n_clips)), "long", "länger")
    values = draw.random((n_clips, 40, 3)).astype(dtype)
    return Scores(names, values, np.arange(41) * 0.064, Vocabulary(LABELS), longer)


def decode(scores: Scores, **settings: object) -> Scores | Boxes:
    lengths = LENGTHS[: len(scores.vocabulary)]
    decoder = decoder_of(DecoderSettings(**settings), scores.vocabulary, median_filter=lengths)
    return decoder(scores)


def test_the_default_is_the_median_filter():
    scores = made_scores()
    found = decode(scores)
    expected = scores.map(ClassMedianFilter(LENGTHS))
    np.testing.assert_array_equal(found.values, expected.values)
    for one, other in zip(found.longer, expected.longer, strict=True):
        np.testing.assert_array_equal(one.values, other.values)


def test_boxes_are_those_of_each_class_and_clip_alone():
    scores = made_scores()
    settings = {
        "step_filter_s": {"Dog": 0.32, "Speech": 0.7},
        "merge_abs": {"Łoś": 0.4},
        "merge_rel": {"Łoś": None, "Speech": 1.2},
    }
    found = decode(scores, kind=BOXES, **settings)
    each = {"Dog": (0.32, None, 2.0), "Łoś": (0.5, 0.4, None), "Speech": (0.7, None, 1.2)}
    for clip_id, frames in zip(scores.clip_ids, scores.each(), strict=True):
        for column, label in enumerate(LABELS):
            length, merge_abs, merge_rel = each[label]
            expected = event_boxes(
                frames.values[:, column],
                hop_s=0.064,
                step_filter_s=length,
                merge_abs=merge_abs,
                merge_rel=merge_rel,
            )
            own = found.select([clip_id], [label])
            columns = np.stack([own.onset_s, own.offset_s, own.confidence], axis=1)
            np.testing.assert_allclose(columns, np.array(expected), atol=1e-9)


def test_threshold_boxes_are_the_runs_of_filtered_scores_above_it():
    scores = made_scores(3)
    found = decode(scores, kind=THRESHOLD_BOXES, threshold={"Dog": 0.6, "Speech": 0.4})
    smoothed = decode(scores)
    runs = detect(smoothed, np.array([0.6, 0.5, 0.4]))
    boxes = found.detect(-np.inf)
    for column in ("clip_index", "label_index", "onset_s", "offset_s"):
        order = np.lexsort((runs.onset_s, runs.label_index, runs.clip_index))
        np.testing.assert_array_equal(getattr(boxes, column), getattr(runs, column)[order])
    first = found.select([scores.clip_ids[0]])
    values, boundaries_s = smoothed.of(scores.clip_ids[0])
    inside = (boundaries_s[:-1] >= first.onset_s[0]) & (boundaries_s[1:] <= first.offset_s[0])
    mean = values[inside, first.label_index[0]].mean(dtype=np.float64)
    assert first.confidence[0] == pytest.approx(mean, abs=1e-9)


def test_a_class_that_is_never_above_its_threshold_has_no_boxes():
    scores = made_scores().map(lambda values: values * 0.4)
    found = decode(scores, kind=THRESHOLD_BOXES)
    assert len(found) == 0
    assert found.of("länger").values.shape == (1, 3)
    assert len(found.detect(0.5)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_selection_has_what_the_whole_has_for_it(kind):
    found = decode(made_scores(), kind=kind)
    chosen = found.select(["länger", "clip 3"], ["Speech", "Dog"])
    assert chosen.vocabulary.labels == ("Speech", "Dog")
    one, other = chosen.of("clip 3"), found.of("clip 3")
    middles = np.arange(0.01, 2.5, 0.02)
    place, other_place = (
        np.searchsorted(x.boundaries_s, middles, side="right") - 1 for x in (one, other)
    )
    np.testing.assert_array_equal(one.values[place], other.values[other_place][:, [2, 0]])
    with pytest.raises(InputError, match=r"no scores for 1 clip .e.g. nobody."):
        found.select(["clip 1", "nobody"])
    with pytest.raises(InputError, match="unknown label 'Cat'"):
        found.select(labels=["Cat"])


@pytest.mark.parametrize("kind", KINDS)
def test_detections_at_several_thresholds_are_those_at_each(kind):
    found = decode(made_scores(2), kind=kind)
    thresholds = np.array([0.2, 0.45, 0.5, 0.9])
    for threshold, events in zip(thresholds, detect_at(found, thresholds), strict=True):
        alone = detect(found, threshold)
        for field in dataclasses.fields(alone):
            np.testing.assert_array_equal(getattr(events, field.name), getattr(alone, field.name))
    of_classes = detect(found, np.array([0.2, 0.9, 0.5]))
    for label, threshold in enumerate((0.2, 0.9, 0.5)):
        alone = detect(found, threshold)
        expected = alone.onset_s[alone.label_index == label]
        np.testing.assert_array_equal(of_classes.onset_s[of_classes.label_index == label], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_stored_is_read_again(kind, tmp_path):
    scores = made_scores()
    found = decode(scores, kind=kind)
    np.savez(tmp_path / "a.npz", **scores.layout, **found.arrays("kept"))
    with np.load(tmp_path / "a.npz") as stored:
        again = decoded_from_arrays(stored, "kept")
    assert type(again) is type(found) and again.clip_ids == found.clip_ids
    np.testing.assert_array_equal(detect(again, 0.5).onset_s, detect(found, 0.5).onset_s)


def test_a_clip_with_broken_scores_is_named_whatever_the_decoder():
    from desed_task.dataio.annotations import EventTable

    scores = made_scores()
    scores.values[2, 7, 1] = np.nan
    names, nothing = scores.clip_ids, np.zeros(0)
    index = np.zeros(0, dtype=np.int64)
    table = EventTable(names, index, nothing, nothing, index, nothing, scores.vocabulary)
    for kind in KINDS:
        with pytest.raises(InputError, match=r"scores of 1 clip .e.g. clip 2. are not finite"):
            match_clips(decode(scores, kind=kind), table)


def test_boxes_as_scores_have_their_confidence_inside_and_nothing_between():
    found = decode(made_scores(), kind=BOXES)
    values, boundaries_s = found.of("long", outside=-np.inf)
    assert boundaries_s[0] == 0 and boundaries_s[-1] == found.end_s[found.clip_ids.index("long")]
    own = found.select(["long"])
    for onset_s, offset_s, label, confidence in zip(
        own.onset_s, own.offset_s, own.label_index, own.confidence, strict=True
    ):
        inside = (boundaries_s[:-1] >= onset_s) & (boundaries_s[1:] <= offset_s)
        np.testing.assert_array_equal(values[inside, label], confidence)
    covered = np.isfinite(values).sum(axis=0)
    assert (covered < len(values)).all()


def test_settings_survive_their_plain_form():
    settings = DecoderSettings(BOXES, {"Dog": 0.4}, None, {"Dog": None}, 0.3)
    assert DecoderSettings.from_plain(settings.to_plain(), LABELS) == settings
    assert DecoderSettings.from_plain({}, LABELS) == DecoderSettings(MEDIAN)


def test_all_that_is_wrong_with_settings_is_said_at_once():
    with pytest.raises(InputError) as caught:
        DecoderSettings.from_plain(
            {"kind": "best", "length": 3, "merge_abs": {"Cat": 1}, "threshold": {"Cow": 0.1}},
            LABELS,
        )
    text = str(caught.value)
    assert "decoder.length: unknown key" in text
    assert "decoder.kind: 'best'; give one of median, boxes, threshold_boxes" in text
    assert "decoder.merge_abs: names unknown classes: Cat" in text
    assert "decoder.threshold: names unknown classes: Cow" in text


@pytest.mark.parametrize("value", [1.0, -0.1, "high", None])
def test_thresholds_of_boxes_lie_below_1(value):
    with pytest.raises(InputError, match="decoder: "):
        DecoderSettings.from_plain({"kind": THRESHOLD_BOXES, "threshold": value}, LABELS)
