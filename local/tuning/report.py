"""What a study has found so far: a table, and plots as pictures and as pages to look at."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from desed_task.files import atomic_path, write_text_atomic
from local.tuning.diary import LOG, Diary
from local.tuning.study import REASON, Book

FOLDER = "report"
TRIALS = "trials.tsv"
TARGET = "objective"
N_SHOWN = 5

Plot = Callable[[Study, Any], Any]  # study and Optuna's module of plots -> figure


def _history(study: Study, plots: Any) -> Any:
    return plots.plot_optimization_history(study, target_name=TARGET)


def _importances(study: Study, plots: Any) -> Any:
    return plots.plot_param_importances(study, target_name=TARGET)


def _slices(study: Study, plots: Any) -> Any:
    return plots.plot_slice(study, target_name=TARGET)


PLOTS: dict[str, Plot] = {"history": _history, "importances": _importances, "slices": _slices}


def report(book: Book, diary: Diary) -> Path:
    """Print what was found; write the table of trials, the plots and best.yaml.

    Args:
        book: the study.
        diary: of the folder that it is written into.

    Returns:
        The folder of table and plots.
    """
    folder = diary.log_dir / FOLDER
    write_text_atomic(folder / TRIALS, table(book))
    for line in summary(book):
        print(line)
    best = book.best
    if best is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            draw(book.study, folder)
        print(f"best configuration: {diary.write_best(best)}")
    print(f"log: {diary.log_dir / LOG}\nplots and table: {folder}", flush=True)
    return folder


def summary(book: Book) -> list[str]:
    """How many trials ended how, and the best few."""
    trials = book.trials
    counts = {s: sum(t.state == s for t in trials) for s in TrialState}
    named = ", ".join(f"{count} {s.name.lower()}" for s, count in counts.items() if count)
    lines = [f"study {book.study.study_name}: {named or 'no trial yet'}"]
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    for trial in sorted(done, key=lambda trial: -(trial.value or 0.0))[:N_SHOWN]:
        values = "  ".join(f"{k}={v}" for k, v in book.space.overrides(trial.params).items())
        lines.append(f"  {trial.value:.4f}  trial {trial.number}  {values}")
    return lines


def table(book: Book) -> str:
    """Tab-separated: a row a trial, with its state, value, drawn values and reason."""
    paths = [dimension.path for dimension in book.space.dimensions]
    rows = [["trial", "state", TARGET, *paths, "seconds", "reason"]]
    for trial in book.trials:
        drawn = book.space.overrides(trial.params)
        value = "" if trial.value is None else f"{trial.value:.6f}"
        values = [str(drawn.get(path, "")) for path in paths]
        reason = " ".join(str(trial.user_attrs.get(REASON, "")).split())
        state = trial.state.name.lower()
        rows.append([str(trial.number), state, value, *values, _seconds(trial), reason])
    return "".join("\t".join(row) + "\n" for row in rows)


def _seconds(trial: FrozenTrial) -> str:
    return "" if trial.duration is None else f"{trial.duration.total_seconds():.0f}"


def draw(study: Study, folder: Path) -> None:
    """Draw what can be drawn of a study into NAME.png and NAME.html.

    Importances need two complete trials with different values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    matplotlib.use("Agg")
    from matplotlib import pyplot  # after the choice of where to draw

    done = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    several = len({trial.value for trial in done}) > 1
    for name, plot in PLOTS.items():
        if name == "importances" and not several:
            continue
        axes = plot(study, optuna.visualization.matplotlib)
        figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
        with atomic_path(folder / f"{name}.png") as picture:
            figure.savefig(picture, bbox_inches="tight", dpi=120)
        pyplot.close(figure)
        with atomic_path(folder / f"{name}.html") as page:
            # One copy of plotly's script for all pages, so that they open without a network.
            plot(study, optuna.visualization).write_html(page, include_plotlyjs="directory")
