"""Give runs the same metrics: energy-weighted PSDS, and no value for own metrics that they lack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from desed_task.errors import count_of
from desed_task.mean_teacher import ROLES
from local.data.corpus_checks import examples
from local.scoring.conditions import DEFINITIONS, GROUPS
from local.scoring.own.criteria import OWN, is_of_group, is_own, is_tuned
from local.summary.run_folders import RETEST_REMEDY, FinishedRun

# Energy of the published baseline, kWh (docs/metrics.md).
PUBLISHED_KWH = {"training": 1.666, "test": 0.143}
PSDS_NAMES = ("psds1", "psds2")


class EnergyWeight(NamedTuple):
    """An energy-weighted PSDS: that of another metric, times a factor."""

    name: str
    metric: str
    factor: float


def energy_weights(energy_kwh: Mapping[str, float]) -> list[EnergyWeight]:
    """The energy-weighted PSDS of a run, by measured stage: PSDS x kWh of the baseline / its kWh.

    Args:
        energy_kwh: stage -> energy of the run.
    """
    return [
        EnergyWeight(f"{name}_energy_{stage}/{OWN}", f"{name}/sed_scores_eval", kwh / own)
        for stage, kwh in PUBLISHED_KWH.items()
        if (own := energy_kwh.get(stage, 0.0)) > 0
        for name in PSDS_NAMES
    ]


def completed(runs: Sequence[FinishedRun]) -> tuple[list[FinishedRun], list[str]]:
    """The runs with the union of their own metrics, None where a run lacks one; and notes on it."""
    notes = _energy_notes(runs)
    runs = [_with_energy(_as_defined(run, runs[0], notes)) for run in runs]
    classes: dict[str, dict[str, None]] = {}
    names: dict[str, None] = {}
    for run in runs:
        names |= dict.fromkeys(run.metrics)
        classes |= {
            name: dict.fromkeys(values) for name, values in run.per_class.items() if is_own(name)
        }
    found = []
    for run in runs:
        lacking = [name for name in names if name not in run.metrics]
        notes += _missing_note(
            run, [name for name in lacking if not ("_energy_" in name or is_tuned(name))]
        )
        absent = {name: none for name, none in classes.items() if name not in run.per_class}
        content = {
            **run.content,
            "metrics": {name: run.metrics.get(name) for name in names},
            "per_class": {**run.per_class, **absent},
        }
        found.append(replace(run, content=content, lacking=frozenset(lacking)))
    return found, notes


def _missing_note(run: FinishedRun, lacking: Sequence[str]) -> list[str]:
    if not lacking:
        return []
    short = list(dict.fromkeys(name.split("/", 2)[2] for name in lacking))
    return [
        f"{run.folder}: its test lacks {count_of(len(short), 'further metric')} "
        f"({examples(short)}), shown as -; {RETEST_REMEDY} by this version and configuration"
    ]


def _as_defined(run: FinishedRun, first: FinishedRun, notes: list[str]) -> FinishedRun:
    """The run without own metrics of other definitions, or groups, than the first run's."""
    one, other = (_definition(run.content) for run in (first, run))
    dropped = set()
    if one and other and one != other:
        dropped = {name for name in run.metrics if is_own(name)}
        notes.append(
            f"{run.folder}: its further metrics follow definitions {other}, those of "
            f"{first.folder} {one}, so they are left out"
        )
    elif _groups(run) and _groups(first) and _groups(run) != _groups(first):
        dropped = {name for name in run.metrics if is_of_group(name)}
        notes.append(
            f"{run.folder}: its groups of clips are not those of {first.folder}, so PSDS by group "
            "is left out"
        )
    if not dropped:
        return run
    content = {
        **run.content,
        "metrics": {name: v for name, v in run.metrics.items() if name not in dropped},
        "per_class": {name: v for name, v in run.per_class.items() if name not in dropped},
    }
    return replace(run, content=content)


def _definition(content: Mapping[str, object]) -> object:
    told = content.get(DEFINITIONS)
    return told.get(OWN) if isinstance(told, dict) else None


def _groups(run: FinishedRun) -> tuple[object, ...]:
    told = run.content.get(GROUPS)
    return (told.get("column"), told.get("sha256")) if isinstance(told, dict) else ()


def _with_energy(run: FinishedRun) -> FinishedRun:
    metrics = dict(run.metrics)
    for role in ROLES:
        for one in energy_weights(run.energy_kwh):
            if f"test/{role}/{one.metric}" not in metrics:
                continue  # No events were scored.
            psds = metrics[f"test/{role}/{one.metric}"]
            metrics[f"test/{role}/{one.name}"] = None if psds is None else psds * one.factor
    return replace(run, content={**run.content, "metrics": metrics})


def _energy_notes(runs: Sequence[FinishedRun]) -> list[str]:
    notes = []
    for stage in PUBLISHED_KWH:
        without = [str(run.folder) for run in runs if not run.energy_kwh.get(stage)]
        if without:
            notes.append(
                f"no energy-weighted PSDS by {stage}: codecarbon measured no {stage} in "
                f"{examples(without)}"
            )
    return notes
