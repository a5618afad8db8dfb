"""Compare a test's metrics with those of the package sed_scores_eval itself (--verify_metrics)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from desed_task.atomic_files import write_json_atomic
from desed_task.distributed.collectives import process_rank
from desed_task.errors import InputError
from desed_task.evaluation.boxes import Decoded
from desed_task.evaluation.psds import PSDS1, PSDS2
from desed_task.evaluation.scores import Scores
from local.cli.versions import versions
from local.data.truth import Truth
from local.scoring.metrics import (
    COLLAR,
    F1_THRESHOLD,
    INTERSECTION,
    event_part,
)
from local.scoring.own.criteria import MAX_FPR, OWN, PI_LENGTHS
from local.scoring.own.metrics import filtered
from local.scoring.report import CorpusMetrics, MetricTable
from local.scoring.results import RESULTS_FILE, VERIFICATION
from local.scoring.segment_metrics import segment_part
from local.task.task import Task

PACKAGE = "sed_scores_eval"
TOLERANCE = 1e-9
EXIT_DIFFERENT = 1
NO_TEST = "the task scores nothing in tests (task.scored)"


def check_installed() -> None:
    """Check that the package can be imported, before hours of training.

    Raises:
        InputError: if it cannot.
    """
    fault = "is not installed"
    if find_spec(PACKAGE) is not None:
        try:
            import_module(f"desed_task.evaluation.{PACKAGE}_metrics")
            return
        # Old packages fail in many ways: ImportError, or ValueError for another version of numpy.
        except Exception as error:
            fault = f"cannot be imported ({type(error).__name__}: {error})"
    raise InputError(
        f"--verify_metrics: {PACKAGE} {fault}; install it (in the folder of this code: pip install "
        "--editable '.[verify]'), or test without the flag, which does not need it"
    )


def check_verifiable(task: Task) -> None:
    """Check that a test has metrics of the package.

    Raises:
        InputError: it scores neither events nor segments.
    """
    kinds = {part.kind for part in task.test}
    if not kinds:
        raise InputError(f"--verify_metrics: {NO_TEST}; leave the flag out")
    if kinds == {"tags"}:
        raise InputError(
            f"--verify_metrics: {PACKAGE} scores neither events nor segments of this task's test; "
            "leave the flag out"
        )


def add_verification(
    folder: Path,
    reports: Mapping[str, Sequence[CorpusMetrics]],
    scores: Mapping[str, Sequence[Decoded]],
    truths: Sequence[Truth],
    raw: Mapping[str, Scores] | None = None,
) -> None:
    """Compute the metrics by the package too and add the comparison to results.json.

    Args:
        folder: the run folder, which results.json has been written to, so that no error of the
            package loses results.
        reports: role -> reports of what is scored. Those of tags, which the package does not
            score, are not compared.
        scores: role -> post-processed scores of each truth.
        truths: of events and segments.
        raw: role -> scores of the events part before the decoder; without them piPSDS is not
            compared.
    """
    raw = raw or {}
    print(f"computing the metrics by {PACKAGE} as well, which takes a minute or two")
    package = f"{PACKAGE} {versions()[PACKAGE]}"
    found: dict[str, Any] = {"package": package, "tolerance": TOLERANCE}
    try:
        pairs = [
            pair
            for role, of_role in reports.items()
            for truth, theirs in zip(
                truths, package_metrics(scores[role], truths, role, raw.get(role)), strict=True
            )
            for pair in figures(_report_of(of_role, truth), theirs)
        ]
        found["figures"] = len(pairs)
        found["differing"] = {
            name: {"reported": ours, PACKAGE: value}
            for name, ours, value in pairs
            if not _equal(ours, value)
        }
    # Whatever the package raises, the test is finished and its files are written.
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {error}"
    content = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
    write_json_atomic(folder / RESULTS_FILE, {**content, VERIFICATION: found})


def check_scorable(task: Task, path: str, stage: str, *, verified: bool) -> None:
    """Refuse a stage in which the task scores nothing.

    Args:
        task: of the checkpoint.
        path: the checkpoint, for messages.
        stage: "test" or "predict".
        verified: whether the metrics are to be verified.

    Raises:
        InputError: it is one, or its metrics cannot be verified.
    """
    if stage == "test" and not task.test:
        raise InputError(
            f"{path}: cannot be tested: {NO_TEST}; name a corpus, e.g. events: {{test: NAME}}"
        )
    if stage == "predict" and not task.evaluated:
        raise InputError(
            f"{path}: nothing to evaluate: no corpus of the task has split: evaluation; add one, "
            "or score recordings with predict.py"
        )
    if verified:
        check_verifiable(task)


def exit_status(folder: Path, *, asked: bool) -> int:
    """0, or 1 if a verification was asked for and did not show that the metrics are equal.

    Args:
        folder: a run folder.
        asked: whether --verify_metrics was given.
    """
    if not asked or process_rank() > 0:
        return 0
    content = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
    if VERIFICATION not in content:
        checkpoint = folder / "checkpoints" / content["checkpoint"]
        print(
            f"--verify_metrics: {folder} was tested before, without it; verify it with "
            f"--verify_metrics --test_from_checkpoint {checkpoint}"
        )
        return EXIT_DIFFERENT
    equal = content[VERIFICATION].get("differing") == {}
    return 0 if equal else EXIT_DIFFERENT


def _report_of(reports: Sequence[CorpusMetrics], truth: Truth) -> CorpusMetrics:
    return next(one for one in reports if one.part.kind == truth.part.kind)


def package_metrics(
    scores: Sequence[Decoded], truths: Sequence[Truth], role: str, raw: Scores | None = None
) -> list[MetricTable]:
    """The package's own metrics of a test: of each truth.

    Args:
        scores: what the decoder gives for each truth; filtered scores for segments.
        truths: of events and segments.
        role: "student" or "teacher".
        raw: scores of the events part before the decoder, for piPSDS.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    return [
        event_package_metrics(one, truth, role=role, raw=raw)
        if truth.part.kind == "events"
        else segment_package_metrics(one, truth, role=role)
        for one, truth in zip(scores, truths, strict=True)
    ]


