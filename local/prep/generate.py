"""What generate_dcase_task4_2024.py does, stage by stage: make or fetch, prepare, draw."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from desed_task.errors import InputError
from local.config import load_config
from local.prep.layout import PARTS, Places
from local.prep.resample import Step
from local.prep.sources import FETCHED_PARTS, load_sources
from local.sections import Data

# Where the mini corpus and the real data lie, when --basedir does not say.
MINI_BASEDIR, REAL_BASEDIR = Path("./data/mini"), Path("../../data")


def generate(args: argparse.Namespace) -> int:
    """Do what the script's arguments ask for; the exit status."""
    if args.check:
        from local.doctor import run_check

        return run_check(args.conf_file, args.out_dir or Path(), jobs=args.jobs)
    basedir = args.basedir or (MINI_BASEDIR if args.mini else REAL_BASEDIR)
    status = 0
    # Imported where needed: making and drawing take libraries that are slow to load.
    if args.mini:
        from local.prep.mini_corpus import make_mini_corpus

        make_mini_corpus(basedir, jobs=args.jobs)
    elif args.dry_run:
        return _show_plan(args, load_config(args.conf_file).data, basedir)
    else:
        status = _fetch_and_prepare(args, load_config(args.conf_file).data, basedir)
    if args.plot is not None:
        from local.prep.plots import plot_clips

        for path in plot_clips(basedir, Path(args.plot) if args.plot else basedir / "plots"):
            print(f"drawn: {path}")
    return status


def _show_plan(args: argparse.Namespace, data: Data, basedir: Path) -> int:
    from local.prep.archives import plan_archives
    from local.prep.audioset import plan_clips

    places = Places(data, basedir, args.out_dir or basedir)
    parts = args.parts or FETCHED_PARTS
    plan = plan_archives(places, parts, load_sources(args.sources), mirror=args.mirror)
    print(plan.text())
    for line in plan_clips(places, parts):
        print(line)
    return 0 if plan.is_feasible else 1


def _fetch_and_prepare(args: argparse.Namespace, data: Data, basedir: Path) -> int:
    from local.prep.prepare import prepare

    failed: list[str] = []
    if not args.offline:
        steps = _fetch(args, data, basedir)
        failed += [f"failed: {reason}" for step in steps for _, reason in step.failed]
        failed += _fetch_clips(args, data, basedir)
    parts = [part for part in args.parts or PARTS if part in PARTS]
    try:
        if parts:
            outcome = prepare(data, basedir, args.out_dir, parts=parts, jobs=args.jobs)
            print(outcome.summary())
            failed += [outcome.failures()] if outcome.failed else []
    finally:
        # Last of what is printed, where they are seen, and also where there is nothing to prepare.
        if failed:
            print("\n".join(failed), file=sys.stderr)
    return 1 if failed else 0


def _fetch(args: argparse.Namespace, data: Data, basedir: Path) -> list[Step]:
    from local.prep.archives import fetch_archives

    steps = fetch_archives(
        Places(data, basedir, args.out_dir or basedir),
        args.parts or FETCHED_PARTS,
        load_sources(args.sources),
        mirror=args.mirror,
        jobs=args.jobs,
    )
    width = max((len(step.title) for step in steps), default=0) + 2
    for step in steps:
        state = "FAILED" if step.failed else "fetched" if step.done else "there before"
        print(f"{step.title:<{width}}{state}")
    return steps


def _fetch_clips(args: argparse.Namespace, data: Data, basedir: Path) -> list[str]:
    """AudioSet's clips; clips that are gone are no failure, they are counted and listed."""
    from local.prep.audioset import MISSING_FOLDER, clip_sources, fetch_clips

    places = Places(data, basedir, args.out_dir or basedir)
    for source in clip_sources(places, args.parts or PARTS):
        if not source.table.is_file():
            continue  # Its archive failed, or the preparation lists it as absent.
        try:
            done = fetch_clips(
                source, basedir / MISSING_FOLDER, jobs=args.jobs, cookies=args.cookies
            )
        except InputError as error:
            # What is wrong with one set (no yt-dlp, YouTube refuses) is so with the next.
            return [f"failed: {error}"]
        told = f", {len(done.missing)} missing (see {MISSING_FOLDER})" if done.missing else ""
        print(f"clips of {source.name}: {done.done} fetched, {done.there} there before{told}")
    return []
