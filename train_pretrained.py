"""Train, test or evaluate the baseline, which uses embeddings of a pretrained model.

    python train_pretrained.py                                         # train, then test the best
    python train_pretrained.py --conf_file confs/mini.yaml             # on the mini corpus
    python train_pretrained.py --resume_from_checkpoint auto           # resume the last run
    python train_pretrained.py --test_from_checkpoint path/to/best.ckpt
    python train_pretrained.py --checkpoint_info path/to/best.ckpt     # print a summary
    python train_pretrained.py --set net.dropout=0.3 --gpus 2 --log_dir exp/dropout

Extract embeddings first (extract_embeddings.py). Runs are written to LOG_DIR/version_N.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from local.cli.exit_status import run_command
from local.cli.threads import add_threads


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--conf_file", default="./confs/pretrained.yaml", help="configuration")
    parser.add_argument("--log_dir", default="./exp/2024_baseline", help="folder of the runs")
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--resume_from_checkpoint",
        metavar="CKPT",
        help="resume from this checkpoint; auto: resume the newest run of the same configuration "
        "in LOG_DIR, or do nothing if it is finished",
    )
    start.add_argument("--test_from_checkpoint", metavar="CKPT", help="only test this checkpoint")
    start.add_argument(
        "--eval_from_checkpoint", metavar="CKPT", help="only score the evaluation set with it"
    )
    start.add_argument(
        "--checkpoint_info", metavar="CKPT", help="only print a summary of this checkpoint"
    )
    parser.add_argument(
        "--gpus", "--gpu", metavar="N", help="0: the CPU; N: the N-th GPU (default: the first)"
    )
    parser.add_argument(
        "--fast_dev_run",
        action="store_true",
        help="quick check: 20 training batches per epoch, 2 epochs",
    )
    add_threads(parser)
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="SECTION.KEY=VALUE",
        action="append",
        default=[],
        help="change a value of the configuration; may be repeated",
    )
    return parser.parse_args(argv)


def train(args: argparse.Namespace) -> int:
    """Train, test or evaluate, as the arguments say."""
    # Not before the number of threads is set, nor for --help, as PyTorch takes seconds to import.
    if args.checkpoint_info is not None:
        from local.checkpoints import info

        info.print_checkpoint_info(Path(args.checkpoint_info))
        return 0
    from local import run
    from local.cli.devices import choose_device
    from local.config import load_config

    config = load_config(args.conf_file, args.overrides)
    device = choose_device(args.gpus)
    if device.notice:
        print(device.notice)
    overrides = tuple(args.overrides)
    options = run.RunOptions(
        args.log_dir, device, args.fast_dev_run, overrides, threads=args.threads
    )
    if args.test_from_checkpoint:
        run.test(config, args.test_from_checkpoint, options)
    elif args.eval_from_checkpoint:
        run.evaluate(config, args.eval_from_checkpoint, options)
    else:
        run.fit(config, options, resume_from=args.resume_from_checkpoint)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 2 for wrong input, 130 after Ctrl-C."""
    return run_command(train, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
