"""Convert the weights of a published BEATs to our names and back (see `encoder`); their sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from desed_task.encoders.beats.encoder import BeatsConfig
from desed_task.encoders.interface import numbered

StateDict = dict[str, Tensor]

_CONV = "encoder.pos_conv.0."
_TABLE = "relative_attention_bias.weight"
_LAYERS = "encoder.layers."
# Names of the weight norm's two tensors since PyTorch 2.0, and those of before.
_WEIGHT_NORM = {
    f"{_CONV}parametrizations.weight.original0": f"{_CONV}weight_g",
    f"{_CONV}parametrizations.weight.original1": f"{_CONV}weight_v",
}


def _attention(layer: int) -> str:
    return f"encoder.layers.{layer}.self_attn."


def with_old_weight_norm(state: Mapping[str, Tensor]) -> StateDict:
    """Tensors in float32, those of the weight norm under the names of Microsoft's files."""
    return {
        _WEIGHT_NORM.get(name, name): value.float() if value.is_floating_point() else value
        for name, value in state.items()
    }


def with_new_weight_norm(state: Mapping[str, Tensor]) -> StateDict:
    """Tensors under the names of PretrainedSED's files, without their prefix."""
    new = {old: name for name, old in _WEIGHT_NORM.items()}
    return {new.get(name, name): value for name, value in state.items()}


def sizes_from_shapes(state: Mapping[str, Tensor]) -> BeatsConfig:
    """The sizes of a BEATs without `cfg`: what most tensors say, published ones for the rest.

    Args:
        state: under the names of Microsoft's files.
    """
    published = BeatsConfig()
    layers = list(numbered(state, _LAYERS))

    def most(otherwise: int, *places: tuple[str, int]) -> int:
        """The commonest length of these axes of tensors, the published one if several are."""
        found = [
            state[name].shape[axis]
            for name, axis in places
            if name in state and -state[name].ndim <= axis < state[name].ndim
        ]
        counts = Counter(found).most_common()
        commonest = [size for size, count in counts if count == counts[0][1]]
        return otherwise if otherwise in commonest or not commonest else commonest[0]

    def in_layers(name: str, axis: int) -> list[tuple[str, int]]:
        return [(f"{_LAYERS}{layer}.{name}", axis) for layer in layers]

    tables = f"self_attn.{_TABLE}"
    norms = ("self_attn_layer_norm.bias", "final_layer_norm.bias", "fc2.bias")
    width = most(
        published.encoder_embed_dim, *(place for name in norms for place in in_layers(name, 0))
    )
    inside = most(0, (f"{_CONV}weight_v", 1))
    return BeatsConfig(
        encoder_layers=max(layers, default=published.encoder_layers - 1) + 1,
        encoder_embed_dim=width,
        encoder_ffn_embed_dim=most(
            published.encoder_ffn_embed_dim, *in_layers("fc1.bias", 0), *in_layers("fc2.weight", 1)
        ),
        encoder_attention_heads=most(
            published.encoder_attention_heads,
            *in_layers(tables, 1),
            *in_layers("self_attn.grep_a", 1),
        ),
        embed_dim=most(
            published.embed_dim,
            ("layer_norm.weight", 0),
            ("layer_norm.bias", 0),
            ("patch_embedding.weight", 0),
            ("post_extract_proj.weight", 1),
        ),
        conv_pos=most(published.conv_pos, (f"{_CONV}weight_g", 2), (f"{_CONV}weight_v", 2)),
        conv_pos_groups=width // inside if inside else published.conv_pos_groups,
        conv_bias="patch_embedding.bias" in state,
    )


def from_published(state: Mapping[str, Tensor], n_layers: int) -> StateDict:
    """A published state dict under the names of `Beats`.

    Query, key and value become one projection, the bias table that every layer repeats one table,
    and the weight norm of the positional convolution its weight.

    Raises:
        KeyError: a tensor is missing.
        RuntimeError: layers have different bias tables.
    """
    ours = dict(state)
    gain, direction = ours.pop(_CONV + "weight_g"), ours.pop(_CONV + "weight_v")
    norm = direction.norm(dim=(0, 1), keepdim=True)
    # In half precision, faint taps of a kernel may have become zeros; they have no direction.
    norm = torch.where(norm > 0, norm, 1.0)
    ours["encoder.pos_conv.weight"] = direction * (gain / norm)
    ours["encoder.pos_conv.bias"] = ours.pop(_CONV + "bias")
    table = state[_attention(0) + _TABLE]
    for layer in range(n_layers):
        prefix = _attention(layer)
        if not torch.equal(ours.pop(prefix + _TABLE, table), table):
            raise RuntimeError(f"layer {layer} has a position bias of its own")
        for kind in ("weight", "bias"):
            parts = [ours.pop(f"{prefix}{name}_proj.{kind}") for name in "qkv"]
            ours[f"{prefix}qkv_proj.{kind}"] = torch.cat(parts)
    ours["encoder.position_bias.table.weight"] = table
    return ours


def to_published(state: Mapping[str, Tensor], n_layers: int) -> StateDict:
    """The inverse of `from_published`: names and tensors as a published file has them."""
    theirs = dict(state)
    weight = theirs.pop("encoder.pos_conv.weight")
    theirs[_CONV + "weight_g"] = weight.norm(dim=(0, 1), keepdim=True)
    theirs[_CONV + "weight_v"] = weight
    theirs[_CONV + "bias"] = theirs.pop("encoder.pos_conv.bias")
    table = theirs.pop("encoder.position_bias.table.weight")
    for layer in range(n_layers):
        prefix = _attention(layer)
        theirs[prefix + _TABLE] = table
        for kind in ("weight", "bias"):
            parts = theirs.pop(f"{prefix}qkv_proj.{kind}").chunk(3)
            theirs.update(
                {f"{prefix}{q}_proj.{kind}": p for q, p in zip("qkv", parts, strict=True)}
            )
    return {name: tensor.clone() for name, tensor in theirs.items()}
