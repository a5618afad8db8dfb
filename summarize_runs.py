"""Summarise runs: spread over seeds, confidence intervals over clips, comparison of two systems.

    python summarize_runs.py exp/2024_baseline/version_0                    # intervals of one run
    python summarize_runs.py exp/2024_baseline/version_*                    # seeds of one recipe
    python summarize_runs.py exp/dropout/version_* --against exp/2024_baseline/version_*
    python summarize_runs.py exp/2024_baseline/version_* --resamples 0      # without intervals
    python summarize_runs.py exp/2024_baseline/version_0 --error_report teacher

Train each run with a different seed (train_pretrained.py --set training.seed=...). Intervals need
the scores in the run folders and the test tables that the runs' configurations name.
"""

from __future__ import annotations

if __name__ == "__main__":
    from local.cli import interrupts

    interrupts.leave_at_once()
import argparse
import sys
from pathlib import Path

from desed_task.file_names import escape_name
from local.cli import arguments
from local.cli.exit_status import run_command
from local.cli.interrupts import leaving_at_once
from local.cli.own_files import own_outputs
from local.cli.word_lists import parse_in_any_order


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = arguments.command_parser(__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="*", help="run folders, LOG_DIR/version_N")
    parser.add_argument(
        "--against",
        metavar="RUN",
        nargs="+",
        default=[],
        help="runs of another system on the same clips, to test whether they differ significantly",
    )
    parser.add_argument("--output_dir", default="./summary", help="folder of the summary")
    parser.add_argument(
        "--resamples",
        type=int,
        default=1000,
        metavar="N",
        help="bootstrap resamples; 0: no intervals",
    )
    parser.add_argument("--seed", type=int, default=42, help="seed of the resamples")
    parser.add_argument(
        "--error_report",
        choices=("student", "teacher"),
        help="write what this network missed, wrongly detected and confused into each run folder",
    )
    told = "configuration that names the test tables (default: the runs' own)"
    arguments.add_conf_file(parser, told, default=None)
    arguments.add_overwrite(parser)
    args = parse_in_any_order(parser, argv, "runs")
    if not args.runs:
        more = "; --against takes all folders up to the next flag" if args.against else ""
        parser.error(f"give run folders, before the flags{more}")
    return args


def put_together(args: argparse.Namespace) -> int:
    """Print a summary and write it with per-class values and figures."""
    from local.config import load_config  # not before the number of threads is set

    arguments.check_folders([*args.runs, *args.against], "give run folders, LOG_DIR/version_N")
    config = load_config(args.conf_file) if args.conf_file else None
    with leaving_at_once():  # after the arguments, as PyTorch takes seconds to import
        from local.summary import report, stored_errors, summarize

    folder = Path(args.output_dir)
    files = [folder / name for name in summarize.FILES]
    with own_outputs(folder, files, overwrite=args.overwrite):
        summary = summarize.summarize_folders(
            args.runs,
            args.against,
            config=config,
            n_resamples=args.resamples,
            seed=args.seed,
        )
        print(report.format_summary(summary, per_class=False))
        summarize.write_summary(summary, folder)
    print(f"per class: {escape_name(folder / summarize.TEXT_FILE)}")
    pictures = (folder / name for name in (summarize.METRICS_FILE, summarize.CLASSES_FILE))
    print(f"figures: {', '.join(map(escape_name, pictures))}")
    if args.error_report:
        runs = [*args.runs, *args.against]
        for page in stored_errors.report_stored_errors(runs, config, args.error_report):
            print(f"error report of the {args.error_report}: {escape_name(page)}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 2 for wrong input, 130 after Ctrl-C."""
    return run_command(put_together, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
