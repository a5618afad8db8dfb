"""The checkpoint and configuration that a command names, before PyTorch is imported."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from desed_task.checkpoints.file_kind import check_checkpoint_file
from desed_task.checkpoints.run_folders import find_checkpoint
from desed_task.errors import InputError
from desed_task.file_names import escape_name
from local.checkpoints.tasks.class_names import parse_init_classes
from local.cli.arguments import DEFAULT_CONF_FILE
from local.config import RecipeConfig, apply_override, check_config, load_config

# Arguments that take a checkpoint of which the command uses the best; and the last, to resume.
BEST = ("checkpoint", "checkpoint_info", "test_from_checkpoint", "eval_from_checkpoint")
LAST = "resume_from_checkpoint"
INITIAL = "init_from_checkpoint"  # whose weights only are used
INITIAL_CLASSES = "init_classes"  # the names of its classes, where they differ
NEWEST_RUN = "auto"  # the value of LAST that names none


def given_checkpoint(path: str, *, last: bool = False) -> str:
    """The checkpoint that an argument stands for; a folder's is printed.

    Args:
        path: a checkpoint or a run folder.
        last: prefer the last one of a run to its best.

    Raises:
        InputError: there is none, or it is another kind of file.
    """
    found = find_checkpoint(path, last=last)
    check_checkpoint_file(found)
    if found != Path(path):
        print(f"checkpoint: {escape_name(found)}")
    return str(found)


def with_init_classes(config: RecipeConfig, entries: Sequence[str]) -> RecipeConfig:
    """The configuration with the entries of `--init_classes`.

    Raises:
        InputError: an entry cannot be read, or names a class that the task does not have.
    """
    named = parse_init_classes(entries, config.detection_task.classes)
    tree = config.dump()
    tree["initial_weights"]["classes"] |= named
    return check_config(tree, f"--{INITIAL_CLASSES}")


def settle_arguments(args: argparse.Namespace) -> RecipeConfig | None:
    """Check the arguments that name checkpoints and the configuration.

    Args:
        args: the arguments; a run folder in them is replaced by the checkpoint that it stands for.

    Returns:
        The configuration; None if it is that of the checkpoint
        (`local.checkpoints.stored_config`), of which only the form of `overrides` is checked.

    Raises:
        InputError: for a file, folder or override that cannot be used, and for flags that exclude
            each other.
    """
    initial = getattr(args, INITIAL, None)
    named = {name: getattr(args, name, None) for name in (*BEST, LAST)}
    named = {name: path for name, path in named.items() if path not in (None, NEWEST_RUN)}
    if initial is not None and named:
        raise InputError(f"--{INITIAL} starts a new training; leave out --{next(iter(named))}")
    named_classes = getattr(args, INITIAL_CLASSES, None)
    if named_classes and initial is None:
        raise InputError(f"--{INITIAL_CLASSES} belongs to --{INITIAL}; give that too")
    if initial is not None:
        setattr(args, INITIAL, given_checkpoint(initial))
    for name, given in named.items():
        if isinstance(given, list):
            setattr(args, name, [given_checkpoint(path) for path in given])
        else:
            setattr(args, name, given_checkpoint(given, last=name == LAST))
    if args.conf_file is not None or not named:
        conf_file = DEFAULT_CONF_FILE if args.conf_file is None else args.conf_file
        config = load_config(conf_file, args.overrides)
        return with_init_classes(config, named_classes) if named_classes else config
    for override in args.overrides:
        apply_override({}, override)
    return None
