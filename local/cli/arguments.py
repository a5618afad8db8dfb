"""Parsers, flags, argument types and checks of paths that several scripts share.

Nothing here imports PyTorch, so wrong arguments are told before that takes its seconds.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from desed_task.errors import CONSOLE_COMMANDS, STARTED_BY_CONSOLE, InputError, command_name
from desed_task.file_names import looked_up_from
from local.cli.redaction import shown

GPUS_REMEDY = "give 0 for the CPU, N for the N-th GPU, counted from 1, or mps for the GPU of a Mac"
DEVICES_REMEDY = (
    "give the number of devices, all, or different GPUs counted from 1, such as 1,3 (--gpus 0 is "
    "the CPU)"
)
MPS, ALL_DEVICES = "mps", "all"
DEFAULT_CONF_FILE = "./confs/pretrained.yaml"


class _Parser(argparse.ArgumentParser):
    """A parser that repeats no password or control character of the arguments it refuses."""

    def error(self, message: str) -> NoReturn:
        super().error(shown(message))


def command_parser(text: str | None) -> argparse.ArgumentParser:
    """A parser that calls commands as the user has started this one.

    Args:
        text: the script's docstring, which names scripts.
    """
    told = text or ""
    for script in CONSOLE_COMMANDS:
        name = command_name(script)
        if name != script:
            told = told.replace(f"python {script}", name).replace(script, name)
    return _Parser(
        prog=os.environ.get(STARTED_BY_CONSOLE),
        description=told,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_conf_file(
    parser: argparse.ArgumentParser,
    what: str = "configuration",
    *aliases: str,
    default: str | None = DEFAULT_CONF_FILE,
) -> None:
    """Add `--conf_file`.

    Args:
        parser: the command's.
        what: the help.
        aliases: further names of the flag.
        default: a supplied file, see `local.config.find_shipped`.
    """
    parser.add_argument("--conf_file", *aliases, default=default, help=what)


def add_overrides(parser: argparse.ArgumentParser, example: str = "") -> None:
    """Add `--set`, whose values become `overrides`."""
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="SECTION.KEY=VALUE",
        action="append",
        default=[],
        help=f"change a value of the configuration{example and f', e.g. {example}'}; may be "
        "repeated",
    )


def add_weights(
    parser: argparse.ArgumentParser,
    what: str = "pretrained.beats_checkpoint (default)",
    default: str | None = "beats",
    *,
    several: bool = False,
) -> None:
    """Add `--pretrained_model`.

    Args:
        parser: the command's.
        what: what `beats` stands for, in the help.
        default: its default.
        several: whether it may be repeated; its value is a list then.
    """
    told = f"file of BEATs weights; `beats` is {what}"
    if several:
        told = (
            "file of the encoder's weights, several with commas between them or the flag repeated; "
            f"`beats` is {what}"
        )
    action = "append" if several else "store"
    parser.add_argument(
        "--pretrained_model", metavar="FILE", action=action, default=default, help=told
    )


def add_checks_of_runs(parser: argparse.ArgumentParser) -> None:
    """Add `--fast_dev_run` and `--verify_metrics`."""
    parser.add_argument(
        "--fast_dev_run", action="store_true", help="20 training batches per epoch, 2 epochs"
    )
    parser.add_argument(
        "--verify_metrics",
        action="store_true",
        help="compare the metrics of the test with those of sed_scores_eval itself",
    )


def add_gpus(parser: argparse.ArgumentParser) -> None:
    """Add `--gpus`, `--devices` and `--num_nodes` for `local.cli.devices`."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--gpus",
        "--gpu",
        type=gpu_number,
        metavar="N",
        help="0: the CPU; N: the N-th GPU; mps: that of a Mac (default: the first)",
    )
    add_devices(parser, choice)


