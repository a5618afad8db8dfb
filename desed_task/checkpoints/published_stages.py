"""Read the stage files of another published training of this network, with their encoders.

The code of Schmid et al. (DCASE 2024, task 4) saves, beside Lightning's keys, the state dicts
`student` and `teacher`: a CRNN under the published names, and its fine-tuned encoder below
`as_model.`. Between ATST-Frame or fPaSST and the fusion (`cat_tf`) lies one more linear map, of the
768 features of a token to 527. Both are affine, and so is what brings tokens to frames between
them, so that the map becomes a part of `cat_tf`, which computes the same up to rounding.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from desed_task.checkpoints.state_names import (
    ENCODER_PREFIXES,
    FIRST,
    PUBLISHED_STAGE,
    without_counters,
)
from desed_task.checkpoints.tensor_shapes import network_sizes
from desed_task.encoders.files.reading import WeightsContent
from desed_task.encoders.files.recognition import recognise
from desed_task.encoders.interface import Encoder, StateDict
from desed_task.encoders.loading import encoder_in
from desed_task.errors import InputError, count_of

ENCODER_KEY: Final = "as_model."
_ROLES: Final = ("student", "teacher")
_OF_NETWORK: Final = ("cnn.", "rnn.", "dense.", "dense_softmax.", "cat_tf.")
# How the tokens of an encoder are brought to the frames of the CNN; no tensor tells.
_AGGREGATION: Final = {"atst_frame": "pool1d", "fpasst": "interpolate", "beats": "interpolate"}
# Lightning's keys that say how far training came.
_PROGRESS: Final = ("epoch", "global_step", "pytorch-lightning_version")
_TITLE: Final = "stage file of another published code"
_MOST_NAMED: Final = 5


def is_stage_file(content: Mapping[str, Any]) -> bool:
    """Whether a file has the form of such a stage file."""
    parts = [content.get(role) for role in _ROLES]
    return all(isinstance(part, dict) and FIRST in part for part in parts)


def stage_tensors(content: Mapping[str, Any], origin: str) -> dict[str, StateDict]:
    """The tensors of student and teacher in a stage file, without thop's counters.

    Raises:
        InputError: a value is not a tensor.
    """
    found = {role: without_counters(content[role]) for role in _ROLES}
    for role, state in found.items():
        for name, value in state.items():
            if not (isinstance(name, str) and isinstance(value, Tensor)):
                raise InputError(f"{origin}: {role}: {name!r} is not a tensor; get the file again")
    return found


def checkpoint_of_stage(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A stage file as a checkpoint of ours: names, hyperparameters, no linear map.

    Args:
        content: of the file, as `is_stage_file` recognises it.
        path: the file.

    Returns:
        `state_dict` with networks and encoders, and the `hyper_parameters` that tensors do not tell
        (`desed_task.checkpoints.published.published_values`).

    Raises:
        InputError: it holds no encoder or one that is not known, its tensors are not complete, or
            student and teacher have different encoders.
    """
    states = stage_tensors(content, str(path))
    encoders = {role: _encoder_of(state, role, path) for role, state in states.items()}
    first, other = (encoders[role] for role in _ROLES)
    if first.name != other.name:
        raise InputError(
            f"{path}: its student takes {first.name} and its teacher {other.name}; get it again"
        )
    named: dict[str, Tensor] = {}
    for role, state in states.items():
        network = _without_map(state, encoders[role], f"{path}, {role}")
        named |= {f"sed_{role}.{name}": value for name, value in network.items()}
        prefix, own = ENCODER_PREFIXES[role], encoders[role].state_dict()
        named |= {prefix + name: value for name, value in own.items()}
    warnings.warn(
        f"{path}: a {_TITLE}: front end, pooling, classes, median filters and everything else that "
        "the shapes of its tensors do not tell are taken as published",
        UserWarning,
        stacklevel=4,
    )
    return {
        **{key: content[key] for key in _PROGRESS if isinstance(content.get(key), int | str)},
        "state_dict": named,
        "hyper_parameters": {
            "net": {"aggregation_type": _AGGREGATION.get(first.name, "pool1d")},
            "pretrained": {"model": first.name, "e2e": True, "freezed": False},
        },
        PUBLISHED_STAGE: _TITLE,
    }


def _encoder_of(state: StateDict, role: str, path: Path) -> Encoder:
    """The encoder of a network, whatever stands before its names."""
    below = {
        name.removeprefix(ENCODER_KEY): value
        for name, value in state.items()
        if name.startswith(ENCODER_KEY)
    }
    if not below:
        raise InputError(
            f"{path}: {role}: no tensors below {ENCODER_KEY!r}, so its embeddings are those of an "
            "unknown encoder; give a stage file that holds its encoder"
        )
    content = WeightsContent(path, below, {})
    return encoder_in(content, recognise(content, anywhere=True))


def _without_map(state: StateDict, encoder: Encoder, origin: str) -> StateDict:
    """The tensors of the CRNN, which takes the encoder's tokens as they are."""
    network = {name: value for name, value in state.items() if name.startswith(_OF_NETWORK)}
    size = network_sizes(network, "").get("embedding_size", 0)
    if not size:
        raise InputError(f"{origin}: cat_tf.weight is missing, so it takes no embeddings")
    used: list[str] = []
    if size != encoder.width:
        used = _linear_map(state, size, encoder, origin)
        network |= _folded(network, size, *(state.get(name) for name in used))
    left = [
        n for n in state if n not in network and n not in used and not n.startswith(ENCODER_KEY)
    ]
    if left:
        more = ", ..." if len(left) > _MOST_NAMED else ""
        warnings.warn(
            f"{origin}: {count_of(len(left), 'tensor')} that the network has no use for, ignored: "
            f"{', '.join(left[:_MOST_NAMED])}{more}",
            UserWarning,
            stacklevel=5,
        )
    return network


def _linear_map(state: StateDict, size: int, encoder: Encoder, origin: str) -> list[str]:
    """Names of weight and bias of the map from tokens to what the network takes.

    The files were not seen: it is recognised by its shape, wherever it is.
    """
    shape = (size, encoder.width)
    found = [
        name
        for name, value in state.items()
        if name.endswith(".weight") and tuple(value.shape) == shape
    ]
    if len(found) != 1:
        told = f"{count_of(len(found), 'tensor')} of shape {shape} ({', '.join(found)})"
        raise InputError(
            f"{origin}: the network takes embeddings of {size} features and {encoder.name} gives "
            f"{encoder.width}; between them there is one linear map, but the file has "
            f"{told if found else f'no tensor of shape {shape}'}; give a file that has it"
        )
    bias = found[0].removesuffix("weight") + "bias"
    if bias in state and tuple(state[bias].shape) != (size,):
        raise InputError(
            f"{origin}: {bias} has shape {tuple(state[bias].shape)}, not {(size,)}; get it again"
        )
    return [found[0], bias]


def _folded(network: StateDict, size: int, weight: Tensor | None, bias: Tensor | None) -> StateDict:
    """`cat_tf` with the map before it as a part of it."""
    assert weight is not None
    wide, own = network["cat_tf.weight"].double(), network.get("cat_tf.bias")
    of_cnn, of_tokens = wide[:, :-size], wide[:, -size:]
    folded = {"cat_tf.weight": torch.cat([of_cnn, of_tokens @ weight.double()], dim=1).float()}
    if bias is not None and own is not None:
        folded["cat_tf.bias"] = (own.double() + of_tokens @ bias.double()).float()
    return folded
