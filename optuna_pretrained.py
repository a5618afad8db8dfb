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
from typing import Any

from local.cli.arguments import non_negative_seconds, positive_int
from local.cli.exit_status import run_command

FLAGS: dict[str, dict[str, Any]] = {
    "--conf_file --confs": {"default": "./confs/optuna.yaml", "help": "what trials start from"},
    "--space": {"help": "file whose section `optuna` is the space (default: --conf_file)"},
    "--log_dir": {"default": "./optuna", "help": "where everything is kept"},
    "--n_jobs": {
        "type": positive_int,
        "help": "in stage one, at a time (default: one a GPU, or one)",
    },
    "--jobs_per_gpu": {
        "type": positive_int,
        "default": 1,
        "help": "that may share one (default: 1)",
    },
    "--n_trials": {"type": positive_int, "help": "of the whole study (default: the file's)"},
    "--timeout": {
        "type": non_negative_seconds,
        "metavar": "SECONDS",
        "help": "begin no trial after this time",
    },
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
    "--keep": {"type": positive_int, "default": 3, "help": "checkpoints of so many (default: 3)"},
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


def _tune(args: argparse.Namespace) -> int:
    from local.tuning.tune import tune  # Optuna takes its time to import, as --help need not

    return tune(args)


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 2 for wrong input, 130 after Ctrl-C."""
    return run_command(_tune, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
