"""The configuration of a command that is given a checkpoint and names no configuration."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from desed_task.checkpoints.published import is_published
from desed_task.checkpoints.safe_load import load_safely
from desed_task.file_names import escape_name
from local.checkpoints.restore import known_hyperparameters
from local.cli.arguments import DEFAULT_CONF_FILE
from local.config import (
    SHIPPED,
    TASK_SECTION,
    RecipeConfig,
    load_config,
    merge_overrides,
)
from local.data.presence import is_there


def config_of_training(args: argparse.Namespace) -> RecipeConfig:
    """The configuration of train_pretrained.py, given a checkpoint to resume, test or evaluate;
    of several, that of the first one.

    Raises:
        InputError: see `config_with_checkpoint` and `trained_config`.
    """
    if args.resume_from_checkpoint is not None:
        return trained_config(args.resume_from_checkpoint, args.overrides)
    if args.test_from_checkpoint is not None:
        return config_with_checkpoint(args.test_from_checkpoint[0], args.overrides, "test")
    return config_with_checkpoint(args.eval_from_checkpoint[0], args.overrides, "predict")


def config_with_checkpoint(
    checkpoint: str, overrides: Sequence[str], stage: str | None = None
) -> RecipeConfig:
    """The configuration to use a checkpoint with.

    That of its training, unless it is a published one, or a stage needs data that is not where the
    training had it but is where the supplied configuration says. A line names which one it is.

    Args:
        checkpoint: path of the checkpoint.
        overrides: entries `section.key=value`.
        stage: Lightning's name of what will be done with the data; None if it is not used.

    Raises:
        InputError: for an override or checkpoint that cannot be used.
    """
    content = load_safely(Path(checkpoint))
    supplied = supplied_config()
    shown = escape_name(checkpoint)
    hyper = content.get("hyper_parameters")
    if is_published(content) or not isinstance(hyper, dict):
        if stage is not None:
            print(f"configuration: {supplied}, as {shown} contains none of this recipe")
        return load_config(supplied, overrides)
    below = load_config(supplied)
    tree = _over(below.dump(), known_hyperparameters(hyper, checkpoint))
    config = merge_overrides(tree, overrides, f"hyperparameters of {checkpoint}")
    if stage is None:
        return config
    same_classes = below.detection_task.classes == config.detection_task.classes
    if same_classes and not _has_data(config, stage):
        other = load_config(supplied, overrides)
        if _has_data(other, stage):
            print(f"configuration: {supplied}, as the data of {shown} is not here")
            return other
    print(f"configuration: that of {shown}; --conf_file gives another one")
    return config


def supplied_config() -> Path:
    """The default configuration of the folder where a command is started, or the supplied one."""
    here = Path(DEFAULT_CONF_FILE)
    return here if here.is_file() else SHIPPED / here.name


def _over(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of `below`, with the keys that `above` has taken from it; the task is that of
    `above`, where none is the default one."""
    merged = {name: {**section, **above.get(name, {})} for name, section in below.items()}
    return {**merged, TASK_SECTION: above.get(TASK_SECTION, {})}


def _has_data(config: RecipeConfig, stage: str) -> bool:
    return any(map(is_there, config.detection_task.needed_by(stage)))


def trained_config(checkpoint: str, overrides: Sequence[str]) -> RecipeConfig:
    """The configuration to resume a training with: exactly the training's.

    Args:
        checkpoint: path of the checkpoint.
        overrides: entries `section.key=value`.

    Raises:
        InputError: for an override or checkpoint that cannot be used, or that contains none.
    """
    content = load_safely(Path(checkpoint))
    stored = content.get("hyper_parameters")
    if is_published(content) or not isinstance(stored, dict):
        # `check_resumable` tells what else is wrong with it.
        return load_config(DEFAULT_CONF_FILE, overrides)
    print(f"configuration: that of {escape_name(checkpoint)}; --conf_file gives another one")
    tree = known_hyperparameters(stored, checkpoint)
    return merge_overrides(tree, overrides, f"hyperparameters of {checkpoint}")
