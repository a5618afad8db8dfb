"""Run all benchmarks in order."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import (
    demo,
    embedding,
    encoders,
    finetuning,
    loading,
    projection,
    scoring,
    step,
    threads,
    training,
)
from benchmarks.bench import Bench, Options, Row
from benchmarks.machine import Machine
from benchmarks.made import Made, Sizes, batch_rows
from benchmarks.report import line
from benchmarks.timing import ClockName, Stopwatch
from desed_task.errors import InputError, count_of
from local.config import RecipeConfig, check_config

# The rows of a projection first, as the time limit may be reached.
PARTS: dict[str, Callable[[Bench], None]] = {
    "step": step.run,
    "epoch": training.run,
    "loading": loading.run,
    "beats": embedding.run,
    "encoder": encoders.run,
    "finetune": finetuning.run,
    "metrics": scoring.run,
    "threads": threads.run,
    "demo": demo.run,
}
NAMES = (
    "step",
    "loading",
    "beats",
    "extraction",
    "encoder",
    "finetune",
    "validation",
    "devtest",
    "scores",
    "metrics",
    "epoch",
    "threads",  # not without being named
    "demo",
)
# Size of the corpus for single parts: large enough that consecutive batches share no row.
_STEPS = 20


def open_bench(
    config: RecipeConfig,
    options: Options,
    device: torch.device,
    folder: Path,
    *,
    clock: ClockName = "wall",
) -> Bench:
    """Prepare everything for timing, without timing or writing."""
    if options.quick:
        config = small(config)
    if options.n_clips is not None:
        config = with_batch(config, options.n_clips)
    on_gpu = device.type == "cuda"
    # Calls on a GPU are short, and so may be the time on one.
    repeats, budget_s = (2, 2.0) if options.quick else (20, 5.0) if on_gpu else (5, 20.0)
    watch = Stopwatch(device, clock, options.repeats or repeats, budget_s)
    # As in `local.run`, for the parts that are timed without it.
    rough = on_gpu and config.training.precision == "tf32"
    torch.set_float32_matmul_precision("high" if rough else "highest")
    quotas = batch_rows(config)
    steps, share = (2, 0.01) if options.quick else (_STEPS, 1.0)
    if on_gpu and not options.quick:
        steps = 90  # enough unlabelled clips for the extraction
    out = sys.stdout  # the terminal, even while the recipe's output is redirected

    def tell(row: Row) -> None:
        print(line(row), file=out, flush=True)

    made = Made(config, Sizes.of_steps(steps, quotas, share), folder / "corpus")
    machine = Machine(watch, small=options.quick)
    machine.sample()
    return Bench(options, watch, machine, config, made, folder, tell)


def run(bench: Bench, save: Callable[[dict[str, Any]], None], *, confirm: bool) -> dict[str, Any]:
    """Time the selected parts.

    Args:
        bench: the result of `open_bench`.
        save: called with the results after each part, so that a killed run keeps them.
        confirm: whether to check the projection with a real training.

    Returns:
        Machine, rows and projection as plain values.
    """
    with quiet(bench.folder / "log.txt"):
        for part in PARTS.values():
            part(bench)
            save(result(bench, {"skipped": "not yet"}))
        projected = _projection(bench, confirm)
    found = result(bench, projected)
    save(found)
    return found


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Redirect the recipe's output and warnings to a file; print them after a failure."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        try:
            with (
                contextlib.redirect_stdout(file),
                contextlib.redirect_stderr(file),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")
                yield
        except Exception:
            file.flush()
            print(log.read_text(encoding="utf-8"), file=sys.stderr)
            raise


def result(bench: Bench, projected: dict[str, Any]) -> dict[str, Any]:
    """Return the content of the JSON file."""
    return {
        "machine": bench.machine.describe(),
        "sizes": {
            "quick": bench.options.quick,
            "batch": batch_rows(bench.config),
            "precision": str(bench.config.training.precision),
            "packed": bench.options.packed,
        },
        "rows": [row.dump() for row in bench.rows.values()],
        "projection": projected,
    }


def _projection(bench: Bench, confirm: bool) -> dict[str, Any]:
    parts = projection.parts_of(bench)
    if isinstance(parts, str):
        return {"skipped": parts}
    found = projection.published(parts)
    found["quick"] = bench.options.quick
    if confirm:
        real = training.confirm(bench)
        found["confirmed"] = (
            {"skipped": bench.rows["confirm"].skipped}
            if real is None
            else projection.compared(parts, real)
        )
    return found


def small(config: RecipeConfig) -> RecipeConfig:
    """Use few clips and a small network of the same kind, for tests and trial runs."""
    tree = config.dump()
    tree["training"].update(batch_size=[2, 1, 1, 2, 2], batch_size_val=8)
    n_blocks = len(tree["net"]["nb_filters"])
    tree["net"].update(nb_filters=[8] * n_blocks, n_RNN_cell=16, embedding_size=128)
    tree["feats"]["hop_length"] = 1024
    return check_config(tree, "--quick")


def with_batch(config: RecipeConfig, n_clips: int) -> RecipeConfig:
    """Scale the batch to another size, with the sets' proportions and at least one clip of each.

    Raises:
        InputError: for fewer clips than there are sets.
    """
    quotas = batch_rows(config)
    if n_clips < len(quotas):
        raise InputError(
            f"--clips {n_clips}: a batch needs a clip of each of {count_of(len(quotas), 'set')}; "
            f"give {len(quotas)} or more"
        )
    exact = [n_clips * quota / sum(quotas) for quota in quotas]
    rows = [max(int(one), 1) for one in exact]
    while sum(rows) != n_clips:
        step = 1 if sum(rows) < n_clips else -1
        able = [place for place, one in enumerate(rows) if step > 0 or one > 1]
        place = max(able, key=lambda place: step * (exact[place] - rows[place]))
        rows[place] += step
    tree = config.dump()
    tree["training"]["batch_size"] = rows
    return check_config(tree, "--clips")


def unknown(only: Sequence[str]) -> list[str]:
    """Selected names that are not those of any part."""
    return [name for name in only if name.partition("/")[0] not in NAMES]
