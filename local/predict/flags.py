"""The command line of `predict.py`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from desed_task.errors import agree
from local.cli import arguments
from local.cli.threads import add_threads
from local.cli.word_lists import ListOption, parse_in_any_order
from local.predict.archives.shards import shard_words
from local.predict.pages import EMBEDDED_MB
from local.predict.result_names import DEFAULT_FORMATS, ENDINGS

TABLE_FORMATS = ("tsv", "parquet", "html")
# Flags of how events are made of scores.
OF_EVENTS = (
    *("tuned", "decoder", "threshold", "low_threshold", "merge_gap", "min_duration"),
    *("merge_classes", "confidence", "classes"),
)
# What `--set` can change of a prediction, and of an export; the rest is the checkpoint's.
ENCODER_KEYS = ("pretrained.beats_checkpoint", "pretrained.checkpoint", "pretrained.model")
_READ = ("predict.", "decoder.", *ENCODER_KEYS)
# `desed_task.postprocess.decoders.KINDS`, which takes seconds to import.
DECODERS = ("median", "boxes", "threshold_boxes")


def parse_predict_args(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> argparse.Namespace:
    """Parse the command line of `predict.py`.

    Args:
        parser: the command's, without arguments.
        argv: the words; None for those of this process.
    """
    add = parser.add_argument
    add("recordings", nargs="*", type=Path, help="files and folders (with subfolders)")
    _add_detectors(parser)
    told = "configuration of hop, thresholds and encoder weights (default: the checkpoint's)"
    arguments.add_conf_file(parser, told, default=None)
    add("--output_dir", type=Path, default=Path("./predictions"), help="folder of the results")
    _add_decoding(parser)
    told = "files to write (default: tsv json txt png)"
    names = tuple(ENDINGS)
    formats = add(
        "--formats", action=ListOption, choices=names, default=list(DEFAULT_FORMATS), help=told
    )
    add(
        "--embed_mb",
        type=arguments.non_negative_mb,
        metavar="MB",
        help="html: size up to which the sound of a recording is a part of its page; larger ones "
        f"are linked (default: {EMBEDDED_MB:g})",
    )
    told = "the configuration's pretrained.checkpoint (default: the checkpoint's, if found)"
    arguments.add_weights(parser, told, default=None, several=True)
    arguments.add_gpus(parser)
    told = "windows at a time (default: 32 on a GPU, 4 per thread)"
    add("--batch_size", type=arguments.positive_int, help=told)
    add_threads(parser)
    told = "skip recordings whose result files all exist and are newer, whatever made them"
    add("--skip_existing", action="store_true", help=told)
    _add_archives(parser)
    arguments.add_overrides(parser, "predict.hop_s=2.56")
    arguments.add_overwrite(parser)
    add("--export", choices=("onnx",), help="only export the network as ONNX files")
    args = parse_in_any_order(parser, argv, "recordings", Path, [formats])
    _check(parser, args)
    return args


def _add_detectors(parser: argparse.ArgumentParser) -> None:
    """Add what scores come from, and of which classes."""
    add = parser.add_argument
    add(
        "--checkpoint",
        metavar="CKPT",
        action="append",
        help="checkpoint, ours or a published one, the run folder of a training, or a detector of "
        "AudioSet's 447 classes, as a file or by name (--list_checkpoints); may be repeated: "
        "scores of several are averaged",
    )
    add(
        "--list_checkpoints",
        action="store_true",
        help="only list detectors that can be had, with size, licence and published figures, and "
        "the command that gets each",
    )
    add(
        "--model",
        choices=("student", "teacher"),
        help="network to use (default: the one that --tuned is for, or the student, whose "
        "validation selected the checkpoint)",
    )
    add(
        "--classes",
        metavar="CLASSES",
        help="only these classes, with commas between, or a corpus that AudioSet's classes are "
        "mapped to: desed, urban_sed or tut2017 (default: all)",
    )


def _add_decoding(parser: argparse.ArgumentParser) -> None:
    """Add how events are made of scores."""
    add = parser.add_argument
    add(
        "--tuned",
        type=Path,
        metavar="YAML",
        help="best.yaml that was tuned for this checkpoint: its decoder, median filters, "
        "thresholds and calibration, if no flag gives others",
    )
    add(
        "--decoder",
        choices=DECODERS,
        help="from scores to events: median filter, change-point event boxes, or boxes above fixed "
        "thresholds (default: --tuned's, or the checkpoint's)",
    )
    add(
        "--threshold",
        metavar="T",
        help="scores above it are events: one for all classes, or CLASS=T,CLASS=T with 0.5 for the "
        "others (default: predict.threshold)",
    )
    add(
        "--low_threshold",
        metavar="T",
        help="hysteresis: events extend to where their score falls to it; one for all classes, or "
        "CLASS=T,CLASS=T (default: predict.low_threshold)",
    )
    add(
        "--merge_gap",
        metavar="S",
        help="join events of a class with a gap shorter than S seconds; one for all classes, or "
        "CLASS=S,CLASS=S (default: predict.merge_gap_s)",
    )
    add(
        "--min_duration",
        metavar="S",
        help="then drop events shorter than S seconds; one for all classes, or CLASS=S,CLASS=S "
        "(default: predict.min_duration_s)",
    )
    add(
        "--merge_classes",
        metavar="NAME=CLASS+CLASS",
        action="append",
        help="write events of several classes under one new name, joined where they overlap; may "
        "be repeated (default: predict.merged_classes)",
    )
    add(
        "--confidence",
        choices=("score", "calibrated"),
        help="an event's confidence: its mean score, or the probability that it is right by the "
        "calibration of --tuned (default: calibrated, if --tuned has a calibration for it)",
    )


def _add_archives(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--shard",
        type=shard_words,
        metavar="K/N",
        help="process only the K-th of N parts of nearly equal duration, counted from 1; all parts "
        "share one listing of the recordings, which the first one makes",
    )
    add(
        "--merge",
        nargs="?",
        const=TABLE_FORMATS[0],
        choices=TABLE_FORMATS,
        help="only join the events of all shards in one table, events.tsv (default) or "
        "events.parquet, or their pages in index.html, and name recordings without results",
    )
    add(
        "--list",
        action="store_true",
        help="only list the recordings for --shard, again if they were listed before",
    )


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse flags that contradict each other, and a command without recordings."""
    args.checkpoints = args.checkpoint or []
    args.checkpoint = args.checkpoints[0] if args.checkpoints else None
    names = ("merge", "list", "export", "list_checkpoints")
    only = [f"--{name}" for name in names if getattr(args, name)]
    if len(only) > 1:
        parser.error(f"{' and '.join(only)}: one thing at a time")
    if only and args.shard:
        parser.error(
            {
                "--merge": "--merge joins the results of all shards; leave out --shard",
                "--list": "--list lists the recordings of all shards; leave out --shard",
                "--export": "--export exports a network; leave out --shard",
                "--list_checkpoints": "--list_checkpoints lists detectors; leave out --shard",
            }[only[0]]
        )
    if args.embed_mb is not None and not only and "html" not in args.formats:
        parser.error("--embed_mb is about the sound of pages; add html to --formats")
    if not (args.recordings or args.export or args.merge or args.list_checkpoints):
        parser.error(
            "give the recordings to list" if args.list else "give recordings, or --export onnx"
        )


