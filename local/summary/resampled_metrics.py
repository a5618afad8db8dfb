"""Compute all metrics of stored runs on the same resampled clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from desed_task.errors import InputError, count_of
from desed_task.evaluation.scores import Floats
from desed_task.mean_teacher import ROLES
from desed_task.parallel import Progress, progress_of
from local.config import RecipeConfig
from local.data.digests import digest_truth
from local.data.truth import Truth
from local.scoring.conditions import GROUPS, SCORED_ON, SCORING
from local.scoring.own.criteria import is_own
from local.scoring.own.groups import ClipGroups, read_groups
from local.scoring.own.tuned import TunedThresholds, thresholds_of_test
from local.scoring.score_files import SCORE_KINDS, read_scored, read_scores
from local.summary import bootstrap
from local.summary.own.completed import energy_weights
from local.summary.rescoring import COUNT_FUNCTIONS, UnitCounts, read_truth
from local.summary.run_folders import FinishedRun
from local.summary.systems import SystemRuns
from local.task.task import ScoredPart

# A recomputed value may differ by rounding only.
METRIC_TOLERANCE = 1e-6
# For psds_eval, if neither results.json nor a configuration says it.
N_THRESHOLDS = 50


CountsByNetwork = Mapping[tuple[Path, str], UnitCounts]  # run folder and network


@dataclass
class ResampledMetrics:
    """The results of the bootstrap.

    Attributes:
        values: system -> full metric name -> (resample,) means over the system's runs.
        n_units: what was tested -> clips, or recordings, that were drawn from.
        notes: why there are no intervals of a corpus.
    """

    values: dict[str, dict[str, Floats]] = field(default_factory=dict)
    n_units: dict[ScoredPart, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def unit_of(part: ScoredPart) -> str:
    """What is drawn: clips, or recordings where clips overlap."""
    whole = part.kind == "segments" and part.corpus.cut_from_recordings
    return "recording" if whole else "clip"


def resample_metrics(
    systems: Sequence[SystemRuns], config: RecipeConfig | None, n_resamples: int, seed: int
) -> ResampledMetrics:
    """Every metric of every network on the same resampled clips.

    A corpus is left out with a note if its scores or tables are missing, or its metrics differ from
    results.json.
    """
    found = ResampledMetrics({system.name: {} for system in systems})
    runs = [run for system in systems for run in system.runs]
    networks = len(runs) * len(ROLES)
    parts = [part for part in runs[0].parts if part.kind in COUNT_FUNCTIONS]
    found.notes += [
        f"No intervals of {part.kind} of {part.corpus.title}: there are none of {part.kind}."
        for part in runs[0].parts
        if part not in parts
    ]
    total = networks * len(parts) * n_resamples
    with progress_of("resampling", total, unit="resample") as bar:
        for number, part in enumerate(parts):
            try:
                recounts = _unit_counts(part, runs, config, bar, found.notes)
            except InputError as error:
                found.notes.append(f"No intervals of {part.corpus.title}: {error}.")
                bar.update(networks * n_resamples)
                continue
            found.n_units[part] = n_units = len(recounts[runs[0].folder, ROLES[0]].units)
            weights = bootstrap.draw_resamples(n_units, n_resamples, (seed, number))
            for system in systems:
                _draw_system(found.values[system.name], system, recounts, weights, bar)
    return found


def _unit_counts(
    part: ScoredPart,
    runs: Sequence[FinishedRun],
    config: RecipeConfig | None,
    bar: Progress,
    notes: list[str],
) -> CountsByNetwork:
    """Count for each network and check the metrics against results.json; adds to the notes.

    Raises:
        InputError: if they differ or cannot be computed.
    """
    truth, of_events = tested_truth(part, runs, config), part.kind == "events"
    recounts = {}
    for run in runs:
        check_tested_truth(truth, run)
        n_thresholds = _n_thresholds(run)
        groups = _groups(truth, run, config, notes) if of_events else None
        for role in ROLES:
            bar.set_description(f"{part.corpus.title}, {run.folder.name}, {role}: counting")
            path = run.scores_path(role, part.corpus)
            scores = read_scored(path, part.kind)
            raw = read_scores(path, SCORE_KINDS[0]) if of_events else None
            tuned = _tuned(run) if of_events else None
            count = COUNT_FUNCTIONS[part.kind]
            recount = count(scores, truth, n_thresholds, raw, groups, tuned)
            recount = _of_test(recount, run, role)
            _check_values(recount, run, role)
            if len(recount.units) < 2:
                raise InputError(f"only {recount.units[0]} to draw from; test on more data")
            recounts[run.folder, role] = recount
    return recounts


def _groups(
    truth: Truth, run: FinishedRun, config: RecipeConfig | None, notes: list[str]
) -> ClipGroups | None:
    """The groups of a run's test; None, with a note, if its table is not there or has changed."""
    told, config = run.content.get(GROUPS), config or run.config
    if not told or config is None:
        return None
    try:
        groups = read_groups(config, truth.events.clip_ids)
        if groups is None or groups.report({})["sha256"] != told["sha256"]:
            raise InputError(f"data.test_groups are not those of the test of {run.folder}")
    except InputError as error:
        notes.append(f"No intervals of PSDS by group: {error}.")
        return None
    return groups