def add_devices(
    parser: argparse.ArgumentParser,
    choice: argparse._MutuallyExclusiveGroup | None = None,
    default: str = "one",
) -> None:
    """Add `--devices` and `--num_nodes`.

    Args:
        parser: the command's.
        choice: group of flags that exclude `--devices`.
        default: what is computed with without `--devices`, in the help.
    """
    (choice or parser).add_argument(
        "--devices",
        type=device_words,
        metavar="N",
        help="processes to compute with, one per GPU: the first N GPUs, all, or a list such as 1,3 "
        f"(counted from 1); without a GPU, N processes on the CPU (default: {default})",
    )
    parser.add_argument(
        "--num_nodes",
        type=positive_int,
        metavar="M",
        help="machines that compute together, each with --devices (default: 1; torchrun and SLURM "
        "say so themselves)",
    )


def device_words(text: str) -> str:
    """A number of devices above 0, all, or the numbers of several GPUs, counted from 1."""
    parts = [part.strip() for part in text.split(",")]
    if parts == [ALL_DEVICES]:
        return ALL_DEVICES
    numbers = [int(part) if part.isdecimal() else 0 for part in parts]
    if min(numbers) > 0 and len(set(numbers)) == len(numbers):
        return ",".join(map(str, numbers))
    raise argparse.ArgumentTypeError(f"{text}: {DEVICES_REMEDY}")


def gpu_number(text: str) -> str:
    """0 for the CPU, the number of a GPU, counted from 1, or mps."""
    if not text.strip().isdecimal() and text.strip() != MPS:
        raise argparse.ArgumentTypeError(f"{text}: {GPUS_REMEDY}")
    return text


def check_folders(paths: Iterable[str | Path], remedy: str) -> None:
    """Check that folders of the command line exist.

    Raises:
        InputError: naming all that do not.
    """
    absent = [
        f"{path}: no such folder{looked_up_from(path)}; {remedy}"
        for path in paths
        if not os.path.isdir(path)
    ]
    if absent:
        raise InputError.collect(absent)


def positive_int(text: str) -> int:
    """A whole number above 0."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: give a whole number above 0") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


def non_negative_seconds(text: str) -> float:
    """A time of 0 s or more."""
    return _non_negative(text, "seconds")


def non_negative_mb(text: str) -> float:
    """A size of 0 MB or more."""
    return _non_negative(text, "megabytes")


def _non_negative(text: str, unit: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of {unit}")
    return number


def yes_or_no(text: str) -> bool:
    """True for 1, true or yes; False for 0, false or no."""
    if text.lower() in ("1", "true", "yes"):
        return True
    if text.lower() in ("0", "false", "no"):
        return False
    raise argparse.ArgumentTypeError(f"{text}: give 1 or 0")


def use_gpu(text: str) -> bool | str:
    """Whether to use a GPU, or mps for that of a Mac."""
    return MPS if text == MPS else yes_or_no(text)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add `--overwrite`, the same in every command."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that this program did not write, or that were changed since "
        "(default: refuse)",
    )


def add_pseudo_label_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of extract_embeddings.py that write pseudo-labels."""
    group = parser.add_argument_group("pseudo-labels")
    group.add_argument(
        "--pseudo_labels",
        type=Path,
        metavar="DIR",
        help="instead of embeddings, write the frame logits of every training set to "
        "DIR/<set>.hdf5 (training.pseudo_labels), averaged over the checkpoints",
    )
    group.add_argument(
        "--checkpoint",
        dest="checkpoints",
        action="append",
        metavar="FILE",
        help="with --pseudo_labels: checkpoint or run folder of a training; may be repeated",
    )
    group.add_argument(
        "--use_teacher",
        action="store_true",
        help="with --pseudo_labels: logits of the teacher (default: of the student)",
    )


