"""Decoding, filters, each metric, a whole validation and a whole dev-test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from benchmarks.groups import Bench
from benchmarks.made_data import ScoredSet, desed_set, maestro_set
from benchmarks.measuring import Row
from desed_task.evaluation import fscores, packages
from desed_task.evaluation.aside import Aside, usable_processors
from desed_task.evaluation.exact_psds import exact_psds
from desed_task.evaluation.psds import PSDS1, PSDS2, Psds, PsdsSpec, psds_from_thresholds
from desed_task.evaluation.scores import Scores, as_detections, detect, truth_events
from desed_task.postprocess import ClassMedianFilter
from local.classes_dict import DESED_CLASSES
from local.scoring import COLLAR, INTERSECTION, THRESHOLD, Stage, score_desed, score_maestro

ROLES = ("student", "teacher")


def rows(bench: Bench) -> Iterator[Row]:
    """Single metrics of the dev-test's DESED part, then both wholes."""
    sizes, machine, repeats = bench.sizes, bench.machine, bench.repeats
    smooth = ClassMedianFilter(bench.config.net.median_filter)
    desed = desed_set(sizes.test_clips)
    unit = f"{sizes.test_clips} clips"
    yield machine.row(
        "scoring", "median filter, 27 classes", unit, lambda: desed.scores.map(smooth), repeats
    )
    scores = desed.scores.map(smooth).select(labels=DESED_CLASSES)
    for name, function in _single(scores, desed).items():
        yield machine.row("scoring", name, unit, function, min(repeats, 3))
    for stage, n_clips, n_maestro in (
        ("val", sizes.val_clips, sizes.val_maestro),
        ("test", sizes.test_clips, sizes.test_maestro),
    ):
        sets = desed_set(n_clips), maestro_set(n_maestro, whole=stage == "test")
        name = {"val": "validation, both networks", "test": "dev-test, both networks"}[stage]
        unit = f"{n_clips} + {n_maestro} clips"
        yield machine.row(
            "scoring", name, unit, lambda s=stage, t=sets: _whole(bench, s, t), min(repeats, 2)
        )


def _single(scores: Scores, desed: ScoredSet) -> dict[str, Callable[[], object]]:
    """Name of a metric -> function that computes it."""
    truth = as_detections(desed.events.merged(), scores.vocabulary)
    listed = truth_events(desed.events.merged(), scores.vocabulary)
    labels, dataset_s = scores.vocabulary.labels, sum(desed.durations.values())
    found = detect(scores, THRESHOLD)
    at = {"threshold": THRESHOLD}
    grid = fscores.threshold_grid(50)

    def fifty(spec: PsdsSpec) -> Psds:
        points = [detect(scores, threshold) for threshold in grid]
        return psds_from_thresholds(points, truth, labels, dataset_s=dataset_s, spec=spec)

    return {
        "decoding at one threshold": lambda: detect(scores, THRESHOLD),
        "PSDS1, 50 thresholds": lambda: fifty(PSDS1),
        "PSDS2, 50 thresholds": lambda: fifty(PSDS2),
        "PSDS1, exact": lambda: exact_psds(scores, truth, dataset_s=dataset_s, spec=PSDS1),
        "PSDS2, exact": lambda: exact_psds(scores, truth, dataset_s=dataset_s, spec=PSDS2),
        "PSDS1, sed_scores_eval": lambda: packages.psds(scores, listed, desed.durations, PSDS1),
        "PSDS2, sed_scores_eval": lambda: packages.psds(scores, listed, desed.durations, PSDS2),
        "intersection F1": lambda: fscores.intersection_fscore(
            found, truth, labels, **INTERSECTION
        ),
        "collar F1": lambda: fscores.collar_fscore(found, truth, labels, **COLLAR),
        "segment F1": lambda: fscores.segment_fscore(found, truth, labels, segment_s=1.0),
        "intersection F1, sed_scores_eval": lambda: packages.intersection_f1(
            scores, listed, **at, **INTERSECTION
        ),
        "collar F1, sed_scores_eval": lambda: packages.collar_f1(scores, listed, **at, **COLLAR),
    }


def _whole(bench: Bench, stage: Stage, sets: tuple[ScoredSet, ScoredSet]) -> None:
    """Filters and every metric of both networks, side by side as in a test."""
    smooth = ClassMedianFilter(bench.config.net.median_filter)
    processes = usable_processors() if stage == "test" and bench.sizes.test_clips > 400 else 0

    def score(role: str, aside: Aside) -> None:
        arguments = {"stage": stage, "role": role, "n_thresholds": 50}
        desed, maestro = ((one.scores.map(smooth), one.events, one.durations) for one in sets)
        score_desed(*desed, **arguments, aside=aside)
        score_maestro(*maestro, **arguments)

    n_threads = len(ROLES) if processes > 1 else 1
    with Aside(processes) as aside, ThreadPoolExecutor(n_threads) as threads:
        list(threads.map(lambda role: score(role, aside), ROLES))
