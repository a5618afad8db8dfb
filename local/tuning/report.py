"""Report a study: a table of trials, and plots as PNG and HTML."""

from __future__ import annotations

from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from desed_task.atomic_files import write_text_atomic
from desed_task.errors import count_of
from desed_task.file_names import escape_name
from local.tuning.plots import TARGET_NAME, completed_trials, draw_plots
from local.tuning.study import REASON, SharedStudy
from local.tuning.study_log import LOG_FILE, StudyLog, format_value, format_values
from local.tuning.workers.messages import DATA_FACT

TRIALS_FILE = "trials.tsv"
N_SHOWN = 5


def write_report(log: StudyLog, *, quiet: bool = False) -> Path:
    """Print the results; write the table of trials, the plots and best.yaml.

    Args:
        log: the study's log, whose folder is written to.
        quiet: print only that others are still at it.

    Returns:
        The folder of the table and the plots.
    """
    study, folder = log.shared_study, log.report_folder
    lines, written = [""], -1
    # What another tuner of this folder writes in the meantime must not be replaced by older trials.
    while written != (ended := study.n_ended):
        written = ended
        write_text_atomic(folder / TRIALS_FILE, format_trials(study))
        lines, best = format_study(study), study.best
        if best is not None:
            draw_plots(study.study, folder)
            lines.append(f"best configuration: {log.write_best(best)}")
    if quiet:
        of_all = count_of(study.n_trials, "trial")
        lines = [f"{written} of {of_all} ended; another process runs the rest"]
    for line in lines:
        print(line)
    place = escape_name(log.log_dir / LOG_FILE)
    print(f"log: {place}\nplots and table: {escape_name(folder)}", flush=True)
    return folder


def format_study(study: SharedStudy) -> list[str]:
    """Format the number of trials by state, and the best few."""
    trials = study.trials
    counts = {s: sum(t.state == s for t in trials) for s in TrialState}
    named = ", ".join(f"{count} {s.name.lower()}" for s, count in counts.items() if count)
    lines = [f"study {study.study.study_name}: {named or 'no trial yet'}"]
    for trial in sorted(completed_trials(study.study), key=lambda trial: -(trial.value or 0.0))[
        :N_SHOWN
    ]:
        values = format_values(study.space.overrides(trial.params))
        lines.append(f"  {trial.value:.4f}  trial {trial.number}  {values}")
    return lines + data_notes(study)


def data_notes(study: SharedStudy) -> list[str]:
    """A line if trials ran on different data, so that their objectives do not compare."""
    groups: dict[str, list[str]] = {}
    for trial in completed_trials(study.study):
        if DATA_FACT in trial.user_attrs:
            groups.setdefault(trial.user_attrs[DATA_FACT], []).append(str(trial.number))
    if len(groups) < 2:
        return []
    named = "; ".join(f"trials {', '.join(numbers)}" for numbers in groups.values())
    return [
        f"the data changed during the study, so these groups of trials do not compare: {named}; "
        "tune on one state of the data, with another --study_name and --log_dir"
    ]


def format_trials(study: SharedStudy) -> str:
    """Format a tab-separated table: one trial per row with state, value, parameters and reason."""
    paths = [dimension.path for dimension in study.space.dimensions]
    rows = [["trial", "state", TARGET_NAME, *paths, "seconds", "reason"]]
    for trial in study.trials:
        drawn = study.space.overrides(trial.params)
        values = [str(drawn.get(path, "")) for path in paths]
        reason = " ".join(str(trial.user_attrs.get(REASON, "")).split())
        state = trial.state.name.lower()
        rows.append(
            [str(trial.number), state, format_value(trial), *values, _seconds(trial), reason]
        )
    return "".join("\t".join(row) + "\n" for row in rows)


def _seconds(trial: FrozenTrial) -> str:
    return "" if trial.duration is None else f"{trial.duration.total_seconds():.0f}"
