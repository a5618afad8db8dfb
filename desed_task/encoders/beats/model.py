"""BEATs, the audio transformer whose frame embeddings the CRNN takes, for inference.

    beats = load_beats("pretrained_models/BEATs_iter3_plus_AS2M.pt", "cuda")
    frame, global_ = beats(waveform)  # (batch, 768, 496), (batch, 768) for 10 s

Chen et al., "BEATs: Audio Pre-Training with Acoustic Tokenizers", ICML 2023; see
docs/method.md, Embeddings. `load_beats` reads the published checkpoints ({"cfg", "model"}) and
`write_random_beats` writes small ones in the same format.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from desed_task.atomic_files import PathLike, atomic_path
from desed_task.encoders.beats.encoder import BeatsConfig, Encoder, EncoderLayer
from desed_task.encoders.beats.weight_names import StateDict, from_published, to_published
from desed_task.encoders.beats.weights_file import (
    BEATS_SAMPLE_RATE,
    SOURCE,
    find_beats,
)
from desed_task.encoders.kaldi_fbank import KaldiFbank
from desed_task.errors import InputError, loading_reason

N_MELS = 128
FBANK_MEAN = 15.41663
FBANK_STD = 6.55582
FLOAT_TO_INT16 = 2.0**15


class BeatsOutput(NamedTuple):
    """Embeddings of clips.

    Attributes:
        frame: (batch, feature, token); tokens run over the mel patches of a moment, then over time.
        global_: (batch, feature), the mean over tokens.
    """

    frame: Tensor
    global_: Tensor


class Beats(nn.Module):
    """Waveforms to embeddings; for inference, without dropout."""

    def __init__(self, config: BeatsConfig) -> None:
        """With PyTorch's default initialisation; `load_beats` loads the weights."""
        super().__init__()
        self.config = config
        width, patch = config.embed_dim, config.input_patch_size
        self.fbank = KaldiFbank(N_MELS, sample_rate=BEATS_SAMPLE_RATE)
        self.patch_embedding = nn.Conv2d(1, width, patch, stride=patch, bias=config.conv_bias)
        self.layer_norm = nn.LayerNorm(width)
        self.post_extract_proj = (
            nn.Linear(width, config.encoder_embed_dim)
            if width != config.encoder_embed_dim
            else nn.Identity()
        )
        self.encoder = Encoder(config)

    @property
    def size(self) -> int:
        """Length of an embedding."""
        return self.config.encoder_embed_dim

    def n_tokens(self, n_samples: int) -> int:
        """Frame embeddings of a waveform of `n_samples`."""
        patch = self.config.input_patch_size
        return self.fbank.n_frames(n_samples) // patch * (N_MELS // patch)

    def forward(self, waveform: Tensor) -> BeatsOutput:
        """Embed clips.

        Args:
            waveform: (batch, sample), float32 in [-1, 1], 16 kHz.

        Raises:
            ValueError: a waveform too short for one patch.
        """
        if not self.n_tokens(waveform.shape[-1]):
            raise ValueError(f"{waveform.shape[-1]} samples are too few for one BEATs patch")
        fbank = self.fbank(waveform * FLOAT_TO_INT16)
        fbank = (fbank - FBANK_MEAN) / (2 * FBANK_STD)
        patches = self.patch_embedding(fbank[:, None]).flatten(2).transpose(1, 2)
        tokens = self.encoder(self.post_extract_proj(self.layer_norm(patches)))
        return BeatsOutput(tokens.transpose(1, 2), tokens.mean(dim=1))


# What a checkpoint's `cfg` must say for this code to compute the right thing.
_SUPPORTED = {
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "relative_position_embedding": True,
    "gru_rel_pos": True,
    "deep_norm": True,
}


def check_beats(beats: Beats, *, size: int, sample_rate: int) -> None:
    """Reject a BEATs that a network cannot have been trained with.

    Args:
        beats: the model.
        size: features that the network takes.
        sample_rate: of the network's input, Hz.

    Raises:
        InputError: stating both values.
    """
    if beats.size != size:
        raise InputError(
            f"this BEATs yields embeddings of {beats.size} features, the network takes {size}; "
            "give the file of weights that it was trained with"
        )
    if sample_rate != BEATS_SAMPLE_RATE:
        raise InputError(
            f"the network takes {sample_rate} Hz and BEATs {BEATS_SAMPLE_RATE} Hz; train one at "
            "that rate"
        )


