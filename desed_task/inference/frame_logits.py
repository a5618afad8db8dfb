"""Frame logits of clips by one checkpoint or the mean of several, for pseudo-labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from desed_task.encoders.concatenated import ConcatenatedEncoders
from desed_task.encoders.interface import ClipEmbeddings, EmbeddingModel
from desed_task.errors import InputError, count_of
from desed_task.inference.scorers.crnn import CrnnScorer
from desed_task.inference.scorers.interface import Scorer
from desed_task.labels import FrameGrid

EmbeddingKind = Literal["frame", "global"]


class JointLogits:
    """The mean of the frame logits of several checkpoints, in eval mode, without a class mask.

    Checkpoints whose encoders are the same file share one, which computes a clip once.

    Args:
        scorers: of the checkpoints; all must have the classes and frames of the task. Other orders
            of the classes are brought to that of the task.
        classes: of the task, in its order.
        grid: frames of a clip.

    Attributes:
        encoders: those of the checkpoints, each once.
        n_blocks: (encoder, part) blocks that are computed, 0 for all.
        width: frames of a clip; `Embedder` calls it so.

    Raises:
        InputError: naming a checkpoint with other classes, frames or sample rate.
    """

    def __init__(self, scorers: Sequence[Scorer], classes: Sequence[str], grid: FrameGrid) -> None:
        self.scorers = [_fitting(one, classes, grid) for one in scorers]
        self.width = grid.n_frames
        self._n_classes = len(classes)
        self._columns = [_columns(one, classes) for one in self.scorers]
        self.encoders: list[EmbeddingModel] = []
        self.n_blocks: list[tuple[int, ...]] = []
        # Of each scorer, which encoder; None where it takes no embeddings.
        self._encoder_of = [self._shared(one) for one in self.scorers]

    def n_tokens(self, n_samples: int) -> int:
        """Classes; `Embedder` asks for the second size of a row."""
        return self._n_classes

    def kinds(self, encoder: int) -> list[EmbeddingKind]:
        """The embeddings that are taken of an encoder, by its place in `encoders`, each once."""
        pairs = zip(self.scorers, self._encoder_of, strict=True)
        return list(dict.fromkeys(_kind(scorer) for scorer, place in pairs if place == encoder))

    @torch.inference_mode()
    def __call__(
        self,
        waveform: Tensor,
        stored: Mapping[tuple[int, EmbeddingKind], Tensor],
        *,
        half: bool = False,
    ) -> Tensor:
        """Logits (clip, frame, class), float32, of clips (clip, sample).

        Args:
            waveform: on the device of the scorers.
            stored: place of an encoder and kind -> its embeddings, where they need no computing.
            half: whether encoders multiply matrices in bfloat16.
        """
        computed: dict[int, ClipEmbeddings] = {}
        total = waveform.new_zeros(len(waveform), self.width, self._n_classes)
        members = zip(self.scorers, self._encoder_of, self._columns, strict=True)
        for scorer, place, columns in members:
            embedding = None
            if place is not None:
                embedding = stored.get((place, _kind(scorer)))
                if embedding is None and place not in computed:
                    with torch.autocast(waveform.device.type, torch.bfloat16, enabled=half):
                        computed[place] = self.encoders[place].embed(waveform)
                if embedding is None:
                    of_clip = _kind(scorer) == "global"
                    found = computed[place]
                    embedding = (found.global_ if of_clip else found.frame).float()
            logits = scorer.network.frame_logits(scorer.front_end(waveform), embedding)
            total += logits if columns is None else logits[..., columns]
        return total / len(self.scorers)

    def _shared(self, scorer: CrnnScorer) -> int | None:
        if scorer.encoder is None:
            return None
        if getattr(scorer.spec, "holds_encoders", False):
            # Fine-tuned: no longer the file that their training started from.
            for part in scorer.encoder.parts:
                part.sha256 = ""
        for place, one in enumerate(self.encoders):
            if scorer.encoder is one or _key(scorer.encoder) == _key(one):
                scorer.encoder = one  # which frees its own
                return place
        self.encoders.append(scorer.encoder)
        kept = {one.name: one.n_blocks for one in scorer.spec.encoders}
        self.n_blocks.append(tuple(kept[part.name] for part in scorer.encoder.parts))
        return len(self.encoders) - 1


def _key(encoder: EmbeddingModel) -> tuple[object, ...]:
    """What is equal for encoders that compute the same."""
    parts = tuple((part.name, part.sha256, len(part.layers)) for part in encoder.parts)
    joined = isinstance(encoder, ConcatenatedEncoders) and encoder.aggregation
    # Of encoders without a file, none is like another.
    return parts, joined, None if all(sha256 for _, sha256, _ in parts) else id(encoder)


def _kind(scorer: CrnnScorer) -> EmbeddingKind:
    return "global" if scorer.spec.net.get("embedding_type") == "global" else "frame"


def _fitting(scorer: Scorer, classes: Sequence[str], grid: FrameGrid) -> CrnnScorer:
    if not isinstance(scorer, CrnnScorer) or {*scorer.classes} != {*classes}:
        theirs, ours = {*scorer.classes}, {*classes}
        lacking = [one for one in classes if one not in theirs]
        more = [one for one in scorer.classes if one not in ours]
        parts = [
            f"{what} {', '.join(some[:3])}{', ...' if len(some) > 3 else ''}"
            for what, some in (("lacks", lacking), ("has", more))
            if some
        ]
        raise InputError(
            f"{scorer.name}: its classes are not those of the task ({'; '.join(parts)}); give "
            "checkpoints that were trained on this task"
        )
    if scorer.grid != grid:
        found, wanted = (
            f"{count_of(one.n_frames, 'frame')} of {one.frame_samples} samples in "
            f"{one.clip_s:g} s at {one.sample_rate} Hz"
            for one in (scorer.grid, grid)
        )
        raise InputError(
            f"{scorer.name}: has {found}, the configuration {wanted}; give the configuration that "
            "it was trained with"
        )
    return scorer


def _columns(scorer: CrnnScorer, classes: Sequence[str]) -> list[int] | None:
    """Where the task's classes are among the checkpoint's; None if the order is the same."""
    if tuple(scorer.classes) == tuple(classes):
        return None
    return [scorer.classes.index(label) for label in classes]
