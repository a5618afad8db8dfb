"""Align the embeddings of a pretrained model with the frames of the CNN."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from desed_task.errors import InputError

AGGREGATIONS: Final = ("pool1d", "interpolate", "frame", "global")
FRAME_ENCODER_CELLS: Final = 512


def check_embeddings(embeddings: Tensor | None, size: int, aggregation: str) -> Tensor:
    """The embeddings, after checking that a network with `embedding_size` = `size` takes them.

    Args:
        embeddings: (batch, feature, token), or (batch, feature) for the aggregation "global".
        size: features the network was built for.
        aggregation: one of AGGREGATIONS.

    Raises:
        InputError: if they are missing, have another number of features, or are one per clip where
            one per token is needed.
    """
    if embeddings is None:
        raise InputError("the network uses embeddings and none were given; extract them first")
    shape = tuple(embeddings.shape)
    if embeddings.ndim < 2 or shape[1] != size:
        raise InputError(
            f"embeddings of shape {shape} (batch, feature, token) do not have the "
            f"net.embedding_size = {size} features the network was built for; set it to the "
            "model's size or extract the embeddings again with the model it was built for"
        )
    if embeddings.ndim != 3 and not (embeddings.ndim == 2 and aggregation == "global"):
        raise InputError(
            f"embeddings of shape {shape} have no tokens, which net.aggregation_type = "
            f"{aggregation!r} needs; use the frame embeddings, or 'global'"
        )
    return embeddings


def pool_tokens(embeddings: Tensor, n_frames: int) -> Tensor:
    """Mean of the tokens on each frame: (batch, feature, token) -> (batch, frame, feature).

    Embeddings that were pooled beforehand, with one token per frame, are left unchanged.
    """
    n_tokens = embeddings.shape[-1]
    if n_tokens == n_frames:
        return embeddings.transpose(1, 2)
    if embeddings.device.type == "mps" and n_tokens % n_frames:
        # PyTorch pools there only into equal parts.
        return (embeddings @ token_shares(n_tokens, n_frames).to(embeddings)).transpose(1, 2)
    return F.adaptive_avg_pool1d(embeddings, n_frames).transpose(1, 2)


def token_shares(n_tokens: int, n_frames: int) -> Tensor:
    """(token, frame): the share of each token in the mean that adaptive pooling takes."""
    frame, token = torch.arange(n_frames), torch.arange(n_tokens)[:, None]
    first, behind = frame * n_tokens // n_frames, -((frame + 1) * -n_tokens // n_frames)
    return ((token >= first) & (token < behind)).float() / (behind - first)


def nearest_tokens(embeddings: Tensor, n_frames: int) -> Tensor:
    """The nearest token of each frame: (batch, feature, token) -> (batch, frame, feature)."""
    return F.interpolate(embeddings, size=n_frames, mode="nearest-exact").transpose(1, 2)


def clip_embedding(embeddings: Tensor) -> Tensor:
    """One embedding per clip: (batch, feature) stays, (batch, feature, token) is averaged."""
    return embeddings if embeddings.ndim == 2 else embeddings.mean(-1)


def frame_encoder(embedding_size: int) -> nn.GRU:
    """The BiGRU that reads the tokens of a clip for the aggregation "frame"."""
    return nn.GRU(embedding_size, FRAME_ENCODER_CELLS, batch_first=True, bidirectional=True)


def shrink(n_in: int, n_out: int) -> nn.Sequential:
    """A projection of a clip's embedding to the CNN's number of features."""
    return nn.Sequential(nn.Linear(n_in, n_out), nn.LayerNorm(n_out))
