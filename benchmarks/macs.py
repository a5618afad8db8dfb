"""Multiply-accumulate operations of matrix products and convolutions, counted without computing.

`local.training.macs` counts with thop, which a GPU machine may lack and which knows no attention;
it adds batch norm and pooling, 1 % of the network.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from desed_task.encoders.beats.encoder import BeatsConfig
from desed_task.encoders.beats.model import BEATS_SAMPLE_RATE, Beats
from local.config import RecipeConfig


def network_macs(network: nn.Module, config: RecipeConfig, n_tokens: int) -> int:
    """Of one clip through a CRNN, embeddings given."""
    data, feats = config.data, config.feats
    n_frames = round(data.audio_max_len * data.fs) // feats.hop_length + 1
    # "meta": shapes without values; GPUs and exports take the modules' way, as this does.
    subject = copy.deepcopy(network).to("meta").eval()
    mel = torch.empty(1, feats.n_mels, n_frames, device="meta")
    embedding = torch.empty(1, config.net.embedding_size, n_tokens, device="meta")
    with torch.no_grad(), _counter() as counter:
        subject(mel, embedding)
    return int(counter.get_total_flops()) // 2


def beats_macs(config: BeatsConfig, clip_s: float) -> int:
    """Of one clip through BEATs."""
    with FakeTensorMode(), torch.no_grad():
        beats = Beats(config).eval()
        with _counter() as counter:
            beats(torch.empty(1, round(clip_s * BEATS_SAMPLE_RATE)))
    return int(counter.get_total_flops()) // 2


def _counter() -> FlopCounterMode:
    # PyTorch counts attention on GPUs only.
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={attention: _attention})


def _attention(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))
