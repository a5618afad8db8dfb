"""Run the stages of optuna_pretrained.py.

What takes seconds to import is imported once the arguments are known to be right.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from desed_task.errors import InputError
from desed_task.postprocess.decoders import MEDIAN
from local.checkpoints.given import given_checkpoint
from local.cli.interrupts import leaving_at_once
from local.cli.own_files import OwnFiles, own_outputs
from local.cli.redaction import redact_address
from local.config import find_shipped, load_config
from local.processes.world import World, told_of_slurm, world_here
from local.tuning.decoders.flags import (
    CALIBRATION_FILE,
    COMPARISON_FILES,
    check_decoder_flags,
    compares_decoders,
)
from local.tuning.search.lines import TuningStage
from local.tuning.search_space import Space, read_tuning_config

if TYPE_CHECKING:
    from local.tuning.training_stage import TuningPlan

STUDY_NAMES = {
    "training": "tuning_train",
    "median": "tuning_postprocessing",
    "boxes": "tuning_boxes",
    "threshold_boxes": "tuning_threshold_boxes",
}
FAST_TRIALS = 2


def tune(args: argparse.Namespace) -> int:
    """Run one of the stages, or write a report.

    Args:
        args: parsed arguments of the script.

    Raises:
        InputError: for invalid arguments, data or storage.
    """
    conf_file = find_shipped(args.conf_file)
    config = load_config(conf_file, args.overrides)
    checkpoint = args.test_from_checkpoint
    stage: TuningStage = "training" if checkpoint is None else "postprocessing"
    world = world_here()
    _check_machines(args, world)
    _check_flags(args)
    origin = str(find_shipped(args.space) if args.space else conf_file)
    decoder = args.decoder or MEDIAN
    task = config.detection_task
    space = Space.load(origin, stage, decoder, task)
    space.check(config, origin)
    medians = space if stage == "training" else Space.load(origin, stage, task=task)
    medians.check(config, origin)
    n_trials = FAST_TRIALS if args.fast_dev_run else read_tuning_config(origin).n_trials
    with leaving_at_once():
        from local.tuning import report, study_log, training_stage
        from local.tuning.storage import default_url

    log_dir = Path(args.log_dir)
    plan = training_stage.TuningPlan(
        config,
        space,
        log_dir,
        args.storage or default_url(log_dir),
        args.study_name or STUDY_NAMES[stage if checkpoint is None else decoder],
        args.n_trials or n_trials,
        *(args.timeout, args.objective, args.fast_dev_run, not args.no_pruning, args.keep),
    )
    of_stage = study_log.REPORT_FOLDER
    if checkpoint is not None:
        of_stage = study_log.report_folder_of(decoder)
    files = [log_dir / study_log.BEST_FILE, log_dir / of_stage / report.TRIALS_FILE]
    if checkpoint is not None and compares_decoders(args):
        files += [log_dir / of_stage / name for name in COMPARISON_FILES]
        if args.calibrate is not None:
            files.append(log_dir / of_stage / CALIBRATION_FILE)
    log = log_dir / study_log.LOG_FILE  # has no record, as lines are added to it
    legacy = not OwnFiles(log_dir).exists and _holds_study(log_dir)

    def is_ours(path: Path) -> bool:
        return study_log.is_study_log(path) if path == log else legacy

    files.append(log)
    with own_outputs(log_dir, files, overwrite=args.overwrite, recognise=is_ours):
        _run_stage(plan, args, world, medians)
    return 0


def _check_flags(args: argparse.Namespace) -> None:
    checkpoint = args.test_from_checkpoint
    check_decoder_flags(args)
    if args.sweep and checkpoint is None:
        raise InputError("--sweep: belongs to stage two; give --test_from_checkpoint too")
    if args.report and checkpoint is not None:
        raise InputError(
            "--report: belongs to stage one; a search of median filters writes its own report"
        )
    if checkpoint is not None:
        args.test_from_checkpoint = given_checkpoint(checkpoint)


def _check_machines(args: argparse.Namespace, world: World) -> None:
    """Check what several machines, or processes that torchrun or SLURM has started, need.

    Raises:
        InputError: they cannot share the storage, or stage two is asked for devices.
    """
    nodes = args.num_nodes or 1
    if args.test_from_checkpoint is not None and (nodes > 1 or args.devices not in (None, "1")):
        given = f"--devices {args.devices}" if args.devices else f"--num_nodes {nodes}"
        raise InputError(f"{given}: stage two computes in one process; leave it out")
    if args.report or args.test_from_checkpoint is not None:
        if world.several and world.is_first:
            print(f"computing in one process; the other {world.size - 1} end at once")
        return
    if world.several or nodes > 1:
        tuners = f"{world.size} processes" if world.several else f"{nodes} machines"
        _check_shared(args.storage, tuners)
    if not world.several and nodes > 1:
        print(f"this is one of {nodes} machines: start the same command on each of them")
    if line := told_of_slurm():
        print(line)


def _check_shared(storage: str | None, tuners: str) -> None:
    """Refuse a storage that the tuners cannot share."""
    if storage is not None and not storage.lower().startswith("sqlite"):
        return
    given = "without --storage" if storage is None else f"--storage {redact_address(storage)}"
    raise InputError(
        f"{given}: an SQLite file is for one tuner, but {tuners} share this study; give a journal "
        "file in a folder that all of them see (--storage /shared/study.log), or a server "
        "(postgresql://...)"
    )


def _holds_study(log_dir: Path) -> bool:
    """Whether a folder is that of a study, whose files are ours also without a record.

    Content decides, as a folder of a user may have files and folders of these names.
    """
    from local.tuning.cached_scores import is_cache
    from local.tuning.storage import DATABASE_FILE, is_database
    from local.tuning.study_log import LOG_FILE, SCORES_FOLDER, is_study_log

    return (
        is_study_log(log_dir / LOG_FILE)
        or is_database(log_dir / DATABASE_FILE)
        or is_cache(log_dir / SCORES_FOLDER)
    )


def _run_stage(plan: TuningPlan, args: argparse.Namespace, world: World, medians: Space) -> None:
    if not world.is_first and (args.report or args.test_from_checkpoint is not None):
        return  # the first one does it
    if args.test_from_checkpoint is not None:
        _run_stage_two(plan, args, medians)
        return
    from local.tuning import report, training_stage
    from local.tuning.storage import storage_errors
    from local.tuning.workers.device_slots import choose_slots

    origin = f"--storage {redact_address(plan.storage)}"
    if args.report:
        log = training_stage.open_study_log(plan)
        with storage_errors(origin):
            report.write_report(log)
        return
    slots = choose_slots(
        *(args.n_jobs, args.jobs_per_gpu),
        **{"devices": args.devices, "world": world, "threads": args.threads.wanted},
    )
    one = training_stage.Tuner(plan, slots, who=f" of {world}" if world.several else "")
    one.run()
    # Of several processes the last to end tells the results of all.
    with storage_errors(origin):
        report.write_report(one.log, quiet=world.several and one.shared_study.is_going_on)


def _run_stage_two(plan: TuningPlan, args: argparse.Namespace, medians: Space) -> None:
    with leaving_at_once():  # Lightning takes seconds, which only this stage needs
        from local.cli.devices import choose_device
        from local.tuning.decoders.stage import DecoderTuning, tune_decoder
        from local.tuning.median_stage import tune_medians

    device = choose_device(None).torch_device
    checkpoint = Path(args.test_from_checkpoint)
    if not compares_decoders(args):
        tune_medians(plan, checkpoint, args.overrides, swept=args.sweep, device=device)
        return
    asked = DecoderTuning(
        args.decoder or MEDIAN,
        medians,
        swept=args.sweep,
        threshold_metric=args.threshold_metric,
        n_folds=args.folds,
        n_resamples=args.resamples,
        calibration=args.calibrate,
    )
    tune_decoder(plan, checkpoint, args.overrides, asked, device)
