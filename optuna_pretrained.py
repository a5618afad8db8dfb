"""Tune the baseline with Optuna: training parameters, then median filters of a checkpoint.

    python optuna_pretrained.py --conf_file confs/mini.yaml --log_dir exp/tuning
    python optuna_pretrained.py --n_jobs 4                                          # on four GPUs
    python optuna_pretrained.py --report                                            # look at it
    python optuna_pretrained.py --test_from_checkpoint best.ckpt --sweep            # stage two
    python optuna_pretrained.py --storage /shared/study.log   # on each of several machines

Stopped in whatever way, the same command goes on. The best configuration is LOG_DIR/best.yaml.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from desed_task.errors import InputError
from local.arguments import positive, seconds
from local.command import run_command

STUDIES = {"training": "tuning_train", "postprocessing": "tuning_postprocessing"}
FAST_TRIALS = 2
FLAGS: dict[str, dict[str, Any]] = {
    "--conf_file --confs": {"default": "./confs/optuna.yaml", "help": "what trials start from"},
    "--space": {"help": "file whose section `optuna` is the space (default: --conf_file)"},
    "--log_dir": {"default": "./optuna", "help": "where everything is kept"},
    "--n_jobs": {"type": positive, "help": "trials at a time (default: one a GPU, or one)"},
    "--jobs_per_gpu": {"type": positive, "default": 1, "help": "that may share one (default: 1)"},
    "--n_trials": {"type": positive, "help": "of the whole study (default: the file's)"},
    "--timeout": {"type": seconds, "metavar": "SECONDS", "help": "begin no trial after this time"},
    "--storage": {
        "metavar": "URL",
        "help": "sqlite:///FILE, postgresql://, mysql://, or a journal's path (default: "
        "LOG_DIR/optuna-sed.db)",
    },
    "--study_name": {"help": "(default: tuning_train; stage two: tuning_postprocessing)"},
    "--objective": {
        "choices": ("held_out", "devtest"),
        "default": "held_out",
        "help": "where a trial's PSDS1 + mean pAUC is computed (default: held_out, no dev-test)",
    },
    "--no_pruning": {"action": "store_true", "help": "let trials that are clearly bad go on"},
    "--keep": {"type": positive, "default": 3, "help": "checkpoints of so many (default: 3)"},
    "--fast_dev_run": {"action": "store_true", "help": "20 batches, 2 epochs: does it run?"},
    "--report": {"action": "store_true", "help": "only write table and plots of the study"},
    "--test_from_checkpoint": {"metavar": "CKPT", "help": "stage two: tune its median filters"},
    "--sweep": {"action": "store_true", "help": "in stage two, try every length of every class"},
    "--set": {
        "dest": "overrides",
        "metavar": "SECTION.KEY=VALUE",
        "action": "append",
        "default": [],
        "help": "change one value of the configuration; may be given often",
    },
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag, settings in FLAGS.items():
        parser.add_argument(*flag.split(), **settings)
    return parser.parse_args(argv)


def tune(args: argparse.Namespace) -> int:
    """Run one of the stages, or report."""
    from local.config import load_config
    from local.tuning import report, tuner
    from local.tuning.slots import choose_slots
    from local.tuning.space import Space, Stage, read_section
    from local.tuning.storage import default_url

    config = load_config(args.conf_file, args.overrides)
    place, log_dir = args.space or args.conf_file, Path(args.log_dir)
    checkpoint = args.test_from_checkpoint
    stage: Stage = "training" if checkpoint is None else "postprocessing"
    if args.sweep and checkpoint is None:
        raise InputError("--sweep: is of stage two; give --test_from_checkpoint too")
    space = Space.load(place, stage)
    space.check(config, place)
    n_trials = FAST_TRIALS if args.fast_dev_run else read_section(place).n_trials
    plan = tuner.Plan(
        config,
        space,
        log_dir,
        args.storage or default_url(log_dir),
        args.study_name or STUDIES[stage],
        args.n_trials or n_trials,
        *(args.timeout, args.objective, args.fast_dev_run, not args.no_pruning, args.keep),
    )
    if checkpoint is not None:
        # Lightning takes seconds to import, which only these stages need.
        from local.devices import choose_device
        from local.tuning.postprocessing import tune_medians

        device = choose_device(None).torch_device
        tune_medians(plan, Path(checkpoint), args.overrides, swept=args.sweep, device=device)
        return 0
    if args.report:
        report.report(tuner.open_diary(plan))
        return 0
    one = tuner.Tuner(plan, choose_slots(args.n_jobs, args.jobs_per_gpu))
    one.run()
    report.report(one.diary)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 2 for wrong input, 130 after Ctrl-C."""
    return run_command(tune, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
