"""Write small files of random weights in the published layouts, for the mini corpus and tests."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor, nn

from desed_task.atomic_files import PathLike, atomic_path
from desed_task.encoders.beats.encoder import BeatsConfig
from desed_task.encoders.beats.model import SMALL_CONFIG, random_beats
from desed_task.encoders.beats.weight_names import to_published, with_new_weight_norm
from desed_task.encoders.interface import Encoder, StateDict
from desed_task.encoders.vit.asit import Asit
from desed_task.encoders.vit.atst_frame import AtstFrame
from desed_task.encoders.vit.blocks import HEAD_WIDTH, BlockSizes
from desed_task.encoders.vit.fpasst import FramePasst
from desed_task.encoders.vit.m2d import M2d
from desed_task.errors import InputError

# What published files have before the names of an encoder's tensors.
PUBLISHED_PREFIXES: Final = {
    "atst_frame": "model.atst.",
    "fpasst": "model.",
    "asit": "model.",
    "m2d": "model.",
    "beats": "model.model.",
}
# So that what a patch contains outweighs what the blocks mix into it from everywhere.
_PATCH_GAIN: Final = 4.0
_CONV_GAIN: Final = 1.5
_TOKEN_STD: Final = 0.02
_RESIDUAL_GAIN: Final = 0.5
_HEAD_GAIN: Final = 3.0


def write_random_encoder(
    path: PathLike, name: str, *, seed: int, width: int = 128, n_blocks: int = 2, n_classes: int = 0
) -> None:
    """Write a small encoder with random weights as PretrainedSED's files are, atomically.

    As with `write_random_beats`, the scales of the weights make embeddings informative: a linear
    map of them separates simple sounds in noise. One seed gives the same bytes.

    Args:
        path: the file; its folders are created.
        name: "atst_frame", "fpasst", "asit", "m2d" or "beats".
        seed: of the weights.
        width: features of a token inside the blocks, a multiple of 64; tokens of M2D have five
            times as many.
        n_blocks: number of blocks.
        n_classes: classes of a strong and a weak head; 0 for a file without heads.

    Raises:
        InputError: no encoder of that name can be written, or the sizes do not fit.
    """
    if name not in PUBLISHED_PREFIXES:
        raise InputError(f"no layout of {name!r}; known: {', '.join(PUBLISHED_PREFIXES)}")
    if width < HEAD_WIDTH or width % HEAD_WIDTH:
        raise InputError(f"width {width}: give a multiple of {HEAD_WIDTH}")
    if n_blocks < 1 or n_classes < 0:
        raise InputError(f"n_blocks {n_blocks}, n_classes {n_classes}: give 1 and 0 or more")
    generator = torch.Generator().manual_seed(seed)
    encoder, tensors = _drawn(name, width, n_blocks, generator)
    prefix = PUBLISHED_PREFIXES[name]
    state = {prefix + key: value.clone() for key, value in tensors.items()}
    if n_classes:
        for head in ("strong_head", "weak_head"):
            weight = torch.randn(n_classes, encoder.width, generator=generator)
            state[f"{head}.weight"] = weight * _HEAD_GAIN / encoder.width**0.5
            state[f"{head}.bias"] = torch.zeros(n_classes)
    # Through memory: saved to a path, the file would hold its temporary name.
    content = io.BytesIO()
    torch.save(state, content)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getvalue())


def _drawn(
    name: str, width: int, n_blocks: int, generator: torch.Generator
) -> tuple[Encoder, StateDict]:
    """An encoder and its tensors under published names, without their prefix."""
    if name == "beats":
        config = replace(
            SMALL_CONFIG,
            encoder_layers=n_blocks,
            encoder_embed_dim=width,
            encoder_ffn_embed_dim=2 * width,
            encoder_attention_heads=width // HEAD_WIDTH,
            embed_dim=width // 2,
            conv_pos=BeatsConfig.conv_pos,
        )
        beats = random_beats(config, generator)
        return beats, with_new_weight_norm(to_published(beats.state_dict(), n_blocks))
    sizes = BlockSizes(width, 2 * width, n_blocks)
    encoder: Encoder
    if name == "atst_frame":
        encoder = AtstFrame(sizes)
    elif name == "fpasst":
        encoder = FramePasst(sizes)
    else:
        encoder = Asit(sizes) if name == "asit" else M2d(sizes)
    encoder.requires_grad_(False)
    for key, parameter in encoder.named_parameters():
        _draw(key, parameter, generator)
    _PATCHES[name](encoder, generator)
    return encoder, {**encoder.state_dict(), **_unused(name, width)}


def _draw(name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
    """Draw a parameter of a vision transformer; norms stay as they are made."""
    if name.endswith("bias"):
        parameter.zero_()
    elif name.endswith(("_embed", "_token")):
        parameter.normal_(std=_TOKEN_STD, generator=generator)
    elif parameter.ndim > 1:
        parameter.normal_(std=parameter[0].numel() ** -0.5, generator=generator)
        if name.endswith(("attn.proj.weight", "mlp.fc2.weight")):
            parameter.mul_(_RESIDUAL_GAIN)


def _mixtures(
    n: int, n_bands: int, n_frames: int, generator: torch.Generator, mean: float = 0.1
) -> Tensor:
    """Random mixtures of two-dimensional cosines, (n, band, frame), the slow ones strongest.

    The mean is weak: it is the loudness of a patch, and would leave little of anything else once
    tokens are normalised.
    """
    over_bands, over_frames = _cosines(n_bands), _cosines(n_frames)
    gains = 1 / (1 + torch.arange(float(n_bands))[:, None] + torch.arange(float(n_frames)))
    gains[0, 0] = mean
    drawn = torch.randn(n, n_bands, n_frames, generator=generator) * gains
    mixed = over_bands.T @ drawn @ over_frames
    mixtures: Tensor = mixed * _PATCH_GAIN
    return mixtures


def _cosines(size: int) -> Tensor:
    """Orthonormal cosines, (order, place)."""
    order = torch.arange(float(size))
    cosines: Tensor = torch.cos(math.pi / size * order[:, None] * (order + 0.5)) * (2 / size) ** 0.5
    cosines[0] *= 0.5**0.5
    return cosines


def _patches_of_atst(encoder: Encoder, generator: torch.Generator) -> None:
    assert isinstance(encoder, AtstFrame)
    weight = encoder.patch_embed.patch_embed.weight
    frames = 4
    weight.copy_(_mixtures(len(weight), weight.shape[1] // frames, frames, generator).flatten(1))


def _patches_of_fpasst(encoder: Encoder, generator: torch.Generator) -> None:
    assert isinstance(encoder, FramePasst)
    for conv in (encoder.conv_in_1, encoder.conv_in_2, encoder.conv_in_3):
        conv.weight.mul_(_CONV_GAIN)
    weight = encoder.patch_embed.proj.weight
    channels = encoder.conv_in_3.out_channels
    # In the file, four channels of 32 bands each lie in a row.
    bands = weight[0].numel() // channels // 2
    drawn = _mixtures(len(weight) * channels, bands, 2, generator, mean=0.3)
    weight.copy_(drawn.view(weight.shape) / channels**0.5)


def _patches_of_squares(encoder: Encoder, generator: torch.Generator) -> None:
    assert isinstance(encoder, Asit | M2d)
    embed = encoder.patch_embed if isinstance(encoder, Asit) else encoder.backbone.patch_embed
    weight = embed.proj.weight
    bands, frames = weight.shape[2:]
    drawn = _mixtures(len(weight), bands, frames, generator)
    # ASiT's patches run over time first.
    weight.copy_((drawn.transpose(1, 2) if isinstance(encoder, Asit) else drawn)[:, None])


_PATCHES: Final[Mapping[str, Callable[[Encoder, torch.Generator], None]]] = {
    "atst_frame": _patches_of_atst,
    "fpasst": _patches_of_fpasst,
    "asit": _patches_of_squares,
    "m2d": _patches_of_squares,
}


def _unused(name: str, width: int) -> StateDict:
    """Tensors that published files have and the encoder does not use."""
    if name == "atst_frame":
        return {"mask_embed": torch.zeros(1, 1, width)}
    return {"backbone.norm_stats": torch.tensor([-7.1, 4.2])} if name == "m2d" else {}
