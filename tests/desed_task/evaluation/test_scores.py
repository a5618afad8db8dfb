"""Scores in one array: selection, decoding, and the data frames that sed_scores_eval takes."""

from __future__ import annotations

import numpy as np
import pytest

from desed_task.errors import InputError
from desed_task.evaluation.scores import (
    FrameScores,
    Scores,
    check_durations,
    detect,
    detect_at,
)
from desed_task.evaluation.sed_scores_eval_metrics import as_frames
from desed_task.labels import FrameGrid, Vocabulary

GRID = FrameGrid()
VOCABULARY = Vocabulary(["Dog", "Cat", "Speech"])


@pytest.fixture
def scores():
    values = np.random.default_rng(1).uniform(size=(4, 156, 3)).astype(np.float32)
    return Scores(("a", "b", "c", "d"), values, GRID.boundaries_s, VOCABULARY)


def test_shapes_must_fit(scores):
    with pytest.raises(InputError, match=r"\(3, 156, 3\) do not fit 4 clips"):
        scores.map(lambda values: values[:3])


def test_clips_and_classes_are_selected_in_the_order_given(scores):
    chosen = scores.select(["c", "a"], ["Speech", "Dog"])
    assert chosen.clip_ids == ("c", "a") and chosen.vocabulary.labels == ("Speech", "Dog")
    np.testing.assert_array_equal(chosen.values, scores.values[[2, 0]][..., [2, 0]])


def test_clips_without_scores_are_named(scores):
    with pytest.raises(InputError, match=r"no scores for 2 clips \(e.g. x, y\)"):
        scores.select(["a", "x", "y"])


def test_detections_are_the_grid_s_own_runs(scores):
    found = detect(scores, 0.7)
    for clip in range(4):
        onset, offset, label = GRID.decode(scores.values[clip] > 0.7)
        rows = found.clip_index == clip
        np.testing.assert_array_equal(found.onset_s[rows], onset)
        np.testing.assert_array_equal(found.offset_s[rows], offset)
        np.testing.assert_array_equal(found.label_index[rows], label)


def test_a_threshold_is_exceeded_not_met():
    values = np.zeros((1, 156, 3), dtype=np.float32)
    values[0, 3:5, 1] = 0.5
    scores = Scores(("a",), values, GRID.boundaries_s, VOCABULARY)
    assert len(detect(scores, 0.5)) == 0 and len(detect(scores, 0.49)) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_thresholds", [1, 7, 300])
def test_detections_at_several_thresholds_are_those_at_each(ragged, dtype, n_thresholds):
    """Scores just at a threshold, clips of several lengths, and classes that score nothing."""
    thresholds = (np.arange(n_thresholds) + 0.5) / n_thresholds
    tied = ragged.map(lambda values: (values * 100).round().astype(dtype) / 100)
    tied = tied.map(lambda values: values * np.array([1, 1, 0], dtype=dtype))
    for one in (ragged, tied, ragged.select(["y"]), ragged.select([])):
        found = detect_at(one, thresholds)
        assert len(found) == n_thresholds
        for threshold, of_threshold in zip(thresholds, found, strict=True):
            expected = detect(one, threshold)
            for name, column in vars(expected).items():
                np.testing.assert_array_equal(getattr(of_threshold, name), column)


def test_detections_in_the_padding_are_dropped(scores):
    found = detect(scores, 0.7)
    kept = found.within(np.array([10.0, 5.0, 10.0, 10.0]))
    assert not (kept.onset_s[kept.clip_index == 1] >= 5.0).any()
    assert (kept.clip_index == 0).sum() == (found.clip_index == 0).sum()


def test_data_frames_hold_times_and_scores(scores):
    frames = as_frames(scores)
    assert list(frames) == ["a", "b", "c", "d"]
    frame = frames["b"]
    assert list(frame) == ["onset", "offset", "Dog", "Cat", "Speech"]
    np.testing.assert_array_equal(frame["Cat"], scores.values[1, :, 1].astype(float))
    assert frame["offset"].iloc[-1] == GRID.boundaries_s[-1]


def test_clips_without_a_duration_are_named():
    with pytest.raises(InputError, match=r"no duration for 1 clip \(e.g. b\)"):
        check_durations(["a", "b"], {"a": 10.0})


def test_a_detection_that_begins_before_its_clip_s_end_counts_whole():
    values = np.zeros((1, 156, 3), dtype=np.float32)
    values[0, 20:60, 0] = values[0, 100:110, 1] = 0.9
    found = detect(Scores(("a",), values, GRID.boundaries_s, VOCABULARY), 0.5)
    kept = found.within(np.array([3.0]))
    assert kept.label_index.tolist() == [0]
    assert kept.offset_s.tolist() == [GRID.boundaries_s[60]] and kept.offset_s[0] > 3.0
    assert len(found.within(np.array([GRID.boundaries_s[20]]))) == 0


@pytest.fixture
def ragged(scores):
    draws = np.random.default_rng(2)
    longer = []
    for n_frames in (166, 469):
        values = draws.uniform(size=(n_frames, 3)).astype(np.float32)
        grid = FrameGrid(n_frames=n_frames, clip_s=30.0)
        longer.append(FrameScores(values, grid.boundaries_s))
    return Scores(("a", "b", "c", "d", "x", "y"), *_rest(scores), tuple(longer))


def _rest(scores):
    return scores.values, scores.boundaries_s, scores.vocabulary


def test_longer_clips_are_selected_mapped_and_detected_too(ragged):
    chosen = ragged.select(["y", "c", "x"], ["Cat"])
    assert chosen.clip_ids == ("c", "y", "x")
    np.testing.assert_array_equal(chosen.of("x").values, ragged.of("x").values[:, 1:2])
    np.testing.assert_array_equal(ragged.map(np.negative).of("y").values, -ragged.of("y").values)
    found = detect(ragged, 0.7)
    for clip, one in enumerate(ragged.each()):
        grid = FrameGrid(n_frames=len(one.values), clip_s=float(one.boundaries_s[-1]))
        onset, offset, label = grid.decode(one.values > 0.7)
        rows = found.clip_index == clip
        np.testing.assert_array_equal(found.onset_s[rows], onset)
        np.testing.assert_array_equal(found.offset_s[rows], offset)
        np.testing.assert_array_equal(found.label_index[rows], label)
    frames = as_frames(ragged)
    assert list(frames) == list(ragged.clip_ids) and len(frames["y"]) == 469
    assert frames["y"]["offset"].iloc[-1] == 30.0


@pytest.mark.parametrize("clip_ids", [["a", "y", "x"], ["x", "y"], ["d"]])
def test_arrays_hold_all_of_it(ragged, clip_ids, tmp_path):
    chosen = ragged.select(clip_ids)
    np.savez(tmp_path / "s.npz", **chosen.arrays("kind"), **chosen.layout)
    with np.load(tmp_path / "s.npz") as stored:
        again = Scores.from_arrays(stored, "kind")
    assert again.clip_ids == chosen.clip_ids and again.vocabulary == chosen.vocabulary
    for one, other in zip(again.each(), chosen.each(), strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.boundaries_s, other.boundaries_s)
    # Code that knows of clips of one length only reports the others.
    if chosen.longer:
        with pytest.raises(InputError, match="do not fit"):
            Scores(chosen.clip_ids, *_rest(chosen))
