"""Write results.json with every test metric, and format it as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from desed_task.atomic_files import write_json_atomic, write_text_atomic
from desed_task.errors import agree, count_of
from desed_task.file_names import escape_name
from desed_task.mean_teacher import ROLES
from local.cli.versions import versions
from local.scoring.conditions import (
    COMPUTED_BY,
    DEFINED_BY,
    DEFINITIONS,
    GROUPS,
    TUNED_ON,
    definition_of,
)
from local.scoring.own.criteria import OWN, is_oracle, is_own
from local.scoring.report import CorpusMetrics

RESULTS_FILE = "results.json"
PER_CLASS_FILE = "per_class.tsv"
# What each is called in the names of energies and of their files.
ENERGY_STAGES = ("training", "test", "eval")
# What --verify_metrics adds to results.json (`local.scoring.verification`).
VERIFICATION = "verification"
ORACLE_NOTE = (
    "oracle, thresopt: thresholds chosen on the clips that are scored; an upper bound, not a result"
)
TUNED_NOTE = (
    "oracle: the decoder was tuned on the test set, which is scored here; no metric of this test "
    "is a result to report"
)
# Of more classes that are not scored, a few are listed.
_MOST_LISTED, _FEW = 40, 10
# Network of the picture of a clip, and the picture's name without its ending.
TIMELINE_ROLE, TIMELINE = "student", "timeline"
# Folder of the error report of that network, and its page (`local.error_report`).
ERROR_REPORT, INDEX_FILE = "error_report", "index.html"


def write_results(
    folder: Path,
    reports: Mapping[str, Sequence[CorpusMetrics]],
    *,
    missing: Mapping[str, Sequence[str]],
    missing_recordings: Mapping[str, Sequence[str]],
    left_out: Mapping[str, Sequence[str]],
    checkpoint: str,
    conditions: Mapping[str, Any],
) -> None:
    """Write results.json and metrics_test/per_class.tsv into a run folder.

    results.json contains nothing that differs between equal runs (times, paths, energy).

    Args:
        folder: the run folder.
        reports: role -> reports of what is scored.
        missing: corpus -> listed clips that are not on disk.
        missing_recordings: corpus -> expected recordings without any clip.
        left_out: corpus -> listed clips without events that were not used.
        checkpoint: file name of the tested checkpoint.
        conditions: what was scored, on what and with which settings (see
            `local.scoring.conditions`); further keys of results.json.
    """
    every = [report for role in ROLES for report in reports[role]]
    # The same clips for both networks, and for each kind of scores of a corpus.
    scored = {report.part.corpus.name: report for report in reports[ROLES[0]]}
    content = {
        "metrics": {name: _number(v) for report in every for name, v in report.metrics.items()},
        "per_class": {
            name: {label: _number(value) for label, value in values.items()}
            for report in every
            for name, values in report.per_class.items()
        },
        "not_scored": sorted({label for report in every for label in report.not_scored}),
        "clips": {name: report.n_clips for name, report in scored.items()},
        "unscored_clips": {name: report.unscored_clips for name, report in scored.items()},
        "missing": _named(missing),
        "missing_recordings": _named(missing_recordings),
        "left_out": _named(left_out),
        "checkpoint": checkpoint,
        **conditions,
        **({GROUPS: groups} if (groups := _groups(reports)) else {}),
        "computed_by": COMPUTED_BY,
        DEFINITIONS: DEFINED_BY,
        "versions": versions(),
    }
    write_text_atomic(
        folder / "metrics_test" / PER_CLASS_FILE, format_per_class(content["per_class"])
    )
    # Last, as its existence marks the test as finished.
    write_json_atomic(folder / RESULTS_FILE, content)


def _groups(reports: Mapping[str, Sequence[CorpusMetrics]]) -> dict[str, Any]:
    """The groups of clips, which are the same for both networks."""
    return {key: value for one in reports[ROLES[0]] for key, value in one.groups.items()}


def _named(absent: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {corpus: sorted(names) for corpus, names in absent.items() if names}


def _number(value: float | None) -> float | None:
    # JSON has no NaN; undefined values are null.
    return None if value is None or math.isnan(value) else float(value)


def emissions_file(run_folder: Path, stage: str) -> Path:
    """codecarbon's table of a stage (training, test or eval) in a run folder."""
    return run_folder / "codecarbon" / f"emissions_baseline_{stage}.csv"


def print_results(folder: Path) -> None:
    """Print the table of a finished run, and where its picture of a clip is."""
    content = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
    print(format_results(content))
    picture = folder / "metrics_test" / TIMELINE_ROLE / f"{TIMELINE}.png"
    if picture.is_file():
        print(f"scores, detected and annotated events of a clip: {escape_name(picture)}")
    report = error_report_folder(folder, TIMELINE_ROLE) / INDEX_FILE
    if report.is_file():
        print(f"what was missed, false and confused, and the worst clips: {escape_name(report)}")


