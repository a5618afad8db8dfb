"""Detect sound events in recordings of any format, sample rate, channel count and length.

    python predict.py street.wav                                  # how to get a checkpoint
    python predict.py street.wav --checkpoint exp/mini/version_0  # a run folder or file
    python predict.py recordings/ more/talk.mp3 --checkpoint best.ckpt --output_dir events
    python predict.py street.wav --checkpoint best.ckpt --threshold "Speech=0.4,Dog=0.6"
    python predict.py --export onnx --checkpoint best.ckpt --output_dir graphs

Writes for each recording: NAME.tsv (filename, onset, offset, event_label, confidence), NAME.json,
NAME.txt (labels for Audacity) and NAME.png (timeline); on request NAME.rttm, NAME.scores.tsv and
NAME.npz (frame scores). events.tsv has the events of all recordings of a folder. Recordings that
cannot be read are named at the end, and the exit status is 1.
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
from local.cli.word_lists import ListOption, parse_in_any_order
from local.processes.launch import run_in_processes

FORMATS = ("tsv", "json", "txt", "png", "rttm", "scores", "npz")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = arguments.command_parser(__doc__)
    add = parser.add_argument
    add("recordings", nargs="*", type=Path, help="files and folders (with subfolders)")
    told = "checkpoint, ours or a published one, or the run folder of a training"
    add("--checkpoint", metavar="CKPT", help=told)
    told = "configuration of hop, thresholds and BEATs weights (default: the checkpoint's)"
    arguments.add_conf_file(parser, told, default=None)
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
    told = "the configuration's pretrained.beats_checkpoint (default: the checkpoint's, if found)"
    arguments.add_weights(parser, told, default=None)
    arguments.add_gpus(parser)
    told = "windows at a time (default: 32 on a GPU, 4 per thread)"
    add("--batch_size", type=arguments.positive_int, help=told)
    add_threads(parser)
    told = "skip recordings whose result files all exist and are newer, whatever made them"
    add("--skip_existing", action="store_true", help=told)
    arguments.add_overrides(parser, "predict.hop_s=2.56")
    arguments.add_overwrite(parser)
    add("--export", choices=("onnx",), help="only export the network as ONNX files")
    args = parse_in_any_order(parser, argv, "recordings", Path, [formats])
    if not (args.recordings or args.export):
        parser.error("give recordings, or --export onnx")
    return args


def predict(args: argparse.Namespace) -> int:
    """Detect events in the recordings, or export the network; return the exit status."""
    from local.checkpoints.given import settle_arguments  # not before threads are set
    from local.predict.first_steps import without_checkpoint
    from local.predict.recordings import NOT_READ, find_recordings

    if args.checkpoint is None:
        raise InputError(without_checkpoint(args.recordings, "--export onnx" * bool(args.export)))
    found = find_recordings(args.recordings)
    if args.recordings and not found.recordings:
        raise InputError.collect(found.faults, NOT_READ)
    given = args.threshold
    threshold = None if given is None else arguments.parse_threshold(given)
    config = settle_arguments(args)
    with leaving_at_once():  # after the arguments, as PyTorch takes seconds to import
        from local.checkpoints.stored_config import config_with_checkpoint
        from local.predict.predict_all import Output, chosen_weights, open_detector, predict_all
        from local.processes.devices import device_of

    config = config or config_with_checkpoint(args.checkpoint, args.overrides)
    weights = chosen_weights(config, args)
    if args.export:
        from local.predict.export_onnx import export_onnx

        where = args.checkpoint, args.output_dir, args.model, weights, args.recordings
        export_onnx(*where, required=bool(args.pretrained_model), overwrite=args.overwrite)
        return 0
    settings = {"role": args.model, "device": device_of(args), "batch_size": args.batch_size}
    detector = open_detector(config, args.checkpoint, beats=weights, **settings)
    args.threads.begin()
    made_by = {"checkpoint": args.checkpoint, "model": args.model, "hop_s": config.predict.hop_s}
    output = Output(args.output_dir, args.formats, args.skip_existing, made_by, args.overwrite)
    threshold = config.predict.threshold if threshold is None else threshold
    return predict_all(detector, found, output, threshold=threshold)


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 for recordings that failed, 2 for wrong input."""
    return run_in_processes(predict, parse_args(argv), __file__, argv)


if __name__ == "__main__":
    sys.exit(main())
