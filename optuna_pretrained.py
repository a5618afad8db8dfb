"""Tune the baseline with Optuna: training parameters, then median filters of a checkpoint.

    python optuna_pretrained.py --conf_file confs/mini.yaml --log_dir exp/tuning
    python optuna_pretrained.py --n_jobs 4                               # on four GPUs
    python optuna_pretrained.py --report                                 # table and plots
    python optuna_pretrained.py --test_from_checkpoint best.ckpt --sweep # stage two
    python optuna_pretrained.py --storage /shared/study.log   # on several machines

If interrupted, run the same command again: it resumes. The best configuration is written to
LOG_DIR/best.yaml.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from local.cli.arguments import add_overwrite, non_negative_seconds, positive_int
from local.cli.exit_status import run_command
from local.cli.threads import add_threads

FLAGS: dict[str, dict[str, Any]] = {
    "--conf_file --confs": {
        "default": "./confs/optuna.yaml",
        "help": "configuration that trials start from",
    },
    "--space": {"help": "file whose section `optuna` is the search space (default: --conf_file)"},
    "--log_dir": {"default": "./optuna", "help": "folder of the study and its trials"},
    "--n_jobs": {
        "type": positive_int,
        "help": "parallel trials of stage one (default: one per GPU, or one)",
    },
    "--jobs_per_gpu": {
        "type": positive_int,
        "default": 1,
        "help": "trials that share a GPU (default: 1)",
    },
    "--n_trials": {"type": positive_int, "help": "trials of the whole study (default: the file's)"},
    "--timeout": {
        "type": non_negative_seconds,
        "metavar": "SECONDS",
        "help": "start no trial after this time",
    },
    "--storage": {
        "metavar": "URL",
        "help": "sqlite:///FILE, postgresql://, mysql://, or path of a journal file (default: "
        "LOG_DIR/optuna-sed.db)",
    },
    "--study_name": {"help": "name (default: tuning_train; stage two: tuning_postprocessing)"},
    "--objective": {
        "choices": ("held_out", "devtest"),
        "default": "held_out",
        "help": "data on which PSDS1 + mean pAUC is computed (default: held_out)",
    },
    "--no_pruning": {"action": "store_true", "help": "do not stop trials that are clearly bad"},
    "--keep": {
        "type": positive_int,
        "default": 3,
        "help": "number of best trials whose checkpoints are kept (default: 3)",
    },
    "--fast_dev_run": {"action": "store_true", "help": "quick check: 20 batches, 2 epochs"},
    "--report": {"action": "store_true", "help": "only write the table and plots of the study"},
    "--test_from_checkpoint": {"metavar": "CKPT", "help": "stage two: tune its median filters"},
    "--sweep": {
        "action": "store_true",
        "help": "in stage two, try every filter length for every class",
    },
    "--set": {
        "dest": "overrides",
        "metavar": "SECTION.KEY=VALUE",
        "action": "append",
        "default": [],
        "help": "change a value of the configuration; may be repeated",
    },
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag, settings in FLAGS.items():
        parser.add_argument(*flag.split(), **settings)
    add_threads(parser, "threads of each trial on the CPU", "an equal share of the cores")
    add_overwrite(parser)
    return parser.parse_args(argv)


def _tune(args: argparse.Namespace) -> int:
    from local.tuning.tune import tune  # after the command line, as Optuna is slow to import

    return tune(args)


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 2 for wrong input, 130 after Ctrl-C."""
    return run_command(_tune, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
