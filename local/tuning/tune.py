"""Run the stages of optuna_pretrained.py."""

from __future__ import annotations

import argparse
from pathlib import Path

from desed_task.errors import InputError
from local.cli.own_files import OwnFiles, own_outputs
from local.config import load_config
from local.tuning import report, training_stage
from local.tuning.search_space import Space, TuningStage, read_tuning_config
from local.tuning.storage import DATABASE_FILE, default_url
from local.tuning.study_log import (
    BEST_FILE,
    LOG_FILE,
    MEDIAN_REPORT_FOLDER,
    REPORT_FOLDER,
    SCORES_FOLDER,
)
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
    reports = log_dir / (REPORT_FOLDER if checkpoint is None else MEDIAN_REPORT_FOLDER)
    files = [log_dir / BEST_FILE, reports / report.TRIALS_FILE]
    legacy = not OwnFiles(log_dir).exists and _holds_study(log_dir)
    with own_outputs(log_dir, files, overwrite=args.overwrite, recognise=lambda path: legacy):
        _run_stage(plan, args)
    return 0


def _holds_study(log_dir: Path) -> bool:
    """Whether a folder is that of a study, whose files are ours also without a record."""
    return any((log_dir / name).exists() for name in (LOG_FILE, DATABASE_FILE, SCORES_FOLDER))


def _run_stage(plan: training_stage.TuningPlan, args: argparse.Namespace) -> None:
    if args.test_from_checkpoint is not None:
        # Lightning takes seconds to import, which only these stages need.
        from local.checkpoints.stored_config import given_checkpoint
        from local.cli.devices import choose_device
        from local.tuning.median_stage import tune_medians

        device = choose_device(None).torch_device
        checkpoint = Path(given_checkpoint(args.test_from_checkpoint))
        tune_medians(plan, checkpoint, args.overrides, swept=args.sweep, device=device)
        return
    if args.report:
        report.write_report(training_stage.open_study_log(plan))
        return
    one = training_stage.Tuner(
        plan, choose_slots(args.n_jobs, args.jobs_per_gpu, threads=args.threads.wanted)
    )
    one.run()
    report.write_report(one.log)
