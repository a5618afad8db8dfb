"""Summarise run folders on the terminal and on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from desed_task.atomic_files import write_json_atomic, write_text_atomic
from desed_task.errors import InputError
from local.config import RecipeConfig
from local.scoring import figures
from local.summary import figures as summary_figures
from local.summary import report
from local.summary.comparable import check_comparable, without_repetitions
from local.summary.own.completed import completed
from local.summary.run_folders import FinishedRun, open_run
from local.summary.summary import RunSummary, summarize
from local.summary.systems import SystemRuns

TEXT_FILE = "summary.md"
JSON_FILE = "summary.json"
METRICS_FILE = "metrics.png"
CLASSES_FILE = "classes.png"
FILES = (TEXT_FILE, METRICS_FILE, CLASSES_FILE, JSON_FILE)


def summarize_folders(
    folders: Sequence[str],
    against: Sequence[str],
    *,
    config: RecipeConfig | None,
    n_resamples: int,
    seed: int,
) -> RunSummary:
    """Read runs, check that they are comparable, and summarise them.

    Args:
        folders: runs of system A.
        against: runs of system B; may be empty.
        config: gives the paths of the test's tables, if they differ from the runs' configurations.
        n_resamples: number of bootstrap resamples.
        seed: seed of the resamples.

    Raises:
        InputError: with all problems of the folders.
    """
    runs = _open([*folders, *against])
    given = [part for part in (runs[: len(folders)], runs[len(folders) :]) if part]
    notes = check_comparable(*given)
    runs, more = completed(runs)
    notes += more
    given = [part for part in (runs[: len(folders)], runs[len(folders) :]) if part]
    systems = []
    for name, part in zip("AB", given, strict=False):
        kept, repeated = without_repetitions(part)
        systems.append(SystemRuns(name, tuple(kept)))
        notes += repeated
    return summarize(systems, config=config, n_resamples=n_resamples, seed=seed, notes=notes)


def _open(folders: Sequence[str]) -> list[FinishedRun]:
    runs, problems = [], []
    for folder in folders:
        try:
            runs.append(open_run(Path(folder)))
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError.collect(problems, "these runs cannot be summarised:")
    return runs


def write_summary(summary: RunSummary, folder: Path) -> None:
    """Write summary.md, two figures and, last, summary.json, each atomically."""
    write_text_atomic(folder / TEXT_FILE, report.format_summary(summary))
    figures.save_figure(summary_figures.metrics_figure(summary), folder / METRICS_FILE)
    figures.save_figure(summary_figures.classes_figure(summary), folder / CLASSES_FILE)
    write_json_atomic(folder / JSON_FILE, report.as_json(summary))
