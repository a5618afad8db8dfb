"""Stage two: tune the median filters of a checkpoint, with Optuna or by a sweep."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

import torch

from desed_task.atomic_files import atomic_path, sha256_of, write_text_atomic
from desed_task.checkpoints.safe_load import load_safely
from desed_task.errors import InputError, command_line
from desed_task.postprocess.decoders import MEDIAN
from local.checkpoints.restore import config_of_checkpoint
from local.cli.redaction import redact_address
from local.config import RecipeConfig, check_config
from local.data.digests import digest_truth, overall_digest
from local.data.truth import Truth
from local.task.task import Task
from local.tuning import report
from local.tuning.cached_scores import ROLE, STAGES_OF_OBJECTIVE, teacher_scores
from local.tuning.decoders.candidates import class_of, values_of
from local.tuning.decoders.objective import ObjectiveValue
from local.tuning.median_sweep import Lengths, MedianFilterObjective, sweep_lengths
from local.tuning.plots import CURVES_DPI, plot_median_curves, save_plot
from local.tuning.search_space import Dimension, replace_values
from local.tuning.storage import storage_errors
from local.tuning.study_log import (
    BEST_FILE,
    MEDIAN_PREFIX,
    MEDIAN_REPORT_FOLDER,
    SCORES_FOLDER,
    StudyLog,
    write_config,
)
from local.tuning.training_stage import (
    SETTLING_S,
    TuningPlan,
    interrupt_on_sigterm,
    open_study,
)
from local.tuning.workers.messages import DATA_FACT, Objective, TrialOutcome
from local.tuning.workers.objective_metrics import METRICS

TABLE_FILE = "medians.tsv"
CURVES_FILE = "medians.png"
OBJECTIVES: tuple[Objective, Objective] = ("held_out", "test")

Evaluate = Callable[[RecipeConfig], TrialOutcome]


def tune_medians(
    plan: TuningPlan,
    checkpoint: Path,
    overrides: Sequence[str],
    *,
    swept: bool,
    device: torch.device,
) -> Path:
    """Find the best lengths and print their values beside those of the checkpoint's lengths.

    Args:
        plan: the tuning plan; its configuration names the folders.
        checkpoint: a file of this recipe, or a published one.
        overrides: `section.key=value` strings, applied over the checkpoint's own values.
        swept: whether to try every length instead of searching.
        device: device that computes scores.

    Returns:
        Path of best.yaml, which a test of the checkpoint applies.

    Raises:
        InputError: for an unusable checkpoint or data.
    """
    if plan.objective == "held_out":  # an oracle's figures are marked as such anyway
        check_untuned(plan.config)
    config = config_to_tune(plan.config, checkpoint, overrides, plan.objective)
    plan = replace(plan, config=config, subject=config.tuned.checkpoint_sha256, pruning=False)
    folder = plan.log_dir / SCORES_FOLDER
    objectives = {
        part: MedianFilterObjective(teacher_scores(config, checkpoint, part, folder, device))
        for part in parts_to_compare(config.detection_task, plan.objective)
    }
    objective = objectives[plan.objective]
    best = _swept(plan, objective) if swept else _searched(plan, objective)
    compared = {"before": config.net.median_filter, "after": best}
    values = {
        name: {part: one(each) for part, one in objectives.items()}
        for name, each in compared.items()
    }
    print(format_comparison(values, plan.objective))
    path = plan.log_dir / BEST_FILE
    drawn = {f"{MEDIAN_PREFIX}{label}": n for label, n in zip(objective.classes, best, strict=True)}
    told = told_objective(plan.objective)
    heading = f"median filters of {checkpoint.name}, {told}: {objective(best).total:.6f}"
    write_config(path, config, drawn, heading)
    words = f"--conf_file {quote(str(path))} --test_from_checkpoint {quote(str(checkpoint))}"
    print(f"apply it with: {command_line('train_pretrained.py', words)}")
    return path


def config_to_tune(
    here: RecipeConfig,
    checkpoint: Path,
    overrides: Sequence[str],
    objective: Objective,
    kind: str | None = MEDIAN,
) -> RecipeConfig:
    """Return the checkpoint's configuration, marked as belonging to this file.

    `here` gives values that were tuned for this file, too; see `check_untuned`.

    Args:
        here: gives the paths of this machine.
        checkpoint: a file of this recipe, or a published one.
        overrides: `section.key=value` strings, applied over the checkpoint's own values.
        objective: what is tuned on.
        kind: the decoder that is tuned; None for the checkpoint's own.
    """
    found = config_of_checkpoint(load_safely(checkpoint), here, overrides, str(checkpoint))
    mark = {
        "tuned.checkpoint_sha256": sha256_of(checkpoint),
        "tuned.network": ROLE,
        "tuned.objective": objective,
        "tuned.calibration": None,
        "tuned.threshold_metric": "",
        "decoder.kind": kind or found.decoder.kind,
    }
    if kind not in (None, found.decoder.kind):
        print(f"{checkpoint}: decoded by {found.decoder.kind} so far; {kind} is tuned")
    return check_config(replace_values(mark, found.dump()), str(checkpoint))


def check_untuned(here: RecipeConfig) -> None:
    """Refuse to begin from values that were tuned on the clips of tests.

    They are tried like all others, and stay where nothing is better, so that they would reach
    what is shown as tuned on other clips than those that are scored.

    Args:
        here: the configuration that is tuned.

    Raises:
        InputError: it says that it was tuned on them.
    """
    if here.tuned.is_oracle:
        raise InputError(
            "tuned.objective test: the values of this configuration were tuned on the clips that "
            "are scored here; give --conf_file the configuration that they were tuned from"
        )


def parts_to_compare(task: Task, objective: Objective) -> tuple[Objective, ...]:
    """What has events or segments: the objective, and the other one if it has any.

    Raises:
        InputError: the task scores neither at the stage of the objective.
    """
    found = []
    for part in OBJECTIVES:
        stage = STAGES_OF_OBJECTIVE[part][0]
        if any(task.part(stage, kind) is not None for kind in METRICS):
            found.append(part)
        elif part == objective:
            raise InputError(
                f"--objective {objective}: neither events nor segments are scored there by the "
                f"task {task.name}, so that nothing can be tuned; name a corpus in task.scored, or "
                "give the other --objective"
            )
        else:
            print(f"{part}: neither events nor segments are scored there by the task {task.name}")
    return tuple(found)


def _searched(plan: TuningPlan, objective: MedianFilterObjective) -> Lengths:
    """Return the best lengths of Optuna's trials, or the checkpoint's if none is better."""

    data = {DATA_FACT: overall_digest(truth_digests(objective.part.truths))}

    def evaluate(config: RecipeConfig) -> TrialOutcome:
        value = objective(config.net.median_filter)
        return TrialOutcome("complete", value.total, facts=objective.facts(value) | data)

    log = search_lengths(plan, evaluate)
    report.write_report(log)
    lengths = [plan.config.net.median_filter]
    if log.shared_study.best is not None:
        drawn = plan.space.overrides(log.shared_study.best.params)
        tree = replace_values(drawn, plan.config.dump())
        lengths.append(tuple(tree["net"]["median_filter"]))
    return max(lengths, key=lambda each: objective(each).total)


def _swept(plan: TuningPlan, objective: MedianFilterObjective) -> Lengths:
    """Return the best lengths of a full sweep; write each length's value to a table."""
    classes = objective.classes
    candidates = {class_of(one, classes): lengths_of(one) for one in plan.space.dimensions}
    before = plan.config.net.median_filter
    best = sweep_lengths(objective, before, candidates)
    values = {
        label: {length: objective.alone(label, length) for length in candidates[label]}
        for label in dict.fromkeys((*objective.event_labels, *objective.segment_labels))
        if label in candidates
    }
    rows = ["event_label\tmetric\tlength\tvalue"]
    for label, of in values.items():
        metric = "psds1" if label in objective.event_labels else "pauc"
        rows += [f"{label}\t{metric}\t{length}\t{value:.6f}" for length, value in of.items()]
    folder = plan.log_dir / MEDIAN_REPORT_FOLDER
    write_text_atomic(folder / TABLE_FILE, "\n".join(rows) + "\n")
    marked = {"before": dict(zip(classes, before, strict=True))}
    marked["chosen"] = dict(zip(classes, best, strict=True))
    segments_only = {*objective.segment_labels} - {*objective.event_labels}
    with atomic_path(folder / CURVES_FILE) as temporary:
        curves = plot_median_curves(values, segments_only, marked)
        save_plot(curves, temporary, dpi=CURVES_DPI)
    return best


