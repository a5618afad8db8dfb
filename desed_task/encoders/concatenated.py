"""Several encoders at once: their embeddings, brought to common frames, joined over features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from desed_task.encoders.interface import ClipEmbeddings, EmbeddingModel, Encoder
from desed_task.errors import InputError
from desed_task.nnet.fusion import nearest_tokens, pool_tokens

NEAREST = "interpolate"


def align_tokens(embedding: Tensor, n_frames: int, aggregation: str) -> Tensor:
    """Bring the tokens of an encoder to the frames of the CRNN, as its fusion does.

    The fusion leaves the result as it is, so encoders of other token rates can be joined before.

    Args:
        embedding: (..., feature, token), of one token at least.
        n_frames: frames of the CRNN's scores.
        aggregation: `net.aggregation_type`; "interpolate" takes the nearest token, all others the
            mean of the tokens on each frame.

    Returns:
        (..., feature, n_frames), of the embedding's type.
    """
    if embedding.shape[-1] == n_frames:
        return embedding
    align = nearest_tokens if aggregation == NEAREST else pool_tokens
    aligned = align(embedding.reshape(-1, *embedding.shape[-2:]), n_frames).transpose(1, 2)
    return aligned.reshape(*embedding.shape[:-1], n_frames)


class ConcatenatedEncoders(EmbeddingModel):
    """Several encoders as one: features in the order of the encoders, one token per frame.

    Attributes:
        encoders: the encoders.
        n_frames: tokens of a clip, whatever its length.
        aggregation: how tokens are brought to frames (`align_tokens`).
    """

    def __init__(self, encoders: Sequence[Encoder], n_frames: int, aggregation: str) -> None:
        """See the class.

        Raises:
            InputError: there is no encoder, or the same twice.
        """
        super().__init__()
        names = [encoder.name for encoder in encoders]
        if not names or len(set(names)) < len(names):
            raise InputError(f"encoders {', '.join(names) or 'none'}: give several different ones")
        self.encoders = nn.ModuleList(encoders)
        self.n_frames, self.aggregation = n_frames, aggregation
        self.name = "+".join(names)
        self.width = sum(encoder.width for encoder in encoders)

    @property
    def parts(self) -> tuple[Encoder, ...]:
        """The encoders, in the order of their features."""
        return tuple(encoder for encoder in self.encoders if isinstance(encoder, Encoder))

    def n_tokens(self, n_samples: int) -> int:
        """`n_frames`; none of a waveform too short for one of the encoders."""
        return self.n_frames if all(part.n_tokens(n_samples) for part in self.parts) else 0

    def forward(self, waveform: Tensor, n_samples: Tensor | None = None) -> Tensor:
        """Aligned tokens of clips, (batch, n_frames, feature); arguments as for `Encoder`."""
        tokens = [part(waveform, n_samples).transpose(1, 2) for part in self.parts]
        return self._joined(tokens).transpose(1, 2)

    def embed(self, waveform: Tensor) -> ClipEmbeddings:
        """Embeddings of clips; the global ones are those of the encoders, one after another."""
        return self._of_clips([part.embed(waveform) for part in self.parts])

    def embed_features(self, features: Sequence[Tensor]) -> ClipEmbeddings:
        """See `EmbeddingModel`; one tensor for each encoder."""
        pairs = zip(self.parts, features, strict=True)
        return self._of_clips([part.embed_features([own]) for part, own in pairs])

    def _of_clips(self, found: Sequence[ClipEmbeddings]) -> ClipEmbeddings:
        return ClipEmbeddings(
            self._joined([one.frame for one in found]), torch.cat([one.global_ for one in found], 1)
        )

    def _joined(self, embeddings: Sequence[Tensor]) -> Tensor:
        return torch.cat(
            [align_tokens(one, self.n_frames, self.aggregation) for one in embeddings], dim=1
        )
