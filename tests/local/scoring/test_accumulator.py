"""Scores of batches become one array, each clip once; two processes: see test_datamodule.py."""

from __future__ import annotations

import numpy as np
import torch

from desed_task.audio.windows import WindowGrid
from desed_task.inference.overlap_add import OverlapAdd
from desed_task.labels import FrameGrid, Vocabulary
from local.scoring.accumulator import RowCollector, ScoreCollector

VOCABULARY = Vocabulary(["Dog", "Cat"])
GRID = FrameGrid(n_frames=4)


def test_scores_are_frames_by_classes_and_sorted_by_clip():
    collector = ScoreCollector(VOCABULARY, GRID)
    strong = torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(0))
    collector.add(["c", "a"], strong[:2])
    collector.add(["b"], strong[2:])
    scores = collector.scores()
    assert scores.clip_ids == ("a", "b", "c")
    assert scores.vocabulary == VOCABULARY
    np.testing.assert_array_equal(scores.values, strong[[1, 2, 0]].numpy().transpose(0, 2, 1))
    np.testing.assert_array_equal(scores.boundaries_s, GRID.boundaries_s)


def test_a_repeated_clip_counts_once():
    collector = RowCollector((2,))
    collector.add(["a", "b", "a"], torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]))
    clip_ids, rows = collector.collect()
    assert clip_ids == ("a", "b")
    assert rows.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert len(collector) == 3


def test_rows_added_later_are_there_too():
    collector = RowCollector((1,))
    collector.add(["b"], torch.ones(1, 1))
    assert collector.collect()[0] == ("b",)
    collector.add(["a"], torch.zeros(1, 1))
    assert collector.collect()[0] == ("a", "b")


def test_half_precision_and_gradients_are_taken():
    collector = RowCollector((2,))
    collector.add(["a"], torch.full((1, 2), 0.5, dtype=torch.bfloat16, requires_grad=True))
    rows = collector.collect()[1]
    assert rows.dtype == np.float32
    assert rows.tolist() == [[0.5, 0.5]]


def test_nothing_collected_is_no_clips():
    scores = ScoreCollector(VOCABULARY, GRID).scores()
    assert scores.clip_ids == ()
    assert scores.values.shape == (0, 4, 2)


def test_a_frame_that_begins_where_the_clip_ends_is_no_frame():
    """Without subsampling there is one; sed_scores_eval refuses frames without length."""
    grid = FrameGrid.for_clip(1.024, 16000, 256, 1)
    assert grid.n_frames == 65
    collector = ScoreCollector(VOCABULARY, grid)
    collector.add(["a"], torch.arange(130.0).reshape(1, 2, 65) / 130)
    scores = collector.scores()
    assert scores.values.shape == (1, 64, 2) and scores.boundaries_s[-1] == 1.024
    assert scores.values[0, -1].tolist() == [np.float32(63 / 130), np.float32(128 / 130)]


def test_windows_of_a_clip_are_joined_in_whatever_order_they_come():
    grid = FrameGrid()
    windows = WindowGrid(grid, 80)
    strong = torch.rand(20, 2, grid.n_frames, generator=torch.Generator().manual_seed(0))
    rows = [("b", span) for span in windows.spans(400_001)] + [("short", None)]
    rows += [("a", span) for span in windows.spans(170_000)]
    collector = ScoreCollector(VOCABULARY, grid, lambda: windows)
    order = np.random.default_rng(0).permutation([*range(len(rows)), 0, 3, len(rows) - 1])
    for row in order:
        collector.add([rows[row][0]], strong[[row]], [rows[row][1]])
    # One window of it alone is no recording.
    collector.add(["cut off"], strong[-1:], [windows.spans(300_000)[1]])
    scores = collector.scores()
    assert scores.clip_ids == ("short", "a", "b")
    adder = OverlapAdd(windows, 2)
    spans = windows.spans(400_001)
    of_b = [adder.add(span, strong[row].numpy().T) for row, span in enumerate(spans)]
    np.testing.assert_array_equal(scores.of("b").values, np.concatenate(of_b))
    assert scores.of("b").boundaries_s[-1] == 400_001 / 16000
    assert len(scores.of("a").values) == windows.n_frames(170_000)
