"""Train, test or evaluate the baseline, which uses embeddings of a pretrained model.

    python train_pretrained.py                                         # train, then test the best
    python train_pretrained.py --conf_file confs/mini.yaml             # on the mini corpus
    python train_pretrained.py --resume_from_checkpoint auto           # resume the last run
    python train_pretrained.py --init_from_checkpoint path/to/best.ckpt
    python train_pretrained.py --test_from_checkpoint path/to/best.ckpt
    python train_pretrained.py --checkpoint_info path/to/best.ckpt     # print a summary
    python train_pretrained.py --set net.dropout=0.3 --gpus 2 --log_dir exp/dropout
    python train_pretrained.py --plan confs/winning.yaml               # several stages

Extract embeddings first (extract_embeddings.py). Runs are written to LOG_DIR/version_N.
"""

from __future__ import annotations

if __name__ == "__main__":
    from local.cli import interrupts

    interrupts.leave_at_once()
import argparse
import sys
from pathlib import Path

from desed_task.errors import InputError
from local.cli import arguments
from local.cli.exit_status import run_command
from local.cli.interrupts import leaving_at_once
from local.cli.threads import add_threads
from local.plan.flags import add_plan, carry_out
from local.processes.launch import run_in_processes

LOG_DIR = "./exp/2024_baseline"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = arguments.command_parser(__doc__)
    told = "configuration (default: that of a given checkpoint, else ./confs/pretrained.yaml)"
    arguments.add_conf_file(parser, told, default=None)
    parser.add_argument("--log_dir", help=f"folder of the runs (default: {LOG_DIR})")
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--resume_from_checkpoint",
        metavar="CKPT",
        help="resume this training; auto: the newest one of this configuration in LOG_DIR, or do "
        "nothing if it is finished",
    )
    arguments.add_scored_checkpoints(start)
    start.add_argument("--checkpoint_info", metavar="CKPT", help="only print a summary of it")
    arguments.add_initial_weights(parser)
    arguments.add_gpus(parser)
    arguments.add_checks_of_runs(parser)
    add_threads(parser)
    arguments.add_overrides(parser)
    add_plan(parser)
    return parser.parse_args(argv)


def train(args: argparse.Namespace) -> int:
    """Train, test or evaluate, as the arguments say."""
    if args.verify_metrics and (args.eval_from_checkpoint or args.checkpoint_info):
        raise InputError("--verify_metrics: only a test computes metrics; leave the flag out")
    from local.checkpoints.given import settle_arguments

    config = settle_arguments(args)
    # Not before the number of threads is set, nor before the arguments are known to be right, as
    # PyTorch takes seconds to import.
    if args.checkpoint_info is not None:
        with leaving_at_once():
            from local.checkpoints import info

        info.print_checkpoint_info(Path(args.checkpoint_info))
        return 0
    with leaving_at_once():
        from local import run
        from local.checkpoints.stored_config import config_of_training
        from local.processes.devices import device_of
        from local.scoring import verification

    if args.verify_metrics:
        verification.check_installed()
    config = config or config_of_training(args)
    device = device_of(args)
    if device.notice:
        print(device.notice)
    options = run.RunOptions(
        *(args.log_dir or LOG_DIR, device, args.fast_dev_run, tuple(args.overrides)),
        verify_metrics=args.verify_metrics,
        threads=args.threads,
        moves=args.log_dir is not None,
        own_stores=args.conf_file is None,
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
    """Run the command; the exit status is 0, 1 if metrics differ (--verify_metrics) or a stage of a
    plan has failed, 2 for wrong input, 130 after Ctrl-C."""
    args = parse_args(argv)
    if args.plan is not None or args.dry_run:
        return run_command(carry_out, args, computes=False)
    return run_in_processes(train, args, __file__, argv)


if __name__ == "__main__":
    sys.exit(main())
