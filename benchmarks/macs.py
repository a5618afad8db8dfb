"""Count multiply-accumulate operations of matrix products and convolutions without computing them.

`local.training.macs` counts with thop, which a GPU machine may lack and which does not count
attention; it adds batch norm and pooling, 1 % of the network.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from desed_task.encoders.beats.encoder import BeatsConfig
from desed_task.encoders.beats.model import Beats
from desed_task.encoders.weights_file import ENCODER_RATE
from local.config import RecipeConfig


def network_macs(network: nn.Module, config: RecipeConfig, n_tokens: int) -> int:
    """Count the operations of a CRNN for one clip, without the embeddings."""
    data, feats = config.data, config.feats
    n_frames = round(data.audio_max_len * data.fs) // feats.hop_length + 1
    # "meta": shapes without values; it takes the same code path as GPUs and exports.
    subject = copy.deepcopy(network).to("meta").eval()
    mel = torch.empty(1, feats.n_mels, n_frames, device="meta")
    embedding = torch.empty(1, config.net.embedding_size, n_tokens, device="meta")
    with torch.no_grad(), _counter() as counter:
        subject(mel, embedding)
    return int(counter.get_total_flops()) // 2


def beats_macs(config: BeatsConfig, clip_s: float) -> int:
    """Count the operations of BEATs for one clip."""
    with FakeTensorMode(), torch.no_grad():
        beats = Beats(config).eval()
        with _counter() as counter:
            beats(torch.empty(1, round(clip_s * ENCODER_RATE)))
    return int(counter.get_total_flops()) // 2


def _counter() -> FlopCounterMode:
    # PyTorch counts attention on GPUs only.
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={attention: _attention})


def _attention(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))
