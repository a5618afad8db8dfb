"""Count multiply-accumulate operations of matrix products and convolutions of the CRNN.

`local.training.macs` counts with thop, which a GPU machine may lack and which does not count
attention; it adds batch norm and pooling, 1 % of the network.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from desed_task.encoders.macs import macs_counter
from local.config import RecipeConfig


def network_macs(network: nn.Module, config: RecipeConfig, n_tokens: int) -> int:
    """Count the operations of a CRNN for one clip, without the embeddings."""
    data, feats = config.data, config.feats
    n_frames = round(data.audio_max_len * data.fs) // feats.hop_length + 1
    # "meta": shapes without values; it takes the same code path as GPUs and exports.
    subject = copy.deepcopy(network).to("meta").eval()
    mel = torch.empty(1, feats.n_mels, n_frames, device="meta")
    embedding = torch.empty(1, config.net.embedding_size, n_tokens, device="meta")
    with torch.no_grad(), macs_counter() as counter:
        subject(mel, embedding)
    return int(counter.get_total_flops()) // 2
