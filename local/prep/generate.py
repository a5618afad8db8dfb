"""The stages of generate_dcase_task4_2024.py: create or fetch, prepare, plot."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from desed_task.encoders.weights_file import WEIGHTS_FOLDER
from desed_task.errors import InputError, agree
from desed_task.file_names import escape_name
from local.cli import arguments
from local.cli.interrupts import leaving_at_once
from local.cli.own_files import own_outputs
from local.cli.redaction import redact
from local.config import MINI_FOLDER, RecipeConfig, load_config
from local.prep.download.sources import (
    ENCODERS_PART,
    FETCHED_PARTS,
    SOURCES_FILE,
    load_sources,
)
from local.prep.layout import DATA_PARTS, DataLayout
from local.prep.resample import PreparationStep
from local.prep.youtube.rate_limit import RateLimits
from local.task.reading import default_description

if TYPE_CHECKING:
    from local.prep.download.encoder_weights import FetchedWeights

# Default folder of the real data, without --basedir.
REAL_BASEDIR = Path("../../data")
# Further failures add nothing; the reasons for all clips are in their tables.
_MOST_SHOWN = 50
# Flags about the corpora of the published task, and flags that weights of encoders have no use for.
_FOR_PUBLISHED = ("basedir", "out_dir", "plot", "mirror", "cookies", "retry_gone", "dry_run")
_FOR_DATA = ("basedir", "out_dir", "bits", "plot", "cookies", "retry_gone", "overwrite")


def add_parts(parser: argparse.ArgumentParser) -> None:
    """Add `--only_<part>`, whose parts become `parts`, and `--only_encoders`."""
    only = parser.add_argument_group("fetch and prepare only (may be combined)")
    for part, what in FETCHED_PARTS.items():
        only.add_argument(
            f"--only_{part}", dest="parts", action="append_const", const=part, help=what
        )
    only.add_argument(
        f"--only_{ENCODERS_PART}",
        dest="encoders",
        nargs="*",
        metavar="NAME",
        help="weights of encoders into ./pretrained_models: of these names (beats, "
        "atst_frame_strong, all ...; default: of the configuration's encoders)",
    )


def add_fetching(parser: argparse.ArgumentParser) -> None:
    """Add the flags about downloads."""
    add = parser.add_argument_group("fetching").add_argument
    add("--sources", default=SOURCES_FILE, help="table of downloads (default: %(default)s)")
    add("--mirror", metavar="URL", help="download archives from here, by file name")
    add("--cookies", metavar="FILE", type=Path, help="cookies of a YouTube account")
    add(
        "--pause",
        metavar="SECONDS",
        type=arguments.non_negative_seconds,
        default=RateLimits.pause_s,
        help="time between requests to YouTube (default: %(default)g, its limit for guests)",
    )
    add("--retry_gone", action="store_true", help="retry clips that were unavailable")
    add("--offline", action="store_true", help="download nothing, only prepare")
    add(
        "--dry_run",
        action="store_true",
        help="write nothing; list the downloads; the exit status is 1 if the disk lacks room",
    )


def contradiction(args: argparse.Namespace) -> str:
    """Explain why arguments of the script exclude each other; "" if they do not."""
    fetching = args.mirror or args.dry_run or args.cookies or args.retry_gone
    parts = args.parts or args.encoders is not None
    if args.mini and (parts or args.out_dir):
        return "--mini makes the whole corpus in BASEDIR; leave out --only_* and --out_dir"
    if args.offline and args.encoders is not None:
        return "--offline fetches nothing; leave it out, or --only_encoders"
    preparing = args.mini or parts or args.basedir or args.offline or args.bits
    if args.check and (preparing or fetching or args.plot is not None):
        return "--check reads all that --conf_file names; it goes with --out_dir and --jobs"
    if (args.mini or args.offline) and fetching:
        which = "--mini" if args.mini else "--offline"
        return f"{which} fetches nothing; leave out --mirror, --dry_run and the like"
    return _contradiction_of_mini(args)


def _contradiction_of_mini(args: argparse.Namespace) -> str:
    if args.task is not None and not args.mini:
        return (
            f"--task {args.task} makes a mini tree, with --mini; the data of a supplied task is "
            f"prepared with --conf_file confs/tasks/{args.task}.yaml"
        )
    if args.mini and args.overrides:
        return "--mini takes no --set: what it makes has its own configuration"
    if args.task is not None and args.plot is not None:
        return "--plot draws clips of the mini corpus; leave it out, or --task"
    return ""


def generate(args: argparse.Namespace) -> int:
    """Run everything but --check; return the exit status."""
    if args.mini and args.task is not None:
        return _make_mini_tree(args)
    basedir = args.basedir or (MINI_FOLDER if args.mini else REAL_BASEDIR)
    status = 0
    # Imported where needed: synthesis and plots use libraries that are slow to load.
    with leaving_at_once():
        if args.mini:
            from local.prep.mini_corpus.make import make_mini_corpus
        else:
            import local.prep.download.archives
            import local.prep.prepare
            import local.prep.youtube.plan  # noqa: F401

            if args.encoders is not None and not args.dry_run:
                import torch  # noqa: F401
    if args.mini:
        make_mini_corpus(basedir, bits=args.bits, jobs=args.jobs, overwrite=args.overwrite)
    if args.encoders is not None:
        status = _fetch_encoders(args)
        if not args.parts:
            return status
    if not args.mini:
        config = load_config(args.conf_file, args.overrides)
        if config.task and config.task != default_description():
            return max(status, _prepare_task(args, config))
        layout = DataLayout(config.data, basedir, args.out_dir or basedir)
        if args.dry_run:
            return max(status, _show_plan(args, layout))
        status = max(status, _fetch_and_prepare(args, layout))
    if args.plot is not None:
        from local.prep.plots import plot_clips

        folder = Path(args.plot) if args.plot else basedir / "plots"
        with own_outputs(folder, [], overwrite=args.overwrite):
            for path in plot_clips(basedir, folder):
                print(f"drawn: {escape_name(path)}")
    return status


def _make_mini_tree(args: argparse.Namespace) -> int:
    with leaving_at_once():
        from local.prep.mini_trees.make import make_mini_tree, mini_folder
        from local.prep.mini_trees.own import OWN, make_own_recordings
    folder = args.basedir or mini_folder(args.task)
    if args.task == OWN:
        make_own_recordings(folder, overwrite=args.overwrite)
        return 0
    make_mini_tree(args.task, folder, bits=args.bits, jobs=args.jobs, overwrite=args.overwrite)
    return 0


def _prepare_task(args: argparse.Namespace, config: RecipeConfig) -> int:
    """Prepare the corpora of a task that is not the published one; return the exit status."""
    from local.prep.own_task import prepare_task

    given = [f"--{flag}" for flag in _FOR_PUBLISHED if getattr(args, flag) not in (None, False)]
    given += [f"--only_{part}" for part in args.parts or ()]
    if given:
        raise InputError(
            f"{', '.join(given)}: without meaning for the task {config.detection_task.name}, whose "
            "folders are those of its description and are not downloaded; leave "
            f"{agree(len(given), 'it', 'them')} out"
        )
    outcome = prepare_task(config, bits=args.bits, jobs=args.jobs, overwrite=args.overwrite)
    print(redact(outcome.summary()))
    if outcome.failed:
        print(redact(outcome.failures()), file=sys.stderr)
    return 1 if outcome.failed else 0


def _fetch_encoders(args: argparse.Namespace) -> int:
    """Fetch weights of encoders, or list them with `--dry_run`; return the exit status."""
    from local.prep.download.encoder_weights import fetch_weights
    from local.prep.download.weights_plan import (
        plan_weights,
        weights_of_configuration,
        weights_of_names,
    )

    if args.encoders:
        chosen = weights_of_names(args.encoders)
    else:
        chosen = weights_of_configuration(
            load_config(args.conf_file, args.overrides).pretrained.encoders
        )
    for note in (*chosen.notes, *_without_effect(args)):
        print(note)
    if not chosen.rows:
        print("nothing to fetch; to get other weights, name them with --only_encoders")
        return 0
    plan = plan_weights(chosen.rows, load_sources(args.sources), mirror=args.mirror)
    print(redact(plan.text()), flush=True)
    if args.dry_run:
        return 0 if plan.is_feasible else 1
    outcomes: list[FetchedWeights] = []
    try:
        for outcome in fetch_weights(plan, jobs=args.jobs):
            outcomes.append(outcome)
    finally:  # also what was fetched before Ctrl-C
        _print_outcomes(outcomes)
    return 1 if any(outcome.problem for outcome in outcomes) else 0


def _print_outcomes(outcomes: Sequence[FetchedWeights]) -> None:
    width = max((len(outcome.weights.name) for outcome in outcomes), default=0) + 2
    for outcome in outcomes:
        print(f"{outcome.weights.name:<{width}}{outcome.state}")
    for outcome in outcomes:
        if not outcome.problem:
            print(redact(outcome.text), flush=True)
    for outcome in outcomes:
        if outcome.problem:
            print(redact(f"failed: {outcome.problem}"), file=sys.stderr)


def _without_effect(args: argparse.Namespace) -> Iterator[str]:
    """Flags that were given and do nothing for weights, in one line."""
    flags = ("overwrite",) if args.parts else _FOR_DATA
    given = [f"--{flag}" for flag in flags if getattr(args, flag) not in (None, False)]
    if given:
        yield (
            f"{', '.join(given)}: without effect on weights, which go to ./{WEIGHTS_FOLDER} and "
            "replace nothing"
        )


def _show_plan(args: argparse.Namespace, layout: DataLayout) -> int:
    from local.prep.download.archives import plan_archives
    from local.prep.youtube.plan import plan_audioset

    parts = args.parts or FETCHED_PARTS
    clips = plan_audioset(
        layout,
        parts,
        retry_gone=args.retry_gone,
        signed_in=args.cookies is not None,
        limits=RateLimits(pause_s=args.pause),
        bits=args.bits,
    )
    plan = plan_archives(layout, parts, load_sources(args.sources), mirror=args.mirror)
    plan = replace(plan, clips=clips.needed)
    print(redact(plan.text()))
    if clips.rows:
        print(redact(f"\n{clips.text()}"))
    return 0 if plan.is_feasible and not clips.problem else 1


def _fetch_and_prepare(args: argparse.Namespace, layout: DataLayout) -> int:
    from local.prep.prepare import prepare

    steps: list[PreparationStep] = []
    failed: list[str] = []
    if not args.offline:
        steps += _fetch_archives(args, layout) + _fetch_clips(args, layout)
        failed += [f"failed: {reason}" for step in steps for _, reason in step.failed]
        if len(failed) > _MOST_SHOWN:
            failed[_MOST_SHOWN:] = [f"... and {len(failed) - _MOST_SHOWN} more"]
    parts = [part for part in args.parts or DATA_PARTS if part in DATA_PARTS]
    try:
        if parts:
            outcome = prepare(
                layout.data,
                layout.basedir,
                layout.out_dir,
                parts=parts,
                bits=args.bits,
                jobs=args.jobs,
                overwrite=args.overwrite,
            )
            print(redact(outcome.summary()))
            failed += [outcome.failures()] if outcome.failed else []
    finally:
        # Printed last, to be seen, and also if there is nothing to prepare.
        if failed:
            print(redact("\n".join(failed)), file=sys.stderr)
    return 1 if failed else 0


def _fetch_archives(args: argparse.Namespace, layout: DataLayout) -> list[PreparationStep]:
    from local.prep.download.archives import fetch_archives

    steps = fetch_archives(
        layout,
        args.parts or FETCHED_PARTS,
        load_sources(args.sources),
        mirror=args.mirror,
        jobs=args.jobs,
        overwrite=args.overwrite,
    )
    width = max((len(step.title) for step in steps), default=0) + 2
    for step in steps:
        state = "FAILED" if step.failed else "fetched" if step.done else "there before"
        print(f"{step.title:<{width}}{state}")
    return steps


def _fetch_clips(args: argparse.Namespace, layout: DataLayout) -> list[PreparationStep]:
    """Fetch AudioSet's clips; clips that are gone are counted and listed, not failures."""
    from local.prep.youtube.audioset import fetch_audioset
    from local.prep.youtube.clip_sets import missing_folder

    steps = fetch_audioset(
        layout,
        args.parts or DATA_PARTS,
        cookies=args.cookies,
        retry_gone=args.retry_gone,
        limits=RateLimits(pause_s=args.pause),
        jobs=args.jobs,
    )
    if steps:
        print(f"\n{'clips of YouTube':<34}{'fetched':>9}{'there before':>14}{'failed':>8}")
    for step in steps:
        print(f"{step.title:<34}{step.done:>9}{step.there:>14}{len(step.failed):>8}")
    tables = missing_folder(layout).glob("missing_files_*.tsv")
    if any(len(table.read_bytes().splitlines()) > 1 for table in tables):
        print(f"missing clips and reasons: {missing_folder(layout)}\n")
    return steps
