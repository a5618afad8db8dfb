"""Stage two for decoders: tune one, compare it with median filters, and write best.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any

import torch

from desed_task.errors import InputError, command_line
from desed_task.parallel import Progress, progress_of
from desed_task.postprocess import DEFAULT_THRESHOLD
from desed_task.postprocess.decoders import MEDIAN
from local.config import RecipeConfig
from local.data.digests import overall_digest
from local.task.task import Stage, Task
from local.tuning import report as study_report
from local.tuning.cached_scores import teacher_scores
from local.tuning.decoders.calibrate import calibrated
from local.tuning.decoders.candidates import (
    candidates_of,
    class_decoder,
    length_of_classes,
    overrides_of,
    own_candidates,
)
from local.tuning.decoders.comparison import (
    ORACLE,
    OWN,
    Comparison,
    add_resamples,
    row_of,
    rows_of,
)
from local.tuning.decoders.curve_cache import CurveCache
from local.tuning.decoders.fit import (
    Fit,
    Method,
    ThresholdMetric,
    configured,
    fit_decoder,
    fit_thresholds,
)
from local.tuning.decoders.flags import DEFAULT_FOLDS, DEFAULT_RESAMPLES
from local.tuning.decoders.objective import DecoderObjective
from local.tuning.decoders.parts import Fold, Part, split_folds
from local.tuning.decoders.report import write_candidates, write_comparison
from local.tuning.median_stage import (
    OBJECTIVES,
    check_untuned,
    config_to_tune,
    search_lengths,
    truth_digests,
)
from local.tuning.search_space import Space
from local.tuning.study_log import BEST_FILE, SCORES_FOLDER, report_folder_of, write_config
from local.tuning.training_stage import TuningPlan
from local.tuning.workers.messages import DATA_FACT, Objective, TrialOutcome


@dataclass(frozen=True)
class DecoderTuning:
    """What is asked of stage two.

    Attributes:
        kind: the decoder.
        medians: search space of the median filters that it is compared with.
        swept: whether to try every candidate of every class instead of searching.
        threshold_metric: F1 that thresholds are tuned for; None leaves them alone.
        n_folds: folds of the test set; 0 for no cross-fitting, None for the default.
        n_resamples: of the bootstrap; 0 for none, None for the default.
        calibration: kind of the calibration; None for none.
    """

    kind: str
    medians: Space
    swept: bool = False
    threshold_metric: ThresholdMetric | None = None
    n_folds: int | None = None
    n_resamples: int | None = None
    calibration: str | None = None


def tune_decoder(
    plan: TuningPlan,
    checkpoint: Path,
    overrides: Sequence[str],
    asked: DecoderTuning,
    device: torch.device,
) -> Path:
    """Tune a decoder, and print its figures on the test set beside those of median filters.

    Args:
        plan: the tuning plan; its configuration names the folders.
        checkpoint: a file of this recipe, or a published one.
        overrides: `section.key=value` strings, applied over the checkpoint's own values.
        asked: what is tuned and compared.
        device: device that computes scores.

    Returns:
        Path of best.yaml, which a test of the checkpoint applies.

    Raises:
        InputError: for an unusable checkpoint, data or search space.
    """
    check_untuned(plan.config)
    _check_events(plan.config.detection_task)
    before = config_to_tune(plan.config, checkpoint, overrides, plan.objective, None)
    config = config_to_tune(plan.config, checkpoint, overrides, plan.objective, asked.kind)
    plan = replace(plan, config=config, subject=config.tuned.checkpoint_sha256, pruning=False)
    candidates = _grid(asked, plan.space, config)
    scores = plan.log_dir / SCORES_FOLDER
    parts = {
        name: Part(name, teacher_scores(config, checkpoint, name, scores, device))
        for name in OBJECTIVES
    }
    folds = _folds(asked, parts["test"], candidates)
    methods = _methods(asked, config, candidates, scores)
    method = methods[-1]
    folder = plan.log_dir / report_folder_of(asked.kind)
    best = None if asked.swept else _searched(plan, method, parts[plan.objective])
    comparison = Comparison(n_folds=len(folds))
    comparison.rows.append(row_of(OWN, "", parts["test"], [(Fit(before, {}), parts["test"])]))
    total = len(methods) * (2 + len(folds))
    with progress_of("tuning", total, unit="fit") as bar:
        for one in methods:
            fits = _fits(parts, one, best if one is method else None, plan.objective, bar)
            comparison.rows += rows_of(
                *(one, fits.get("held_out"), parts["test"], folds, fits.get("test"), bar)
            )
            if one.cache is not None:
                one.cache.tidy()
        best = fits[plan.objective]
    add_resamples(comparison, DEFAULT_RESAMPLES if asked.n_resamples is None else asked.n_resamples)
    _write_candidates(parts[plan.objective], method, folder)
    comparison.corpus = parts["test"].truth.part.corpus
    about = {"checkpoint_sha256": plan.subject, "tuned_on": plan.objective, "search": _how(asked)}
    write_comparison(comparison, folder, about)
    path = _write_best(plan, asked, best, parts)
    words = f"--conf_file {quote(str(path))} --test_from_checkpoint {quote(str(checkpoint))}"
    print(f"apply it with: {command_line('train_pretrained.py', words)}")
    return path


def _methods(
    asked: DecoderTuning, config: RecipeConfig, candidates: Mapping[str, Any], folder: Path
) -> list[Method]:
    """Median filters, then the decoder if it is another one."""
    cache = CurveCache(folder, asked.kind, config.net.median_filter)
    method = Method(asked.kind, config, candidates, asked.threshold_metric, cache)
    if asked.kind == MEDIAN:
        return [method]
    section = config.decoder.model_copy(update={"kind": MEDIAN})
    as_median = config.model_copy(update={"decoder": section})
    lengths = candidates_of(MEDIAN, asked.medians, config)
    cache = CurveCache(folder, MEDIAN, config.net.median_filter)
    return [Method(MEDIAN, as_median, lengths, asked.threshold_metric, cache), method]


def _check_events(task: Task) -> None:
    """Refuse a task without events in validations or tests, on which decoders are compared.

    Raises:
        InputError: naming the stage.
    """
    stages: dict[Stage, str] = {"val": "validation", "test": "test"}
    for stage, told in stages.items():
        if task.part(stage, "events") is None:
            raise InputError(
                f"no events are scored in the {told} of the task {task.name}, on which decoders, "
                f"thresholds and calibrations are tuned and compared; name a corpus in "
                f"task.scored.events.{told}, or leave the flags out to tune median filters alone"
            )


def _how(asked: DecoderTuning) -> str:
    return "sweep" if asked.swept else "study; cross-fitted and the other parts by a sweep"


def _grid(asked: DecoderTuning, space: Space, config: RecipeConfig) -> dict[str, list[Any]]:
    """What a sweep tries; nothing if a search has values without a step."""
    try:
        return candidates_of(asked.kind, space, config)
    except InputError as error:
        if asked.swept:
            raise
        print(f"not cross-fitted: {error}")
        return {}


def _folds(asked: DecoderTuning, part: Part, candidates: Mapping[str, Any]) -> list[Fold]:
    n_folds = DEFAULT_FOLDS if asked.n_folds is None else asked.n_folds
    if not n_folds or not candidates:
        return []
    return split_folds(part, n_folds)


def _fits(
    parts: Mapping[Objective, Part],
    method: Method,
    best: Fit | None,
    objective: Objective,
    bar: Progress,
) -> dict[Objective, Fit]:
    """A fit to each part; the search's result to the part that it was of.

    Without a grid there is only that.
    """
    found = {}
    for name in OBJECTIVES:
        bar.set_description(f"{method.kind}: tuning on {name}")
        if best and name == objective:
            found[name] = best
        elif method.candidates:
            found[name] = fit_decoder(parts[name], method)
        bar.update()
    return found


def _searched(plan: TuningPlan, method: Method, part: Part) -> Fit:
    """The best of Optuna's trials, or the checkpoint's own values if none is better."""
    kind, config = method.kind, method.config
    objective = DecoderObjective(part.scores, class_decoder(kind, config))
    data = {DATA_FACT: overall_digest(truth_digests(part.scores.truths))}

    def value_of(config: RecipeConfig) -> Any:
        return objective.value(own_candidates(kind, config), length_of_classes(config))

    def evaluate(config: RecipeConfig) -> TrialOutcome:
        value = value_of(config)
        return TrialOutcome("complete", value.total, facts=objective.facts(value) | data)

    log = search_lengths(plan, evaluate, report_folder_of(kind))
    study_report.write_report(log)
    found = [config]
    if log.shared_study.best is not None:
        found.append(log.config_of(log.shared_study.best))
    best = max(found, key=lambda one: value_of(one).total)
    chosen = own_candidates(kind, best)
    tuned = configured(method, chosen, list(best.net.median_filter))
    return replace(fit_thresholds(part, tuned, chosen, method), units=part.units)


def _write_candidates(part: Part, method: Method, folder: Path) -> None:
    objective = method.objective(part.scores)
    values = {
        label: {one: objective.alone(label, one) for one in method.candidates[label]}
        for label in objective.event_labels
        if label in method.candidates
    }
    write_candidates(values, folder)


def _write_best(
    plan: TuningPlan, asked: DecoderTuning, best: Fit, parts: Mapping[Objective, Part]
) -> Path:
    """Write best.yaml: the decoder, and thresholds and calibration if they are asked for."""
    config = plan.config
    told = overrides_of(asked.kind, config, best.chosen, best.config.net.median_filter)
    if asked.kind != MEDIAN:
        del told["net.median_filter"]  # as it was
    if best.thresholds:
        before = config.predict.threshold
        # Classes that are not named have 0.5.
        classes = config.detection_task.classes
        alike = {} if before == DEFAULT_THRESHOLD else dict.fromkeys(classes, before)
        others = (
            # Not of detectors with other classes.
            {label: one for label, one in before.items() if label in classes}
            if isinstance(before, dict)
            else alike
        )
        told["predict.threshold"] = {**others, **best.thresholds}
        told["tuned.threshold_metric"] = asked.threshold_metric
    objective = DecoderObjective(
        parts[plan.objective].scores, class_decoder(asked.kind, best.config)
    )
    value = objective.psds1({one: best.chosen[one] for one in objective.event_labels})
    oracle = f" ({ORACLE})" if plan.objective == "test" else ""
    heading = f"{asked.kind} of the checkpoint, PSDS1 on {plan.objective}{oracle}: {value:.6f}"
    path = plan.log_dir / BEST_FILE
    # Before the calibration, which may not be possible.
    write_config(path, config, told, heading)
    if asked.calibration is not None:
        folder = plan.log_dir / report_folder_of(asked.kind)
        found = calibrated(asked.calibration, best, parts["held_out"], folder)
        write_config(path, config, told, heading, {"tuned.calibration": found})
    return path
