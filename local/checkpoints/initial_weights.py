"""Start a new training from the weights of a checkpoint: `--init_from_checkpoint`.

Student starts from student and teacher from teacher, with their encoders where both trainings have
some; optimizer, schedules, epochs and the step count of the teacher's averaging start anew. The
network must be the same, but for its classes: each takes the rows of the heads of its name
(`local.checkpoints.tasks.initial_classes`). What regularises its training, the features and the
data may differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from desed_task.atomic_files import sha256_of
from desed_task.checkpoints.safe_load import load_safely
from desed_task.checkpoints.spec import DetectorSpec
from desed_task.checkpoints.state_names import NETWORK_PREFIXES, is_bare
from desed_task.checkpoints.tensor_shapes import check_tensors
from desed_task.errors import InputError
from desed_task.nnet.CRNN import CRNN
from local.checkpoints.encoders.initial import check_same_encoders, load_initial_encoders
from local.checkpoints.restore import detector_spec
from local.checkpoints.tasks.initial_classes import (
    KEY,
    ClassRows,
    initial_rows,
    rows_in_words,
    with_initial_rows,
)
from local.config import RecipeConfig, check_config
from local.stores.size import with_embedding_size

# Arguments of the network that only act in training.
REGULARISATION: Final = (
    *("dropout", "dropstep_recurrent", "dropstep_recurrent_len", "dropstep_scope"),
    *("specaugm_t_p", "specaugm_t_l", "specaugm_f_p", "specaugm_f_l"),
)


def with_initial_weights(config: RecipeConfig, path: Path) -> RecipeConfig:
    """The configuration with the identity of the file that a training starts from.

    Raises:
        InputError: the file cannot be loaded safely, or is of another network.
    """
    check_initial_weights(load_safely(path), config, str(path))
    tree = config.dump()
    origin = {"checkpoint": str(path.absolute()), "checkpoint_sha256": sha256_of(path)}
    tree["initial_weights"] |= origin
    return check_config(tree, "the configuration")


def as_begun(config: RecipeConfig, checkpoint: Path) -> RecipeConfig:
    """The configuration with the initial weights that the training of a checkpoint started from."""
    hyper = load_safely(checkpoint).get("hyper_parameters")
    began = hyper.get("initial_weights", {}) if isinstance(hyper, dict) else {}
    return check_config({**config.dump(), "initial_weights": began}, str(checkpoint))


def check_origin(config: RecipeConfig) -> None:
    """Reject a configuration that names initial weights, for a training that has none.

    Raises:
        InputError: naming them.
    """
    there = config.initial_weights
    if there.classes and not there.checkpoint_sha256:
        raise InputError(
            f"{KEY}: is about the classes of a checkpoint; name it with --init_from_checkpoint, or "
            "delete the key"
        )
    if there.checkpoint_sha256:
        raise InputError(
            "initial_weights: this configuration belongs to a training that started from "
            f"{there.checkpoint or 'a checkpoint'} (SHA-256 {there.checkpoint_sha256[:12]}...); "
            "name that file in --init_from_checkpoint, or delete the section"
        )


def check_initial_weights(
    checkpoint: Mapping[str, Any], config: RecipeConfig, origin: str
) -> ClassRows:
    """Reject a checkpoint of another network than the configuration's.

    Returns:
        The rows of its heads that the classes of the configuration's task start from.

    Raises:
        InputError: naming the keys of `net` that differ, other encoders, or each tensor that does
            not fit, with both shapes and the keys that they follow from; or classes of the
            configuration's `initial_weights.classes` that do not exist.
    """
    here, known = detector_spec(config), ()
    if not is_bare(checkpoint):
        there = DetectorSpec.of_checkpoint(checkpoint, origin)
        known = there.classes
        differing = [
            f"net.{key}: {there.net[key]!r} in the checkpoint, {here.net[key]!r} here"
            for key in here.net
            if key not in (*REGULARISATION, "nclass") and there.net[key] != here.net[key]
        ]
        if differing:
            heading = (
                f"{origin} has another network; give its values with --set section.key=value, or "
                "start from another checkpoint:"
            )
            raise InputError.collect(differing, heading)
        check_same_encoders(there, config, origin)
    named = config.initial_weights.classes
    if named and not known:
        raise InputError(
            f"{KEY}: {origin} contains weights only and does not name its classes; leave it out"
        )
    rows = initial_rows(here.classes, known, named, origin)
    own = _networks(config)
    fault = "does not fit the network that the configuration describes"
    check_tensors(own, with_initial_rows(_weights(checkpoint), own, rows), origin, fault)
    return rows


def load_initial_weights(module: torch.nn.Module, config: RecipeConfig) -> dict[str, Any]:
    """Load the networks of the checkpoint that `config.initial_weights` names, and print so.

    Statistics of the features are taken too, if it has those of the same features: its weights were
    trained with them. Otherwise they are those of the new training's data.

    Args:
        module: with networks `sed_student` and `sed_teacher`, their encoders `encoder_student`
            and `encoder_teacher`, which may be None, and `scaler`.
        config: of the new training.

    Returns:
        The content of the checkpoint.
    """
    origin = config.initial_weights.checkpoint
    checkpoint = load_safely(Path(origin))
    rows, weights = check_initial_weights(checkpoint, config, origin), _weights(checkpoint)
    module.load_state_dict(with_initial_rows(weights, module.state_dict(), rows), strict=False)
    sha256 = config.initial_weights.checkpoint_sha256[:12]
    print(f"initial weights: {origin} (SHA-256 {sha256}...), student and teacher")
    if line := load_initial_encoders(module, checkpoint, config, origin):
        print(line)
    if not rows.are_all:
        print("\n".join(rows_in_words(rows, weights)))
    if config.scaler.statistic == "instance":
        return checkpoint
    scaler = {n: v for n, v in checkpoint["state_dict"].items() if n.startswith("scaler.")}
    if scaler and _same_features(checkpoint, config, origin):
        module.load_state_dict(scaler, strict=False)
        print(f"feature statistics: those of {origin}, with which its weights were trained")
    else:
        print(f"feature statistics: of the data here, as {origin} has none of the same features")
    return checkpoint


def _same_features(checkpoint: Mapping[str, Any], config: RecipeConfig, origin: str) -> bool:
    if is_bare(checkpoint):
        return False
    there, here = DetectorSpec.of_checkpoint(checkpoint, origin), detector_spec(config)
    return (there.front_end, there.scaler) == (here.front_end, here.scaler)


def _weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    prefixes = tuple(f"{name}." for name in NETWORK_PREFIXES)
    state = checkpoint["state_dict"]
    return {name: value for name, value in state.items() if name.startswith(prefixes)}


def _networks(config: RecipeConfig) -> dict[str, Tensor]:
    """Tensors of the networks of a configuration by name; only their shapes exist."""
    net = with_embedding_size(config).net
    with torch.device("meta"):
        own = CRNN(**net.model_dump(exclude={"median_filter"})).state_dict()
    return {f"{role}.{name}": value for role in NETWORK_PREFIXES for name, value in own.items()}
