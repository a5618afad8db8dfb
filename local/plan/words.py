"""What is said of a plan: failures, times, results of all stages, energy."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from desed_task.errors import InputError, count_of
from local.checkpoints.run_claims import numbered_runs
from local.plan.folder import StageState
from local.plan.reading import RecipePlan
from local.plan.stages.products import SUMMARY_FOLDER, run_of
from local.scoring.results import RESULTS_FILE
from local.summary.run_folders import energy_of_run
from local.tuning.workers.pool import KILLED

_MOST_LINES = 12
_STUDENT = "test/student/"
_SHOWN_METRICS = 3


def time_text(seconds: float) -> str:
    """`42 s`, `3 min 20 s` or `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def failure_text(status: int, log: Path, start: int) -> str:
    """Why a stage has ended: its own message, or the end of what it printed.

    Args:
        status: its exit status, negative for a signal.
        log: what it printed.
        start: bytes of the log that are older.
    """
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", "replace").splitlines()
    if status < 0:
        name = signal.Signals(-status).name
        return f"ended by {name}{f' ({KILLED})' if -status == signal.SIGKILL else ''}"
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    if errors:
        return "\n".join(lines[errors[-1] :][:_MOST_LINES]).removeprefix("error: ")
    last = [line for line in lines if line.strip()][-3:]
    return f"exit status {status}: {' / '.join(last) or 'it printed nothing'}"


def results_table(plan: RecipePlan, done: Mapping[str, StageState]) -> list[str]:
    """Lines with metrics of the student of each training and test that is done."""
    rows: dict[str, dict[str, float | None]] = {}
    for name, stage in plan.stages.items():
        if stage.spec.kind in ("train", "test") and name in done:
            with suppress(OSError, ValueError, InputError):
                path = run_of(done[name].folder) / RESULTS_FILE
                rows[name] = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    known = dict.fromkeys(key for metrics in rows.values() for key in metrics)
    of_student = [one.removeprefix(_STUDENT) for one in known if one.startswith(_STUDENT)]
    shown = [one for one in plan.metrics if one in of_student] or of_student[:_SHOWN_METRICS]
    if not rows or not shown:
        return []
    notes = [_unknown(one, of_student) for one in plan.metrics if one not in of_student]
    width = max(map(len, (head := "student, test", *rows)))
    lines = [f"{head:<{width}}  {'  '.join(shown)}"]
    for name, metrics in rows.items():
        cells = [_cell(metrics.get(f"{_STUDENT}{one}")).rjust(len(one)) for one in shown]
        lines.append(f"{name:<{width}}  {'  '.join(cells)}")
    return [*lines, *notes]


def _unknown(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, 1, 0.0)[0]
    return f"metrics: no test has {name}; {RESULTS_FILE} names them, such as {near}"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def reports_of(plan: RecipePlan, done: Mapping[str, StageState]) -> list[str]:
    """Lines that say where summaries are."""
    return [
        f"{name}: {done[name].folder / SUMMARY_FOLDER}"
        for name, stage in plan.stages.items()
        if stage.spec.kind == "report" and name in done
    ]


def energy_lines(done: Mapping[str, StageState]) -> list[str]:
    """The energy of all trainings and tests, added up, and tables that cannot be read."""
    total, n_measured, notes = 0.0, 0, []
    for state in done.values():
        found: list[float] = []
        for run in numbered_runs(state.folder):
            try:
                found += energy_of_run(run).values()
            except (InputError, OSError) as error:
                notes.append(f"energy without that of {run}: {error}")
        total += sum(found)
        n_measured += bool(found)
    if not n_measured:
        return notes
    stages = count_of(n_measured, "stage that trains or tests", "stages that train or test")
    return [f"energy of {stages}: {total:.6f} kWh (codecarbon's estimate)", *notes]


def closing_lines(plan: RecipePlan, done: Mapping[str, StageState]) -> list[str]:
    """What is printed at the end: results, summaries, energy."""
    lines = [*results_table(plan, done), *reports_of(plan, done), *energy_lines(done)]
    return ["", *lines] if lines else []
