"""The files of weights that a command names for the encoders of a checkpoint."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from desed_task.inference.encoder_files import GivenEncoder
from local.config import RecipeConfig

# The value of --pretrained_model that stands for the configuration's files, whatever the encoder.
CONFIGURED = "beats"


def chosen_weights(config: RecipeConfig, args: argparse.Namespace) -> GivenEncoder:
    """The files of weights that a command names; None to find those of the checkpoint.

    Files that are named on the command line must be those of the network; a configuration may have
    been given for something else, so of its files only those of the network's encoders count.

    Args:
        config: the configuration.
        args: `pretrained_model`, where "beats" stands for the configuration's; and `conf_file` and
            `overrides`, which name them too if they are given.
    """
    words = args.pretrained_model or []
    if words and words != [CONFIGURED]:
        return [path for word in words for path in _paths(word)]
    pretrained = config.pretrained
    keys = {one.partition("=")[0].strip() for one in args.overrides}
    named = pretrained.checkpoint
    files = [named] if isinstance(named, str) else list(named or ())
    if "pretrained.checkpoint" in keys and any(files):
        return [file for file in files if file is not None]
    if "pretrained.beats_checkpoint" in keys:
        return pretrained.beats_checkpoint
    if words or args.conf_file is not None or "pretrained.model" in keys:
        return {choice.name: choice.file for choice in pretrained.encoders}
    return None


def _paths(word: str) -> Sequence[str]:
    """The paths in a word, which commas separate unless they belong to the name of a file."""
    return [word] if os.path.exists(word) else [path for path in word.split(",") if path]
