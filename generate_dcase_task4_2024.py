"""Generate the mini corpus, or download and prepare the real data.

    python generate_dcase_task4_2024.py --mini                  # synthetic, without network
    python generate_dcase_task4_2024.py                         # all of it, below ../../data
    python generate_dcase_task4_2024.py --check                 # verify all data
    python generate_dcase_task4_2024.py --only_encoders beats   # weights of an encoder
    python generate_dcase_task4_2024.py --conf_file urban_sed   # prepare the data of another task
    python generate_dcase_task4_2024.py --describe FOLDER       # own recordings: write a task

Archives are downloaded from the addresses in confs/sources.yaml, verified and unpacked; AudioSet
clips are cut from YouTube videos with yt-dlp and ffmpeg, and unavailable ones are listed with the
reason. Then MAESTRO's recordings (BASEDIR/maestro_real) are cut into 10 s clips, the audio below
BASEDIR/dcase/dataset is resampled to 16 kHz and durations tables are written. If interrupted, run
the same command again: it resumes and skips finished steps. Missing data is listed at the end.
"""

from __future__ import annotations

if __name__ == "__main__":
    from local.cli import interrupts

    interrupts.leave_at_once()
import argparse
import sys
from pathlib import Path

from local.cli import arguments
from local.cli.exit_status import run_command
from local.cli.interrupts import leaving_at_once
from local.config import load_config
from local.describe.flags import add_describing, describing_contradiction
from local.prep.generate import add_fetching, add_parts, contradiction, generate


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = arguments.command_parser(__doc__)
    add = parser.add_argument
    add("--mini", action="store_true", help="generate the mini corpus in BASEDIR")
    told = "with --mini: the mini tree of this supplied task, or `own` recordings, in BASEDIR "
    told += "(default: data/mini_NAME)"
    add("--task", metavar="NAME", help=told)
    told = "draw a few clips (waveform, mel, labels) into DIR (default: BASEDIR/plots)"
    add("--plot", metavar="DIR", nargs="?", const="", help=told)
    add("--basedir", type=Path, help="default: ../../data, with --mini ./data/mini")
    add(
        "--out_dir",
        type=Path,
        help="folder for 16 kHz audio, MAESTRO's clips and durations, with the same layout as "
        "BASEDIR; the configuration must then name it (default: BASEDIR)",
    )
    add(
        "--bits",
        type=int,
        choices=(16, 32),
        help="bits per sample of the 16 kHz files: 32 (float, as published) or 16 (half the size, "
        "clipped at full scale); files with other bits are rewritten (default: 32, or 16 in a "
        "folder of 16-bit files)",
    )
    arguments.add_conf_file(parser, "configuration that names the folders, or describes a task")
    arguments.add_overrides(parser, "task.root=/data/URBAN-SED_v2.0.0")
    add(
        "--check",
        action="store_true",
        help="only check all data that the configuration names and report what is missing or "
        "damaged; data_report.json is written to OUT_DIR (default: the current folder)",
    )
    told = "files at a time (default: one per usable core; archives and videos four)"
    add("--jobs", type=arguments.positive_int, help=told)
    arguments.add_overwrite(parser)
    add_fetching(parser)
    add_parts(parser)
    add_describing(parser)
    args = parser.parse_args(argv)
    if problem := describing_contradiction(args, parser) or contradiction(args):
        parser.error(problem)
    return args


def prepare_or_check(args: argparse.Namespace) -> int:
    """Generate, download, describe and prepare the data, or check it; return the exit status."""
    if args.describe is not None:
        with leaving_at_once():
            from local.describe.describe import describe_folder

        describe_folder(args.describe, args.out, overwrite=args.overwrite)
        return 0
    if args.check:
        config = load_config(args.conf_file, args.overrides)
        with leaving_at_once():  # PyTorch takes seconds to import
            from local.doctor.check import run_check

        folder = args.out_dir or Path()
        return run_check(config, args.conf_file, folder, jobs=args.jobs, overwrite=args.overwrite)
    return generate(args)


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 for failed files or data, 2 for wrong input."""
    return run_command(prepare_or_check, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
