"""Collects what a network says of clips over batches and processes, one store a corpus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from desed_task.evaluation.scores import Scores
from desed_task.labels import FrameGrid, Vocabulary

Rows = NDArray[np.float32]


class RowCollector:
    """Rows of clips as they come, handed out as one array when all are there.

    Args:
        row_shape: of one clip's row.
    """

    def __init__(self, row_shape: tuple[int, ...]) -> None:
        self.row_shape = row_shape
        self._clip_ids: list[str] = []
        self._rows: list[Rows] = []
        self._whole: tuple[tuple[str, ...], Rows] | None = None

    def __len__(self) -> int:
        """Rows that this process has added."""
        return len(self._clip_ids)

    def add(self, clip_ids: Sequence[str], rows: Tensor) -> None:
        """Keep the rows (clip, *row_shape) of `clip_ids`."""
        self._clip_ids.extend(clip_ids)
        self._rows.append(rows.detach().float().cpu().numpy())
        self._whole = None

    def collect(self) -> tuple[tuple[str, ...], Rows]:
        """Clips of every process, each once, sorted, and their rows (clip, *row_shape).

        The first call after `add` waits for all processes, so all of them must make it.
        """
        if self._whole is None:
            clip_ids, rows = _of_all_processes(self._clip_ids, self._stacked())
            # Samplers of several processes repeat clips to give each process as many.
            kept, first = np.unique(np.asarray(clip_ids, dtype=object), return_index=True)
            self._whole = tuple(kept), rows[first]
        return self._whole

    def _stacked(self) -> Rows:
        return np.concatenate([np.empty((0, *self.row_shape), dtype=np.float32), *self._rows])


class ScoreCollector(RowCollector):
    """Frame scores of clips.

    Args:
        vocabulary: classes of the score columns.
        grid: frames of the score rows.
    """

    def __init__(self, vocabulary: Vocabulary, grid: FrameGrid) -> None:
        super().__init__((len(vocabulary), grid.n_frames))
        self.vocabulary = vocabulary
        self.grid = grid

    def scores(self) -> Scores:
        """Scores of every clip that was added, as (class, frame) rows, by any process."""
        clip_ids, rows = self.collect()
        values = np.ascontiguousarray(rows.transpose(0, 2, 1))
        return Scores(clip_ids, values, self.grid.boundaries_s, self.vocabulary)


def _of_all_processes(clip_ids: list[str], rows: Rows) -> tuple[list[str], Rows]:
    if not (dist.is_available() and dist.is_initialized()):
        return clip_ids, rows
    parts: list[tuple[list[str], Rows]] = [([], rows)] * dist.get_world_size()
    dist.all_gather_object(parts, (clip_ids, rows))
    return [name for names, _ in parts for name in names], np.concatenate([p[1] for p in parts])
