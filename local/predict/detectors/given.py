"""The files that `--checkpoint` names, and what the other flags mean for them; without PyTorch."""

from __future__ import annotations

import argparse
import difflib
import os
from pathlib import Path

from desed_task.audio.formats import AUDIO_SUFFIXES
from desed_task.audioset.released_files import detectors, released_file
from desed_task.checkpoints.file_kind import holds_event_head, is_torch_file
from desed_task.checkpoints.run_folders import CHECKPOINT_FOLDER
from desed_task.encoders.released import RELEASED
from desed_task.encoders.weights_file import WEIGHTS_FOLDER
from desed_task.errors import InputError, agree, count_of
from desed_task.file_names import escape_name
from local.checkpoints.given import given_checkpoint, settle_arguments
from local.config import RecipeConfig
from local.predict.flags import ENCODER_KEYS

# Of files of weights, which no recording has.
_ENDINGS = (".ckpt", ".pt", ".pth")
_NAMES = frozenset(name for row in RELEASED for name in (row.name, row.encoder))


def settle_detectors(args: argparse.Namespace) -> RecipeConfig | None:
    """Check the arguments that name checkpoints and the configuration.

    Args:
        args: the arguments of `predict.py`. In `checkpoints` names of released detectors are
            replaced by their files and run folders by their checkpoints; `checkpoint` is the first.

    Returns:
        See `local.checkpoints.given.settle_arguments`.

    Raises:
        InputError: a file, folder or override that cannot be used, a released detector that is not
            there, a checkpoint given twice, and flags that do not go with these detectors.
    """
    if checkpoints := [path for path in args.recordings if _is_checkpoint(path)]:
        shown = escape_name(checkpoints[0])
        raise InputError(
            f"{shown}: a checkpoint among the recordings; repeat the flag, --checkpoint "
            f"{escape_name(args.checkpoint)} --checkpoint {shown}, to average them, or give one"
        )
    named = [_file_of(one) for one in args.checkpoints]
    args.checkpoint = named[0]
    config = settle_arguments(args)
    args.checkpoints = [args.checkpoint, *(given_checkpoint(one) for one in named[1:])]
    twice = [one for n, one in enumerate(args.checkpoints) if _is_among(one, args.checkpoints[:n])]
    if twice:
        raise InputError(f"--checkpoint {escape_name(twice[0])}: given twice; give it once")
    args.of_audioset = [holds_event_head(Path(one)) for one in args.checkpoints]
    _check_flags(args)
    return config


def _is_checkpoint(path: Path) -> bool:
    """Whether a recording is a checkpoint, a run folder or the name of a released detector."""
    ending = path.suffix.lower()
    if ending in AUDIO_SUFFIXES or ending in _ENDINGS:
        return ending in _ENDINGS
    if path.is_dir():
        # Of a training that was stopped before its first checkpoint, too.
        return any((path / CHECKPOINT_FOLDER).glob("*.ckpt")) or (path / "hparams.yaml").is_file()
    return is_torch_file(path) or (str(path) in _NAMES and not os.path.lexists(path))


def own_checkpoint(args: argparse.Namespace) -> str | None:
    """The first checkpoint that was trained with this recipe; None if there is none."""
    pairs = zip(args.checkpoints, args.of_audioset, strict=True)
    return next((path for path, of_audioset in pairs if not of_audioset), None)


def _file_of(given: str) -> str:
    """The file that a released detector's name stands for; what is not such a name stays."""
    if os.path.lexists(given) or os.sep in given or os.path.splitext(given)[1] or not given:
        return given
    if given not in _NAMES:
        if difflib.get_close_matches(given, _NAMES, 1):
            known = ", ".join(row.name for row in detectors())
            raise InputError(
                f"--checkpoint {given}: no such file, and no released detector of that name; "
                f"known: {known}"
            )
        return given
    found = str(released_file(given, Path(WEIGHTS_FOLDER)))
    print(f"checkpoint: {escape_name(found)}")
    return found


def _is_among(path: str, others: list[str]) -> bool:
    return any(os.path.samefile(path, other) for other in others)


def _check_flags(args: argparse.Namespace) -> None:
    """Refuse flags that are about one checkpoint, or one that was trained with this recipe."""
    n_given = len(args.checkpoints)
    finds = (
        f"it names the weights of one checkpoint, and each finds its own, in {WEIGHTS_FOLDER} too"
    )
    for flag, why, n_meant in (
        ("tuned", "its values were tuned for one checkpoint", n_given),
        ("pretrained_model", finds, args.of_audioset.count(False)),
        ("export", "it exports one network", n_given),
    ):
        if n_meant > 1 and getattr(args, flag) is not None:
            given = count_of(n_meant, "checkpoint")
            raise InputError(f"--{flag}: {why}, but {given} are given; leave it out or give one")
    of_audioset = [path for path, of in zip(args.checkpoints, args.of_audioset, strict=True) if of]
    flags = ("tuned", "pretrained_model", "export", "model")
    refused = [f"--{flag}" for flag in flags if getattr(args, flag) is not None]
    if len(of_audioset) == len(args.checkpoints) and refused:
        goes = agree(len(refused), "goes", "go")
        raise InputError(
            f"{' and '.join(refused)}: {goes} with checkpoints of this recipe, but "
            f"{escape_name(of_audioset[0])} is a detector of AudioSet's classes, with one network "
            f"and its own encoder; leave {agree(len(refused), 'it', 'them')} out"
        )
    keys = [one.partition("=")[0].strip() for one in args.overrides]
    ignored = [f"--set {key}" for key in keys if key in ENCODER_KEYS]
    if len(of_audioset) == len(args.checkpoints) and ignored:
        used = agree(len(ignored), "is", "are")
        shown = ", ".join(ignored)
        print(f"detectors of AudioSet's classes have their encoders: {shown} {used} not used")
