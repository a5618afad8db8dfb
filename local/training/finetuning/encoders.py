"""The encoders that run inside a step: loaded for a training, and run for both networks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor

from desed_task.augment.step import AugmentedStep
from desed_task.encoders.concatenated import ConcatenatedEncoders
from desed_task.encoders.interface import EmbeddingModel, check_encoder
from desed_task.encoders.loading import load_encoder
from desed_task.errors import InputError
from local.config import RecipeConfig

STUDENT, TEACHER = "student", "teacher"
Features = tuple[Tensor, ...]


def load_step_encoder(config: RecipeConfig) -> EmbeddingModel | None:
    """The encoder of the configured files, on the CPU; None if none runs inside the step.

    Several are joined on the frames of the network.

    Raises:
        InputError: a file is missing or cannot be used.
    """
    if not config.runs_encoders:
        return None
    parts = [
        load_encoder(choice.file, choice.name, n_blocks=choice.n_blocks)
        for choice in config.pretrained.encoders
    ]
    if len(parts) == 1:
        return parts[0]
    return ConcatenatedEncoders(parts, config.grid.n_frames, config.net.aggregation_type)


def for_both_roles(
    config: RecipeConfig, encoder: EmbeddingModel | None
) -> tuple[EmbeddingModel | None, EmbeddingModel | None]:
    """The encoders of student and teacher: the given one and a copy of it, which is not trained.

    Args:
        config: says whether encoders run inside the step, and whether they are trained.
        encoder: what the configuration asks for; None if it asks for none.

    Raises:
        InputError: one is missing or not asked for, or its embeddings or sample rate are not those
            of the network.
    """
    if not config.runs_encoders:
        if encoder is not None:
            raise InputError(
                f"{encoder.name} was given, but encoders do not run inside the step; set "
                "pretrained.e2e: true and net.use_embeddings: true"
            )
        return None, None
    if encoder is None:
        raise InputError(
            "pretrained.e2e: true, but no encoder was given; load it with load_step_encoder"
        )
    size = config.net.embedding_size
    assert size is not None
    check_encoder(encoder, size=size, sample_rate=config.data.fs)
    pretrained = config.pretrained
    encoder.requires_grad_(not pretrained.freezed)
    teacher = copy.deepcopy(encoder).requires_grad_(False)
    for part in encoder.parts:
        part.gradient_checkpointing = pretrained.gradient_checkpointing
    return encoder, teacher


class StepEncoders:
    """Runs the encoders of both networks; the Lightning module holds them.

    Args:
        student: encoder of the student.
        teacher: encoder of the teacher.
        kind: `net.embedding_type`.
        frozen: whether neither is trained.
    """

    def __init__(
        self, student: EmbeddingModel, teacher: EmbeddingModel, kind: str, *, frozen: bool
    ) -> None:
        self.of_role: Mapping[str, EmbeddingModel] = {STUDENT: student, TEACHER: teacher}
        self.kind, self.frozen = kind, frozen
        self._compared: tuple[tuple[int, ...], bool] | None = None

    def front_ends(self, waveform: Tensor) -> Features:
        """What the front end of each encoder gives for (batch, sample)."""
        return self.of_role[STUDENT].front_ends(waveform)

    def embedding(self, role: str, features: Features) -> Tensor:
        """(batch, feature, token) embeddings of a role, or (batch, feature) for "global".

        Only the student's have a gradient, and only if it is trained.
        """
        trained = role == STUDENT and not self.frozen
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            found = self.of_role[role].embed_features(features)
        return found.global_ if self.kind == "global" else found.frame

    def embedded(self, step: AugmentedStep) -> AugmentedStep:
        """A step with the embeddings of both networks' inputs."""
        inputs = {STUDENT: step.student.encoder_inputs, TEACHER: step.teacher.encoder_inputs}
        found = self.of_both(inputs)
        return step._replace(
            student=step.student._replace(embedding=found[STUDENT]),
            teacher=step.teacher._replace(embedding=found[TEACHER]),
        )

    def of_both(self, features: Mapping[str, Features]) -> dict[str, Tensor]:
        """Role -> embeddings, computed once where features and frozen weights are the same."""
        student = self.embedding(STUDENT, features[STUDENT])
        pairs = zip(features[STUDENT], features[TEACHER], strict=True)
        same = self.frozen and all(one is other for one, other in pairs) and self._alike()
        return {
            STUDENT: student,
            TEACHER: student if same else self.embedding(TEACHER, features[TEACHER]),
        }

    def _alike(self) -> bool:
        """Whether both have the same weights; compared again only after they have changed."""
        tensors = [[*chain(one.parameters(), one.buffers())] for one in self.of_role.values()]
        version = tuple(
            0 if value.is_inference() else value._version for value in chain.from_iterable(tensors)
        )
        if self._compared is None or self._compared[0] != version:
            alike = all(map(torch.equal, *tensors))
            self._compared = version, alike
        return self._compared[1]
