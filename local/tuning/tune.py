"""Run the stages of optuna_pretrained.py."""

from __future__ import annotations

import argparse
from pathlib import Path

from desed_task.errors import InputError
from local.config import load_config
from local.tuning import report, training_stage
from local.tuning.search_space import Space, TuningStage, read_tuning_config
from local.tuning.storage import default_url
from local.tuning.workers.device_slots import choose_slots

STUDY_NAMES = {"training": "tuning_train", "postprocessing": "tuning_postprocessing"}
FAST_TRIALS = 2


def tune(args: argparse.Namespace) -> int:
    """Run one of the stages, or write a report.

    Args:
        args: parsed arguments of the script.

    Raises:
        InputError: for invalid arguments, data or storage.
    """
    config = load_config(args.conf_file, args.overrides)
    origin, log_dir = args.space or args.conf_file, Path(args.log_dir)
    checkpoint = args.test_from_checkpoint
    stage: TuningStage = "training" if checkpoint is None else "postprocessing"
    if args.sweep and checkpoint is None:
        raise InputError("--sweep: belongs to stage two; give --test_from_checkpoint too")
    if args.report and checkpoint is not None:
        raise InputError(
            "--report: belongs to stage one; a search of median filters writes its own report"
        )
    space = Space.load(origin, stage)
    space.check(config, origin)
    n_trials = FAST_TRIALS if args.fast_dev_run else read_tuning_config(origin).n_trials
    plan = training_stage.TuningPlan(
        config,
        space,
        log_dir,
        args.storage or default_url(log_dir),
        args.study_name or STUDY_NAMES[stage],
        args.n_trials or n_trials,
        *(args.timeout, args.objective, args.fast_dev_run, not args.no_pruning, args.keep),
    )
    if checkpoint is not None:
        # Lightning takes seconds to import, which only these stages need.
        from local.cli.devices import choose_device
        from local.tuning.median_stage import tune_medians

        device = choose_device(None).torch_device
        tune_medians(plan, Path(checkpoint), args.overrides, swept=args.sweep, device=device)
        return 0
    if args.report:
        report.write_report(training_stage.open_study_log(plan))
        return 0
    one = training_stage.Tuner(plan, choose_slots(args.n_jobs, args.jobs_per_gpu))
    one.run()
    report.write_report(one.log)
    return 0
