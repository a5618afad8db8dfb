"""What a study has found so far: a table, and plots as pictures and as pages to look at."""

from __future__ import annotations

from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from desed_task.atomic_files import write_text_atomic
from local.tuning.plots import TARGET, complete, draw
from local.tuning.study import REASON, Book
from local.tuning.study_log import LOG, Diary, value_text, values_text

TRIALS = "trials.tsv"
N_SHOWN = 5


def report(diary: Diary) -> Path:
    """Print what was found; write the table of trials, the plots and best.yaml.

    Args:
        diary: of the study and the folder that it is written into.

    Returns:
        The folder of table and plots.
    """
    book, folder = diary.book, diary.report_folder
    write_text_atomic(folder / TRIALS, table(book))
    for line in summary(book):
        print(line)
    best = book.best
    if best is not None:
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
    for trial in sorted(complete(book.study), key=lambda trial: -(trial.value or 0.0))[:N_SHOWN]:
        values = values_text(book.space.overrides(trial.params))
        lines.append(f"  {trial.value:.4f}  trial {trial.number}  {values}")
    return lines


def table(book: Book) -> str:
    """Tab-separated: a row a trial, with its state, value, drawn values and reason."""
    paths = [dimension.path for dimension in book.space.dimensions]
    rows = [["trial", "state", TARGET, *paths, "seconds", "reason"]]
    for trial in book.trials:
        drawn = book.space.overrides(trial.params)
        values = [str(drawn.get(path, "")) for path in paths]
        reason = " ".join(str(trial.user_attrs.get(REASON, "")).split())
        state = trial.state.name.lower()
        rows.append([str(trial.number), state, value_text(trial), *values, _seconds(trial), reason])
    return "".join("\t".join(row) + "\n" for row in rows)


def _seconds(trial: FrozenTrial) -> str:
    return "" if trial.duration is None else f"{trial.duration.total_seconds():.0f}"
