"""Format benchmark results: table, JSON, figure and the comparison of two runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.bench import Row
from desed_task.errors import InputError, count_of

HEADER = f"{'':40}{'time':>10}{'+-':>6}{'per clip':>10}{'GMAC':>10}{'rate':>16}{'share':>10}  of\n"


def line(row: Row) -> str:
    """Format a row of the table."""
    if row.skipped:
        return f"{row.name:40}skipped: {row.skipped}"
    per_clip = row.seconds / row.clips if row.clips else 0.0
    macs = f"{row.macs / 1e9:10.4g}" if row.macs else f"{'-':>10}"
    share = "-" if row.share is None else f"{100 * row.share:.3g} %"
    of = "float32 GEMM" if row.bound == "compute" else "bandwidth"
    spread = f"{100 * row.spread:.0f}%"
    return (
        f"{row.name:40}{duration(row.seconds):>10}{spread:>6}{duration(per_clip):>10}"
        f"{macs}{_rate(row):>16}{share:>10}  {of}"
    )


def _rate(row: Row) -> str:
    if row.bound == "compute":
        return f"{2 * row.macs / row.seconds / 1e9:.4g} GFLOP/s"
    return f"{row.n_bytes / row.seconds / 1e9:.3g} GB/s"


def duration(seconds: float) -> str:
    """Format seconds with a unit that leaves about three digits."""
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1.0, 1e3, "ms"), (300.0, 1.0, "s")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds / 60:.4g} min"


def machine_line(machine: Mapping[str, Any]) -> str:
    """Format the machine's peaks."""
    return (
        f"{machine['device']}, {count_of(machine['threads'], 'thread')}, {machine['clock']} "
        f"clock, load {machine['load']}: float32 GEMM {machine['gemm_float32_tflops']:.4g} "
        f"TFLOP/s (bfloat16 {machine['gemm_bfloat16_tflops']:.4g}), copy "
        f"{machine['bandwidth_gb_s']:.4g} GB/s"
    )


def projection_lines(projection: Mapping[str, Any]) -> list[str]:
    """Format the projection and, if there was one, the run that checks it."""
    if "seconds" not in projection:
        return [f"projection: {projection['skipped']}"]
    schedule, seconds = projection["schedule"], projection["seconds"]
    of = "a small network (not representative of the published one)" if projection["quick"] else ""
    lines = [
        f"projection{of and f' for {of}'} of {count_of(schedule['n_epochs'], 'epoch')} x "
        f"{count_of(schedule['n_steps'], 'step')} of "
        f"{count_of(schedule['batch_clips'], 'clip')}, "
        f"{count_of(schedule['n_validations'], 'validation')} of "
        f"{count_of(schedule['validation_clips'], 'clip')}, a dev-test of "
        f"{schedule['devtest_clips']}: {duration(seconds['whole'])} (training "
        f"{duration(seconds['training'])}, validations {duration(seconds['validation'])}, "
        f"dev-test {duration(seconds['devtest'])})"
    ]
    if projection["lacking"]:
        lines.append(
            f"not counted, because there are no results: {', '.join(projection['lacking'])}"
        )
    confirmed = projection.get("confirmed")
    if confirmed is None:
        return lines
    if "skipped" in confirmed:
        return [*lines, f"not confirmed: {confirmed['skipped']}"]
    done, ratio = confirmed["schedule"], confirmed["ratio"]
    lines.append(
        f"a real run of {count_of(done['n_epochs'], 'epoch')} x "
        f"{count_of(done['n_steps'], 'step')} of {count_of(done['batch_clips'], 'clip')}, a "
        f"validation of {count_of(done['validation_clips'], 'clip')} and a dev-test of "
        f"{done['devtest_clips']} took {ratio['whole']:.3f} of the projected time "
        f"({', '.join(f'{phase} {ratio[phase]:.3f}' for phase in ratio if phase != 'whole')})"
    )
    return lines


def read(path: Path) -> dict[str, Any]:
    """Read the JSON of a run.

    Raises:
        InputError: if the file is not one.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the JSON of a run of benchmarks") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); give that of a run of benchmarks") from None
    if not isinstance(found, dict) or not {"machine", "rows"} <= set(found):
        raise InputError(f"{path}: not of a run of benchmarks (no `machine` and `rows`)")
    return found


def comparison(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Format the ratios of two runs: of times, and of shares of each machine's peak."""
    other = {row["name"]: row for row in theirs["rows"] if not row["skipped"]}
    lines = [f"{'':40}{'here':>10}{'there':>10}{'faster':>9}{'by share':>10}"]
    lines += [
        _compared(row, other[row["name"]])
        for row in ours["rows"]
        if not row["skipped"] and row["name"] in other
    ]
    return lines


def _compared(row: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Format a comparison per clip, as runs may differ in clips per call."""
    here, there = (one["seconds"] / max(one["clips"], 1) for one in (row, other))
    shares = (row["share"], other["share"])
    by_share = f"{shares[0] / shares[1]:.2f}x" if all(shares) else "-"
    return (
        f"{row['name']:34}{duration(here):>10}{duration(there):>10}"
        f"{f'{there / here:.2f}x':>9}{by_share:>10}"
    )


def draw(rows: Iterable[Row], machine: Mapping[str, Any], path: Path) -> None:
    """Plot the shares as bars in a PNG file."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from local.pictures.palette import COMPARED
    from local.scoring.figures import save_figure

    shown = [row for row in rows if row.share is not None and not row.skipped]
    colours = dict(zip(("compute", "memory"), COMPARED, strict=False))
    figure = Figure(figsize=(9, 1.6 + 0.28 * len(shown)), layout="constrained")
    axes = figure.subplots()
    shares = [100 * (row.share or 0.0) for row in shown]
    axes.barh(range(len(shown)), shares, color=[colours[row.bound] for row in shown])
    axes.set_yticks(range(len(shown)), [row.name for row in shown], fontsize="small")
    for place, (row, share) in enumerate(zip(shown, shares, strict=True)):
        text = f" {share:.2g} %, {duration(row.seconds)}"
        axes.text(share, place, text, va="center", fontsize="x-small")
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set(xlabel="share of the machine's peak in the same run, %", title=machine["device"])
    named = {"compute": "float32 GEMM", "memory": "copying of memory"}
    handles = [Patch(color=colours[bound], label=named[bound]) for bound in named]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    axes.grid(axis="x", alpha=0.3)
    save_figure(figure, path)
