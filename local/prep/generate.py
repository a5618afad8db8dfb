"""The stages of generate_dcase_task4_2024.py: create or fetch, prepare, plot."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from local.cli.interrupts import leaving_at_once
from local.cli.own_files import own_outputs
from local.cli.redaction import redact
from local.config import MINI_FOLDER, load_config
from local.prep.download.sources import FETCHED_PARTS, load_sources
from local.prep.layout import DATA_PARTS, DataLayout
from local.prep.resample import PreparationStep
from local.prep.youtube.rate_limit import RateLimits

# Default folder of the real data, without --basedir.
REAL_BASEDIR = Path("../../data")
# Further failures add nothing; the reasons for all clips are in their tables.
_MOST_SHOWN = 50


def contradiction(args: argparse.Namespace) -> str:
    """Explain why arguments of the script exclude each other; "" if they do not."""
    fetching = args.mirror or args.dry_run or args.cookies or args.retry_gone
    if args.mini and (args.parts or args.out_dir):
        return "--mini makes the whole corpus in BASEDIR; leave out --only_* and --out_dir"
    preparing = args.mini or args.parts or args.basedir or args.offline or args.bits
    if args.check and (preparing or fetching or args.plot is not None):
        return "--check reads all that --conf_file names; it goes with --out_dir and --jobs"
    if (args.mini or args.offline) and fetching:
        which = "--mini" if args.mini else "--offline"
        return f"{which} fetches nothing; leave out --mirror, --dry_run and the like"
    return ""


def generate(args: argparse.Namespace) -> int:
    """Run everything but --check; return the exit status."""
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
    if args.mini:
        make_mini_corpus(basedir, bits=args.bits, jobs=args.jobs, overwrite=args.overwrite)
    else:
        layout = DataLayout(load_config(args.conf_file).data, basedir, args.out_dir or basedir)
        if args.dry_run:
            return _show_plan(args, layout)
        status = _fetch_and_prepare(args, layout)
    if args.plot is not None:
        from local.prep.plots import plot_clips

        folder = Path(args.plot) if args.plot else basedir / "plots"
        with own_outputs(folder, [], overwrite=args.overwrite):
            for path in plot_clips(basedir, folder):
                print(f"drawn: {path}")
    return status


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
