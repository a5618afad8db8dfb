"""Time the recipe, part by part, and hold each against what the machine can do.

    python -m benchmarks                                  # published sizes, on the CPU
    python -m benchmarks --device cuda --confirm          # on a GPU, in less than eight minutes
    python -m benchmarks --quick                          # small sizes: does it run?
    python -m benchmarks --only step metrics/psds1        # some rows
    python -m benchmarks --compare before.json            # ratios to another run
    python -m benchmarks --threads 1 --clock cpu          # where others use the machine too

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

# Before anything is imported that wants them.
ABSENT = stand_in()

from desed_task.atomic_files import write_json_atomic  # noqa: E402
from desed_task.errors import InputError  # noqa: E402
from local.cli.arguments import non_negative_seconds, positive_int  # noqa: E402
from local.cli.exit_status import run_command  # noqa: E402

# A published batch of 60 would take a CPU seconds a step; a projection counts three steps for one.
CPU_CLIPS = 20
CONFIG = Path(__file__).parents[1] / "confs" / "pretrained.yaml"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where networks compute")
    add("--precision", choices=("32", "tf32", "bf16"), help="of the network (default: the file's)")
    add("--quick", action="store_true", help="small sizes")
    add("--only", nargs="+", default=[], metavar="NAME", help="rows whose names begin so")
    add("--threads", type=positive_int, metavar="N", help="of the processor (default: PyTorch's)")
    add("--repeats", type=positive_int, metavar="N", help="of a row (default: 5, on a GPU 20)")
    add(
        "--clips",
        type=positive_int,
        metavar="N",
        help="of a batch (default: 20, on a GPU the file's)",
    )
    add("--clock", choices=("wall", "cpu"), default="wall", help="cpu: time of one thread")
    add("--output", type=Path, default=Path("benchmarks.json"), help="a .png is drawn beside it")
    add("--compare", type=Path, metavar="JSON", help="of another run, to be held against")
    add("--confirm", action="store_true", help="a real training at the end: is its time foretold?")
    add("--epochs", type=positive_int, default=2, help="of real trainings (default: 2)")
    add("--steps", type=positive_int, help="of their epochs (default: 118 on a GPU, else 3)")
    add("--share", type=float, help="of the clips they score (default: 1 on a GPU, else 0.02)")
    add("--files", action="store_true", help="real trainings read wav and HDF5, not packed sets")
    add(
        "--limit_s",
        type=non_negative_seconds,
        help="begin no row after this time (default: 400 on a GPU)",
    )
    add("--work", type=Path, help="folder for made data, kept (default: a temporary one)")
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
    """Run what the arguments ask for."""
    try:
        import torch

        from benchmarks import report, running
        from local.config import load_config
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed; nothing is timed without it") from None
    wrong = running.unknown(args.only)
    if wrong:
        raise InputError(f"--only {' '.join(wrong)}: no such rows; there are {running.NAMES}")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch finds no GPU on this machine")
    torch.set_num_threads(args.threads or torch.get_num_threads())
    if args.clock == "cpu" and torch.get_num_threads() > 1:
        raise InputError("--clock cpu: threads that wait count as if they worked; add --threads 1")
    other = report.read(args.compare) if args.compare else None
    precision = [f"training.precision={args.precision}"] if args.precision else []
    config = load_config(args.conf_file, [*args.overrides, *precision])
    if ABSENT:
        print(f"not installed, so that some rows are skipped: {', '.join(ABSENT)}")
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
    report.draw(bench.rows.values(), found["machine"], args.output.with_suffix(".png"))
    print(f"written: {args.output}, {args.output.with_suffix('.png')}")
    if other is not None:
        print("\n".join(report.comparison(found, other)))
    if bench.failed:
        print(f"error: {', '.join(bench.failed)} failed; see above", file=sys.stderr)
    return 1 if bench.failed else 0


def options_of(args: argparse.Namespace) -> Any:
    """Sizes as the device allows where nothing is said."""
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
    """Run the command; the exit status is 0, 1 for rows that failed, 2 for wrong input."""
    return run_command(benchmark, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
