"""`python -m benchmarks`: see the package."""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from tqdm import tqdm

import benchmarks
from benchmarks import report
from benchmarks.groups import GROUPS, SIZES, Bench, rows_of
from benchmarks.measuring import Machine, Row
from desed_task.errors import InputError
from local.arguments import positive
from local.command import run_command
from local.config import load_config

CONF_FILE = Path(__file__).resolve().parents[1] / "confs" / "pretrained.yaml"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=benchmarks.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    add("--precision", choices=("32", "tf32", "bf16"), default="32", help="default: 32")
    add("--threads", type=positive, help="of PyTorch (default: its own choice)")
    add("--repeats", type=positive, default=5, help="of each measurement (default: 5)")
    add("--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="groups of rows")
    add("--quick", action="store_true", help="small sizes: does it run?")
    add("--confirm", action="store_true", help="hold the projection against a real training")
    add("--compare", type=Path, metavar="JSON", help="an earlier result, for ratios")
    add("--output", type=Path, default=Path("benchmarks.json"), help="beside it a .png is drawn")
    return parser.parse_args(argv)


def bench_of(args: argparse.Namespace, folder: Path) -> Bench:
    """What is measured, on which device.

    Raises:
        InputError: for a GPU that is not there.
    """
    if args.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch finds no GPU on this machine; leave it out")
    if args.threads:
        torch.set_num_threads(args.threads)
    rough = args.precision == "tf32" and args.device == "cuda"
    torch.set_float32_matmul_precision("high" if rough else "highest")
    sizes = SIZES["quick" if args.quick else args.device]
    machine = Machine(torch.device(args.device))
    config = load_config(CONF_FILE)
    return Bench(config, machine, sizes, args.repeats, args.precision, folder)


def measure(args: argparse.Namespace) -> int:
    """Measure, print and write; the exit status."""
    before = report.read(args.compare) if args.compare else {}
    with tempfile.TemporaryDirectory(prefix="benchmarks_") as folder:
        bench = bench_of(args, Path(folder))
        rows, skipped = _all_rows(bench, args.only)
        facts = {"arguments": sys.argv[1:], "sizes": bench.sizes._asdict(), "skipped": skipped}
        lines = [report.table(rows, before)]
        lines += [f"not measured: {group}, as {reason}" for group, reason in skipped.items()]
        lines += _projected(bench, rows, facts, confirmed=args.confirm)
    print("\n".join(lines))
    report.write(args.output, report.document(rows, bench.machine, facts))
    report.draw(rows, args.output.with_suffix(".png"))
    print(f"written: {args.output}, {args.output.with_suffix('.png')}")
    return 0


def _all_rows(bench: Bench, groups: list[str]) -> tuple[list[Row], dict[str, str]]:
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    with tqdm(unit="row", dynamic_ncols=True) as bar:
        for group in groups:
            bar.set_description(group)
            try:
                for row in rows_of(group, bench):
                    rows.append(row)
                    bar.update()
            except ImportError as error:
                skipped[group] = f"{error.name} is not installed"
    return rows, skipped


def _projected(
    bench: Bench, rows: list[Row], facts: dict[str, object], *, confirmed: bool
) -> list[str]:
    """Lines about the published schedule; what they say goes into `facts` too."""
    from benchmarks.projection import confirm, project

    lines = []
    found = project(bench, rows)
    if found is not None and bench.sizes is not SIZES["quick"]:
        facts["projection_s"] = {**found._asdict(), "total_s": found.total_s}
        hours = [part / 3600 for part in (*found, found.total_s)]
        lines.append(
            "the published schedule: {:.2f} h of steps, {:.2f} h of validations, {:.2f} h of "
            "dev-test: {:.2f} h".format(*hours)
        )
    whole = next((row for row in rows if row.name == "whole step"), None)
    if confirmed and whole is not None:
        with redirect_stdout(StringIO()):
            seconds = sorted(confirm(bench))
        median = seconds[len(seconds) // 2]
        facts["confirmed_step_s"] = seconds
        lines.append(
            f"a real training: {median:.3f} s a step, {median / whole.median_s:.2f} of the "
            "step that was measured"
        )
    return lines


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0, 2 for wrong input."""
    return run_command(measure, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
