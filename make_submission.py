"""Make the submission package of the challenge from evaluations of one to three trainings.

    python make_submission.py --write_metadata meta.yaml     # then fill it in
    python make_submission.py exp/eval_a/version_0 exp/eval_b/version_0 exp/eval_c/version_0

RUN is a run folder of train_pretrained.py --eval_from_checkpoint. The training's energy and the
dev-test results are read from the checkpoint's run folder and the folders given with --also.
Everything is checked first, and all faults are reported at once. To add a second system, use the
same OUTPUT_DIR and another label.
"""

from __future__ import annotations

if __name__ == "__main__":
    from local.cli import interrupts

    interrupts.leave_at_once()
import argparse
import sys
from pathlib import Path

from local.cli import arguments, interrupts
from local.cli.exit_status import run_command
from local.cli.word_lists import parse_in_any_order


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = arguments.command_parser(__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="*", type=Path, help="evaluation run folders")
    parser.add_argument(
        "--metadata",
        type=Path,
        default=Path("meta.yaml"),
        help="completed form of authors and system (default: meta.yaml)",
    )
    parser.add_argument(
        "--write_metadata", metavar="FILE", type=Path, help="write an empty form and exit"
    )
    parser.add_argument(
        "--output_dir",
        type=Path,
        default=Path("./submission"),
        help="folder for submission.zip and a folder named after the system's label",
    )
    parser.add_argument(
        "--model",
        choices=("student", "teacher"),
        default="student",
        help="network whose scores are submitted",
    )
    parser.add_argument(
        "--also",
        metavar="FOLDER",
        nargs="+",
        type=Path,
        default=[],
        help="further run folders of trainings and tests, besides that of the checkpoint",
    )
    parser.add_argument(
        "--baseline",
        metavar="FOLDER",
        type=Path,
        help="run folder of the baseline on the same machine (10 epochs), to compare energy",
    )
    parser.add_argument(
        "--beats",
        metavar="FILE",
        type=Path,
        help="BEATs weights of the embeddings (default: the run's pretrained.beats_checkpoint)",
    )
    parser.add_argument(
        "--encoder",
        metavar="FILE",
        action="append",
        type=Path,
        default=[],
        help="weights of an encoder of the embeddings; may be repeated (default: the run's)",
    )
    arguments.add_overwrite(parser)
    args = parse_in_any_order(parser, argv, "runs", Path)
    if not args.runs and args.write_metadata is None:
        more = "; --also takes all folders up to the next flag" if args.also else ""
        parser.error(f"give one to three evaluation run folders, before the flags{more}")
    return args


def submit(args: argparse.Namespace) -> int:
    """Write the form, or make the package."""
    if args.write_metadata is not None:
        from local.submission.metadata_form import write_template

        interrupts.raise_again()
        write_template(args.write_metadata)
        print(f"fill in {args.write_metadata}, then give it with --metadata")
        return 0
    given = (*args.runs, *args.also, *((args.baseline,) if args.baseline else ()))
    arguments.check_folders(given, "give run folders, LOG_DIR/version_N")
    with interrupts.leaving_at_once():  # after the arguments, as PyTorch takes seconds to import
        from local.submission.make import SubmissionSources, make_submission

    also, encoders = tuple(args.also), tuple(args.encoder)
    sources = SubmissionSources(
        tuple(args.runs), args.metadata, args.model, also, args.baseline, args.beats, encoders
    )
    make_submission(sources, args.output_dir, overwrite=args.overwrite)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 2 for wrong input, 130 after Ctrl-C."""
    return run_command(submit, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
