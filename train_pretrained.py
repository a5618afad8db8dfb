"""Train, test or evaluate the baseline, which uses embeddings of a pretrained model.

    python train_pretrained.py                                         # train, then test the best
    python train_pretrained.py --conf_file confs/mini.yaml             # on the mini corpus
    python train_pretrained.py --resume_from_checkpoint auto           # resume the last run
    python train_pretrained.py --init_from_checkpoint path/to/best.ckpt
    python train_pretrained.py --test_from_checkpoint path/to/best.ckpt
    python train_pretrained.py --checkpoint_info path/to/best.ckpt     # print a summary
    python train_pretrained.py --set net.dropout=0.3 --gpus 2 --log_dir exp/dropout

Extract embeddings first (extract_embeddings.py). Runs are written to LOG_DIR/version_N.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from desed_task.errors import InputError
from local.cli.exit_status import run_command
from local.cli.threads import add_threads

LOG_DIR = "./exp/2024_baseline"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--conf_file", default="./confs/pretrained.yaml", help="configuration")
    parser.add_argument("--log_dir", help=f"folder of the runs (default: {LOG_DIR})")
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--resume_from_checkpoint",
        metavar="CKPT",
        help="resume this training; auto: the newest one of this configuration in LOG_DIR, or do "
        "nothing if it is finished",
    )
    start.add_argument("--test_from_checkpoint", metavar="CKPT", help="only test this checkpoint")
    start.add_argument(
        "--eval_from_checkpoint", metavar="CKPT", help="only score the evaluation set"
    )
    start.add_argument("--checkpoint_info", metavar="CKPT", help="only print a summary of it")
    parser.add_argument(
        "--init_from_checkpoint", metavar="CKPT", help="start a new training from its weights"
    )
    parser.add_argument(
        "--gpus", "--gpu", metavar="N", help="0: the CPU; N: the N-th GPU (default: the first)"
    )
    parser.add_argument(
        "--fast_dev_run", action="store_true", help="20 training batches per epoch, 2 epochs"
    )
    add_threads(parser)
    parser.add_argument(
        "--verify_metrics",
        action="store_true",
        help="compare the metrics of the test with those of sed_scores_eval itself",
    )
    parser.add_argument(
        "--set",
        metavar="SECTION.KEY=VALUE",
        dest="overrides",
        action="append",
        default=[],
        help="change a value of the configuration; may be repeated",
    )
    return parser.parse_args(argv)


def train(args: argparse.Namespace) -> int:
    """Train, test or evaluate, as the arguments say."""
    if args.verify_metrics and (args.eval_from_checkpoint or args.checkpoint_info):
        raise InputError("--verify_metrics: only a test computes metrics; leave the flag out")
    trains = not (args.test_from_checkpoint or args.eval_from_checkpoint or args.checkpoint_info)
    if args.init_from_checkpoint and not (trains and args.resume_from_checkpoint in (None, "auto")):
        raise InputError("--init_from_checkpoint starts a new training; leave the other flag out")
    # Not before the number of threads is set, nor for --help, as PyTorch takes seconds to import.
    if args.checkpoint_info is not None:
        from local.checkpoints import info

        info.print_checkpoint_info(Path(args.checkpoint_info))
        return 0
    from local import run
    from local.cli.devices import choose_device
    from local.config import load_config
    from local.scoring import verification

    if args.verify_metrics:
        verification.check_installed()
    config = load_config(args.conf_file, args.overrides)
    device = choose_device(args.gpus)
    if device.notice:
        print(device.notice)
    options = run.RunOptions(
        *(args.log_dir or LOG_DIR, device, args.fast_dev_run, tuple(args.overrides)),
        verify_metrics=args.verify_metrics,
        threads=args.threads,
        moves=args.log_dir is not None,
    )
    if args.eval_from_checkpoint:
        run.evaluate(config, args.eval_from_checkpoint, options)
        return 0
    if args.test_from_checkpoint:
        folder = run.test(config, args.test_from_checkpoint, options)
    else:
        init = args.init_from_checkpoint and Path(args.init_from_checkpoint)
        folder = run.fit(config, options, resume_from=args.resume_from_checkpoint, init_from=init)
    return verification.exit_status(folder, asked=args.verify_metrics)


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 if metrics differ (--verify_metrics), 2 for wrong
    input, 130 after Ctrl-C."""
    return run_command(train, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
