"""Make the mini corpus, or prepare the real data that is on disk.

    python generate_dcase_task4_2024.py --mini                  # seeded corpus, no network
    python generate_dcase_task4_2024.py --mini --plot           # ... and a few clips as pictures
    python generate_dcase_task4_2024.py                         # what lies below ../../data
    python generate_dcase_task4_2024.py --basedir /data/dcase24 --only_maestro --jobs 8
    python generate_dcase_task4_2024.py --check                 # is everything there and sound?

Preparing means: cut MAESTRO's long recordings (BASEDIR/maestro_real/development_audio and
development_annotation) into 10 s clips, resample every folder below BASEDIR/dcase/dataset to a
16 kHz sibling, write the durations tables. What is done stays; a run that was stopped is completed
by the next. This version does not download: what is absent is listed with the place it belongs to.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from local.command import run_command
from local.config import load_config
from local.prep.layout import PARTS
from local.prep.prepare import prepare


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mini", action="store_true", help="make the mini corpus in BASEDIR")
    parser.add_argument(
        "--plot",
        metavar="DIR",
        nargs="?",
        const="",
        help="draw a few clips (waveform, mel, labels) into DIR (default: BASEDIR/plots)",
    )
    parser.add_argument(
        "--basedir", type=Path, help="default: ../../data, or ./data/mini with --mini"
    )
    parser.add_argument(
        "--out_dir",
        type=Path,
        help="where 16 kHz audio, MAESTRO's clips and durations go, as a tree like BASEDIR's; the "
        "configuration must then name it (default: BASEDIR)",
    )
    parser.add_argument(
        "--conf_file", default="./confs/pretrained.yaml", help="names the folders to prepare"
    )
    parser.add_argument("--jobs", type=_positive, help="files at a time (default: one a processor)")
    parser.add_argument(
        "--check",
        action="store_true",
        help="prepare nothing: read all that the configuration names and tell what is absent or "
        "wrong; data_report.json goes to OUT_DIR (default: the current folder)",
    )
    only = parser.add_argument_group("prepare only (may be combined)")
    for part, what in PARTS.items():
        only.add_argument(
            f"--only_{part}", dest="parts", action="append_const", const=part, help=what
        )
    args = parser.parse_args(argv)
    if args.mini and (args.parts or args.out_dir):
        parser.error("--mini makes the whole corpus in BASEDIR; leave out --only_* and --out_dir")
    if args.check and (args.mini or args.parts or args.basedir or args.plot is not None):
        parser.error("--check reads all that --conf_file names; it goes with --out_dir and --jobs")
    return args


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


def generate(args: argparse.Namespace) -> int:
    """Check, or make or prepare and then draw; the exit status."""
    if args.check:
        from local.doctor import run_check

        return run_check(args.conf_file, args.out_dir or Path(), jobs=args.jobs)
    basedir = args.basedir or Path("./data/mini" if args.mini else "../../data")
    status = 0
    # Imported where needed: making and drawing take libraries that are slow to load.
    if args.mini:
        from local.prep.mini_corpus import make_mini_corpus

        make_mini_corpus(basedir, jobs=args.jobs)
    else:
        data = load_config(args.conf_file).data
        parts = args.parts or tuple(PARTS)
        outcome = prepare(data, basedir, args.out_dir, parts=parts, jobs=args.jobs)
        print(outcome.summary())
        if outcome.failed:
            print(outcome.failures(), file=sys.stderr)
            status = 1
    if args.plot is not None:
        from local.prep.plots import plot_clips

        for path in plot_clips(basedir, Path(args.plot) if args.plot else basedir / "plots"):
            print(f"drawn: {path}")
    return status


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 for failed files or data, 2 for wrong input."""
    return run_command(generate, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
