"""Encoders that run inside the training step and that checkpoints hold, student's and teacher's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from desed_task.checkpoints.encoder_specs import EncoderSpec
from desed_task.checkpoints.stored_encoders import (
    check_storable,
    encoder_from_checkpoint,
    sizes_text,
)
from desed_task.encoders.interface import EmbeddingModel
from local.config import RecipeConfig


def encoders_stored(config: RecipeConfig, encoder: EmbeddingModel) -> list[EncoderSpec]:
    """What a checkpoint's specification says of the encoders that it holds.

    Args:
        config: of the training.
        encoder: the student's or the teacher's.
    """
    n_samples = round(config.data.audio_max_len * encoder.sample_rate)
    kept = {choice.name: choice.n_blocks or 0 for choice in config.pretrained.encoders}
    return [
        EncoderSpec(
            part.name,
            part.width,
            part.sha256,
            kept.get(part.name, 0),
            part.n_tokens(n_samples),
            sizes_text(part),
        )
        for part in encoder.parts
    ]


def encoder_in_checkpoint(
    config: RecipeConfig, checkpoint: Mapping[str, Any], origin: str
) -> EmbeddingModel | None:
    """The encoder that a module of a checkpoint begins with: the student's, on the CPU.

    Args:
        config: what the checkpoint is used with.
        checkpoint: its content.
        origin: path of the checkpoint.

    Returns:
        None if encoders do not run inside the step.

    Raises:
        InputError: tensors of the encoder are missing or wrong.
    """
    if not config.runs_encoders:
        return None
    return encoder_from_checkpoint(checkpoint, "student", origin)


def check_given_back(encoder: EmbeddingModel | None) -> None:
    """Refuse a training whose checkpoints would not give its encoder back.

    Args:
        encoder: what runs inside the step; None for none.

    Raises:
        InputError: naming what its class lacks.
    """
    if encoder is not None:
        check_storable(encoder)
