"""Convert the weights of a published BEATs to our names and back (see `encoder`)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

StateDict = dict[str, Tensor]

_CONV = "encoder.pos_conv.0."
_TABLE = "relative_attention_bias.weight"


def _attention(layer: int) -> str:
    return f"encoder.layers.{layer}.self_attn."


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
