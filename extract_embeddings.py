"""Compute BEATs embeddings of every clip, one HDF5 file per set.

    python extract_embeddings.py                                       # the real data
    python extract_embeddings.py --conf_file confs/mini.yaml           # the mini corpus
    python extract_embeddings.py --only devtest weak_train             # some sets
    python extract_embeddings.py --eval_set --use_gpu --batch_size 64
    python extract_embeddings.py --devices all                         # one process per GPU

Files are written to OUTPUT_DIR/beats/<set>.hdf5. If interrupted, run the same command again: it
resumes and skips finished clips. Clips that cannot be read are named at the end, their sets stay
unfinished (<set>.hdf5.part) and the exit status is 1: repair or remove the clips and run again.
"""

from __future__ import annotations

if __name__ == "__main__":
    from local.cli import interrupts

    interrupts.leave_at_once()
import argparse
import sys
from pathlib import Path

from desed_task.errors import InputError
from local.cli import arguments
from local.cli.interrupts import leaving_at_once
from local.cli.threads import add_threads
from local.processes.launch import run_in_processes


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = arguments.command_parser(__doc__)
    arguments.add_conf_file(parser, "configuration that names the folders")
    parser.add_argument(
        "--output_dir",
        type=Path,
        help="parent of the folder beats/ (default: pretrained.extracted_embeddings_dir, where "
        "training looks for it)",
    )
    arguments.add_weights(parser)
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
        help="precision of BEATs: bf16 is two to three times faster on a GPU and on CPUs with AMX, "
        "and changes embeddings by about 1 %% (default: 32)",
    )
    add_threads(parser, "batches at a time on the CPU")
    parser.add_argument("--eval_set", action="store_true", help="also extract the evaluation set")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="extract these sets only")
    arguments.add_overrides(parser)
    arguments.add_overwrite(parser)
    return parser.parse_args(argv)


def extract(args: argparse.Namespace) -> int:
    """Extract the chosen sets and return the exit status."""
    # Not before the number of threads is set.
    from desed_task.encoders.weights_file import find_weights
    from local.config import load_config
    from local.extraction.sets import choose_sets, find_wavs
    from local.processes.decisions import decided_by_first

    config = load_config(args.conf_file, args.overrides)
    named = args.pretrained_model
    beats = Path(config.pretrained.beats_checkpoint if named == "beats" else named)
    sets = choose_sets(args.only, eval_set=args.eval_set)
    # Other processes are told of the files of a set when it begins.
    wavs = decided_by_first(lambda: find_wavs(config, sets), told=lambda of: {n: {} for n in of})
    find_weights(beats)
    with leaving_at_once():  # after the arguments, as PyTorch takes seconds to import
        from local.extraction.embedder import settled_precision
        from local.extraction.extractor import Extractor
        from local.processes.devices import torch_device_of

    args.threads.begin()
    device = torch_device_of(args)
    output_dir = args.output_dir or Path(config.pretrained.extracted_embeddings_dir)
    precision = decided_by_first(
        lambda: settled_precision(args.precision, device, output_dir / "beats", beats)
    )
    extractor = Extractor.open(
        beats,
        output_dir,
        clip_s=config.data.audio_max_len,
        batch_size=args.batch_size,
        precision=precision,
        device=device,
        windows=config.windows,
        overwrite=args.overwrite,
    )
    extractor.check(wavs)
    faults = [fault for name in wavs for fault in extractor.extract(name, wavs[name])]
    if faults:
        print(f"error: {InputError.collect(faults, 'Clips not read:')}", file=sys.stderr)
    return 1 if faults else 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 for clips that failed, 2 for wrong input."""
    return run_in_processes(extract, parse_args(argv), __file__, argv)


if __name__ == "__main__":
    sys.exit(main())