def check_pseudo_label_flags(args: argparse.Namespace) -> None:
    """Refuse flags that do not go together.

    Raises:
        InputError: naming the flag and what to do.
    """
    if args.pseudo_labels is None:
        given = "--use_teacher" if args.use_teacher else ""
        given = "--checkpoint" if args.checkpoints else given
        if given:
            raise InputError(f"{given}: is about pseudo-labels; give --pseudo_labels DIR too")
        return
    if not args.checkpoints:
        raise InputError("--pseudo_labels: give the checkpoints that compute them, --checkpoint")
    for flag, value in (("--output_dir", args.output_dir), ("--eval_set", args.eval_set)):
        if value:
            raise InputError(
                f"{flag}: is about embeddings, and --pseudo_labels writes the training sets to "
                "its own folder; leave one of them out"
            )


def parse_threshold(text: str, flag: str = "--threshold") -> float | dict[str, float]:
    """One threshold for all classes, or label -> threshold.

    Labels may contain commas and equals signs: what stands before the last one before a number,
    back to the number of the class before, is one label.

    Args:
        text: the value on the command line.
        flag: its flag, for messages.

    Raises:
        InputError: the text has another form, or names a class twice.
    """
    if "=" not in text:
        return _number(text, text, flag)
    named: dict[str, float] = {}
    rest, comma = text, ","
    while comma:
        label, _, rest = rest.partition("=")
        value, comma, rest = rest.partition(",")
        if "=" in value:  # of the label
            more, _, value = value.rpartition("=")
            label = f"{label}={more}"
        if (label := label.strip()) in named:
            raise InputError(f"{flag} {text}: names {label!r} twice; keep one of them")
        named[label] = _number(value.strip(), text, flag)
    return named


def _number(value: str, text: str, flag: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(
            f"{flag} {text}: {value!r} is not a number; give one for all classes (0.4) or "
            "one per class (Speech=0.4,Dog=0.6)"
        ) from None


def add_scored_checkpoints(choice: argparse._MutuallyExclusiveGroup) -> None:
    """Add the flags that test or evaluate checkpoints, whose scores are averaged if they are
    several; their values are lists."""
    choice.add_argument(
        "--test_from_checkpoint",
        metavar="CKPT",
        nargs="+",
        help="only test this checkpoint; of several, the mean of their scores",
    )
    choice.add_argument(
        "--eval_from_checkpoint",
        metavar="CKPT",
        nargs="+",
        help="only score the evaluation set, with one checkpoint or several",
    )


def add_initial_weights(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a training that starts from the weights of another one."""
    parser.add_argument(
        "--init_from_checkpoint", metavar="CKPT", help="start a new training from its weights"
    )
    parser.add_argument(
        "--init_classes",
        metavar="CLASS=ITS",
        nargs="+",
        help="classes whose rows the checkpoint has under another name, e.g. dog=Dog",
    )


def parse_merged_classes(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """New label -> the classes whose events it gets, from `NAME=CLASS+CLASS,NAME=CLASS+CLASS`.

    Classes may contain commas, new names may not.

    Args:
        texts: the values of a flag that may be repeated.

    Raises:
        InputError: a text has another form, or a name is given twice.
    """
    merged: dict[str, tuple[str, ...]] = {}
    for text in texts:
        for part in re.split(r",(?=[^,=]*=)", text):
            name, equals, members = (piece.strip() for piece in part.partition("="))
            if not equals:
                raise InputError(
                    f"--merge_classes {text}: {part.strip()!r} is not a new name and classes; "
                    "write NAME=CLASS+CLASS, e.g. alarm=Alarm_bell_ringing+Blender"
                )
            if name in merged:
                raise InputError(
                    f"--merge_classes {text}: names {name!r} twice; give all its classes at once"
                )
            found = tuple(one.strip() for one in members.split("+")) if members else ()
            merged[name] = found
            if not all(found):
                raise InputError(
                    f"--merge_classes {text}: {members!r} has a + too many; classes with + in "
                    "their names can be named in predict.merged_classes of a configuration"
                )
    return merged
