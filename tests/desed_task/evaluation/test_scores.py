"""Scores in one array: selection, decoding, and the border to sed_scores_eval."""

from __future__ import annotations

import numpy as np
import pytest

from desed_task.errors import InputError
from desed_task.evaluation.scores import Scores, as_sed_scores_eval, check_durations, detect
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


def test_detections_in_the_padding_are_dropped(scores):
    found = detect(scores, 0.7)
    kept = found.within(np.array([10.0, 5.0, 10.0, 10.0]))
    assert not (kept.onset_s[kept.clip_index == 1] >= 5.0).any()
    assert (kept.clip_index == 0).sum() == (found.clip_index == 0).sum()


def test_data_frames_hold_times_and_scores(scores):
    frames = as_sed_scores_eval(scores)
    assert list(frames) == ["a", "b", "c", "d"]
    frame = frames["b"]
    assert list(frame) == ["onset", "offset", "Dog", "Cat", "Speech"]
    np.testing.assert_array_equal(frame["Cat"], scores.values[1, :, 1].astype(float))
    assert frame["offset"].iloc[-1] == GRID.boundaries_s[-1]


def test_clips_without_a_duration_are_named():
    with pytest.raises(InputError, match=r"no duration for 1 clips \(e.g. b\)"):
        check_durations(["a", "b"], {"a": 10.0})


def test_a_detection_that_begins_before_its_clip_s_end_counts_whole():
    values = np.zeros((1, 156, 3), dtype=np.float32)
    values[0, 20:60, 0] = values[0, 100:110, 1] = 0.9
    found = detect(Scores(("a",), values, GRID.boundaries_s, VOCABULARY), 0.5)
    kept = found.within(np.array([3.0]))
    assert kept.label_index.tolist() == [0]
    assert kept.offset_s.tolist() == [GRID.boundaries_s[60]] and kept.offset_s[0] > 3.0
    assert len(found.within(np.array([GRID.boundaries_s[20]]))) == 0
