"""The batch of clips that data loaders yield, and its collation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from desed_task.audio.windows import Span

if TYPE_CHECKING:
    from torch import Tensor


class SourceRoles(NamedTuple):
    """What the rows of each source of a training batch take part in.

    A source is the number of a corpus.

    Attributes:
        n_sources: number of sources; the numbers are below it.
        strong: sources whose targets are events.
        weak: sources whose targets say which classes a clip contains.
        consistency: sources in the consistency loss.
        mixup_groups: sources whose rows are mixed with each other; those of no group are not mixed.
        unlabelled: sources without labels.
    """

    n_sources: int
    strong: tuple[int, ...]
    weak: tuple[int, ...]
    consistency: tuple[int, ...]
    mixup_groups: tuple[tuple[int, ...], ...]
    unlabelled: tuple[int, ...] = ()


class SedBatch(NamedTuple):
    """A batch of clips; a NamedTuple, as collation and Lightning's device transfer support those.

    Attributes:
        waveform: (batch, sample), float32 in [-1, 1].
        target: (batch, class, frame), float32 in [0, 1].
        known: (batch, class), bool: classes annotated in the row's corpus.
        source: (batch,), the number of each row's corpus.
        embedding: (batch, feature, token), or (batch, feature) for global ones.
        clip_id: the clip of each row.
        span: where each row lies in a clip that is scored in windows; None for a row that is all
            that is read of its clip. Empty if no row is a window.
    """

    waveform: Tensor
    target: Tensor
    known: Tensor
    source: Tensor
    embedding: Tensor
    clip_id: tuple[str, ...]
    span: tuple[Span | None, ...] = ()

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The fields that are tensors, in their order."""
        return self.waveform, self.target, self.known, self.source, self.embedding


def collate(rows: Sequence[SedBatch]) -> SedBatch:
    """Stack rows (the same fields without the batch axis) into a batch."""
    # Not above, as commands that only name sources do without torch, which takes a second.
    from torch.utils.data import default_collate

    # In a worker it stacks straight into shared memory: torch.stack costs a second copy of 130 MB.
    *columns, names, spans = zip(*rows, strict=True)
    waveform, target, known, source, embedding = (default_collate(list(c)) for c in columns)
    clip_id = tuple(name for row_names in names for name in row_names)
    span = spans_of_rows([row[0] if row else None for row in spans])
    return SedBatch(waveform, target, known, source, embedding, clip_id, span)


def spans_of_rows(spans: Sequence[Span | None]) -> tuple[Span | None, ...]:
    """The value of `SedBatch.span` for rows with these spans."""
    return tuple(spans) if any(spans) else ()
