"""Plot a summary: metrics with intervals, and single classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from desed_task.errors import count_of
from desed_task.mean_teacher import ROLES
from local.pictures import palette
from local.pictures.labels import LONGEST_OF_PANEL, short_label
from local.scoring.own.criteria import is_share
from local.summary.bootstrap import CONFIDENCE_LEVEL
from local.summary.resampled_metrics import unit_of
from local.summary.run_folders import MAIN_METRICS
from local.summary.summary import RunSummary
from local.summary.systems import Spread, SystemRuns

# The per-class metric that is shown of each kind of scores.
CLASS_METRICS = {
    MAIN_METRICS["events"][0]: "PSDS1, psds_eval",
    MAIN_METRICS["segments"][0]: "partial AUC of segments",
    MAIN_METRICS["tags"][1]: "average precision of tags",
}
# Rows are one unit high; systems are this far from the row's centre.
OFFSET = 0.17
ROW_INCH = 0.38
# Longest name of a run in a legend, which must not be wider than the figure.
MAX_LETTERS = 40


def metrics_figure(summary: RunSummary) -> Figure:
    """Plot all metrics: means over runs with intervals over clips, and single runs."""
    shares = filter(is_share, summary.systems[0].metrics)
    names = list(dict.fromkeys(name.split("/", 2)[2] for name in shares))
    figure = Figure(figsize=(11, 1.6 + ROW_INCH * len(names)), layout="constrained")
    panels = figure.subplots(1, len(ROLES), sharey=True)
    for axes, role in zip(panels, ROLES, strict=True):
        for number, system in enumerate(summary.systems):
            spreads = [system.metrics[f"test/{role}/{name}"] for name in names]
            intervals = summary.intervals.get(system.name, {})
            _draw(axes, _places(len(names), number, summary), spreads, number)
            for place, name in zip(_places(len(names), number, summary), names, strict=True):
                bounds = intervals.get(f"test/{role}/{name}")
                if bounds is not None and not math.isnan(bounds.low):
                    axes.plot(
                        bounds,
                        (place, place),
                        color=palette.COMPARED[number],
                        linewidth=2,
                        alpha=0.7,
                    )
        _finish(axes, [name.replace("_macro", "") for name in names], role)
    drawn = bool(summary.resampled.n_units)
    level = f"{100 * CONFIDENCE_LEVEL:g} % interval over {_drawn_units(summary)}"
    _explain(figure, summary, level if drawn else None)
    return figure


def _drawn_units(summary: RunSummary) -> str:
    units = {part: unit_of(part) for part in summary.resampled.n_units}
    if len({*units.values()}) == 1:
        return f"{next(iter(units.values()))}s"
    whole = [part.corpus.title for part, unit in units.items() if unit == "recording"]
    return f"clips ({', '.join(whole)}: recordings)"


def classes_figure(summary: RunSummary) -> Figure:
    """Plot the means of all classes over runs, with their deviation."""
    first = summary.systems[0].per_class
    labels = {
        metric: [
            label
            for label, spread in first[f"test/{ROLES[0]}/{metric}"].items()
            if spread.mean is not None
        ]
        for metric in CLASS_METRICS
        if f"test/{ROLES[0]}/{metric}" in first
    }
    heights = [len(of) + 1.5 for of in labels.values()]
    figure = Figure(figsize=(11, 1 + ROW_INCH * sum(heights)), layout="constrained")
    panels = figure.subplots(
        len(labels), len(ROLES), sharey="row", height_ratios=heights, squeeze=False
    )
    for row, (metric, of) in zip(panels, labels.items(), strict=True):
        for axes, role in zip(row, ROLES, strict=True):
            for number, system in enumerate(summary.systems):
                values = system.per_class[f"test/{role}/{metric}"]
                spreads = [values[label] for label in of]
                _draw(axes, _places(len(of), number, summary), spreads, number, deviation=True)
            _finish(
                axes,
                [short_label(one, LONGEST_OF_PANEL) for one in of],
                f"{CLASS_METRICS[metric]}: {role}",
            )
    several = any(len(system.runs) > 1 for system in summary.systems)
    _explain(figure, summary, "standard deviation over runs" if several else None)
    return figure


def _places(n_rows: int, number: int, summary: RunSummary) -> list[float]:
    """Vertical positions of a system's rows, the first row on top."""
    offset = OFFSET * (1 - 2 * number) if len(summary.systems) > 1 else 0.0
    return [n_rows - 1 - row + offset for row in range(n_rows)]


def _draw(
    axes: Axes,
    places: Sequence[float],
    spreads: Sequence[Spread],
    number: int,
    *,
    deviation: bool = False,
) -> None:
    """Plot means as dots and single runs as ticks."""
    colour = palette.COMPARED[number]
    for place, spread in zip(places, spreads, strict=True):
        if spread.mean is None:
            continue
        if len(spread.values) > 1:
            axes.plot(spread.values, [place] * len(spread.values), "|", color=colour, ms=7, mew=1)
        if deviation and spread.deviation is not None:
            ends = np.array([spread.mean - spread.deviation, spread.mean + spread.deviation])
            axes.plot(ends, (place, place), color=colour, linewidth=2, alpha=0.7)
        axes.plot(spread.mean, place, "o" if number == 0 else "s", color=colour, ms=5, zorder=3)


def _finish(axes: Axes, names: Sequence[str], title: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.6, len(names) - 0.4), title=title)
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    for between in range(1, len(names)):
        axes.axhline(between - 0.5, color="grey", linewidth=0.4, alpha=0.4)


def _explain(figure: Figure, summary: RunSummary, line: str | None) -> None:
    """Add a legend below for systems and lines."""
    keys = [
        Line2D(
            [],
            [],
            color=palette.COMPARED[number],
            marker="os"[number],
            linestyle="",
            label=_told(system),
        )
        for number, system in enumerate(summary.systems)
    ]
    if any(len(system.runs) > 1 for system in summary.systems):
        keys.append(Line2D([], [], color="grey", marker="|", linestyle="", label="single run"))
    if line is not None:
        keys.append(Line2D([], [], color="grey", linewidth=2, label=line))
    figure.legend(handles=keys, loc="outside lower center", ncols=2, frameon=False)


def _told(system: SystemRuns) -> str:
    """Name a system's runs briefly; the texts list them."""
    first = system.runs[0].folder.absolute()
    if len(system.runs) == 1:
        name = f"{first.parent.name}/{first.name}"
    else:
        name = f"{first.parent.name}, {count_of(len(system.runs), 'run')}"
    return f"{system.name}: {name if len(name) <= MAX_LETTERS else f'...{name[-MAX_LETTERS:]}'}"
