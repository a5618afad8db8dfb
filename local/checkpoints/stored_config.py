"""The checkpoint that a command is given, and its configuration where the command names none."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from desed_task.checkpoints.published import is_published
from desed_task.checkpoints.run_folders import find_checkpoint
from desed_task.checkpoints.safe_load import load_safely
from desed_task.errors import InputError
from desed_task.file_names import escape_name
from local.checkpoints.restore import known_hyperparameters
from local.cli.arguments import DEFAULT_CONF_FILE
from local.config import RecipeConfig, load_config, merge_overrides
from local.corpora import NEEDED_BY_STAGE, is_there


def config_of_training(args: argparse.Namespace) -> RecipeConfig:
    """The configuration of train_pretrained.py, for what its arguments ask.

    Args:
        args: the arguments; a run folder among them is replaced by the checkpoint that it stands
            for: to resume, its last one.

    Raises:
        InputError: for a file, override or checkpoint that cannot be used.
    """
    where = args.conf_file, args.overrides
    if args.resume_from_checkpoint not in (None, "auto"):
        given = given_checkpoint(args.resume_from_checkpoint, last=True)
        args.resume_from_checkpoint = given
        return _trained_config(*where, given)
    for flag, stage in (("test_from_checkpoint", "test"), ("eval_from_checkpoint", "predict")):
        if getattr(args, flag) is not None:
            given = given_checkpoint(getattr(args, flag))
            setattr(args, flag, given)
            return config_with_checkpoint(*where, given, stage)
    return load_config(args.conf_file or DEFAULT_CONF_FILE, args.overrides)


def given_checkpoint(path: str, *, last: bool = False) -> str:
    """The checkpoint that a command's argument stands for; a folder's is printed.

    Args:
        path: a checkpoint or a run folder.
        last: prefer the last one of a run to its best.

    Raises:
        InputError: see `find_checkpoint`.
    """
    found = find_checkpoint(path, last=last)
    if found != Path(path):
        print(f"checkpoint: {escape_name(found)}")
    return str(found)


def config_with_checkpoint(
    conf_file: str | None, overrides: Sequence[str], checkpoint: str, stage: str | None = None
) -> RecipeConfig:
    """The configuration of a command that is given a checkpoint.

    That of the checkpoint's training, unless the command names a file, the checkpoint is a
    published one, or a stage needs data that is not where the training had it but is where the
    supplied configuration says. A line names which one it is.

    Args:
        conf_file: the command's `--conf_file`; None if not given.
        overrides: entries `section.key=value`.
        checkpoint: path of the checkpoint.
        stage: Lightning's name of what will be done with the data; None if it is not used.

    Raises:
        InputError: for a file, override or checkpoint that cannot be used.
    """
    if conf_file is not None:
        return load_config(conf_file, overrides)
    content = load_safely(Path(checkpoint))
    supplied = load_config(overrides)
    shown = escape_name(checkpoint)
    if is_published(content) or not isinstance(content.get("hyper_parameters"), dict):
        if stage is not None:
            print(f"configuration: {DEFAULT_CONF_FILE}, as {shown} contains none of this recipe")
        return supplied
    origin = f"hyperparameters of {checkpoint}"
    stored = known_hyperparameters(content["hyper_parameters"], checkpoint)
    config = merge_overrides(_over(supplied.dump(), stored), overrides, origin)
    if stage is None:
        return config
    if not _has_data(config, stage) and _has_data(supplied, stage):
        print(f"configuration: {DEFAULT_CONF_FILE}, as the data that {shown} names is not here")
        return supplied
    print(f"configuration: that of {shown}; --conf_file gives another one")
    return config


def _over(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of `below`, with the keys that `above` has taken from it."""
    return {name: {**section, **above.get(name, {})} for name, section in below.items()}


def _has_data(config: RecipeConfig, stage: str) -> bool:
    return any(is_there(corpus, config.data) for corpus in NEEDED_BY_STAGE[stage])


def _trained_config(
    conf_file: str | None, overrides: Sequence[str], checkpoint: str
) -> RecipeConfig:
    """The configuration to resume a training with: a file's, or exactly the training's.

    Args:
        conf_file, overrides, checkpoint: as of `config_with_checkpoint`.

    Raises:
        InputError: for a file, override or checkpoint that cannot be used.
    """
    if conf_file is not None:
        return load_config(conf_file, overrides)
    stored = load_safely(Path(checkpoint)).get("hyper_parameters")
    if not isinstance(stored, dict) or not {"data", "net"} <= set(stored):
        raise InputError(f"{checkpoint}: contains no configuration; give one with --conf_file")
    origin = f"hyperparameters of {checkpoint}"
    print(f"configuration: that of {escape_name(checkpoint)}; --conf_file gives another one")
    return merge_overrides(known_hyperparameters(stored, checkpoint), overrides, origin)
