"""Time the recipe part by part and compare with the machine's peak performance.

    python -m benchmarks                                  # published sizes, on the CPU
    python -m benchmarks --device cuda --confirm          # on a GPU, in less than eight minutes
    python -m benchmarks --quick                          # small sizes: does it run?
    python -m benchmarks --only step metrics/psds1        # some rows
    python -m benchmarks --only demo --epochs 6           # the steps of make demo, in minutes
    python -m benchmarks --compare before.json            # ratios to another run
    python -m benchmarks --threads 1 --clock cpu          # on a shared machine
    python -m benchmarks --only threads                   # beside busy processes, in minutes

A table is printed as it grows; the same goes to a JSON file (--output) and a picture beside it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.absent import stand_in

# Before importing modules that need them.
ABSENT = stand_in()

from desed_task.atomic_files import write_json_atomic  # noqa: E402
from desed_task.errors import InputError  # noqa: E402
from local.cli.arguments import non_negative_seconds, positive_int  # noqa: E402
from local.cli.exit_status import run_command  # noqa: E402
from local.cli.threads import add_threads  # noqa: E402

# A published batch of 60 takes a CPU seconds per step; a projection scales the step's time.
CPU_CLIPS = 20
CONFIG = Path(__file__).parents[1] / "confs" / "pretrained.yaml"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu", help="device of the networks")
    add("--precision", choices=("32", "tf32", "bf16"), help="of the network (default: the file's)")
    add("--quick", action="store_true", help="small sizes")
    add("--only", nargs="+", default=[], metavar="NAME", help="prefixes of row names")
    add_threads(parser)
    add("--repeats", type=positive_int, metavar="N", help="calls per row (default: 5, GPU: 20)")
    add(
        "--clips",
        type=positive_int,
        metavar="N",
        help="clips per batch (default: 20, GPU: the file's)",
    )
    add("--clock", choices=("wall", "cpu"), default="wall", help="cpu: time of one thread")
    add("--output", type=Path, default=Path("benchmarks.json"), help="a .png is written beside it")
    add("--compare", type=Path, metavar="JSON", help="JSON of another run to compare with")
    add("--confirm", action="store_true", help="check the projection with a real training")
    add("--epochs", type=positive_int, default=2, help="epochs of real trainings (default: 2)")
    add("--steps", type=positive_int, help="their steps (default: 3, GPU: 118)")
    add("--share", type=float, help="scored share (default: 0.02, GPU: 1)")
    add("--files", action="store_true", help="real trainings read WAV and HDF5 files")
    add(
        "--limit_s",
        type=non_negative_seconds,
        help="start no row after this time (default: 400 on a GPU)",
    )
    add("--work", type=Path, help="folder to keep data in (default: temporary)")
    add("--conf_file", type=Path, default=CONFIG, help="network and batches")
    add(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change a value of the configuration; may be repeated",
    )
    return parser.parse_args(argv)


def benchmark(args: argparse.Namespace) -> int:
    """Run the benchmarks that the arguments select."""
    try:
        import torch

        from benchmarks import report, running
        from benchmarks.encoders import encoder_lines
        from benchmarks.finetuning import memory_lines
        from benchmarks.threads import thread_lines
        from local.config import load_config
        from local.task.reading import DEFAULT_TASK
        from local.training.computation import with_usable_precision
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed; the benchmarks need it") from None
    wrong = running.unknown(args.only)
    if wrong:
        raise InputError(f"--only {' '.join(wrong)}: no such rows; known: {running.NAMES}")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch finds no GPU on this machine")
    args.threads.begin()
    if args.clock == "cpu" and torch.get_num_threads() > 1:
        raise InputError("--clock cpu: waiting threads would count as working; add --threads 1")
    other = report.read(args.compare) if args.compare else None
    precision = [f"training.precision={args.precision}"] if args.precision else []
    config = load_config(args.conf_file, [*args.overrides, *precision])
    if config.detection_task.name != DEFAULT_TASK:
        raise InputError(
            f"{args.conf_file}: describes the task {config.detection_task.name}; the benchmarks "
            "have the sizes of the published one: leave out `task`"
        )
    config = with_usable_precision(config, args.device)
    if ABSENT:
        print(f"not installed, so some rows are skipped: {', '.join(ABSENT)}")
    folder = args.work or Path(tempfile.mkdtemp(prefix="benchmarks_"))
    try:
        print(report.HEADER, end="", flush=True)
        device = torch.device(args.device, 0) if args.device == "cuda" else torch.device("cpu")
        bench = running.open_bench(config, options_of(args), device, folder, clock=args.clock)
        found = running.run(
            bench, lambda result: write_json_atomic(args.output, result), confirm=args.confirm
        )
    finally:
        if args.work is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(report.machine_line(found["machine"]))
    print("\n".join(report.projection_lines(found["projection"])))
    told = thread_lines(found["rows"]) + encoder_lines(found["rows"], config.data.audio_max_len)
    told += memory_lines(found["rows"])
    print("".join(f"{line}\n" for line in told), end="")
    report.draw(bench.rows.values(), found["machine"], args.output.with_suffix(".png"))
    print(f"written: {args.output}, {args.output.with_suffix('.png')}")
    if other is not None:
        print("\n".join(report.comparison(found, other)))
    if bench.failed:
        print(f"error: {', '.join(bench.failed)} failed; see above", file=sys.stderr)
    return 1 if bench.failed else 0


def options_of(args: argparse.Namespace) -> Any:
    """Fill in default sizes for the device."""
    from benchmarks.bench import Options

    on_gpu = args.device == "cuda" and not args.quick
    limit_s = args.limit_s if args.limit_s is not None else 400.0 if on_gpu else float("inf")
    return Options(
        only=tuple(args.only),
        quick=args.quick,
        limit_s=limit_s,
        n_steps=args.steps or (118 if on_gpu else 3),
        share=args.share if args.share is not None else 1.0 if on_gpu else 0.02,
        n_epochs=args.epochs,
        packed=not args.files,
        repeats=args.repeats,
        n_clips=args.clips or (None if on_gpu or args.quick else CPU_CLIPS),
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 if rows failed, 2 for invalid input."""
    return run_command(benchmark, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