def _tuned(run: FinishedRun) -> TunedThresholds | None:
    """The tuned thresholds of a run's test, whatever other runs have."""
    return thresholds_of_test(run.config, set(run.metrics) - run.lacking)


def _of_test(recount: UnitCounts, run: FinishedRun, role: str) -> UnitCounts:
    """Without our own metrics that the run's test did not compute."""
    counted = [
        one
        for one in recount.counted
        if any(_is_told(f"test/{role}/{name}", run) for name in one.names)
    ]
    return recount._replace(counted=counted)


def _is_told(full: str, run: FinishedRun) -> bool:
    """Whether a run's test computed a metric."""
    return not is_own(full) or (full in run.metrics and full not in run.lacking)


def tested_truth(
    part: ScoredPart, runs: Sequence[FinishedRun], config: RecipeConfig | None
) -> Truth:
    """Load the ground truth by the first configuration whose tables exist.

    That all runs were tested on it is checked with their results.
    """
    name = part.corpus.name
    clip_ids = next((run.clip_ids[name] for run in runs if name in run.clip_ids), None)
    if clip_ids is None:
        raise InputError("the scores of the runs are missing; test the runs again")
    configs = [run.config for run in runs if run.config is not None]
    first: InputError | None = None
    for one in configs if config is None else [config]:
        try:
            return read_truth(part, one, clip_ids)
        except InputError as error:
            first = first or error
    raise InputError(
        f"{first or 'no run has a config.yaml that can be read'} (run this in the folder where you "
        "trained, or give --conf_file with the data's paths)"
    )


def _n_thresholds(run: FinishedRun) -> int:
    """Thresholds of psds_eval in a run's test."""
    told = (run.content.get(SCORING) or {}).get("n_thresholds")
    if isinstance(told, int):
        return told
    return N_THRESHOLDS if run.config is None else run.config.training.n_test_thresholds


def check_tested_truth(truth: Truth, run: FinishedRun) -> None:
    """Refuse tables that are not those of the run's test, if it says which they were."""
    corpus = truth.part.corpus
    stored = (run.content.get(SCORED_ON) or {}).get(corpus.name)
    if stored is None or corpus.name not in run.clip_ids:
        return
    now = digest_truth(truth, run.clip_ids[corpus.name])
    other = [name for name in ("truth", "durations") if stored.get(name) != now[name]]
    if other:
        raise InputError(
            f"{' and '.join(other)} of {corpus.title} ({count_of(now['n_events'], 'event')}) are "
            f"not those of the test of {run.folder} "
            f"({count_of(stored.get('n_events', 0), 'event')}); the tables have changed since: "
            "test the run again"
        )


def _check_values(recount: UnitCounts, run: FinishedRun, role: str) -> None:
    """Refuse counts whose metrics differ from the test's."""
    values = recount.values(np.ones(len(recount.units)))
    for name, value in zip(recount.names, values, strict=True):
        full = f"test/{role}/{name}"
        stored = run.metrics.get(full)
        if full in run.lacking or (stored is None and (np.isnan(value) or is_own(name))):
            continue
        if stored is None or not abs(value - stored) <= METRIC_TOLERANCE:
            told = "none" if stored is None else f"{stored:.6f}"
            raise InputError(
                f"{full} of {run.folder} is {value:.6f} from its scores and the tables, {told} in "
                "results.json; the tables, or the version of the recipe or of sed_scores_eval, are "
                "not those of its test: test the run again"
            )


def _draw_system(
    into: dict[str, Floats],
    system: SystemRuns,
    recounts: CountsByNetwork,
    weights: Floats,
    bar: Progress,
) -> None:
    """Average over a system's runs, per resample; NaN where a run lacks the metric."""
    for role in ROLES:
        drawn: list[dict[str, Floats]] = []
        for run in system.runs:
            recount = recounts[run.folder, role]
            bar.set_description(f"{system.name}, {run.folder.name}, {role}")
            values = np.empty((len(weights), len(recount.names)))
            for row, one in enumerate(weights):
                values[row] = recount.values(one)
                bar.update()
            drawn.append(
                {
                    name: column
                    for name, column in zip(recount.names, values.T, strict=True)
                    if _is_told(f"test/{role}/{name}", run)
                }
            )
            for energy in energy_weights(run.energy_kwh):
                if energy.metric in drawn[-1] and f"test/{role}/{energy.name}" in run.metrics:
                    drawn[-1][energy.name] = drawn[-1][energy.metric] * energy.factor
        nothing = np.full(len(weights), np.nan)
        for name in dict.fromkeys(name for of_run in drawn for name in of_run):
            each = [of_run.get(name, nothing) for of_run in drawn]
            into[f"test/{role}/{name}"] = np.mean(each, axis=0)
