"""Clips to recordings: names, weights of frames, overlap-add, and truth without repeats."""

from __future__ import annotations

import numpy as np
import pytest

from desed_task.dataio.annotations import EventTable
from desed_task.errors import InputError
from desed_task.evaluation.scores import Scores
from desed_task.evaluation.segments import (
    clip_segments,
    on_recordings,
    overlap_add,
    place_of,
    segment_frames,
    segment_weights,
    segments_of,
)
from desed_task.labels import FrameGrid, Vocabulary

VOCABULARY = Vocabulary(["car", "footsteps"])
BOUNDARIES_S = FrameGrid().boundaries_s


def constant_scores(**level_by_clip):
    values = [np.full((156, 2), level) for level in level_by_clip.values()]
    names = tuple(name.replace("__", "-") for name in level_by_clip)
    return Scores(names, np.stack(values), BOUNDARIES_S, VOCABULARY)


def test_a_clip_s_name_tells_where_it_was_cut():
    assert place_of("metro_station_03-000500-001500") == ("metro_station_03", 5.0, 15.0)
    with pytest.raises(InputError, match="'Yd_0000' is not named"):
        place_of("Yd_0000")


def test_each_segment_weighs_its_frames_by_the_time_they_share():
    weights = segment_weights(BOUNDARIES_S, 10)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    # Frame 15 lasts from 0.960 to 1.024 s.
    assert weights[0, 15] == pytest.approx(0.040) and weights[1, 15] == pytest.approx(0.024)
    assert weights[0, 16] == 0 and weights[1, 14] == 0


def test_the_score_of_a_segment_is_the_mean_over_its_second():
    values = np.zeros((1, 156, 2))
    values[0, 15, 1] = 1.0
    segments = segments_of(Scores(("c",), values, BOUNDARIES_S, VOCABULARY))
    assert segments.shape == (1, 10, 2) and not segments[..., 0].any()
    np.testing.assert_allclose(segments[0, :3, 1], [0.040, 0.024, 0.0], atol=1e-12)


def test_overlapping_clips_are_averaged_and_a_recording_ends_where_it_ends():
    scores = constant_scores(r__000000__001000=0.2, r__000500__001500=0.6, q__000000__001000=1.0)
    found = overlap_add(scores, {"r": 13.4, "q": 12.0})
    assert list(found) == ["q", "r"]
    np.testing.assert_allclose(found["r"][:, 0], [0.2] * 5 + [0.4] * 5 + [0.6] * 4)
    # Nothing was said of the last two seconds.
    np.testing.assert_allclose(found["q"][:, 1], [1.0] * 10 + [0.0] * 2)


def test_a_recording_without_duration_is_named():
    with pytest.raises(InputError, match=r"no duration of 1 clips \(e.g. r\)"):
        overlap_add(constant_scores(r__000000__001000=0.2), {"q": 12.0})


def test_segments_end_with_the_clip_or_recording():
    scores = constant_scores(a=0.5, b=0.5)
    lengths = {"a": 10.0, "b": 3.25}
    pieces = clip_segments(scores, lengths)
    assert {name: len(values) for name, values in pieces.items()} == {"a": 10, "b": 4}
    frame = segment_frames(pieces, lengths, VOCABULARY.labels)["b"]
    assert frame["onset"].tolist() == [0, 1, 2, 3] and frame["offset"].tolist() == [1, 2, 3, 3.25]
    assert list(frame.columns) == ["onset", "offset", "car", "footsteps"]


def test_events_of_overlapping_clips_are_one_event_of_the_recording():
    # 4 to 8 s of the recording, as two windows with a hop of 5 s see it; and another class.
    table = EventTable(
        ("r-000000-001000", "r-000500-001500", "s-001000-002000"),
        np.array([0, 1, 1, 2]),
        np.array([4.0, 0.0, 1.0, 0.0]),
        np.array([8.0, 3.0, 2.0, 1.0]),
        np.array([0, 0, 1, 0]),
        np.ones(4, dtype=np.float32),
        VOCABULARY,
    )
    moved = on_recordings(table).joined()
    assert moved.clip_ids == ("r", "s")
    rows = zip(moved.clip_index, moved.label_index, moved.onset_s, moved.offset_s, strict=True)
    assert list(rows) == [(0, 0, 4.0, 8.0), (0, 1, 6.0, 7.0), (1, 0, 10.0, 11.0)]
