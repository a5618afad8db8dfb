"""Make the challenge's package from evaluations of one to three trainings of a system.

    python make_submission.py --write_metadata meta.yaml     # then fill it in
    python make_submission.py exp/eval_a/version_0 exp/eval_b/version_0 exp/eval_c/version_0

RUN is a run folder of train_pretrained.py --eval_from_checkpoint. Energy of the training and
results of the dev-test are looked for in the run folder that the checkpoint lies in, and in those
given with --also. Everything is checked first, and all that is missing is named at once. A second
system goes into the same OUTPUT_DIR under another label.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from local.cli.exit_status import run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", metavar="RUN", nargs="*", type=Path, help="evaluation run folders")
    parser.add_argument(
        "--metadata",
        type=Path,
        default=Path("meta.yaml"),
        help="authors and system, filled in (default: meta.yaml)",
    )
    parser.add_argument(
        "--write_metadata", metavar="FILE", type=Path, help="write the form to be filled in and end"
    )
    parser.add_argument(
        "--output_dir",
        type=Path,
        default=Path("./submission"),
        help="gets a folder named by the system's label, and submission.zip",
    )
    parser.add_argument(
        "--model", choices=("student", "teacher"), default="student", help="whose scores"
    )
    parser.add_argument(
        "--also",
        metavar="FOLDER",
        nargs="+",
        type=Path,
        default=[],
        help="run folders of trainings and tests that do not lie where the checkpoint does",
    )
    parser.add_argument(
        "--baseline",
        metavar="FOLDER",
        type=Path,
        help="run folder of the baseline on the same machine (10 epochs), for its energy",
    )
    parser.add_argument(
        "--beats",
        metavar="FILE",
        type=Path,
        help="BEATs that made the embeddings (default: pretrained.beats_checkpoint of the run)",
    )
    args = parser.parse_args(argv)
    if not args.runs and args.write_metadata is None:
        parser.error("give one to three evaluation run folders")
    return args


def submit(args: argparse.Namespace) -> int:
    """Write the form, or make the package."""
    # After the command line, as PyTorch takes seconds to import.
    from local.submission.make import SubmissionSources, make_submission
    from local.submission.metadata_form import write_template

    if args.write_metadata is not None:
        write_template(args.write_metadata)
        print(f"fill in {args.write_metadata}, then give it with --metadata")
        return 0
    sources = SubmissionSources(
        tuple(args.runs),
        args.metadata,
        args.model,
        tuple(args.also),
        args.baseline,
        args.beats,
    )
    make_submission(sources, args.output_dir)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 2 for wrong input, 130 after Ctrl-C."""
    return run_command(submit, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