def check_values(args: argparse.Namespace) -> None:
    """Refuse values of thresholds and rules that cannot be read, before PyTorch is imported.

    Raises:
        InputError: naming the first of them.
    """
    for flag in ("threshold", "low_threshold", "merge_gap", "min_duration"):
        if (text := getattr(args, flag)) is not None:
            arguments.parse_threshold(text, f"--{flag}")
    arguments.parse_merged_classes(args.merge_classes or ())
    why, read = "detectors are as their checkpoints say", _READ
    if args.export:
        why, read = "--export onnx writes the network without events", ENCODER_KEYS
        name_unused(args, why, OF_EVENTS)
    keys = [one.partition("=")[0].strip() for one in args.overrides]
    ignored = [f"--set {key}" for key in keys if not key.startswith(read)]
    if ignored:
        print(f"{why}: {', '.join(ignored)} {agree(len(ignored), 'is', 'are')} not used")


def name_unused(args: argparse.Namespace, why: str, names: Sequence[str]) -> None:
    """Print which flags were given for something that does not take place.

    Args:
        args: the arguments.
        why: what the command does instead.
        names: of the arguments; None and False stand for flags that were not given.
    """
    given = [f"--{name}" for name in names if getattr(args, name) not in (None, False)]
    if given:
        used = agree(len(given), "is", "are")
        print(f"{why}: {', '.join(given)} {used} not used")
