"""Open the file of a detector that was trained on AudioSet.

Such a file has the tensors of an encoder, of a head for events (`strong_head`) and in some cases of
a sequence model (`seq_model`) and a head for clips (`weak_head`), in a plain dictionary or below
"model" or "state_dict".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from desed_task.audioset.classes import EVALUATION_SIZE, STRONG_SIZE
from desed_task.audioset.gru_file import PREFIX, gru_in, load_named
from desed_task.audioset.network import AudioSetNetwork
from desed_task.checkpoints.file_kind import REMEDY
from desed_task.checkpoints.state_names import EVENT_HEAD, has_event_head
from desed_task.encoders.interface import StateDict
from desed_task.encoders.loading import Recognised, WeightsContent, encoder_in, recognise
from desed_task.errors import InputError, command_line, count_of

_CONTAINERS: Final = ("model", "state_dict", "model_state_dict")
_HEADS: Final = ("strong_head.", "weak_head.")
# Tables that front ends are computed from; ours compute their own.
_TABLES: Final = re.compile(r"(^|\.)(atst_mel|to_spec|mel_spec|mel|melspec)\.")
# Above this, tensors are views that repeat a few stored bytes; one table of BEATs is stored once
# and named in every layer.
_MOST_CLAIMED: Final = 1.5


def is_event_file(content: Any) -> bool:
    """Whether a loaded file holds an encoder with a head for events."""
    return isinstance(content, dict) and has_event_head(content)


def refuse_weights(content: Any, path: Path) -> None:
    """Refuse a file that holds an encoder and no detector of events, saying what it holds.

    Args:
        content: as `read_safely` gives it.
        path: the file, for messages.

    Raises:
        InputError: it holds such weights; nothing happens with any other file.
    """
    state = _tensors(content)
    if not state:
        return
    try:
        found = recognise(WeightsContent(path, state, _cfg(content)))
    except InputError:
        return
    take = f"get a detector with {_fetch(found.kind.name)}"
    weak = next((value for name, value in state.items() if name.endswith("weak_head.weight")), None)
    if weak is not None:
        n_classes = count_of(len(weak), "class", "classes")
        raise InputError(
            f"{path}: holds {found.kind.title} with a head for clips ({n_classes}), which says "
            f"what occurs in a clip, not when; {take}"
        )
    raise InputError(
        f"{path}: holds weights of {found.kind.title} without a head, not a detector; name it in "
        f"pretrained.checkpoint to train one, or {take}"
    )


def network_of(content: Any, path: Path) -> tuple[AudioSetNetwork, Recognised]:
    """The network of a file, in eval mode and without gradients, and which encoder it has.

    Args:
        content: as `read_safely` gives it; `is_event_file` holds.
        path: the file, for messages and its size.

    Raises:
        InputError: the encoder is not known, tensors are missing, have another shape or no place
            in the network, or its classes are not the 447.
    """
    return network_in(_state_of(content, path), _cfg(content), path)


def network_in(
    state: StateDict, cfg: Mapping[str, Any], path: Path
) -> tuple[AudioSetNetwork, Recognised]:
    """The network of a file's tensors; see `network_of`.

    Args:
        state: the tensors, under the names that the file's code gives them.
        cfg: sizes that the file states, as those of BEATs do.
        path: the file, for messages.

    Raises:
        InputError: as `network_of`.
    """
    _check_classes(state, path)
    rest = {k: v for k, v in state.items() if not k.startswith((*_HEADS, PREFIX))}
    weights = WeightsContent(path, rest, cfg)
    recognised = recognise(weights)
    encoder = encoder_in(weights, recognised)
    foreign = _foreign(rest, recognised.prefix, encoder)
    if foreign:
        raise InputError.collect(
            [f"{name} has no place" for name in foreign],
            f"{path}: has more than {recognised.kind.title}, a sequence model and heads:",
        )
    gru = gru_in(state, encoder.width, str(path))
    width = encoder.width
    if gru is not None:
        width = gru.hidden_size * (2 if gru.bidirectional else 1)
    heads = [_head(state, prefix, width, str(path)) for prefix in _HEADS]
    assert heads[0] is not None
    network = AudioSetNetwork(encoder, gru, heads[0], heads[1])
    return network.requires_grad_(False).eval(), recognised


def _tensors(content: Any) -> StateDict:
    """All tensors of a file under the names that they have there."""
    if not isinstance(content, dict):
        return {}
    inside = next((content[k] for k in _CONTAINERS if isinstance(content.get(k), dict)), content)
    return {k: v for k, v in inside.items() if isinstance(k, str) and isinstance(v, Tensor)}


def _cfg(content: Any) -> Mapping[str, Any]:
    found = content.get("cfg")
    return found if isinstance(found, dict) else {}


def _state_of(content: Any, path: Path) -> StateDict:
    """The tensors, without what wrappers put before all names."""
    state = _tensors(content)
    if not any(name.endswith(EVENT_HEAD) for name in state):
        raise InputError(f"{path}: {EVENT_HEAD} is not a tensor; {REMEDY}")
    claimed = sum(value.numel() * value.element_size() for value in state.values())
    if claimed > _MOST_CLAIMED * path.stat().st_size:
        raise InputError(
            f"{path}: its tensors would fill {count_of(claimed, 'byte')}, but the file has "
            f"{path.stat().st_size}; {REMEDY}"
        )
    outer = next(name for name in state if name.endswith(EVENT_HEAD)).removesuffix(EVENT_HEAD)
    outside = [name for name in state if not name.startswith(outer)]
    if outside:
        problems = [f"{name} has no place" for name in outside]
        raise InputError.collect(problems, f"{path}: has tensors beside those below {outer}:")
    return {name.removeprefix(outer): value for name, value in state.items()}


def _check_classes(state: StateDict, path: Path) -> None:
    head = state[EVENT_HEAD]
    if head.ndim == 2 and len(head) == STRONG_SIZE:
        return
    what = f"{EVENT_HEAD} has shape {tuple(head.shape)}"
    if head.ndim == 2 and len(head) == EVALUATION_SIZE:
        what += " (AudioSet's evaluation set has as many classes, but not those of detectors)"
    raise InputError(
        f"{path}: {what}; names are known for the {STRONG_SIZE} classes of AudioSet's strong "
        f"training labels; get such a detector with {_fetch('atst_frame')}"
    )


def _foreign(rest: StateDict, prefix: str, encoder: nn.Module) -> list[str]:
    """Tensors that are neither the encoder's nor tables of a front end."""
    own = {name.split(".")[0] for name in encoder.state_dict()}
    found = []
    for name in rest:
        inner = name.removeprefix(prefix)
        # An encoder's own tensors that it does not need, such as a mask token, have no dot.
        is_own = name.startswith(prefix) and (inner.split(".")[0] in own or "." not in inner)
        if not is_own and not _TABLES.search(name):
            found.append(name)
    return found


def _head(state: StateDict, prefix: str, width: int, origin: str) -> nn.Linear | None:
    given = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if not given:
        return None
    rows = (*(given["weight"].shape if "weight" in given else ()), 1)
    head = nn.Linear(width, max(rows[0], 1), device="meta")
    load_named(head, given, prefix, origin)
    return head


def _fetch(encoder: str) -> str:
    return command_line("generate_dcase_task4_2024.py", f"--only_encoders {encoder}_strong")
