"""The scorer of a checkpoint of this recipe: front end, encoder and CRNN."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from desed_task.checkpoints.spec import Detector, DetectorSpec
from desed_task.encoders.interface import EmbeddingModel, check_encoder
from desed_task.errors import InputError, count_of
from desed_task.inference.encoder_files import refuse_other_encoders
from desed_task.inference.scorers.interface import Scorer


class CrnnScorer(Scorer):
    """One of the networks of a checkpoint.

    Args:
        detector: the loaded checkpoint.
        encoder: of its embeddings; a network that takes none needs none.
        role: "student" or "teacher".
        device: where to compute.
        path: file of the checkpoint.

    Raises:
        InputError: for an unknown role, and an encoder that is missing or does not fit.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        encoder: EmbeddingModel | None,
        role: str,
        device: torch.device,
        path: str = "",
    ) -> None:
        if role not in detector.networks:
            raise InputError(f"no network {role!r}; known: {', '.join(detector.networks)}")
        self.spec, self.device, self.role, self.path = detector.spec, device, role, path
        self.network = detector.networks[role].eval().to(device)
        self.front_end = detector.front_end.eval().to(device)
        self.encoder = None
        if self.network.embedding_size:
            self.encoder = _fitting(encoder, self.spec)
            refuse_other_encoders(self.encoder, self.spec.encoders)
            self.encoder.to(device)
        self.classes, self.grid = tuple(self.spec.classes), self.spec.grid
        self.median_filter, self.decoder = self.spec.median_filter, self.spec.decoder

    @property
    def title(self) -> str:
        """The number of its classes."""
        return f"CRNN, {count_of(len(self.classes), 'class', 'classes')}"

    @property
    def mel_settings(self) -> dict[str, Any]:
        """Those of its own front end."""
        return self.spec.front_end

    @torch.inference_mode()
    def scores(self, waveform: Tensor) -> Tensor:
        """See `Scorer`."""
        found = self.network(self.front_end(waveform), self._embedded(waveform))
        scores: Tensor = found.strong.transpose(1, 2).float()
        return scores

    def _embedded(self, waveform: Tensor) -> Tensor | None:
        if self.encoder is None:
            return None
        embeddings = self.encoder.embed(waveform)
        of_clips = self.spec.net.get("embedding_type") == "global"
        embedding: Tensor = embeddings.global_ if of_clips else embeddings.frame
        return embedding


def _fitting(encoder: EmbeddingModel | None, spec: DetectorSpec) -> EmbeddingModel:
    """The encoder, after checking as far as possible that the network was trained with it."""
    size = spec.net["embedding_size"]
    if encoder is None and spec.holds_encoders:
        raise InputError(
            f"the network takes embeddings of {size} features, of the encoder that its checkpoint "
            "holds; open it with SoundEventDetector.from_checkpoint, or give what "
            "encoder_from_checkpoint gives"
        )
    if encoder is None:
        raise InputError(
            f"the network takes embeddings of {size} features; give the file of weights that "
            "they were extracted with"
        )
    check_encoder(encoder, size=size, sample_rate=spec.sample_rate)
    return encoder
