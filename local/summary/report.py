"""Format a summary of runs as Markdown, readable on a terminal, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from desed_task.errors import count_of
from desed_task.file_names import escape_name, printable
from desed_task.mean_teacher import ROLES
from local.scoring import results
from local.scoring.metrics import HIT_ONLY
from local.scoring.own.criteria import is_own, is_share
from local.summary.bootstrap import CONFIDENCE_LEVEL
from local.summary.own.completed import PUBLISHED_KWH
from local.summary.resampled_metrics import unit_of
from local.summary.run_folders import MAIN_METRICS
from local.summary.summary import Difference, Interval, RunSummary
from local.summary.systems import Spread, SystemRuns

_NAMES = [name for of in MAIN_METRICS.values() for name in of]
# Results of the published baseline on the challenge's data (docs/metrics.md): mean and deviation of
# the first three.
PUBLISHED_METRICS = dict(zip(_NAMES, ((0.48, 0.003), (0.49, 0.004), (0.73, 0.007)), strict=False))
# Out of 1,168; the others have no event and are left out.
PUBLISHED_CLIPS = 1153
_HEADS = (
    *("PSDS1, `psds_eval`", "PSDS1, `sed_scores_eval`", "mean pAUC of segments"),
    *("macro F1 of tags", "mean AP of tags"),
)
MAIN_METRIC_HEADS = dict(zip(_NAMES, _HEADS, strict=True))
STAGE_NAMES = {"training": "training", "test": "test", "eval": "evaluation"}
EMPTY_CELL = "-"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> str:
    """Format a Markdown table, padded to be readable as plain text.

    Args:
        head: heading of each column.
        rows: cells; bars are escaped, and other characters as in `escape_name`.
        words: left-aligned columns; the others, of numbers, are right-aligned.
    """
    lines = [[_in_cell(text) for text in line] for line in (head, *rows)]
    width = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rule = ["-" * size if n < words else "-" * (size - 1) + ":" for n, size in enumerate(width)]
    lines.insert(1, rule)
    return "\n".join(f"| {' | '.join(_padded(line, width, words))} |" for line in lines)


def _in_cell(text: str) -> str:
    """Text, e.g. a path, without what would end its cell or its row."""
    return escape_name(text).replace("|", r"\|")


def _padded(cells: Sequence[str], width: Sequence[int], words: int) -> list[str]:
    sized = zip(cells, width, strict=True)
    return [c.ljust(size) if n < words else c.rjust(size) for n, (c, size) in enumerate(sized)]


def format_spread(spread: Spread | None, digits: int = 3) -> str:
    """Format mean and deviation: 0.481 ± 0.003."""
    if spread is None or spread.mean is None:
        return EMPTY_CELL
    if spread.deviation is None:
        return f"{spread.mean:.{digits}f}"
    return f"{spread.mean:.{digits}f} ± {spread.deviation:.{digits}f}"


def _format_kwh(spread: Spread | None) -> str:
    """Format mean and deviation with enough decimals for three digits of a small value."""
    mean = None if spread is None else spread.mean
    return format_spread(spread, _kwh_digits(mean) if mean else 3)


def _kwh_digits(kwh: float) -> int:
    return max(3, 2 - math.floor(math.log10(kwh)))


def _format_interval(interval: Interval | None, sign: str = "") -> str:
    if interval is None or math.isnan(interval.low):
        return ""
    return f"[{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def format_summary(summary: RunSummary, *, per_class: bool = True) -> str:
    """Format the summary in Markdown.

    Args:
        summary: the summary.
        per_class: whether to include the long tables of single classes.
    """
    parts = [
        "# Summary of runs",
        _runs(summary),
        "## In the form of the published table" if _compares(summary) else "## Main metrics",
        _published(summary),
        "## All metrics",
        _metrics(summary, own=False),
        *_further(summary),
    ]
    if summary.differences:
        parts += ["## A against B, on the same clips", _differences(summary)]
    parts += ["## Energy", _energy(summary)]
    if per_class:
        parts += ["## Classes", *_classes(summary)]
    parts += ["## How to read this", "\n".join(f"- {note}" for note in reading_notes(summary))]
    return printable("\n\n".join(part for part in parts if part) + "\n")


def _name(summary: RunSummary, system: SystemRuns, role: str) -> str:
    return f"{system.name} {role}" if len(summary.systems) > 1 else role


def _columns(summary: RunSummary) -> list[tuple[str, SystemRuns, str]]:
    """Return (heading, system, network) of each column of a table of metrics."""
    return [(_name(summary, s, role), s, role) for s in summary.systems for role in ROLES]


def _runs(summary: RunSummary) -> str:
    rows = [
        [
            system.name,
            str(run.folder),
            str(run.content.get("checkpoint", EMPTY_CELL)),
            run.seed or EMPTY_CELL,
        ]
        for system in summary.systems
        for run in system.runs
    ]
    return markdown_table(["system", "run", "checkpoint", "seed"], rows, words=3)


def _compares(summary: RunSummary) -> bool:
    """Whether the runs are of the task that the published figures are of."""
    return summary.systems[0].runs[0].of_default_task


def _published(summary: RunSummary) -> str:
    shown = summary.systems[0].runs[0].main_metrics
    heads = [MAIN_METRIC_HEADS[name] for name in shown]
    head = ["", *heads, *(f"{stage}, kWh" for stage in PUBLISHED_KWH)]
    rows = [
        [
            name,
            *(format_spread(system.metrics.get(f"test/{role}/{metric}")) for metric in shown),
            # A run trains and tests both networks at once.
            *(_format_kwh(system.energy_kwh(stage)) for stage in PUBLISHED_KWH),
        ]
        for name, system, role in _columns(summary)
    ]
    if _compares(summary):
        published = (PUBLISHED_METRICS[name] for name in shown)
        figures = [f"{mean:.2f} ± {deviation:.3f}" for mean, deviation in published]
        rows.append(["published", *figures, *(f"{kwh:.3f}" for kwh in PUBLISHED_KWH.values())])
    return markdown_table(head, rows)


def _further(summary: RunSummary) -> list[str]:
    """The table of our own metrics, if there are any, with its heading."""
    if not any(map(is_own, summary.systems[0].metrics)):
        return []
    return ["## Further metrics", _metrics(summary, own=True)]


def _metrics(summary: RunSummary, *, own: bool) -> str:
    rows = []
    for metric in _short_names(n for n in summary.systems[0].metrics if is_own(n) == own):
        row = [metric]
        for _, system, role in _columns(summary):
            full = f"test/{role}/{metric}"
            interval = summary.intervals.get(system.name, {}).get(full)
            cell = f"{format_spread(system.metrics[full])} {_format_interval(interval)}"
            row.append(cell.strip())
        rows.append(row)
    return markdown_table(["metric", *(name for name, *_ in _columns(summary))], rows)


def _short_names(full_names: Iterable[str]) -> list[str]:
    """Unique metric names without stage and network."""
    return list(dict.fromkeys(name.split("/", 2)[2] for name in full_names))


def _differences(summary: RunSummary) -> str:
    rows = []
    for full, found in summary.differences.items():
        _, role, metric = full.split("/", 2)
        bounds = _format_interval(found.interval, "+")
        rows.append(
            [
                metric,
                role,
                f"{found.value:+.3f}",
                bounds,
                format_p_value(found.p),
                format_p_value(found.p_holm),
            ]
        )
    low = f"{100 * CONFIDENCE_LEVEL:g} % interval"
    return markdown_table(["metric", "network", "A - B", low, "p", "p, Holm"], rows, words=2)


def format_p_value(p: float) -> str:
    """Format a p value to three decimals."""
    return "< 0.001" if p < 0.0005 else f"{p:.3f}"


def _energy(summary: RunSummary) -> str:
    head, rows = ["kWh, all runs' own estimates"], []
    for system in summary.systems:
        name = f"{system.name} " if len(summary.systems) > 1 else ""
        head += [f"{name}mean", f"{name}total", f"{name}runs measured"]
    for stage in results.ENERGY_STAGES:
        row = [STAGE_NAMES[stage]]
        for system in summary.systems:
            spread = system.energy_kwh(stage)
            values = () if spread is None else spread.values
            total = sum(value for value in values if value is not None)
            row += [_format_kwh(spread), f"{total:.{_kwh_digits(total)}f}" if total else EMPTY_CELL]
            row.append(f"{len(values)} of {len(system.runs)}")
        if any(system.energy_kwh(stage) for system in summary.systems):
            rows.append(row)
    return markdown_table(head, rows) if rows else "No run has a measurement."


def _classes(summary: RunSummary) -> list[str]:
    by_system = {system.name: system.per_class for system in summary.systems}
    first = by_system[summary.systems[0].name]
    parts = []
    for metric in _short_names(first):
        labels = first[f"test/{ROLES[0]}/{metric}"]
        rows = [
            [
                label,
                *(
                    format_spread(by_system[system.name][f"test/{role}/{metric}"][label])
                    for _, system, role in _columns(summary)
                ),
            ]
            for label in labels
        ]
        parts += [
            f"### {metric}",
            markdown_table(["class", *(n for n, *_ in _columns(summary))], rows),
        ]
    return parts


def reading_notes(summary: RunSummary) -> list[str]:
    """Explain the numbers and these runs, one or two sentences each."""
    notes = ["±: sample standard deviation over runs (n - 1); a single run has none."]
    units = summary.resampled.n_units
    if units:
        notes += _resampling_notes(summary)
    elif not summary.n_resamples:
        notes.append("No intervals were requested (--resamples 0).")
    first = summary.systems[0].runs[0]
    part = first.task.part("test", "events")
    if part is not None and _compares(summary):
        clips = first.content["clips"].get(part.corpus.name)
        if clips != PUBLISHED_CLIPS:
            notes.append(
                f"Published figures are of {PUBLISHED_CLIPS} clips of {part.corpus.title}, those "
                f"with events; these are of {clips}."
            )
    if _missed_classes(summary):
        notes.append(
            f"{EMPTY_CELL} for a class in {HIT_ONLY}: no true positive in one of the runs; "
            "psds_eval defines no value then and leaves the class out of that run's macro F1."
        )
    return [*notes, *_further_notes(summary), *summary.notes]


def _further_notes(summary: RunSummary) -> list[str]:
    """What is to be known of our own metrics, if there are any."""
    short = _short_names(summary.systems[0].metrics)
    if not any(map(is_own, short)):
        return []
    notes = [
        "Further metrics are defined in docs/metrics.md. oracle, thresopt: thresholds chosen on "
        "the clips (or the resample) that are scored; an upper bound, not a result."
    ]
    others = [name for name in short if not is_share(name)]
    if others:
        notes.append(f"Not in metrics.png, as they are no shares: {', '.join(others)}.")
    return notes


def _missed_classes(summary: RunSummary) -> bool:
    """Whether a class that is scored has no psds_eval F1 in a run."""
    return any(
        value is None and label not in run.content.get("not_scored", ())
        for system in summary.systems
        for run in system.runs
        for name, values in run.per_class.items()
        if name.endswith(HIT_ONLY)
        for label, value in values.items()
    )


def _resampling_notes(summary: RunSummary) -> list[str]:
    drawn = " and ".join(
        f"{count_of(count, unit_of(part))} of {part.corpus.title}"
        for part, count in summary.resampled.n_units.items()
    )
    by_recording = [part for part in summary.resampled.n_units if unit_of(part) == "recording"]
    why = "".join(
        f" {part.corpus.title} is resampled by recording, because its clips overlap."
        for part in by_recording
    )
    notes = [
        f"[low, high]: {100 * CONFIDENCE_LEVEL:g} % intervals by the bootstrap, "
        f"{count_of(summary.n_resamples, 'resample')} of {drawn}, seed {summary.seed}; normal, "
        f"with the bootstrap's bias removed, so an interval is not centred on its value.{why}",
        "Each metric is computed from the resampled clips as in a test: PSDS of psds_eval from its "
        "thresholds, that of sed_scores_eval from all, F1 at its best threshold from the best "
        "of the resample. Runs are not resampled: an interval is that of the mean over these runs "
        "and is about the choice of clips, ± about the choice of seeds.",
    ]
    if summary.differences:
        further = sum(map(is_own, summary.differences))
        published = len(summary.differences) - further
        and_those = f" and, apart from these, for the {further} of further metrics"
        notes.append(
            "A against B: both on the same resampled clips; p is two-sided, from the "
            "bias-corrected difference over its standard error; p, Holm is corrected for the "
            f"{count_of(published, 'comparison')} of the table{and_those if further else ''}. A "
            "difference may still come from the choice of seeds: compare it with ±."
        )
    return notes


def as_json(summary: RunSummary) -> dict[str, Any]:
    """Return the summary as plain values."""
    return {
        "systems": {system.name: _system_json(summary, system) for system in summary.systems},
        "differences": {name: _difference(found) for name, found in summary.differences.items()},
        "published": _published_json() if _compares(summary) else {},
        "bootstrap": {
            "level": CONFIDENCE_LEVEL,
            "resamples": summary.n_resamples,
            "seed": summary.seed,
            "units": _units(summary),
        },
        "notes": reading_notes(summary),
    }


def _published_json() -> dict[str, Any]:
    metrics = {name: list(figures) for name, figures in PUBLISHED_METRICS.items()}
    return {"metrics": metrics, "energy_kwh": PUBLISHED_KWH}


def _units(summary: RunSummary) -> dict[str, int]:
    """Corpus -> units; with the kind of scores where one corpus has two kinds."""
    parts = summary.resampled.n_units
    names = [part.corpus.name for part in parts]
    return {
        name if names.count(name) == 1 else f"{name}, {part.kind}": n
        for name, (part, n) in zip(names, parts.items(), strict=True)
    }


def _system_json(summary: RunSummary, system: SystemRuns) -> dict[str, Any]:
    intervals = summary.intervals.get(system.name, {})
    return {
        "runs": [str(run.folder) for run in system.runs],
        "metrics": {
            name: {**_spread(spread), "interval": _bounds(intervals.get(name))}
            for name, spread in system.metrics.items()
        },
        "per_class": {
            name: {label: _spread(spread) for label, spread in values.items()}
            for name, values in system.per_class.items()
        },
        "energy_kwh": {
            stage: {**_spread(found), "total": sum(v for v in found.values if v is not None)}
            for stage in results.ENERGY_STAGES
            if (found := system.energy_kwh(stage)) is not None
        },
    }


def _spread(spread: Spread) -> dict[str, Any]:
    return {"mean": spread.mean, "deviation": spread.deviation, "values": list(spread.values)}


def _bounds(interval: Interval | None) -> list[float] | None:
    return None if interval is None or math.isnan(interval.low) else list(interval)


def _difference(found: Difference) -> dict[str, Any]:
    return {**found._asdict(), "interval": _bounds(found.interval)}
