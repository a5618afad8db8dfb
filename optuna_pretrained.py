"""Tune the baseline with Optuna: training parameters, then median filters of a checkpoint.

    python optuna_pretrained.py --conf_file confs/mini.yaml --log_dir exp/tuning
    python optuna_pretrained.py --devices 1,3                            # on two of the GPUs
    python optuna_pretrained.py --report                                 # table and plots
    python optuna_pretrained.py --test_from_checkpoint best.ckpt --sweep # stage two
    python optuna_pretrained.py --storage /shared/study.log   # on several machines

If interrupted, run the same command again: it resumes. The best configuration is written to
LOG_DIR/best.yaml.
"""

from __future__ import annotations

if __name__ == "__main__":
    from local.cli import interrupts

    interrupts.leave_at_once()
import argparse
import sys
from typing import Any

from local.cli import arguments
from local.cli.exit_status import run_command
from local.cli.threads import add_threads
from local.schema.published_keys import EARLIER_OBJECTIVES
from local.tuning.decoders.flags import DECODER_FLAGS

FLAGS: dict[str, dict[str, Any]] = {
    "--space": {"help": "file whose section `optuna` is the search space (default: --conf_file)"},
    "--log_dir": {"default": "./optuna", "help": "folder of the study and its trials"},
    "--n_jobs": {
        "type": arguments.positive_int,
        "help": "parallel trials of stage one (default: one per device)",
    },
    "--jobs_per_gpu": {
        "type": arguments.positive_int,
        "default": 1,
        "help": "trials that share a GPU (default: 1)",
    },
    "--n_trials": {
        "type": arguments.positive_int,
        "help": "trials of the whole study (default: the file's)",
    },
    "--timeout": {
        "type": arguments.non_negative_seconds,
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
        "type": lambda given: EARLIER_OBJECTIVES.get(given, given),
        "choices": ("held_out", "test"),
        "default": "held_out",
        "help": "data on which PSDS1 + mean pAUC is computed (default: held_out)",
    },
    "--no_pruning": {"action": "store_true", "help": "do not stop trials that are clearly bad"},
    "--keep": {
        "type": arguments.positive_int,
        "default": 3,
        "help": "number of best trials whose checkpoints are kept (default: 3)",
    },
    "--fast_dev_run": {"action": "store_true", "help": "quick check: 20 batches, 2 epochs"},
    "--report": {"action": "store_true", "help": "only write the table and plots of the study"},
    "--test_from_checkpoint": {"metavar": "CKPT", "help": "stage two: tune its decoder"},
    "--sweep": {
        "action": "store_true",
        "help": "in stage two, try every value of every class",
    },
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = arguments.command_parser(__doc__)
    told = "configuration that trials start from"
    arguments.add_conf_file(parser, told, "--confs", default="./confs/optuna.yaml")
    for flag, settings in (FLAGS | DECODER_FLAGS).items():
        parser.add_argument(*flag.split(), **settings)
    arguments.add_devices(parser, default="all GPUs, or one")
    arguments.add_overrides(parser)
    add_threads(parser, "threads of each trial on the CPU", "an equal share of the cores")
    arguments.add_overwrite(parser)
    return parser.parse_args(argv)


def _tune(args: argparse.Namespace) -> int:
    # Not before the number of threads is set.
    from local.tuning.tune import tune

    return tune(args)


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 2 for wrong input, 130 after Ctrl-C."""
    return run_command(_tune, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
