"""What was measured as a table, a JSON file and a picture."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import Machine, Row
from desed_task.errors import InputError
from desed_task.files import atomic_path, write_text_atomic

COLUMNS = ("part", "of", "time", "spread", "GMACs", "GB", "share")


def table(rows: Sequence[Row], before: Mapping[str, float]) -> str:
    """Rows as aligned text, with a column of ratios where there is an earlier run."""
    head = [*COLUMNS, *(["before/now"] if before else [])]
    lines = [head]
    for row in rows:
        cells = [
            row.name,
            row.unit,
            _time(row.median_s),
            f"{row.spread:.0%}",
            f"{row.macs / 1e9:.2f}" if row.macs else "",
            f"{row.n_bytes / 1e9:.4f}" if row.n_bytes else "",
            f"{row.share:.0%} of {row.bound}" if row.share is not None else "",
        ]
        if before:
            earlier = before.get(row.name)
            cells.append(f"{earlier / row.median_s:.2f}" if earlier else "")
        lines.append(cells)
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _time(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def document(rows: Sequence[Row], machine: Machine, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that was measured, as plain values.

    Args:
        rows: of all groups.
        machine: with the rates that were measured.
        facts: of the run: arguments, projection, skipped groups.
    """
    device = machine.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "device": f"{device.type}: {name}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "gemm_flop_per_s": machine.gemm_rates,
        "copy_bytes_per_s": machine.copy_rates,
        **facts,
        "rows": [
            {
                "group": row.group,
                "name": row.name,
                "unit": row.unit,
                "seconds": list(row.seconds),
                "median_s": row.median_s,
                "macs": row.macs,
                "bytes": row.n_bytes,
                "share": row.share,
                "bound": row.bound,
            }
            for row in rows
        ],
    }


def write(path: Path, content: dict[str, Any]) -> None:
    """As JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(path, json.dumps(content, indent=1) + "\n")


def read(path: Path) -> dict[str, float]:
    """Name -> median seconds of an earlier run.

    Raises:
        InputError: if the file is absent or none of ours.
    """
    try:
        content = json.loads(path.read_text())
        return {row["name"]: float(row["median_s"]) for row in content["rows"]}
    except OSError as error:
        raise InputError(f"--compare {path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"--compare {path}: is no result of this benchmark; give a file that --output wrote"
        ) from None


def draw(rows: Sequence[Row], path: Path) -> None:
    """Bars: the share of the machine's rate that each part reaches."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if row.share is not None][::-1]
    figure = Figure(figsize=(8, 1 + 0.32 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    colours = {"GEMM": "tab:blue", "memory": "tab:orange"}
    labels = {"GEMM": "float32 matrix products", "memory": "memory bandwidth"}
    for bound in ("GEMM", "memory"):
        places = [place for place, row in enumerate(shown) if row.bound == bound]
        shares = [100 * (shown[place].share or 0) for place in places]
        bars = axes.barh(places, shares, color=colours[bound], label=f"of {labels[bound]}")
        times = [_time(shown[place].median_s) for place in places]
        axes.bar_label(bars, times, padding=3, fontsize=8)
    axes.set_yticks(range(len(shown)), [f"{row.name} ({row.unit})" for row in shown])
    axes.set_xlabel("share of the machine's rate, %")
    axes.set_xlim(0, max([100.0, *(118 * (row.share or 0) for row in shown)]))
    axes.axvline(100, color="grey", linewidth=0.8)
    axes.legend(loc="lower right")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