def lengths_of(one: Dimension) -> list[int]:
    """All lengths that a line of the search space describes."""
    return [int(length) for length in values_of(one)]


def format_comparison(
    values: Mapping[str, Mapping[Objective, ObjectiveValue]], objective: Objective
) -> str:
    """Format the values of lengths on each part."""
    parts = next(iter(values.values()))
    lines = [f"{'teacher':<8}" + "".join(f"{part:>12} PSDS1   mpAUC     sum" for part in parts)]
    for name, of in values.items():
        cells = (
            f"{_cell(one.psds1):>18} {_cell(one.mpauc):>7} {_cell(one.total):>7}"
            for one in of.values()
        )
        lines.append(f"{name:<8}" + "".join(cells))
    return "\n".join([*lines, f"tuned on: {told_objective(objective)}"])


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def truth_digests(truths: Sequence[Truth]) -> dict[str, Any]:
    """Digests of truths, by the names that studies of earlier versions gave them."""
    return {
        truth.part.corpus.scores_stem.upper(): digest_truth(truth, truth.events.clip_ids)
        for truth in truths
    }


def told_objective(objective: Objective) -> str:
    """What was tuned on, in words."""
    oracle = " (oracle: tuned on the clips that are scored)" if objective == "test" else ""
    return f"{objective}{oracle}"


def search_lengths(
    plan: TuningPlan, evaluate: Evaluate, reports: str = MEDIAN_REPORT_FOLDER
) -> StudyLog:
    """Run trials until the study is complete or the time limit is reached.

    Args:
        plan: the tuning plan.
        evaluate: computes the objective of a configuration.
        reports: name of the report's folder.

    Returns:
        The study's log, for a report.

    Raises:
        InputError: if the storage fails.
        KeyboardInterrupt: after Ctrl-C or SIGTERM; the running trial will be retried.
    """
    with storage_errors(f"--storage {redact_address(plan.storage)}"), interrupt_on_sigterm():
        study = open_study(plan)
        log = StudyLog(plan.log_dir, study, plan.space, plan.config, reports=reports)
        end = float("inf") if plan.timeout_s is None else time.monotonic() + plan.timeout_s
        log.note_missed()
        while time.monotonic() < end:
            for trial, _ in study.retry_stale():
                log.note(trial.number)
            if study.has_unowned:
                time.sleep(SETTLING_S)
                continue
            if not study.wants_more():
                break
            started = study.start_trial()
            tree = replace_values(started.overrides, plan.config.dump())
            try:
                outcome = evaluate(check_config(tree, f"trial {started.number}"))
            except KeyboardInterrupt:
                study.finish(started.number, TrialOutcome("stopped", reason="stopped"))
                raise
            if study.finish(started.number, outcome):
                log.note(started.number)
            study.heartbeat()
    return log
