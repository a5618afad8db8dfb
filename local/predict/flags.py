"""The command line of `predict.py`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from local.cli import arguments
from local.cli.threads import add_threads
from local.cli.word_lists import ListOption, parse_in_any_order
from local.predict.archives.shards import shard_words
from local.predict.pages import EMBEDDED_MB
from local.predict.result_names import ENDINGS

TABLE_FORMATS = ("tsv", "parquet", "html")


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
    told = "checkpoint, ours or a published one, or the run folder of a training"
    add("--checkpoint", metavar="CKPT", help=told)
    told = "configuration of hop, thresholds and BEATs weights (default: the checkpoint's)"
    arguments.add_conf_file(parser, told, default=None)
    add("--output_dir", type=Path, default=Path("./predictions"), help="folder of the results")
    add(
        "--model",
        choices=("student", "teacher"),
        default="student",
        help="network to use (default: the student, whose validation selected the checkpoint)",
    )
    add(
        "--threshold",
        metavar="T",
        help="scores above it are events: one for all classes, or CLASS=T,CLASS=T with 0.5 for the "
        "others (default: predict.threshold)",
    )
    told = "files to write (default: tsv json txt png)"
    names = tuple(ENDINGS)
    formats = add("--formats", action=ListOption, choices=names, default=list(names[:4]), help=told)
    add(
        "--embed_mb",
        type=arguments.non_negative_mb,
        default=EMBEDDED_MB,
        metavar="MB",
        help="html: size up to which the sound of a recording is a part of its page; larger ones "
        "are linked (default: %(default)g)",
    )
    told = "the configuration's pretrained.beats_checkpoint (default: the checkpoint's, if found)"
    arguments.add_weights(parser, told, default=None)
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
    only = [f"--{name}" for name in ("merge", "list", "export") if getattr(args, name)]
    if len(only) > 1:
        parser.error(f"{' and '.join(only)}: one thing at a time")
    if only and args.shard:
        parser.error(
            {
                "--merge": "--merge joins the results of all shards; leave out --shard",
                "--list": "--list lists the recordings of all shards; leave out --shard",
                "--export": "--export exports a network; leave out --shard",
            }[only[0]]
        )
    if not (args.recordings or args.export or args.merge):
        parser.error(
            "give the recordings to list" if args.list else "give recordings, or --export onnx"
        )
