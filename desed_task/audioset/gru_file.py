"""The sequence model of a detector's file: a GRU, its sizes from its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from torch import Tensor, nn

from desed_task.errors import InputError

PREFIX: Final = "seq_model."
_NAME: Final = re.compile(r"(?:(\w+)\.)?((weight|bias)_(ih|hh)_l(\d+)(_reverse)?)")
_KNOWN: Final = "a GRU, as torch.nn.GRU names it, is known"


def gru_in(state: Mapping[str, Tensor], n_inputs: int, origin: str) -> nn.GRU | None:
    """The GRU of a file, its weights loaded; None if the file has no sequence model.

    Args:
        state: tensors of the file; those below `seq_model.` are the GRU's, with or without one
            more level (`seq_model.gru.weight_ih_l0`).
        n_inputs: features of its input.
        origin: name of the file, for messages.

    Raises:
        InputError: naming tensors that are missing, have another shape or are not those of a GRU.
    """
    own = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
    if not own:
        return None
    matches = {name: _NAME.fullmatch(name) for name in own}
    levels = {match[1] for match in matches.values() if match is not None}
    foreign = [f"{PREFIX}{name}" for name, match in matches.items() if match is None]
    if foreign or len(levels) != 1:
        shown = ", ".join(foreign[:5] or [f"{PREFIX}{name}" for name in own][:5])
        raise InputError(f"{origin}: its sequence model has {shown}; only {_KNOWN}")
    named = {str(match[2]): own[name] for name, match in matches.items() if match is not None}
    return _loaded(named, n_inputs, origin)


def _loaded(named: Mapping[str, Tensor], n_inputs: int, origin: str) -> nn.GRU:
    hidden = named.get("weight_hh_l0")
    if hidden is None or hidden.ndim != 2 or not hidden.shape[1]:
        raise InputError(f"{origin}: {PREFIX}weight_hh_l0 is missing; only {_KNOWN}")
    n_rows, size = hidden.shape
    if n_rows != 3 * size:
        raise InputError(
            f"{origin}: {PREFIX}weight_hh_l0 has shape {(n_rows, size)}; of a GRU with {size} "
            f"features it has {(3 * size, size)}; only {_KNOWN}"
        )
    layers = {int(name.split("_l")[1].split("_")[0]) for name in named}
    gru = nn.GRU(
        n_inputs,
        size,
        # Not the highest number, which a name may spell at will.
        num_layers=len(layers),
        bias=any(name.startswith("bias") for name in named),
        batch_first=True,
        bidirectional=any(name.endswith("_reverse") for name in named),
        device="meta",
    )
    load_named(gru, named, PREFIX, origin)
    return gru


def load_named(
    module: nn.Module, given: Mapping[str, Tensor], prefix: str, origin: str
) -> nn.Module:
    """Give a module exactly these tensors.

    Args:
        module: on the device "meta".
        given: name -> tensor.
        prefix: of the names in the file, for messages.
        origin: name of the file, for messages.

    Raises:
        InputError: naming those that are missing, too many, of another shape or not finite.
    """
    own = module.state_dict()
    problems = [f"{prefix}{name} is missing" for name in own if name not in given]
    problems += [f"{prefix}{name} has no place" for name in given if name not in own]
    for name in (name for name in own if name in given):
        shape, wanted = tuple(given[name].shape), tuple(own[name].shape)
        if shape != wanted:
            problems.append(f"{prefix}{name} has shape {shape}, not {wanted}")
        elif not given[name].is_floating_point() or not given[name].isfinite().all():
            problems.append(f"{prefix}{name} is not finite, or has no real numbers")
    if problems:
        raise InputError.collect(problems, f"{origin}: not a complete detector:")
    module.load_state_dict({name: value.float() for name, value in given.items()}, assign=True)
    return module
