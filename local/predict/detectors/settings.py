"""Configuration of a command's detectors, and what its results say of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from desed_task.audioset.file import refuse_weights
from desed_task.checkpoints.safe_load import read_safely
from desed_task.errors import InputError
from desed_task.inference.detector import SoundEventDetector
from local.checkpoints.stored_config import config_with_checkpoint, supplied_config
from local.config import RecipeConfig, load_config
from local.predict.decoding.choice import ChosenDecoding
from local.predict.decoding.settings import described
from local.predict.detectors.given import own_checkpoint


def config_of_detectors(args: argparse.Namespace) -> RecipeConfig:
    """The configuration of the first checkpoint that has one, else the supplied one.

    Raises:
        InputError: for an override or checkpoint that cannot be used.
    """
    own = own_checkpoint(args)
    if own is None:
        return load_config(supplied_config(), args.overrides)
    try:
        return config_with_checkpoint(own, args.overrides)
    except InputError:
        # Of weights without a detector, it says more.
        refuse_weights(read_safely(Path(own)), Path(own))
        raise


def made_by_detectors(
    detector: SoundEventDetector, chosen: ChosenDecoding, hop_s: float
) -> dict[str, Any]:
    """What events follow from, for files of results: files, networks, hop, decoding and classes.

    Args:
        detector: the detector.
        chosen: classes and rules of the command.
        hop_s: seconds from one window to the next.
    """
    first = detector.scorers[0]
    made_by: dict[str, Any]
    if len(detector.scorers) > 1:
        made_by = {"checkpoints": [one.described() for one in detector.scorers]}
    elif first.role:
        made_by = {"checkpoint": first.path, "model": first.role}
    else:
        made_by = first.described()
    made_by["hop_s"] = hop_s
    if chosen.classes is not None:
        made_by["classes"] = chosen.classes
    return made_by | described(detector, chosen.rules)
