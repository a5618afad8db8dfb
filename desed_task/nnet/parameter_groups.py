"""Groups of parameters that an optimizer gives learning rates of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from torch import nn

from desed_task.nnet.CRNN import CRNN

# Part of the network -> its modules; the sequence model is the fusion and the GRU.
NETWORK_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "cnn": ("cnn",),
    "rnn": ("rnn", "cat_tf", "frame_embs_encoder", "shrink_emb"),
    "heads": ("dense", "dense_softmax"),
}
# Name of a layer and its parameters, as `encoders.interface.LayerGroup`, from the output on.
Layers = Sequence[tuple[str, tuple[nn.Parameter, ...]]]


class GroupRates(NamedTuple):
    """Learning rates of a network and the encoders that are trained with it.

    Attributes:
        cnn: of the convolutions.
        rnn: of fusion and GRU.
        heads: of the outputs.
        encoder: of what lies behind an encoder's last block.
        layer_decay: ratio of the rates of a layer and the one above it.
    """

    cnn: float
    rnn: float
    heads: float
    encoder: float
    layer_decay: float


def parameter_groups(
    network: CRNN, encoders: Mapping[str, Layers], rates: GroupRates
) -> list[dict[str, Any]]:
    """The groups of all parameters, for an optimizer: `params`, `lr` and `name`.

    Layer i of an encoder, counted from 0 at the output, gets encoder x layer_decay^i. A layer
    without parameters counts, but is no group.

    Args:
        network: the CRNN.
        encoders: name -> layers of each encoder that is trained; every one begins at the output
            with the same rate.
        rates: the rates.
    """
    of_part: dict[str, list[nn.Parameter]] = {part: [] for part in NETWORK_PARTS}
    part_of = {module: part for part, modules in NETWORK_PARTS.items() for module in modules}
    for name, parameter in network.named_parameters():
        of_part[part_of[name.split(".")[0]]].append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": params, "lr": getattr(rates, part), "name": part}
        for part, params in of_part.items()
    ]
    for encoder, layers in encoders.items():
        groups += [
            {
                "params": list(params),
                "lr": rates.encoder * rates.layer_decay**number,
                "name": f"{encoder} {layer}",
            }
            for number, (layer, params) in enumerate(layers)
            if params
        ]
    return groups
