"""The tensors of a training step that augmentations change together."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from desed_task.augment.rows import rowwise


class StepInputs(NamedTuple):
    """What a network is given in a training step, and what it is compared with.

    Attributes:
        mel: (batch, mel, frame) magnitudes, before the decibel step.
        encoder_inputs: for each encoder that runs in the step what its `front_end` gives,
            (batch, band, frame); empty if embeddings were extracted beforehand.
        embedding: (batch, feature, token) embeddings that were extracted beforehand; empty if
            encoders run in the step.
        target: (batch, class, frame) in [0, 1].
        pseudo: (batch, class, frame) pseudo-labels in [0, 1]; None if there are none.
        known: (batch, class) bool, classes whose labels the target has.
    """

    mel: Tensor
    encoder_inputs: tuple[Tensor, ...]
    embedding: Tensor
    target: Tensor
    pseudo: Tensor | None
    known: Tensor


class RowMix(NamedTuple):
    """A draw of mixup with a share for each row.

    Attributes:
        partner: (batch,) int64, the row that each row is mixed with.
        share: (batch,) float32 in [0.5, 1], weight of the row itself; 1 for rows of no group.
    """

    partner: Tensor
    share: Tensor

    def blend(self, x: Tensor) -> Tensor:
        """share * x + (1 - share) * the partner's x, for x (batch, ...)."""
        share = rowwise(self.share, x).to(x.dtype)
        return share * x + (1 - share) * x[self.partner]


class AugmentedStep(NamedTuple):
    """The inputs of both networks.

    Attributes:
        student: of the student; its target, pseudo-labels and known classes are the losses'.
        teacher: of the teacher. Where consistency interpolates (`training.consistency: ict`) and
            rows were mixed, it is not mixed, and not what comes after mixup either.
        mixed: what the student's rows were mixed with where the teacher's were not, else None.
    """

    student: StepInputs
    teacher: StepInputs
    mixed: RowMix | None = None
