"""BEATs, the audio transformer whose frame embeddings the CRNN takes, for inference.

    beats = load_beats("pretrained_models/BEATs_iter3_plus_AS2M.pt", "cuda")
    beats(waveform)  # (batch, 496, 768) for 10 s

Chen et al., "BEATs: Audio Pre-Training with Acoustic Tokenizers", ICML 2023; see docs/method.md,
Embeddings. `load_encoder` reads the published checkpoints, `write_random_beats` writes small ones.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from desed_task.atomic_files import PathLike, atomic_path
from desed_task.encoders.beats.encoder import BeatsConfig, BeatsTransformer, EncoderLayer
from desed_task.encoders.beats.weight_names import (
    from_published,
    sizes_from_shapes,
    to_published,
    with_new_weight_norm,
    with_old_weight_norm,
)
from desed_task.encoders.files.tensors import (
    check_encoder_tensors,
    encoder_of_tensors,
    n_layers_of,
    warn_of_rest,
)
from desed_task.encoders.interface import Encoder, EncoderWeights, numbered
from desed_task.encoders.kaldi_fbank import FRAME_RATE, LOW_HZ, KaldiFbank
from desed_task.errors import InputError
from desed_task.features import LOG_POWER_PER_DB, SpectrumLayout, mel_centres_hz

N_MELS = 128
FBANK_MEAN = 15.41663
FBANK_STD = 6.55582
FLOAT_TO_INT16 = 2.0**15


# What a checkpoint's `cfg` must say for this code to compute the right thing.
_SUPPORTED = {
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "relative_position_embedding": True,
    "gru_rel_pos": True,
    "deep_norm": True,
}
# Names that only BEATs has.
_TELLING = (
    "post_extract_proj.weight",
    "patch_embedding.weight",
    "encoder.pos_conv.0.bias",
    "encoder.layers.0.self_attn.grep_a",
    "encoder.layers.0.self_attn.relative_attention_bias.weight",
)


class Beats(Encoder):
    """BEATs, without dropout. Tokens run over the mel patches of a moment, then over time."""

    name = "beats"
    prefixes = ("", "model.model.", "model.beats.")
    spectrum = SpectrumLayout(
        LOG_POWER_PER_DB / (2 * FBANK_STD), mel_centres_hz(N_MELS, LOW_HZ, 8000), FRAME_RATE
    )

    def __init__(self, config: BeatsConfig) -> None:
        """With PyTorch's default initialisation; `load_beats` loads the weights."""
        super().__init__()
        self.config = config
        width, patch = config.embed_dim, config.input_patch_size
        self.width = config.encoder_embed_dim
        self.fbank = KaldiFbank(N_MELS, sample_rate=self.sample_rate)
        self.patch_embedding = nn.Conv2d(1, width, patch, stride=patch, bias=config.conv_bias)
        self.layer_norm = nn.LayerNorm(width)
        self.post_extract_proj = (
            nn.Linear(width, self.width) if width != self.width else nn.Identity()
        )
        self.encoder = BeatsTransformer(config)

    @classmethod
    def is_in(cls, state: Mapping[str, Tensor]) -> float:
        """The share of its most telling names among the tensors."""
        return sum(name in state for name in _TELLING) / len(_TELLING)

    @classmethod
    def from_weights(cls, weights: EncoderWeights) -> Beats:
        """See `Encoder`; without `cfg`, sizes are those of the tensors, max_distance is 800."""
        cfg, origin = weights.cfg, weights.origin
        other = [f"{k} = {cfg[k]!r}" for k, v in _SUPPORTED.items() if k in cfg and cfg[k] != v]
        if other:
            raise InputError(f"{origin}: a kind of BEATs not supported ({', '.join(other)})")
        state = with_old_weight_norm(weights.state)
        n_layers_of(list(numbered(state, "encoder.layers.")), origin)
        try:
            config = BeatsConfig.of(cfg) if cfg else sizes_from_shapes(state)
            n_layers_of([config.encoder_layers - 1], f"{origin}: its cfg")
            with torch.device("meta"):
                expected = to_published(cls(config).state_dict(), config.encoder_layers)
        except KeyError as error:
            raise InputError(f"{origin}: its cfg has no {error}: an incomplete BEATs") from None
        except (RuntimeError, ValueError, TypeError, ZeroDivisionError) as error:
            raise InputError(f"{origin}: no BEATs has such sizes: {error}") from None
        if any("parametrizations" in name for name in weights.state):
            expected, state = with_new_weight_norm(expected), with_new_weight_norm(state)
        check_encoder_tensors(
            expected, state, origin, "BEATs", ", or its weights do not fit its cfg" if cfg else ""
        )
        warn_of_rest(state, expected, origin, "BEATs")
        model = cls(config)
        try:
            model.load_state_dict(
                from_published(
                    with_old_weight_norm({name: state[name] for name in expected}),
                    config.encoder_layers,
                )
            )
        except RuntimeError as error:
            raise InputError(f"{origin}: {error}; no published BEATs has that") from None
        return model

    @classmethod
    def from_state(cls, weights: EncoderWeights) -> Beats:
        """See `Encoder`; without `cfg`, sizes are those of the tensors, max_distance is 800."""
        state, origin = weights.state, weights.origin
        n_layers = n_layers_of(list(numbered(state, "encoder.layers.")), origin)
        try:
            config = _stored_config(weights, n_layers)

            def make() -> Beats:
                model = cls(config)
                # Those that were left out count in the residual gain of the others.
                del model.layers[n_layers:]
                return model

            return encoder_of_tensors(make, state, origin, "BEATs")
        except InputError:
            raise
        except (RuntimeError, ValueError, TypeError, ZeroDivisionError) as error:
            raise InputError(f"{origin}: no BEATs has such sizes: {error}") from None

    @property
    def stored_sizes(self) -> Mapping[str, Any]:
        """All sizes: the largest distance and the residual gain are in no tensor."""
        return asdict(self.config)

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer's layers, from the input on."""
        return self.encoder.layers

    @property
    def final_modules(self) -> Sequence[nn.Module]:
        """None: there is no norm behind the last layer."""
        return ()

    @property
    def token_rate(self) -> float:
        """Patches per second, all bands counted."""
        patch = self.config.input_patch_size
        return self.sample_rate / self.fbank.shift_samples / patch * (N_MELS // patch)

    def n_tokens(self, n_samples: int) -> int:
        """Tokens of a waveform of `n_samples`."""
        patch = self.config.input_patch_size
        return self.fbank.n_frames(n_samples) // patch * (N_MELS // patch)

    def front_end(self, waveform: Tensor) -> Tensor:
        """The normalised Kaldi filter bank, (batch, band, frame), of (batch, sample)."""
        fbank = self.fbank(waveform * FLOAT_TO_INT16)
        normalised: Tensor = (fbank - FBANK_MEAN) / (2 * FBANK_STD)
        return normalised.transpose(1, 2)

    def tokens(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens of what `front_end` gives; see `Encoder`."""
        patches = self.patch_embedding(features.transpose(1, 2)[:, None])
        patches = self.layer_norm(patches.flatten(2).transpose(1, 2))
        tokens = self.post_extract_proj(patches)
        if mask is not None:
            # As the convolution that gives positions sees nothing beyond the end of a clip.
            tokens = tokens * mask[:, :, None]
        tokens = self.encoder.positioned(tokens)
        return self.run_blocks(tokens, self.encoder.position_bias(tokens.shape[1]), mask)


def _stored_config(weights: EncoderWeights, n_layers: int) -> BeatsConfig:
    """The sizes of a BEATs of `from_state`."""
    if weights.cfg:
        try:
            config = BeatsConfig.of(weights.cfg)
        except KeyError as error:
            raise InputError(f"{weights.origin}: the sizes of its BEATs lack {error}") from None
        config.check()
        n_layers_of([config.encoder_layers - 1], f"{weights.origin}: its sizes")
        return config
    try:
        return sizes_from_shapes(to_published(weights.state, n_layers))
    except KeyError as error:
        missing = weights.origin.in_file(str(error.args[0]))
        raise InputError(f"{weights.origin}: not a complete BEATs: {missing} is missing") from None


def load_beats(path: PathLike, device: torch.device | str = "cpu") -> Beats:
    """`load_encoder` for a file that must hold BEATs."""
    from desed_task.encoders.loading import load_encoder  # which imports this module

    beats = load_encoder(path, Beats.name, device)
    assert isinstance(beats, Beats)
    return beats


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
    model = random_beats(config, torch.Generator().manual_seed(seed))
    cfg = {**asdict(config), **_SUPPORTED, "finetuned_model": False}
    state = to_published(model.state_dict(), config.encoder_layers)
    # Through memory: saved to a path, the file would hold its temporary name.
    content = io.BytesIO()
    torch.save({"cfg": cfg, "model": state}, content)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getvalue())


def random_beats(config: BeatsConfig, generator: torch.Generator) -> Beats:
    """A BEATs with the weights that `write_random_beats` describes."""
    model = Beats(config).requires_grad_(False)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("bias"):
            parameter.zero_()
        elif parameter.ndim == 2:
            parameter.normal_(std=parameter.shape[1] ** -0.5, generator=generator)
    _draw_patches(model.patch_embedding.weight, generator)
    _draw_encoder(model.encoder, generator)
    return model


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


def _draw_encoder(encoder: BeatsTransformer, generator: torch.Generator) -> None:
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
