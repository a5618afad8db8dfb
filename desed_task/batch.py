"""The batch of clips that data loaders yield, and its collation."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from torch import Tensor
from torch.utils.data import default_collate


class Source(IntEnum):
    """Where a row of a batch comes from; the first five in the order of a training batch."""

    MAESTRO_REAL = 0
    SYNTHETIC = 1
    STRONG_REAL = 2
    WEAK = 3
    UNLABELLED = 4
    DEVTEST = 5
    EVALUATION = 6


class SedBatch(NamedTuple):
    """A batch of clips; a NamedTuple, as collation and Lightning's device transfer support those.

    Attributes:
        waveform: (batch, sample), float32 in [-1, 1].
        target: (batch, class, frame), float32 in [0, 1].
        known: (batch, class), bool: classes annotated in the row's corpus.
        source: (batch,), the `Source` of each row.
        embedding: (batch, feature, token), or (batch, feature) for global ones.
        clip_id: file stems.
    """

    waveform: Tensor
    target: Tensor
    known: Tensor
    source: Tensor
    embedding: Tensor
    clip_id: tuple[str, ...]


def collate(rows: Sequence[SedBatch]) -> SedBatch:
    """Stack rows (the same fields without the batch axis) into a batch."""
    # In a worker it stacks straight into shared memory: torch.stack costs a second copy of 130 MB.
    *columns, names = zip(*rows, strict=True)
    waveform, target, known, source, embedding = (default_collate(list(c)) for c in columns)
    clip_id = tuple(name for row_names in names for name in row_names)
    return SedBatch(waveform, target, known, source, embedding, clip_id)
