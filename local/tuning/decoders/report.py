"""Report a comparison of decoders: printed, as TSV and JSON, and as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from desed_task.atomic_files import atomic_path, write_text_atomic
from desed_task.errors import count_of
from local.pictures import palette
from local.summary.bootstrap import CONFIDENCE_LEVEL
from local.tuning.decoders.candidates import name_of
from local.tuning.decoders.comparison import ORACLE, Comparison, plain
from local.tuning.decoders.figures import NAMES
from local.tuning.decoders.flags import CANDIDATES_FILE, JSON_FILE, PICTURE_FILE, TABLE_FILE

TITLES: Final = {
    "psds1": "PSDS1",
    "psds2": "PSDS2",
    "collar_f1": "collar F1",
    "intersection_f1": "intersection F1",
    "collar_f1_tuned": "collar F1, tuned thresholds",
    "intersection_f1_tuned": "intersection F1, tuned thresholds",
    "mpauc": "mean pAUC",
}
DPI: Final = 110


def write_comparison(comparison: Comparison, folder: Path, about: Mapping[str, Any]) -> None:
    """Print the comparison, and write its table, JSON and picture.

    Args:
        comparison: what is compared.
        folder: receives the files.
        about: what else the JSON tells.
    """
    print("\n".join(format_comparison_rows(comparison)))
    write_text_atomic(folder / TABLE_FILE, _table(comparison))
    content = {**about, **_content(comparison)}
    write_text_atomic(folder / JSON_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    with atomic_path(folder / PICTURE_FILE) as temporary:
        draw_comparison(comparison).savefig(temporary, format="png", dpi=DPI)


def shown_names(comparison: Comparison) -> list[str]:
    """The figures that any row has."""
    return [name for name in NAMES if any(name in row.figures.values for row in comparison.rows)]


def format_comparison_rows(comparison: Comparison) -> list[str]:
    """The figures on the test set, one line per decoder and way of tuning."""
    names = shown_names(comparison)
    lines = ["", f"teacher on {comparison.title}, by where the parameters come from"]
    for name in names:
        lines.append(f"{TITLES[name]}:")
        for number, row in enumerate(comparison.rows):
            value = row.figures.values.get(name)
            if value is None or math.isnan(value):
                continue
            ends = comparison.interval(number, name)
            told = "" if ends is None or math.isnan(ends[0]) else f"  ({ends[0]:.4f}-{ends[1]:.4f})"
            lines.append(f"  {row.system:<16} {row.tuned:<16} {value:.4f}{told}")
    for row, name, found in comparison.differences():
        lines.append(
            f"{row.system} - median, {row.tuned}, {TITLES[name]}: {found['value']:+.4f} "
            f"({found['low']:+.4f} to {found['high']:+.4f})"
        )
    if comparison.resampled:
        lines.append(
            f"in parentheses: {100 * CONFIDENCE_LEVEL:g} % intervals over "
            f"{count_of(comparison.n_resamples, 'resample')} of the clips, parameters fixed"
        )
    lines.append(f"{ORACLE}: tuned on the clips that are scored; not a result to report")
    lines += [note for row in comparison.rows for note in row.notes]
    return lines


def _table(comparison: Comparison) -> str:
    rows = ["\t".join(["decoder", "tuned", "metric", "value", "low", "high"])]
    for number, row in enumerate(comparison.rows):
        for name, value in row.figures.values.items():
            ends = comparison.interval(number, name) or (float("nan"), float("nan"))
            numbers = ("" if math.isnan(one) else f"{one:.6f}" for one in (value, *ends))
            rows.append("\t".join([row.system, row.tuned, name, *numbers]))
    for row, name, found in comparison.differences():
        numbers = (f"{found[key]:.6f}" for key in ("value", "low", "high"))
        rows.append("\t".join([f"{row.system} - median", row.tuned, name, *numbers]))
    return "\n".join(rows) + "\n"


def _content(comparison: Comparison) -> dict[str, Any]:
    rows = []
    for number, row in enumerate(comparison.rows):
        intervals = {name: comparison.interval(number, name) for name in row.figures.values}
        parameters = [
            {
                "candidates": {label: name_of(one) for label, one in fit.chosen.items()},
                "median_filter": list(fit.config.net.median_filter),
                "thresholds": dict(fit.thresholds),
                "notes": list(fit.notes),
            }
            for fit in row.fits
        ]
        rows.append(
            {
                "decoder": row.system,
                "tuned": row.tuned,
                "oracle": row.tuned == ORACLE,
                "values": {name: plain(value) for name, value in row.figures.values.items()},
                "intervals": {
                    name: [plain(end) for end in ends]
                    for name, ends in intervals.items()
                    if ends is not None
                },
                "psds1_per_class": row.figures.per_class,
                "fits": parameters,
            }
        )
    differences = [
        {
            "decoder": row.system,
            "less": "median",
            "tuned": row.tuned,
            "metric": name,
            **{key: plain(value) for key, value in found.items()},
        }
        for row, name, found in comparison.differences()
    ]
    return {
        "set": "" if comparison.corpus is None else comparison.corpus.name,
        "network": "teacher",
        "folds": comparison.n_folds,
        "resamples": comparison.n_resamples,
        "rows": rows,
        "differences": differences,
    }


def draw_comparison(comparison: Comparison) -> Figure:
    """One panel per figure: a mark per decoder and way of tuning; oracles are hollow."""
    names = shown_names(comparison)
    rows = comparison.rows
    systems = list(dict.fromkeys(row.system for row in rows))
    size = (2.0 + 2.3 * len(names), 1.2 + 0.34 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for name, axes in zip(names, panels, strict=True):
        for number, row in enumerate(rows):
            value = row.figures.values.get(name, math.nan)
            style = palette.line_style(systems.index(row.system))
            face = "white" if row.tuned == ORACLE else style["color"]
            axes.plot(value, number, "o", color=style["color"], markerfacecolor=face)
            ends = comparison.interval(number, name)
            if ends is not None and not math.isnan(ends[0]):
                axes.plot(ends, (number, number), color=style["color"], alpha=0.7)
        axes.set_title(TITLES[name].replace(", ", ",\n"), fontsize="small")
        axes.tick_params(labelsize="x-small")
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(
        range(len(rows)), [", ".join(filter(None, (row.system, row.tuned))) for row in rows]
    )
    panels[0].invert_yaxis()
    told = f"hollow: {ORACLE}, tuned on the clips that are scored"
    if comparison.resampled:
        told = f"lines: {100 * CONFIDENCE_LEVEL:g} % intervals over clips; {told}"
    figure.supxlabel(f"teacher on {comparison.title}; {told}", fontsize="small")
    return figure


def write_candidates(values: Mapping[str, Mapping[Any, float]], folder: Path) -> None:
    """Write the PSDS1 of each candidate for its class alone, on what it was tuned on.

    Args:
        values: class -> candidate -> value.
        folder: receives the table.
    """
    rows = ["event_label\tmetric\tcandidate\tvalue"]
    for label, of in values.items():
        rows += [f"{label}\tpsds1\t{name_of(one)}\t{value:.6f}" for one, value in of.items()]
    write_text_atomic(folder / CANDIDATES_FILE, "\n".join(rows) + "\n")
