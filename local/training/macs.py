"""Count the multiply-accumulate operations of the network with thop."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable
from typing import NamedTuple

import torch

if sys.version_info >= (3, 12):
    # thop imports distutils. In an environment setuptools provides it unasked, but not where it
    # lies in a folder of PYTHONPATH.
    import setuptools  # noqa: F401
import thop

from desed_task.dataio.embeddings import RowReader
from desed_task.encoders.interface import EmbeddingModel
from desed_task.nnet.CNN import GLU, ContextGating
from desed_task.nnet.CRNN import CRNN
from local.config import RecipeConfig

_BEATS_RATE = 49.6  # tokens per second of a clip of 10 s


class Macs(NamedTuple):
    """Operations and parameters of a network."""

    macs: int  # multiply-accumulate operations for `clip_s` seconds
    parameters: int
    clip_s: float


def count_macs(
    network: CRNN,
    config: RecipeConfig,
    clip_s: float = 10.0,
    *,
    readers: Iterable[RowReader | None] = (),
    encoder: EmbeddingModel | None = None,
) -> Macs:
    """Operations of `network` for one clip of `clip_s` seconds, without computing embeddings.

    Args:
        network: the CRNN.
        config: its configuration.
        clip_s: length of the clip, seconds.
        readers: of its embeddings, for their number of tokens; without any, that of BEATs.
        encoder: that runs inside the step, whose number of tokens counts, not its operations.

    thop adds buffers to the module, which must not reach a checkpoint, so it gets a copy.
    """
    subject = copy.deepcopy(network).cpu().eval()
    n_frames = int(clip_s * config.feats.sample_rate) // config.feats.hop_length + 1
    inputs: tuple[torch.Tensor, ...] = (torch.zeros(1, config.feats.n_mels, n_frames),)
    if config.net.use_embeddings:
        rates = [reader.n_tokens / config.data.audio_max_len for reader in readers if reader]
        n_tokens = max(1, round((rates[0] if rates else _BEATS_RATE) * clip_s))
        if encoder is not None:
            n_tokens = max(1, encoder.n_tokens(round(clip_s * encoder.sample_rate)))
        inputs += (torch.zeros(1, network.embedding_size, n_tokens),)
    macs, parameters = thop.profile(
        subject, inputs, custom_ops={GLU: _count_gate, ContextGating: _count_gate}, verbose=False
    )
    return Macs(int(macs), int(parameters), clip_s)


def _count_gate(module: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
    # The gate's linear map runs as a 1x1 convolution, which thop's hook on nn.Linear misses.
    channels = inputs[0].shape[1]
    module.total_ops += torch.DoubleTensor([inputs[0].numel() * channels])
