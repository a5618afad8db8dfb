"""Small checkpoints that hold their encoders, as trainings with `pretrained.e2e` write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from desed_task.checkpoints.encoder_specs import EncoderSpec, embedding_section
from desed_task.checkpoints.spec import DetectorSpec
from desed_task.checkpoints.state_names import ENCODER_PREFIXES
from desed_task.checkpoints.stored_encoders import sizes_text
from desed_task.encoders.concatenated import ConcatenatedEncoders
from desed_task.encoders.interface import EmbeddingModel, Encoder
from desed_task.encoders.loading import load_encoder
from tests.desed_task.checkpoints.example_checkpoints import small_spec, tensors


def tuned_encoders(files: Sequence[Path], n_blocks: int | None = None) -> dict[str, list[Encoder]]:
    """Role -> encoders of the files after some training, other ones in student and teacher."""
    found: dict[str, list[Encoder]] = {}
    for seed, role in enumerate(ENCODER_PREFIXES):
        generator = torch.Generator().manual_seed(seed)
        found[role] = [load_encoder(path, n_blocks=n_blocks) for path in files]
        for encoder in found[role]:
            for parameter in encoder.parameters():
                parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    return found


def with_encoders(
    spec: DetectorSpec, encoders: dict[str, list[Encoder]], n_blocks: int | None = None
) -> tuple[DetectorSpec, dict[str, Tensor], dict[str, EmbeddingModel]]:
    """The specification and tensors of a checkpoint that holds encoders; and these, by role."""
    parts = encoders["student"]
    told = [
        EncoderSpec(
            part.name,
            part.width,
            part.sha256,
            n_blocks or 0,
            part.n_tokens(round(spec.clip_s * 16000)),
            sizes_text(part),
        )
        for part in parts
    ]
    section = embedding_section(sum(part.width for part in parts), told, in_checkpoint=True)
    spec = replace(spec, embedding=section, net={**spec.net, "embedding_size": section["size"]})
    models: dict[str, EmbeddingModel] = {}
    for role, its in encoders.items():
        aligned = spec.grid.n_frames, spec.net["aggregation_type"]
        models[role] = its[0] if len(its) == 1 else ConcatenatedEncoders(its, *aligned)
    state = tensors(spec)
    for role, model in models.items():
        named = model.state_dict()
        state |= {ENCODER_PREFIXES[role] + name: value for name, value in named.items()}
    return spec, state, models


def fine_tuned(
    *files: Path, n_blocks: int | None = None, **net: Any
) -> tuple[dict[str, Any], dict[str, EmbeddingModel]]:
    """What such a checkpoint of a small network holds, and its encoders by role."""
    encoders = tuned_encoders(files, n_blocks)
    spec, state, models = with_encoders(small_spec(**net), encoders, n_blocks)
    return {"state_dict": state, "detector": spec.to_dict(), "hyper_parameters": {}}, models
