"""Names of tensors in files: those that wrappers prefix, and weights that were stored alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor

from desed_task.errors import InputError

# Buffers that thop leaves on modules; published files carry them.
COUNTER_SUFFIXES: Final = ("total_ops", "total_params")
# Student and teacher; a published file repeats both networks under these keys.
NETWORK_PREFIXES: Final = ("sed_student", "sed_teacher")
# The encoders of student and teacher, where training fine-tuned them.
ENCODER_PREFIXES: Final = {"student": "encoder_student.", "teacher": "encoder_teacher."}
# Key that marks the content of a file of another published code
# (`desed_task.checkpoints.published_stages`).
PUBLISHED_STAGE: Final = "published_stage"
# Parts of names that DistributedDataParallel, torch.compile and AveragedModel insert, and a tensor
# that the last one adds.
_WRAPPERS: Final = {"module", "_orig_mod"}
_N_AVERAGED: Final = "n_averaged"
# Keys under which other programs store a state_dict.
_PLACES: Final = ("model_state_dict", "model")
# A tensor that every CRNN has.
FIRST: Final = "cnn.cnn.conv0.weight"
# A tensor of every detector of AudioSet's classes.
EVENT_HEAD: Final = "strong_head.weight"


def is_bare(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint has weights only, without the values of their network."""
    return not {"detector", "hyper_parameters"} & set(checkpoint)


def bare_state(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The state_dict of a detector that a file is, or has under another key; None if there is none.

    Args:
        content: of a file without the key `state_dict`.
    """
    for found in (content, *(content.get(key) for key in _PLACES)):
        if isinstance(found, dict) and any(str(name).endswith(FIRST) for name in found):
            return dict(found)
    return None


def has_event_head(content: Mapping[str, Any]) -> bool:
    """Whether a file holds an encoder with a head for events (`desed_task.audioset`).

    Args:
        content: of a file, or its state_dict.
    """
    places = (content, *(content.get(key) for key in (*_PLACES, "state_dict")))
    return any(
        str(name).endswith(EVENT_HEAD)
        for found in places
        if isinstance(found, dict) and not any(str(n).endswith(FIRST) for n in found)
        for name in found
    )


def usual_names(state: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """Tensors under the names that a training gives them: `sed_student...` and `sed_teacher...`.

    Parts of names that wrappers insert are left out. The weights of one network alone become both.

    Args:
        state: a state_dict.
        origin: name of the file for messages.

    Raises:
        InputError: two tensors would have one name.
    """
    named: dict[str, Tensor] = {}
    for name, value in state.items():
        short = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if name == _N_AVERAGED:
            continue
        if short in named:
            raise InputError(f"{origin}: state_dict: contains {short} twice, once as {name}")
        named[short] = value
    if FIRST in named:
        _tell(origin, "one network")
        return {f"{role}.{n}": value for role in NETWORK_PREFIXES for n, value in named.items()}
    present = [role for role in NETWORK_PREFIXES if f"{role}.{FIRST}" in named]
    if len(present) == 1:
        (role,) = present
        (other,) = set(NETWORK_PREFIXES) - {role}
        _tell(origin, f"{role} alone")
        for kind in ("sed", "encoder"):  # of the network and of its encoder, if there is one
            one, copy = (name.replace("sed", kind, 1) for name in (role, other))
            copies = {name: value for name, value in named.items() if name.startswith(f"{one}.")}
            named |= {copy + name.removeprefix(one): value for name, value in copies.items()}
    return named


def holds_encoders(state: Mapping[str, Tensor]) -> bool:
    """Whether a state_dict holds the encoder of the student."""
    return any(name.startswith(ENCODER_PREFIXES["student"]) for name in state)


def encoder_tensors(state: Mapping[str, Tensor], role: str) -> dict[str, Tensor]:
    """The tensors of a network's encoder, without their prefix.

    Args:
        state: of a checkpoint.
        role: "student" or "teacher".
    """
    prefix = ENCODER_PREFIXES[role]
    return {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}


def without_encoders(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state_dict without the encoders."""
    prefixes = tuple(ENCODER_PREFIXES.values())
    return {name: value for name, value in state.items() if not name.startswith(prefixes)}


def without_counters(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state_dict` without thop's buffers."""
    return {
        name: value
        for name, value in state_dict.items()
        if name.rpartition(".")[2] not in COUNTER_SUFFIXES
    }


def _tell(origin: str, what: str) -> None:
    warnings.warn(
        f"{origin}: contains the weights of {what}, which become both student and teacher",
        UserWarning,
        stacklevel=5,
    )
