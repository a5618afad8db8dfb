"""Detect sound events in recordings of any format, sample rate, channel count and length.

    python predict.py street.wav                                  # how to get a checkpoint
    python predict.py street.wav --checkpoint exp/mini/version_0  # a run folder or file
    python predict.py recordings/ more/talk.mp3 --checkpoint best.ckpt --output_dir events
    python predict.py street.wav --checkpoint best.ckpt --threshold "Speech=0.4,Dog=0.6"
    python predict.py street.wav --checkpoint best.ckpt --merge_gap 0.2 --min_duration 0.1
    python predict.py archive/ --checkpoint best.ckpt --shard 3/64  # a part, as an array's task
    python predict.py archive/ --merge parquet                      # the events of all parts
    python predict.py --export onnx --checkpoint best.ckpt --output_dir graphs

Writes for each recording: NAME.tsv (filename, onset, offset, event_label, confidence), NAME.json,
NAME.txt (labels for Audacity) and NAME.png (timeline); on request NAME.rttm, NAME.scores.tsv and
NAME.npz (frame scores), and NAME.html (a page to look at and listen to). Of a folder, events.tsv
has all events and index.html all pages. Recordings that cannot be read are named at the end, and
the exit status is 1.
"""

from __future__ import annotations

if __name__ == "__main__":
    from local.cli import interrupts

    interrupts.leave_at_once()
import argparse
import sys

from desed_task.errors import InputError
from local.cli import arguments
from local.cli.exit_status import run_command
from local.cli.interrupts import leaving_at_once
from local.predict.flags import check_values, parse_predict_args
from local.processes.launch import run_in_processes
from local.processes.world import world_here


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    return parse_predict_args(arguments.command_parser(__doc__), argv)


def predict(args: argparse.Namespace) -> int:
    """Detect events in the recordings, or export the network; return the exit status."""
    with leaving_at_once():
        from local.checkpoints.given import settle_arguments  # not before threads are set
        from local.predict.first_steps import without_checkpoint
        from local.predict.sharing import share_of

    if args.checkpoint is None:
        raise InputError(without_checkpoint(args.recordings, "--export onnx" * bool(args.export)))
    check_values(args)
    config = settle_arguments(args)
    share = None if args.export else share_of(args)
    if share is not None and not share.n_of_all:
        return share.finish_without_recordings()
    with leaving_at_once():  # after the arguments, as PyTorch takes seconds to import
        from local.checkpoints.encoders.given import chosen_weights
        from local.checkpoints.stored_config import config_with_checkpoint
        from local.predict.decoding.choice import chosen_decoding
        from local.predict.decoding.settings import described, tuned_lines, unread_line
        from local.predict.predict_all import Output, open_detector, predict_all
        from local.processes.devices import device_of

    config = config or config_with_checkpoint(args.checkpoint, args.overrides)
    weights = chosen_weights(config, args)
    if share is None:
        from local.predict.export_onnx import export_onnx

        if not world_here().is_first:
            return 0
        role = args.model or "student"
        where = args.checkpoint, args.output_dir, role, weights, args.recordings
        export_onnx(*where, required=bool(args.pretrained_model), overwrite=args.overwrite)
        return 0
    chosen = chosen_decoding(args, config)
    settings = {"device": device_of(args), "batch_size": args.batch_size, **chosen.of_detector}
    detector = open_detector(config, args.checkpoint, encoder=weights, **settings)
    args.threads.begin()
    if unread := unread_line(detector, args.overrides):
        print(unread)
    if chosen.tuned is not None:
        print(tuned_lines(detector, chosen.tuned, chosen.threshold, chosen.rules))
    made_by = {"checkpoint": args.checkpoint, "model": chosen.role, "hop_s": config.predict.hop_s}
    made_by |= described(detector, chosen.rules)
    output = Output(args.output_dir, args.formats, args.skip_existing, made_by, args.overwrite)
    if args.embed_mb is not None:
        output = output._replace(embedded_mb=args.embed_mb)
    how = {"threshold": chosen.threshold, "rules": chosen.rules}
    return predict_all(detector, share.found, output, **how, share=share)


def list_or_merge(args: argparse.Namespace) -> int:
    """List the recordings of an archive, or join its results; return the exit status."""
    with leaving_at_once():
        from local.predict.archives.commands import list_archive, merge_archive

    return list_archive(args) if args.list else merge_archive(args)


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 for recordings that failed, 2 for wrong input."""
    args = parse_args(argv)
    if args.list or args.merge:
        return run_command(list_or_merge, args, computes=False)
    return run_in_processes(predict, args, __file__, argv)


if __name__ == "__main__":
    sys.exit(main())
