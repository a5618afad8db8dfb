"""Scores of batches become one array, each clip once; two processes: see test_datamodule.py."""

from __future__ import annotations

import numpy as np
import torch

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
