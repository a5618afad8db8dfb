"""Loading checkpoints without running anything from them.

A Lightning file whose `hyper_parameters` is the configuration tree and whose `state_dict` holds
`sed_student.*`, `sed_teacher.*` and `mel_spec.*` (SPEC section 4).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from desed_task.errors import InputError
from local.config import RecipeConfig, apply_override, check_config

# Buffers that thop leaves on modules; published files carry them.
COUNTER_SUFFIXES = ("total_ops", "total_params")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a Lightning checkpoint, on the CPU, thop's counters dropped.

    Raises:
        InputError: for a file that is absent, broken, asks for more than tensors and plain values,
            or holds no networks of this recipe.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; give the path of a .ckpt file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise whatever its bytes spell
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"{path}: not a checkpoint that can be loaded safely ({reason}); it may be cut off, or "
            "hold Python objects: get it again from its source, or train one"
        ) from None
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise InputError(f"{path}: holds no state_dict; give a checkpoint of train_pretrained.py")
    checkpoint["state_dict"] = without_counters(checkpoint["state_dict"])
    return checkpoint


def without_counters(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state_dict` without thop's buffers."""
    return {
        name: value
        for name, value in state_dict.items()
        if name.rpartition(".")[2] not in COUNTER_SUFFIXES
    }


def config_of_checkpoint(
    checkpoint: Mapping[str, Any], here: RecipeConfig, overrides: Sequence[str], place: str
) -> RecipeConfig:
    """The checkpoint's hyperparameters with the paths and the machine's settings of `here`.

    Args:
        checkpoint: as `load_checkpoint` gives it.
        here: the configuration of this run: its folders, tables, files, workers, progress bar and
            energy settings win.
        overrides: `section.key=value` each; they win over both.
        place: name of the checkpoint for messages.

    Raises:
        InputError: if the checkpoint has no hyperparameters or they do not pass the check.
    """
    stored = checkpoint.get("hyper_parameters")
    if not isinstance(stored, dict) or "net" not in stored:
        raise InputError(f"{place}: holds no hyper_parameters; it was not written by this recipe")
    tree = copy.deepcopy(stored)
    mine = here.dump()
    paths = {key: value for key, value in mine["data"].items() if isinstance(value, str)}
    tree["data"] = {**tree.get("data", {}), **paths}
    tree["pretrained"] = mine["pretrained"]
    tree["energy"] = mine["energy"]
    tree["scaler"] = {**tree.get("scaler", {}), "savepath": mine["scaler"]["savepath"]}
    machine = {key: mine["training"][key] for key in ("num_workers", "enable_progress_bar")}
    tree["training"] = {**tree.get("training", {}), **machine}
    for override in overrides:
        apply_override(tree, override)
    return check_config(tree, f"hyperparameters of {place}")


def load_networks(module: torch.nn.Module, state_dict: Mapping[str, Tensor], place: str) -> None:
    """Load `state_dict` into the Lightning module, saying which tensor does not fit.

    Raises:
        InputError: naming missing and unknown tensors and those of another shape.
    """
    own = module.state_dict()
    problems = [f"{name}: missing in the checkpoint" for name in own if name not in state_dict]
    problems += [f"{name}: not in the network" for name in state_dict if name not in own]
    problems += [
        f"{name}: shape {tuple(value.shape)} in the checkpoint, "
        f"{tuple(own[name].shape)} in the network"
        for name, value in state_dict.items()
        # The scaler takes the shape of the statistics that it is given.
        if name in own and value.shape != own[name].shape and not name.startswith("scaler.")
    ]
    if problems:
        heading = f"{place} does not fit the network that its hyperparameters describe:"
        raise InputError.collect(problems, heading)
    module.load_state_dict(dict(state_dict))