def load_beats(path: PathLike, device: torch.device | str = "cpu") -> Beats:
    """Load a self-supervised BEATs in the published file format.

    Args:
        path: file of {"cfg": ..., "model": ...}; both spellings of the published name are found.
        device: where to compute.

    Returns:
        the network in eval mode, its parameters not trainable.

    Raises:
        InputError: the file is missing, not of BEATs, fine-tuned, or of a kind that is not
            supported.
    """
    found = find_beats(path)
    cfg, state = _read_checkpoint(found)
    _refuse_unsupported(cfg, found)
    try:
        config = BeatsConfig.of(cfg)
        model = Beats(config)
        model.load_state_dict(from_published(state, config.encoder_layers), strict=True)
    except KeyError as error:
        raise InputError(f"{found}: {error} is missing: an incomplete BEATs; {SOURCE}") from None
    except RuntimeError as error:
        raise InputError(f"{found}: its weights do not fit its cfg; {SOURCE}: {error}") from None
    return model.requires_grad_(False).eval().to(device)


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], StateDict]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise whatever its bytes spell
        reason = loading_reason(error)
        raise InputError(f"{path}: not a file of weights ({reason}); {SOURCE}") from None
    parts = [checkpoint.get(key) for key in ("cfg", "model")] if _is_dict(checkpoint) else [None]
    if not all(map(_is_dict, parts)):
        raise InputError(f"{path}: not a BEATs checkpoint (no `cfg` and `model`); {SOURCE}")
    return dict(checkpoint["cfg"]), dict(checkpoint["model"])


def _is_dict(value: object) -> bool:
    return isinstance(value, dict)


def _refuse_unsupported(cfg: Mapping[str, Any], path: Path) -> None:
    if cfg.get("finetuned_model"):
        raise InputError(
            f"{path}: a fine-tuned BEATs, whose last layers were fitted to AudioSet's classes; the "
            f"baseline takes the self-supervised one: {SOURCE}"
        )
    other = [f"{k} = {cfg[k]!r}" for k, v in _SUPPORTED.items() if k in cfg and cfg[k] != v]
    if other:
        raise InputError(f"{path}: a kind of BEATs not supported ({', '.join(other)}); {SOURCE}")


# Sizes of the random BEATs that replaces the real one in the mini corpus.
SMALL_CONFIG = BeatsConfig(
    encoder_layers=2,
    encoder_embed_dim=128,
    encoder_ffn_embed_dim=256,
    encoder_attention_heads=4,
    embed_dim=64,
    conv_pos=32,
)


def write_random_beats(path: PathLike, *, seed: int, config: BeatsConfig = SMALL_CONFIG) -> None:
    """Write a small BEATs with random weights in the published file format, atomically.

    The scales of the weights are chosen so that the embeddings are informative: a linear map of
    the frame embeddings separates simple sounds in noise about as well as one of the filterbank
    itself (mean average precision 0.60 to 0.66 and 0.68 over eight made-up classes;
    0.3 with PyTorch's usual scales).

    Args:
        path: the file; its folders are created.
        seed: of the weights.
        config: sizes.
    """
    generator = torch.Generator().manual_seed(seed)
    model = Beats(config).requires_grad_(False)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("bias"):
            parameter.zero_()
        elif parameter.ndim == 2:
            parameter.normal_(std=parameter.shape[1] ** -0.5, generator=generator)
    _draw_patches(model.patch_embedding.weight, generator)
    _draw_encoder(model.encoder, generator)
    cfg = {**asdict(config), **_SUPPORTED, "finetuned_model": False}
    state = to_published(model.state_dict(), config.encoder_layers)
    # Through memory: saved to a path, the file would hold its temporary name.
    content = io.BytesIO()
    torch.save({"cfg": cfg, "model": state}, content)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getvalue())


def _draw_patches(weight: Tensor, generator: torch.Generator) -> None:
    """Random mixtures of two-dimensional cosines, the slow ones strongest, the mean weak.

    A patch's mean is its loudness; if it were strong, the layer norm that follows would leave
    little of anything else.
    """
    size = weight.shape[-1]
    order = torch.arange(float(size))
    cosines = torch.cos(math.pi / size * order[:, None] * (order + 0.5)) * (2 / size) ** 0.5
    cosines[0] *= 0.5**0.5
    gains = 1 / (1 + order[:, None] + order)
    gains[0, 0] = 0.1
    mixture = torch.randn(len(weight), size, size, generator=generator) * gains
    weight.copy_((cosines.T @ mixture @ cosines)[:, None])


def _draw_encoder(encoder: Encoder, generator: torch.Generator) -> None:
    """Draw weights that mix neighbouring patches most, so that embeddings stay local in time."""
    weight = encoder.pos_conv.weight
    n_taps = weight.shape[-1]
    near = torch.exp(-(torch.arange(n_taps) - n_taps // 2).abs() / 3)
    drawn = torch.randn(weight.shape, generator=generator) * near
    weight.copy_(drawn / drawn.square().sum(dim=(1, 2)).mean().sqrt())
    table = encoder.position_bias.table.weight
    n_side = len(table) // 2
    distance = torch.arange(n_side).repeat(2)[:, None] / n_side
    table.copy_(0.3 * torch.randn(table.shape, generator=generator) - 4 * distance)
    for layer in encoder.layers:
        assert isinstance(layer, EncoderLayer)
        value = layer.self_attn.qkv_proj.weight.chunk(3)[2]
        value.mul_(2)
        layer.fc2.weight.mul_(1.5)
