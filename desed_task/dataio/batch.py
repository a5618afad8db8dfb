"""A batch of clips: what the data path hands to a training step."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor


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
    """Rows of clips; a NamedTuple because collation and Lightning's device moves take those.

    Attributes:
        waveform: (batch, sample), float32 in [-1, 1].
        target: (batch, class, frame), float32 in [0, 1].
        known: (batch, class), bool: classes annotated in the row's corpus.
        source: (batch,), a `Source` each.
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
    waveform, target, known, source, embedding, names = zip(*rows, strict=True)
    return SedBatch(
        torch.stack(waveform),
        torch.stack(target),
        torch.stack(known),
        torch.stack(source),
        torch.stack(embedding),
        tuple(name for row_names in names for name in row_names),
    )