def error_report_folder(run_folder: Path, role: str) -> Path:
    """Folder of a network's error report in a run folder."""
    return run_folder / (ERROR_REPORT if role == TIMELINE_ROLE else f"{ERROR_REPORT}_{role}")


def _some(labels: Sequence[str]) -> str:
    """Class names; of a task with hundreds of classes, the first few."""
    if len(labels) <= _MOST_LISTED:
        return ", ".join(labels)
    return f"{', '.join(labels[:_FEW])} and {len(labels) - _FEW} more, see {RESULTS_FILE}"


def format_results(content: Mapping[str, Any]) -> str:
    """Format results.json as a table: metric, student, teacher."""
    rows: dict[str, dict[str, float | None]] = {}
    for name, value in content["metrics"].items():
        _, role, metric = name.split("/", 2)
        rows.setdefault(metric, {})[role] = value
    width = max(len(metric) for metric in rows)
    published = {metric: values for metric, values in rows.items() if not is_own(metric)}
    own = {metric: values for metric, values in rows.items() if is_own(metric)}
    lines = _table("test", published, width) if published else []
    if own:
        version = content.get(DEFINITIONS, {}).get(OWN)
        lines += [
            *([""] if lines else []),
            *_table(f"further, definitions {version}", own, width),
            "",
        ]
    if any(map(is_oracle, rows)):
        lines.append(ORACLE_NOTE)
    if TUNED_ON in content:
        lines.append(TUNED_NOTE)
    lines.append(f"clips: {', '.join(f'{n} {corpus}' for corpus, n in content['clips'].items())}")
    if content["not_scored"]:
        lines.append(f"not scored, no event in the truth: {_some(content['not_scored'])}")
    for corpus, count in content["unscored_clips"].items():
        if count:
            lines.append(f"{corpus}: listed clips that were not scored: {count}")
    for corpus, names in content["missing"].items():
        lines.append(f"{corpus}: listed clips not on disk: {len(names)}, see {RESULTS_FILE}")
    for corpus, names in content.get("missing_recordings", {}).items():
        lines.append(f"{corpus}: recordings not on disk: {len(names)}, see {RESULTS_FILE}")
    for corpus, names in content.get("left_out", {}).items():
        lines.append(f"{corpus}: clips without events, left out: {len(names)}, see {RESULTS_FILE}")
    if GROUPS in content:
        lines += _format_groups(content[GROUPS])
    lines.append(f"sed_scores_eval {definition_of(content, 'sed_scores_eval')}")
    if VERIFICATION in content:
        lines += _format_verification(content[VERIFICATION])
    return "\n".join(lines)


def _table(title: str, rows: Mapping[str, Mapping[str, float | None]], width: int) -> list[str]:
    return [f"{title:<{width}}  {'student':>8}  {'teacher':>8}"] + [
        f"{metric:<{width}}  {_cell(values.get('student')):>8}  {_cell(values.get('teacher')):>8}"
        for metric, values in rows.items()
    ]


def _format_groups(found: Mapping[str, Any]) -> list[str]:
    """How many clips are in which group, and which groups have no PSDS."""
    sizes = ", ".join(f"{escape_name(value)} {n}" for value, n in found["clips"].items())
    lines = [f"clips by {escape_name(found['column'])}: {sizes}"]
    if found["clips_in_no_group"]:
        lines[0] += f"; in no group: {found['clips_in_no_group']}"
    for value, labels in found["left_out"].items():
        lines.append(
            f"no PSDS of {escape_name(found['column'])}={escape_name(value)}: no event of "
            f"{', '.join(labels)}"
        )
    return lines


def _format_verification(found: Mapping[str, Any]) -> list[str]:
    """Whether the metrics are those of the package itself."""
    package, tolerance = found["package"], found["tolerance"]
    if "error" in found:
        return [f"not verified: {package} failed: {found['error']}"]
    n_figures, differing = found["figures"], found["differing"]
    if not differing:
        return [
            f"verified: {count_of(n_figures, 'figure equals', 'figures equal')} those of "
            f"{package} to {tolerance:g}"
        ]
    lines = [
        f"{name}: reported {_exact(both['reported'])}, {package} {_exact(both['sed_scores_eval'])}"
        for name, both in differing.items()
    ]
    return [
        *lines,
        f"NOT EQUAL: {len(differing)} of {count_of(n_figures, 'figure')} "
        f"{agree(len(differing), 'differs', 'differ')} from those of {package} by more than "
        f"{tolerance:g}; please report it with {RESULTS_FILE}",
    ]


def _exact(value: float | None) -> str:
    return "no value" if value is None else f"{value:.12g}"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def format_per_class(per_class: Mapping[str, Mapping[str, float | None]]) -> str:
    """Tab-separated rows of metric, class and value, which is empty if undefined."""
    lines = ["metric\tevent_label\tvalue"]
    lines += [
        f"{name}\t{label}\t{'' if value is None else f'{value:.6f}'}"
        for name, values in per_class.items()
        for label, value in values.items()
    ]
    return "\n".join(lines) + "\n"
