"""The encoders of a training that starts from the weights of a checkpoint.

Where the checkpoint holds encoders, that of the student starts from the student's and that of the
teacher from the teacher's. Otherwise both are those of the configured files. A training on stored
embeddings has no encoder and leaves those of a checkpoint out.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from desed_task.checkpoints.encoder_specs import EncoderSpec, in_words
from desed_task.checkpoints.safe_load import load_safely
from desed_task.checkpoints.spec import DetectorSpec
from desed_task.checkpoints.state_names import ENCODER_PREFIXES, holds_encoders, is_bare
from desed_task.checkpoints.stored_encoders import encoder_from_checkpoint, sizes_text
from desed_task.checkpoints.tensor_shapes import check_tensors
from desed_task.encoders.interface import EmbeddingModel
from desed_task.errors import InputError
from local.config import RecipeConfig

_FAULT: Final = "does not hold the encoders that the configuration describes"


def initial_encoder(config: RecipeConfig) -> EmbeddingModel | None:
    """The encoder of the checkpoint that a training starts from, on the CPU.

    Args:
        config: of the new training, with `initial_weights`.

    Returns:
        The student's; None where the training has no encoder of its own or begins with that of the
        configured files.

    Raises:
        InputError: tensors of the encoder are missing or wrong.
    """
    origin = config.initial_weights.checkpoint
    if not origin or not config.runs_encoders:
        return None
    content = load_safely(Path(origin))
    if is_bare(content) or not holds_encoders(content["state_dict"]):
        return None
    return encoder_from_checkpoint(content, "student", origin)


def check_same_encoders(there: DetectorSpec, config: RecipeConfig, origin: str) -> None:
    """Refuse the weights of a network that was trained with other encoders.

    A training on stored embeddings that starts from another such one is only warned
    (`local.checkpoints.encoders.stored_embeddings`).

    Args:
        there: of the checkpoint.
        config: of the new training.
        origin: path of the checkpoint.

    Raises:
        InputError: stating both.
    """
    if not (there.encoders and (there.holds_encoders or config.runs_encoders)):
        return
    here = [EncoderSpec(one.name, n_blocks=one.n_blocks or 0) for one in config.pretrained.encoders]
    before, now = ([(one.name, one.n_blocks) for one in each] for each in (there.encoders, here))
    if before != now:
        raise InputError(
            f"{origin}: its network was trained with {in_words(there.encoders)}, here it would "
            f"get tokens of {in_words(here)}; give pretrained.model and pretrained.n_blocks of "
            "the checkpoint, or start from another one"
        )


def load_initial_encoders(
    module: torch.nn.Module, checkpoint: Mapping[str, Any], config: RecipeConfig, origin: str
) -> str:
    """Load the encoders of a checkpoint into a module that has them.

    Args:
        module: with `encoder_student` and `encoder_teacher`, each None or an `EmbeddingModel`.
        checkpoint: whose weights the training starts from.
        config: of the training.
        origin: path of the checkpoint.

    Returns:
        A line that says where the encoders are from; "" if there are none on either side.

    Raises:
        InputError: naming each tensor that does not fit, or sizes that tensors do not tell.
    """
    encoder, state = module.encoder_student, checkpoint["state_dict"]
    held, bare = holds_encoders(state), is_bare(checkpoint)
    spec = None if bare else DetectorSpec.of_checkpoint(checkpoint, origin)
    if not isinstance(encoder, EmbeddingModel):
        if not held:
            return ""
        return (
            f"encoder: that of {origin}, with which the network was trained, is left out, as "
            "stored embeddings are read here (pretrained.e2e: false)"
        )
    if not held:
        if spec is not None:
            _warn_of_other_files(spec, encoder, origin)
        files = ", ".join(one.file for one in config.pretrained.encoders)
        return f"encoder: that of {files} for student and teacher, as {origin} holds none"
    if spec is not None:
        _check_sizes(spec, encoder, origin)
    own, given = _of_encoders(module.state_dict()), _of_encoders(state)
    check_tensors(own, given, origin, _FAULT)
    module.load_state_dict(given, strict=False)
    return f"encoder: that of {origin}, student from student, teacher from teacher"


def _of_encoders(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefixes = tuple(ENCODER_PREFIXES.values())
    return {name: value for name, value in state.items() if name.startswith(prefixes)}


def _check_sizes(spec: DetectorSpec, encoder: EmbeddingModel, origin: str) -> None:
    differing = [
        f"{part.name}: {one.sizes} in the checkpoint, {sizes_text(part)} here"
        for part, one in zip(encoder.parts, spec.encoders, strict=True)
        if one.sizes and one.sizes != sizes_text(part)
    ]
    if differing:
        raise InputError.collect(differing, f"{origin} {_FAULT}:")


def _warn_of_other_files(spec: DetectorSpec, encoder: EmbeddingModel, origin: str) -> None:
    """Warn if a network that was trained on stored embeddings gets tokens of other weights."""
    for part, one in zip(encoder.parts, spec.encoders, strict=False):
        if one.digits and part.sha256 and part.sha256 != one.checkpoint_sha256:
            warnings.warn(
                f"{origin} was trained on embeddings of other {one.title} weights ({one.digits}) "
                f"than those here ({part.sha256[:12]}...); give their file in "
                "pretrained.checkpoint",
                UserWarning,
                stacklevel=3,
            )