def event_package_metrics(
    scores: Decoded, truth: Truth, *, role: str, raw: Scores | None = None
) -> MetricTable:
    """What `event_test_metrics` reports under the package's name, and what else it knows.

    Of piPSDS, for which the package needs many times as long, the first one; with `raw` only.
    """
    from desed_task.evaluation import sed_scores_eval_metrics as package

    part, durations = event_part(scores, truth), truth.durations
    chosen = part.events.select(part.with_events)
    events = package.truth_events(chosen, part.scores.vocabulary)
    frames = package.as_frames(part.scores.select(part.with_events))
    table = MetricTable("test", role, truth.part.classes)
    for name, spec in (("psds1", PSDS1), ("psds2", PSDS2)):
        psds = package.psds(frames, events, durations, spec)
        table.put(name, PACKAGE, psds.value, psds.per_class)
    at = {"threshold": F1_THRESHOLD}
    by_intersection = package.intersection_f1(frames, events, **at, **INTERSECTION)
    table.put("intersection_f1_macro_thres05", PACKAGE, *by_intersection)
    by_collar = package.collar_f1(frames, events, **at, **COLLAR)
    table.put("collar_f1_macro_thres05", PACKAGE, *by_collar)
    of_kinds = (
        ("intersection", package.intersection_curve(frames, events, **INTERSECTION)),
        ("collar", package.collar_curve(frames, events, **COLLAR)),
    )
    for kind, (precision, best) in of_kinds:
        table.put(f"{kind}_map", OWN, *precision)
        table.put(f"{kind}_f1_macro_oracle", OWN, *best)
    if raw is not None:
        chosen = raw.select(part.with_events).select(labels=part.scores.vocabulary.labels)
        members = [frames, *(package.as_frames(filtered(chosen, n)) for n in PI_LENGTHS)]
        table.put("pipsds1", OWN, *package.union_psds(members, events, durations, PSDS1))
    return table


def segment_package_metrics(scores: Decoded, truth: Truth, *, role: str) -> MetricTable:
    """What `segment_metrics` reports in a test, by the package."""
    from desed_task.evaluation import sed_scores_eval_metrics as package

    assert isinstance(scores, Scores)
    part = segment_part(scores, truth, "test")
    vocabulary = part.scores.vocabulary
    pieces = part.means(part.scores)
    frames = package.segment_frames(pieces, part.durations, vocabulary.labels)
    events = package.truth_events(part.events, vocabulary)
    found = package.package_segment_scores(frames, events, part.durations, max_fpr=MAX_FPR)
    table = MetricTable("test", role, truth.part.classes)
    table.put("segment_f1_macro_thresopt", PACKAGE, found.f1, found.f1_per_class)
    table.put("segment_mauc", PACKAGE, found.auc, found.auc_per_class)
    table.put("segment_mpauc", PACKAGE, found.partial_auc, found.partial_auc_per_class)
    table.put("segment_map", OWN, *package.segment_precision(frames, events, part.durations))
    return table


def figures(
    report: CorpusMetrics, theirs: MetricTable
) -> Iterator[tuple[str, float | None, float | None]]:
    """Name, reported value and the package's, of every metric of the package and its classes."""
    for name, value in theirs.metrics.items():
        yield name, _plain(report.metrics[name]), _plain(value)
        for label, of_class in theirs.per_class[name].items():
            yield f"{name}/{label}", report.per_class[name][label], of_class


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def _equal(ours: float | None, theirs: float | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return abs(ours - theirs) <= TOLERANCE
