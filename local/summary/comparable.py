"""Check that the results of finished runs are comparable, and what a reader must know of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from desed_task.errors import InputError, count_of
from local.checkpoints.changes import Kind, rule_of
from local.checkpoints.resume import was_fast_dev_run
from local.checkpoints.tasks.compared import changed_task_values
from local.data.corpus_checks import examples
from local.scoring.conditions import (
    FREE_KEYS,
    TRAINING_SECTIONS,
    TUNED_ON,
    differing_conditions,
    has_conditions,
)
from local.scoring.metrics import HIT_ONLY
from local.scoring.own.criteria import is_own
from local.summary.run_folders import RETEST_REMEDY, FinishedRun


def check_comparable(*systems: Sequence[FinishedRun]) -> list[str]:
    """Refuse runs whose results are not comparable.

    Args:
        systems: the runs of each system.

    Returns:
        Notes for the reader of a table of these runs.

    Raises:
        InputError: for a run given twice; for tests of other metrics, classes, clips, truth,
            durations, settings or conventions; or, within a system, for other decoders, precisions
            or training revisions, for other numbers or encoders of averaged checkpoints, and for
            averages that share a checkpoint.
    """
    runs = [run for system in systems for run in system]
    problems, known = [], set()
    for run in runs:
        if run.folder.resolve() in known:
            problems.append(f"{run.folder} is given twice; give each run once")
        known.add(run.folder.resolve())
    for system in systems:
        first = system[0]
        if first is not runs[0]:
            problems += _problems(runs[0], first, one_system=False)
        for number, run in enumerate(system[1:], 1):
            problems += _problems(first, run, one_system=True)
            problems += _shared_problems(system[:number], run)
    if problems:
        raise InputError.collect(problems, "these runs cannot be summarised together:")
    notes = _version_notes(runs) + _earlier_notes(runs) + _untold_notes(runs) + _twin_notes(runs)
    notes += _fast_notes(runs) + _tuned_notes(runs)
    return notes + [n for system in systems for n in _seed_notes(system) + _config_notes(system)]


def _tuned_notes(runs: Sequence[FinishedRun]) -> list[str]:
    """Name tests whose decoder was tuned on the clips that they score."""
    tuned = [str(run.folder) for run in runs if TUNED_ON in run.content]
    if not tuned:
        return []
    return [
        f"oracle: the decoder of {examples(tuned)} was tuned on the test set, which is scored "
        "here, so no metric of it is a result to report"
    ]


def without_repetitions(runs: Sequence[FinishedRun]) -> tuple[list[FinishedRun], list[str]]:
    """The runs of one system without further tests of a checkpoint, and a note on each of these.

    Tests of one checkpoint are one run: counted several times, they would narrow the deviation.
    """
    kept: dict[str, FinishedRun] = {}
    notes = []
    for run in runs:
        first = kept.setdefault(run.checkpoint_sha256 or str(run.folder.resolve()), run)
        if first is not run:
            notes.append(
                f"{run.folder}: a test of the same checkpoint as {first.folder} (SHA-256 "
                f"{run.checkpoint_sha256[:12]}...), so not counted again"
            )
    return list(kept.values()), notes


def _problems(first: FinishedRun, run: FinishedRun, *, one_system: bool) -> list[str]:
    found = _class_problems(first, run) or _clip_problems(first, run)
    return found or [
        f"{run.folder}: scored otherwise than {first.folder}, {text}; {RETEST_REMEDY}"
        for text in differing_conditions(first.content, run.content, one_system=one_system)
    ]


def _shared_problems(before: Sequence[FinishedRun], run: FinishedRun) -> list[str]:
    """Averages that share a checkpoint: their results are not independent."""
    return [
        f"{run.folder} and {other.folder} average scores of one checkpoint (SHA-256 "
        f"{min(shared)[:12]}...), so their spread is not that over trainings; give averages of "
        "different checkpoints"
        for other in before
        if run.checkpoint_sha256 != other.checkpoint_sha256
        and (shared := run.checkpoints_sha256 & other.checkpoints_sha256)
    ]


def _class_problems(first: FinishedRun, run: FinishedRun) -> list[str]:
    # Runs may lack metrics of our own, which earlier versions did not have.
    names, others = ({n for n in one.metrics if not is_own(n)} for one in (first, run))
    other = sorted(names ^ others)
    kinds, others_kinds = (", ".join(part.kind for part in one.parts) for one in (first, run))
    if other and kinds != others_kinds:
        return [
            f"{run.folder}: its test scores {others_kinds}, that of {first.folder} {kinds}; "
            "summarise runs of one task together"
        ]
    if other:
        return [
            f"{run.folder}: other metrics than {first.folder}, "
            f"{count_of(len(other), 'differs', 'differ')} ({examples(other)}); test both with "
            "one version of the recipe"
        ]
    differing = {
        label
        for name, values in first.per_class.items()
        # Which classes have a value there depends on the network's detections.
        if not name.endswith(HIT_ONLY) and not is_own(name)
        for label in _scored_labels(values) ^ _scored_labels(run.per_class[name])
    }
    if not differing:
        return []
    return [
        f"{run.folder}: other scored classes than {first.folder}, "
        f"{count_of(len(differing), 'differs', 'differ')} ({examples(sorted(differing))}), so "
        f"means over classes cannot be compared; {RETEST_REMEDY}"
    ]


def _scored_labels(values: dict[str, float | None]) -> set[str]:
    return {label for label, value in values.items() if value is not None}


def _clip_problems(first: FinishedRun, run: FinishedRun) -> list[str]:
    problems = []
    titles = {part.corpus.name: part.corpus.title for part in (*first.parts, *run.parts)}
    for name, title in titles.items():
        counts = [one.content["clips"].get(name, 0) for one in (first, run)]
        heading = (
            f"{run.folder}: tested on {count_of(counts[1], 'clip')} of {title}, "
            f"{first.folder} on {counts[0]}"
        )
        if name in first.clip_ids and name in run.clip_ids:
            differing = sorted(set(first.clip_ids[name]) ^ set(run.clip_ids[name]))
            if differing:
                counted = count_of(len(differing), "clip differs", "clips differ")
                named = f"{counted} ({examples(differing)})"
                problems.append(f"{heading}: {named}; {RETEST_REMEDY}")
        elif counts[0] != counts[1]:
            problems.append(f"{heading}; {RETEST_REMEDY}")
    return problems


def _version_notes(runs: Sequence[FinishedRun]) -> list[str]:
    versions = sorted({run.sed_scores_eval for run in runs})
    if len(versions) == 1:
        return [f"sed_scores_eval {versions[0]}"]
    users = {v: [str(run.folder) for run in runs if run.sed_scores_eval == v] for v in versions}
    by = ", ".join(f"{version} ({examples(folders)})" for version, folders in users.items())
    return [
        f"sed_scores_eval differs between the runs: {by}; conventions of partial AUC differ "
        f"between versions, so {RETEST_REMEDY}"
    ]


def _earlier_notes(runs: Sequence[FinishedRun]) -> list[str]:
    """Find runs whose psds_eval F1 has classes at 0, which tests no longer write."""
    earlier = [
        str(run.folder)
        for run in runs
        if any(
            value == 0
            for name, values in run.per_class.items()
            if name.endswith(HIT_ONLY)
            for value in values.values()
        )
    ]
    if not earlier:
        return []
    return [
        f"{examples(earlier)}: tested by an earlier version of the recipe, which counted classes "
        f"without a true positive as 0 in {HIT_ONLY}; psds_eval leaves them out, so {RETEST_REMEDY}"
    ]


def _twin_notes(runs: Sequence[FinishedRun]) -> list[str]:
    """Find runs with identical results, which show no spread."""
    by_metrics: dict[str, list[FinishedRun]] = {}
    for run in runs:
        by_metrics.setdefault(json.dumps(run.metrics, sort_keys=True), []).append(run)
    return [
        f"{', '.join(str(run.folder) for run in twins)} have identical results (seeds: "
        f"{', '.join(run.seed or 'unknown' for run in twins)}); give each run its own seed with "
        "--set training.seed=..."
        for twins in by_metrics.values()
        if len(twins) > 1
    ]


def _fast_notes(runs: Sequence[FinishedRun]) -> list[str]:
    """Find runs that were only trained to see whether everything runs."""
    fast = [str(run.folder) for run in runs if was_fast_dev_run(run.folder)]
    if not fast:
        return []
    return [f"{examples(fast)}: trained with --fast_dev_run, so its results mean nothing"]


def _seed_notes(system: Sequence[FinishedRun]) -> list[str]:
    """Find different trainings of one system with the same seed; twins have a note already."""
    by_seed: dict[str, dict[str, FinishedRun]] = {}
    for run in system:
        if run.seeds:
            results_of = json.dumps(run.metrics, sort_keys=True)
            by_seed.setdefault(run.seed, {}).setdefault(results_of, run)
    return [
        f"{', '.join(str(run.folder) for run in found.values())} have the same seed ({seed}), so "
        "their spread is not that over seeds; give each run its own with --set training.seed=..."
        for seed, found in by_seed.items()
        if len({run.checkpoint_sha256 or run.folder for run in found.values()}) > 1
    ]


def _untold_notes(runs: Sequence[FinishedRun]) -> list[str]:
    untold = [str(run.folder) for run in runs if not has_conditions(run.content)]
    if not untold:
        return []
    return [
        f"{examples(untold)}: tested by an earlier version of the recipe, which did not store what "
        "was scored and how; compared by metrics, classes and clips only"
    ]


def _config_notes(system: Sequence[FinishedRun]) -> list[str]:
    """Values of the training that the runs of one system do not share."""
    notes = []
    # Of averages, the configuration is that of one checkpoint.
    alone = [run for run in system if len(run.seeds) < 2]
    trees = {run.folder: run.config.dump() for run in alone if run.config is not None}
    for section in TRAINING_SECTIONS:
        for key in {key: None for tree in trees.values() for key in tree[section]}:
            values = {str(folder): tree[section][key] for folder, tree in trees.items()}
            if (section, key) in FREE_KEYS or len({repr(one) for one in values.values()}) < 2:
                continue
            named = ", ".join(f"{value!r} ({folder})" for folder, value in values.items())
            notes.append(
                f"{section}.{key} differs between the runs: {named}; their mean is not that of one "
                "system over seeds"
            )
    return notes + _task_notes(trees)


def _task_notes(trees: Mapping[Path, Mapping[str, Any]]) -> list[str]:
    """What of the task a training depends on and the runs of one system do not share."""
    found = []
    (first, before), *others = trees.items() if trees else [(Path(), {})]
    for folder, tree in others:
        changed = changed_task_values(before, tree)
        keys = [key for key in changed if rule_of(key).kind is not Kind.FREE]
        if keys:
            found.append(
                f"the task of {folder} differs from that of {first} ({examples(keys)}); their mean "
                "is not that of one system over seeds"
            )
    return found
