"""Compute the embeddings of every clip with each encoder, one HDF5 file per set.

    python extract_embeddings.py                                       # the real data
    python extract_embeddings.py --conf_file confs/mini.yaml           # the mini corpus
    python extract_embeddings.py --only devtest weak_train             # some sets
    python extract_embeddings.py --eval_set --use_gpu --batch_size 64
    python extract_embeddings.py --devices all                         # one process per GPU
    python extract_embeddings.py --pseudo_labels DIR --checkpoint RUN  # what a network scores

Files are written to OUTPUT_DIR/beats/<set>.hdf5; those of other encoders or weights than the
default ones to OUTPUT_DIR/<encoder>-<8 digits of the SHA-256 of the weights>/<set>.hdf5. If
interrupted, run the same command again: it resumes and skips finished clips. Clips that cannot be
read are named at the end, their sets stay unfinished (<set>.hdf5.part) and the exit status is 1:
repair or remove the clips and run again.
"""

from __future__ import annotations

if __name__ == "__main__":
    from local.cli import interrupts

    interrupts.leave_at_once()
import argparse
import sys
from pathlib import Path

from local.cli import arguments
from local.cli.threads import add_threads
from local.processes.launch import run_in_processes


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = arguments.command_parser(__doc__)
    arguments.add_conf_file(parser, "configuration that names the folders")
    parser.add_argument(
        "--output_dir",
        type=Path,
        help="parent of the encoders' folders (default: pretrained.extracted_embeddings_dir, where "
        "training looks for them)",
    )
    parser.add_argument(
        "--pretrained_model",
        nargs="+",
        action="extend",
        metavar="FILE",
        help="file of weights, one for each encoder of pretrained.model, in its order; `beats` is "
        "the configured file of any encoder (default)",
    )
    parser.add_argument(
        "--use_gpu",
        type=arguments.use_gpu,
        nargs="?",
        const=True,
        help="require a GPU; 0: the CPU; mps: the GPU of a Mac (default: a GPU if there is one)",
    )
    arguments.add_devices(parser)
    parser.add_argument(
        "--batch_size",
        type=arguments.positive_int,
        help="clips at a time (default: 32 on a GPU, 4 per thread)",
    )
    parser.add_argument(
        "--precision",
        choices=("32", "bf16"),
        default="32",
        help="precision of encoders: bf16 is two to three times faster on a GPU and on CPUs with "
        "AMX, and changes embeddings by about 1 %% (default: 32)",
    )
    add_threads(parser, "batches at a time on the CPU")
    parser.add_argument("--eval_set", action="store_true", help="also extract the evaluation set")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="extract these sets only")
    arguments.add_pseudo_label_flags(parser)
    arguments.add_overrides(parser)
    arguments.add_overwrite(parser)
    return parser.parse_args(argv)


def extract(args: argparse.Namespace) -> int:
    """Extract the chosen sets, or write their pseudo-labels, and return the exit status."""
    arguments.check_pseudo_label_flags(args)
    # Not before the number of threads is set.
    from local.extraction import commands

    return (commands.extract if args.pseudo_labels is None else commands.label)(args)


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 for clips that failed, 2 for wrong input."""
    return run_in_processes(extract, parse_args(argv), __file__, argv)


if __name__ == "__main__":
    sys.exit(main())
