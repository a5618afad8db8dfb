"""Clips to recordings: names, weights of frames, overlap-add, and truth without repeats."""

from __future__ import annotations

import numpy as np
import pytest

from desed_task.dataio.annotations import EventTable
from desed_task.errors import InputError
from desed_task.evaluation import sed_scores_eval_metrics as package
from desed_task.evaluation.scores import Detections, FrameScores, Scores, as_detections
from desed_task.evaluation.segments import (
    Segments,
    clip_means,
    clip_segments,
    clip_span,
    on_recordings,
    overlap_add,
    recording_segments,
    segment_scores,
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
    assert clip_span("metro_station_03-000500-001500") == ("metro_station_03", 5.0, 15.0)
    with pytest.raises(InputError, match="'Yd_0000' is not named"):
        clip_span("Yd_0000")


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
    with pytest.raises(InputError, match=r"no duration for 1 clip \(e.g. r\)"):
        overlap_add(constant_scores(r__000000__001000=0.2), {"q": 12.0})


def test_segments_end_with_the_recording():
    scores = constant_scores(r__000000__001000=0.5, q__000000__000325=0.5)
    lengths = {"r": 10.0, "q": 3.25}
    pieces = overlap_add(scores, lengths)
    assert {name: len(values) for name, values in pieces.items()} == {"q": 4, "r": 10}
    frame = package.segment_frames(pieces, lengths, VOCABULARY.labels)["q"]
    assert frame["onset"].tolist() == [0, 1, 2, 3] and frame["offset"].tolist() == [1, 2, 3, 3.25]
    assert list(frame.columns) == ["onset", "offset", "car", "footsteps"]


NOTHING = Detections(
    np.zeros(0, dtype=int), np.zeros(0, dtype=int), np.zeros(0, dtype=float), np.zeros(0)
)


def test_the_highest_frame_that_reaches_into_a_segment_is_its_score():
    # Frame 15 lasts from 0.960 to 1.024 s, frame 140 from 8.96 to 9.024 s.
    values = np.zeros((1, 156, 2))
    values[0, [15, 140], 1] = 0.9, 0.4
    values[0, 156 - 1, 0] = 0.7
    scores = Scores(("c",), values, BOUNDARIES_S, VOCABULARY)
    found = clip_segments(scores, NOTHING, np.array([10.0]))
    assert found.values[:, 1].tolist() == [0.9, 0.9, 0, 0, 0, 0, 0, 0, 0.4, 0.4]
    assert found.values[:, 0].tolist() == [0] * 9 + [0.7]
    assert not found.active.any()


def test_segments_of_a_clip_end_with_it_and_events_reach_into_them():
    scores = constant_scores(a=0.25, b=0.5, c=0.75)
    #  0.5 to 2 s: segments 0 and 1; exactly 1 to 2 s: segment 1; 3.9 s to behind the end of b.
    truth = Detections(
        np.array([0, 1, 1]),
        np.array([0, 1, 0]),
        np.array([0.5, 1.0, 3.9]),
        np.array([2.0, 2.0, 6.0]),
    )
    found = clip_segments(scores, truth, np.array([3.0, 4.2, 0.5]))
    assert found.values[:, 0].tolist() == [0.25] * 3 + [0.5] * 5 + [0.75]
    assert np.flatnonzero(found.active[:, 0]).tolist() == [0, 1, 3 + 3, 3 + 4]
    assert np.flatnonzero(found.active[:, 1]).tolist() == [3 + 1]


def random_clips(seed, durations_s, grid, decimals):
    """Scores that rise at random events, and the events; every class has one."""
    rng = np.random.default_rng(seed)
    labels = tuple(f"class{number}" for number in range(4))
    blocks = rng.random((len(durations_s), grid.n_frames // 12 + 1, len(labels)))
    values = np.repeat(blocks, 12, axis=1)[:, : grid.n_frames]
    if decimals is not None:  # ties, between classes, clips and segments
        values = values.round(decimals)
    rows = []
    for clip, duration_s in enumerate(durations_s):
        for label in range(len(labels)):
            if rng.random() < 0.4 or clip == label:
                onset_s, offset_s = np.sort(rng.uniform(0, duration_s, 2)).round(3)
                if rng.random() < 0.3:  # on the edges of segments
                    onset_s, offset_s = np.floor(onset_s), np.floor(onset_s) + 1.0
                rows.append((clip, label, onset_s, max(offset_s, onset_s + 0.001)))
                frames = slice(*np.searchsorted(grid.boundaries_s, [onset_s, offset_s]))
                values[clip, frames, label] += 0.2
    clip, label, onset_s, offset_s = (np.array(column) for column in zip(*rows, strict=True))
    truth = Detections(clip.astype(int), label.astype(int), onset_s, offset_s)
    names = tuple(f"clip{number}" for number in range(len(durations_s)))
    # Edges that are not quite on a segment's count as on it.
    boundaries_s = grid.boundaries_s + (seed % 2) * rng.uniform(-4e-7, 4e-7, grid.n_frames + 1)
    return Scores(names, values, boundaries_s, Vocabulary(labels)), truth


LENGTHS_S = (10.0, 9.984, 0.4, 1.0, 1.001, 5.0, 7.37, 9.0, 9.0000625, 3.2, 10.0, 6.592)


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize(
    "grid",
    [
        FrameGrid(),
        FrameGrid.for_clip(10.0, 22050, 256, 4),  # no edge of a segment is one of a frame
        FrameGrid(80, hop_samples=1000, net_subsample=2),  # every edge is
        FrameGrid.for_clip(5.0, 16000, 256, 4),  # longer clips have segments without frames
    ],
    ids=["published", "22050 Hz", "whole eighths", "half a clip"],
)
def test_maxima_are_sed_scores_eval_s_own_of_frame_scores(grid, decimals):
    for seed in range(4):
        scores, truth = random_clips(seed, LENGTHS_S, grid, decimals)
        lengths = dict(zip(scores.clip_ids, LENGTHS_S, strict=True))
        events = {name: [] for name in scores.clip_ids}
        for clip, label, onset_s, offset_s in zip(*vars(truth).values(), strict=True):
            event = (float(onset_s), float(offset_s), scores.vocabulary[label])
            events[scores.clip_ids[clip]].append(event)
        theirs = package.package_segment_scores(
            package.as_frames(scores), events, lengths, max_fpr=0.1
        )
        found = clip_segments(scores, truth, np.array(LENGTHS_S))
        ours = segment_scores(found, scores.vocabulary.labels, max_fpr=0.1)
        assert len(found.values) == sum(np.ceil(LENGTHS_S))
        for name, value in theirs._asdict().items():
            assert getattr(ours, name) == pytest.approx(value, abs=1e-9, nan_ok=True), name
        assert 0.4 < ours.f1 < 0.9 and 0.4 < ours.auc < 0.9 and 0.02 < ours.partial_auc < 0.7


def with_longer(lengths_s, seed=0):
    """Scores of clips of the grid's length, and of longer ones that were scored in windows."""
    rng, grid = np.random.default_rng(seed), FrameGrid()
    short = [length_s for length_s in lengths_s if length_s <= grid.clip_s]
    longer = []
    for length_s in lengths_s[len(short) :]:
        n_frames = int(np.ceil(length_s / grid.frame_s))
        boundaries_s = np.minimum(np.arange(n_frames + 1) * grid.frame_s, length_s)
        longer.append(FrameScores(rng.random((n_frames, 2)), boundaries_s))
    values = rng.random((len(short), grid.n_frames, 2))
    names = tuple(f"clip {number}" for number in range(len(lengths_s)))
    return Scores(names, values, grid.boundaries_s, VOCABULARY, tuple(longer))


MIXED_S = (10.0, 3.3, 0.4, 12.5, 61.0)


def test_means_weigh_frames_by_the_time_they_share_up_to_the_clip_s_end():
    scores = with_longer(MIXED_S)
    found = clip_means(scores, np.array(MIXED_S))
    assert [len(values) for values in found] == [10, 4, 1, 13, 61]
    for (values, boundaries_s), of_clip, end_s in zip(scores.each(), found, MIXED_S, strict=True):
        for number, mean in enumerate(of_clip):
            low, high = number, min(number + 1, end_s)
            share = np.minimum(boundaries_s[1:], high) - np.maximum(boundaries_s[:-1], low)
            share = share.clip(min=0)
            np.testing.assert_allclose(mean, share @ values / share.sum(), atol=1e-12)
    # What was not read scores nothing.
    (values,) = clip_means(with_longer((10.0,)), np.array([12.2]))
    assert len(values) == 13 and not values[10:].any() and values[:10].all()


def test_maxima_of_longer_clips_are_those_of_their_own_frames():
    scores = with_longer(MIXED_S)
    found = clip_segments(scores, NOTHING, np.array(MIXED_S))
    assert np.bincount(found.unit).tolist() == [10, 4, 1, 13, 61]
    values, boundaries_s = scores.of("clip 4")
    rows = found.values[found.unit == 4]
    for number in (0, 17, 60):
        frames = (boundaries_s[1:] > number) & (boundaries_s[:-1] < number + 1)
        assert rows[number].tolist() == values[frames].max(axis=0).tolist()
    alone = clip_segments(scores.select(["clip 4"]), NOTHING, np.array(MIXED_S[-1:]))
    np.testing.assert_array_equal(alone.values, rows)


RECORDINGS_S = (12.0, 0.4, 7.0000001, 30.0, 3.25, 1.0)


@pytest.mark.parametrize("kind", ["random", "tied", "silent", "everywhere"])
@pytest.mark.parametrize("max_fpr", [0.1, 0.5])
def test_segments_of_recordings_are_scored_as_by_sed_scores_eval(kind, max_fpr):
    rng = np.random.default_rng(7)
    labels, names = ("a", "b", "c"), tuple(f"r{number}" for number in range(len(RECORDINGS_S)))
    pieces = {
        name: rng.random((int(np.ceil(length_s)), 3))
        for name, length_s in zip(names, RECORDINGS_S, strict=True)
    }
    if kind == "tied":
        pieces = {name: values.round(1) for name, values in pieces.items()}
    elif kind == "silent":
        pieces = {name: values * [0.0, 1.0, 1.0] for name, values in pieces.items()}
    rows = [
        (clip, label, onset_s, onset_s + 0.7 + rng.integers(0, 3))
        for clip, length_s in enumerate(RECORDINGS_S)
        for label in range(3)
        for onset_s in (np.floor(rng.uniform(0, length_s)), rng.uniform(0, length_s))
    ]
    if kind == "everywhere":  # no segment is without a, whose areas do not exist
        rows += [(clip, 0, 0.0, length_s) for clip, length_s in enumerate(RECORDINGS_S)]
    clip, label, onset_s, offset_s = (np.array(column) for column in zip(*rows, strict=True))
    vocabulary = Vocabulary(labels)
    certain = np.ones(len(rows), dtype=np.float32)
    table = EventTable(names, clip, onset_s, offset_s, label, certain, vocabulary).joined()
    truth, duration_s = as_detections(table, vocabulary), np.array(RECORDINGS_S)
    segments = recording_segments(list(pieces.values()), truth, duration_s)
    ours = segment_scores(segments, labels, max_fpr=max_fpr)
    durations = dict(zip(names, RECORDINGS_S, strict=True))
    events = package.truth_events(table, vocabulary)
    frames = package.segment_frames(pieces, durations, labels)
    theirs = package.package_segment_scores(frames, events, durations, max_fpr=max_fpr)
    for name, value in theirs._asdict().items():
        assert getattr(ours, name) == pytest.approx(value, abs=1e-9, nan_ok=True), name
    assert np.isnan(ours.auc_per_class["a"]) == (kind == "everywhere")


def test_areas_and_f1_of_a_handful_of_segments():
    """Scores 0.9 + 0.8 - 0.7 + 0.2 - (+ active): in closed form."""
    values = np.array([[0.9], [0.8], [0.7], [0.2]])
    active = np.array([[True], [False], [True], [False]])
    found = segment_scores(Segments(values, active, np.zeros(4, int)), ["car"], max_fpr=0.5)
    assert found.auc == pytest.approx(0.5 * 0.5 + 0.5 * 1.0)
    assert found.partial_auc == pytest.approx(0.5)
    # All above 0.7 or at it: 2 hits of 3, none missed.
    assert found.f1 == pytest.approx(0.8)
    assert 0.2 < found.threshold_per_class["car"] < 0.7


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
