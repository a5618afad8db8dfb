"""`train_pretrained.py --plan`: its flags, and what carries a plan out."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from desed_task.errors import InputError
from local.cli.arguments import MPS
from local.cli.interrupts import leaving_at_once

# Where plans without --log_dir lie.
PLANS_FOLDER = "exp"
# Arguments of a single training or test -> the value without the flag.
_OTHERS = {
    "conf_file": None,
    "resume_from_checkpoint": None,
    "test_from_checkpoint": None,
    "eval_from_checkpoint": None,
    "checkpoint_info": None,
    "init_from_checkpoint": None,
    "init_classes": None,
    "num_nodes": None,
    "fast_dev_run": False,
    "verify_metrics": False,
}


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Add `--plan` and `--dry_run`."""
    parser.add_argument(
        "--plan",
        metavar="FILE",
        help="run the stages of a plan, such as confs/winning.yaml, that are not done; --log_dir "
        "is its folder (default: exp/NAME), and each of --devices runs a stage at a time",
    )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="with --plan: only print what is done, what would run, how long it would take and how "
        "much disk",
    )


def check_plan_flags(args: argparse.Namespace) -> None:
    """Refuse flags that a plan does not take.

    Raises:
        InputError: naming them.
    """
    if args.plan is None:
        if args.dry_run:
            raise InputError("--dry_run belongs to --plan; give that too")
        return
    given = [
        name
        for name, without in _OTHERS.items()
        if getattr(args, name, without) not in (without, [], ())
    ]
    if given:
        flags = ", ".join(f"--{name}" for name in given)
        raise InputError(
            f"{flags}: of a single training or test; leave out with --plan, whose file says what "
            "its stages do"
        )
    if args.gpus == MPS:
        raise InputError(
            "--gpus mps: a plan computes on the CPU or NVIDIA's GPUs; give --gpus 0 for the CPU"
        )


def carry_out(args: argparse.Namespace) -> int:
    """Run a plan, or print what it would do.

    Returns:
        The exit status: 0, or 1 if a stage has failed.

    Raises:
        InputError: the plan, its folder or the devices cannot be used.
        StoppedError: after Ctrl-C, SIGTERM or SIGHUP.
    """
    check_plan_flags(args)
    with leaving_at_once():  # PyTorch takes seconds to import
        from local.plan.devices import slots_for
        from local.plan.folder import PlanFolder
        from local.plan.misfits import missing_weights
        from local.plan.outline import outline_of
        from local.plan.reading import read_plan
        from local.plan.running import PlanRun
        from local.plan.words import closing_lines

    plan = read_plan(args.plan, args.overrides)
    slots = slots_for(plan, args, os.environ)
    folder = PlanFolder(Path(args.log_dir or Path(PLANS_FOLDER) / plan.name), plan)
    missing = missing_weights({name: (one.spec, one.config) for name, one in plan.stages.items()})
    if args.dry_run:
        lines = [f"missing, without which nothing runs: {one}" for one in missing]
        print("\n".join([*outline_of(folder, slots), *lines]))
        return 0
    if missing:
        raise InputError.collect(missing, f"{plan.path} lacks weights of encoders:")
    again = words_again(args)
    with folder.held():
        run = PlanRun(folder, slots, again)
        complete = run.run()
        print("\n".join(closing_lines(plan, run.done)))
    if complete:
        return 0
    for one in run.failed:
        print(f"error: stage {one.name}: {one.reason}{one.place}", file=sys.stderr)
    for name, causes in run.left_out().items():
        print(f"not run: {name}, which needs {' and '.join(causes)}", file=sys.stderr)
    print(f"after correcting this, resume with: {again}", file=sys.stderr)
    return 1


def words_again(args: argparse.Namespace) -> str:
    """The command that resumes a plan."""
    from shlex import join

    from desed_task.errors import command_line

    words = ["--plan", args.plan]
    for name in ("log_dir", "gpus", "devices", "threads"):
        value = getattr(args, name, None)
        if value is not None:
            words += [f"--{name}", str(value)]
    for one in args.overrides:
        words += ["--set", one]
    return command_line("train_pretrained.py", join(words))
