"""Plot a study, and the values of median filter lengths."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from optuna.exceptions import ExperimentalWarning
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from desed_task.atomic_files import atomic_path
from local.pictures import palette
from local.pictures.labels import short_label
from local.pictures.log_axes import label_log_axis

TARGET_NAME = "objective"
DPI = 120
SLICES_PER_ROW = 6

CURVES_DPI = 110
PANELS_PER_ROW = 6
CURVE_MARKS = {"before": (palette.OTHER, "o"), "chosen": (palette.CHOSEN, "D")}


def completed_trials(study: Study) -> list[FrozenTrial]:
    """Trials with an objective, oldest first."""
    return [trial for trial in study.trials if trial.state == TrialState.COMPLETE]


def draw_plots(study: Study, folder: Path) -> list[str]:
    """Write the plots of a study to NAME.png and NAME.html.

    Args:
        study: a study with at least one complete trial.
        folder: output folder; created if missing.

    Returns:
        Names of the plots; importances need two trials with different values.
    """
    done = completed_trials(study)
    drawn: dict[str, tuple[Figure, Callable[..., Any]]] = {
        "history": (plot_history(done), optuna.visualization.plot_optimization_history),
        "slices": (plot_slices(done), optuna.visualization.plot_slice),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if len({trial.value for trial in done}) > 1:
            found = optuna.importance.get_param_importances(study)
            page = optuna.visualization.plot_param_importances
            drawn["importances"] = (plot_importances(found), page)
        for name, (figure, on_page) in drawn.items():
            with atomic_path(folder / f"{name}.png") as picture:
                save_plot(figure, picture, bbox_inches="tight", dpi=DPI)
            with atomic_path(folder / f"{name}.html") as file:
                # One copy of plotly's script for all pages, which open without a network.
                on_page(study, target_name=TARGET_NAME).write_html(
                    file, include_plotlyjs="directory"
                )
    return list(drawn)


def save_plot(figure: Figure, path: Path, **how: Any) -> None:
    """Save a plot; names of classes are no formulas, and boxes stand for what the font lacks."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(path, format="png", **how)


def plot_history(trials: Sequence[FrozenTrial]) -> Figure:
    """Objective of each trial and the best so far."""
    figure = Figure(figsize=(8, 4.5))
    axes = figure.subplots()
    numbers = [trial.number for trial in trials]
    values = [float(trial.value or 0.0) for trial in trials]
    axes.plot(numbers, values, "o", color=palette.COMPARED[0], label="trial")
    best = np.maximum.accumulate(values)
    axes.step(numbers, best, where="post", color=palette.CHOSEN, label="best so far")
    axes.set(xlabel="trial", ylabel=TARGET_NAME)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    return figure


def plot_importances(found: dict[str, float]) -> Figure:
    """Share of the variance that each hyperparameter explains, the largest on top."""
    figure = Figure(figsize=(8, 1 + 0.3 * len(found)))
    axes = figure.subplots()
    paths = list(found)[::-1]
    bars = axes.barh(paths, [found[path] for path in paths], color=palette.COMPARED[0])
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set(xlabel=f"importance for the {TARGET_NAME}")
    axes.margins(x=0.1)
    return figure


def plot_slices(trials: Sequence[FrozenTrial]) -> Figure:
    """Objective over each drawn hyperparameter, one panel per hyperparameter."""
    paths = sorted({path for trial in trials for path in trial.params})
    columns = min(SLICES_PER_ROW, len(paths))
    rows = math.ceil(len(paths) / columns)
    figure = Figure(figsize=(2.8 * columns, 2.8 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for path, axes in zip(paths, panels, strict=False):
        _slice(axes, path, [trial for trial in trials if path in trial.params])
    for axes in panels[len(paths) :]:
        axes.set_axis_off()
    figure.supylabel(TARGET_NAME)
    return figure


def _slice(axes: Axes, path: str, trials: Sequence[FrozenTrial]) -> None:
    drawn = trials[0].distributions[path]
    values: list[Any] = [trial.params[path] for trial in trials]
    if isinstance(drawn, optuna.distributions.CategoricalDistribution):
        axes.set_xticks(range(len(drawn.choices)), [str(choice) for choice in drawn.choices])
        values = [drawn.choices.index(value) for value in values]
    elif drawn.log:
        axes.set_xscale("log")
        label_log_axis(axes.xaxis, min(values), max(values))
    ages = [trial.number for trial in trials]
    axes.scatter(
        values, [trial.value for trial in trials], c=ages, cmap=palette.AGES, edgecolors="grey"
    )
    axes.set_title(short_label(path), fontsize="small")


def plot_median_curves(
    values: Mapping[str, Mapping[int, float]],
    segment_labels: Collection[str],
    marked: Mapping[str, Mapping[str, int]],
) -> Figure:
    """One panel per class: PSDS1 of events or partial AUC of segments over the length in frames.

    The chosen length of a class may differ from its peak: PSDS1 also penalises the deviation
    between classes.

    Args:
        values: class -> length -> value.
        segment_labels: classes whose value is a partial AUC.
        marked: "before" and "chosen" -> class -> length.
    """
    columns = min(PANELS_PER_ROW, len(values))
    rows = math.ceil(len(values) / columns)
    figure = Figure(figsize=(2.4 * columns, 0.6 + 2.1 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for (label, of), axes in zip(values.items(), panels, strict=False):
        axes.plot(list(of), list(of.values()), color=palette.COMPARED[0], linewidth=1.2)
        for name, (colour, marker) in CURVE_MARKS.items():
            length = marked[name][label]
            if length in of:
                axes.plot(length, of[length], marker, color=colour, label=name)
        axes.set_title(short_label(label), fontsize="small")
        axes.set_ylabel("partial AUC" if label in segment_labels else "PSDS1", fontsize="x-small")
        axes.tick_params(labelsize="x-small")
        axes.margins(y=0.2)
    for axes in panels[len(values) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize="small")
    figure.supxlabel("length of the median filter, frames", fontsize="small")
    return figure
