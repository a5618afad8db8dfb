"""Detect sound events in recordings of any format, sample rate, channel count and length.

    python predict.py street.wav --checkpoint path/to/best.ckpt
    python predict.py recordings/ more/talk.mp3 --checkpoint best.ckpt --output_dir events
    python predict.py street.wav --checkpoint best.ckpt --threshold "Speech=0.4,Dog=0.6"
    python predict.py --export onnx --checkpoint best.ckpt --output_dir graphs

Writes for each recording: NAME.tsv (filename, onset, offset, event_label, confidence), NAME.json,
NAME.txt (labels for Audacity) and NAME.png (timeline); on request NAME.rttm, NAME.scores.tsv and
NAME.npz (frame scores). events.tsv has the events of all recordings of a folder. Recordings that
cannot be read are named at the end, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from local.cli.arguments import add_overwrite, parse_threshold, positive_int
from local.cli.exit_status import run_command
from local.cli.threads import add_threads
from local.cli.word_lists import ListOption, parse_in_any_order

FORMATS = ("tsv", "json", "txt", "png", "rttm", "scores", "npz")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("recordings", nargs="*", type=Path, help="files and folders (with subfolders)")
    told = "checkpoint of this recipe or of the published code"
    add("--checkpoint", required=True, metavar="CKPT", help=told)
    add("--conf_file", default="./confs/pretrained.yaml", help="hop, thresholds, BEATs weights")
    add("--output_dir", type=Path, default=Path("./predictions"), help="folder of the results")
    add(
        "--model",
        choices=("student", "teacher"),
        default="student",
        help="network to use (default: the student, whose validation selected the checkpoint)",
    )
    add(
        "--threshold",
        metavar="T",
        help="scores above it are events: one for all classes, or CLASS=T,CLASS=T with 0.5 for the "
        "others (default: predict.threshold)",
    )
    told = "files to write (default: tsv json txt png)"
    formats = add(
        "--formats", action=ListOption, choices=FORMATS, default=list(FORMATS[:4]), help=told
    )
    told = "file of BEATs weights; `beats` is pretrained.beats_checkpoint (default)"
    add("--pretrained_model", default="beats", help=told)
    add("--gpus", "--gpu", metavar="N", help="0: the CPU; N: the N-th GPU (default: the first)")
    told = "windows at a time (default: 32 on a GPU, 4 per thread)"
    add("--batch_size", type=positive_int, help=told)
    add_threads(parser)
    told = "skip recordings whose result files all exist and are newer, whatever made them"
    add("--skip_existing", action="store_true", help=told)
    add(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change a value of the configuration, e.g. predict.hop_s=2.56; may be repeated",
    )
    add_overwrite(parser)
    add("--export", choices=("onnx",), help="only export the network as ONNX files")
    args = parse_in_any_order(parser, argv, "recordings", Path, [formats])
    if not (args.recordings or args.export):
        parser.error("give recordings, or --export onnx")
    return args


def predict(args: argparse.Namespace) -> int:
    """Detect events in the recordings, or export the network; return the exit status."""
    from local.config import load_config  # not before the number of threads is set

    config = load_config(args.conf_file, args.overrides)
    if args.export:
        from local.predict.export_onnx import export_onnx

        where = args.checkpoint, args.output_dir, args.model, args.pretrained_model
        export_onnx(config, *where, args.recordings, overwrite=args.overwrite)
        return 0
    named, given = args.pretrained_model, args.threshold
    threshold = config.predict.threshold if given is None else parse_threshold(given)
    # After the configuration, as PyTorch takes seconds to import.
    from local.predict.predict_all import Output, open_detector, predict_all

    detector = open_detector(
        config,
        args.checkpoint,
        beats=config.pretrained.beats_checkpoint if named == "beats" else named,
        role=args.model,
        gpus=args.gpus,
        batch_size=args.batch_size,
    )
    args.threads.begin()
    made_by = {"checkpoint": args.checkpoint, "model": args.model, "hop_s": config.predict.hop_s}
    where = args.output_dir, args.formats, args.skip_existing
    output = Output(*where, made_by, args.overwrite)
    return predict_all(detector, args.recordings, output, threshold=threshold)


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 for recordings that failed, 2 for wrong input."""
    return run_command(predict, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
