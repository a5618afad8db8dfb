"""Time the metrics at the sizes of the published validation and dev-test sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.ndimage import uniform_filter1d
from torch import Tensor

from benchmarks.bench import Bench, Work
from benchmarks.macs import network_macs
from benchmarks.step import random_batch
from desed_task.batch import SedBatch
from desed_task.dataio.annotations import EventTable
from desed_task.dataio.datasets import SedDataset
from desed_task.evaluation import fscores, segments
from desed_task.evaluation import sed_scores_eval_metrics as package
from desed_task.evaluation.clip_counts import exact_psds_by_clip
from desed_task.evaluation.curves.weighted import WithNonOracle
from desed_task.evaluation.exact_psds import exact_psds
from desed_task.evaluation.psds import PSDS1, PSDS2, psds_from_thresholds
from desed_task.evaluation.scores import (
    Detections,
    Scores,
    as_detections,
    clips_with_events,
    detect,
    detect_at,
    match_clips,
)
from desed_task.mean_teacher import ROLES
from desed_task.nnet.CRNN import Detection
from desed_task.postprocess.decoders import BOXES, MEDIAN, DecoderSettings, decoder_of
from local.classes_dict import DESED_CLASSES, MAESTRO_SCORED_CLASSES
from local.data.truth import Truth, scored_classes
from local.scoring import metrics, report, verification
from local.scoring.accumulator import ScoreAccumulator
from local.scoring.own import metrics as own
from local.scoring.segment_metrics import segment_part
from local.sed_trainer_pretrained import SEDTask4
from local.summary.own.counts import event_counts
from local.tuning.cached_scores import TeacherScores
from local.tuning.decoders.ascent import best_candidates
from local.tuning.decoders.candidates import candidates_of, class_decoder, own_candidates
from local.tuning.decoders.fit import MOST_STARTS
from local.tuning.decoders.objective import DecoderObjective
from local.tuning.search_space import DEFAULT_FILE, Space

SPECS = {"psds1": PSDS1, "psds2": PSDS2}
_NOISE_FRAMES = 9
_FLOAT_BYTES = 4


def run(bench: Bench) -> None:
    """Add rows of network inference, single metrics, and whole validations and tests."""
    if bench.wants("validation", "devtest"):
        with bench.skipping("validation/network"):
            _run_networks(bench)
        _run_whole(bench)
    if bench.wants("scores", "metrics"):
        with bench.skipping("metrics"):
            _run_metrics(bench)


def _run_networks(bench: Bench) -> None:
    """Time student and teacher on a batch of clips, including the transfer of scores."""
    module = SEDTask4(bench.config).to(bench.device).eval()
    batch, n_clips = random_batch(bench), bench.config.training.batch_size_val
    rows = torch.arange(n_clips, device=bench.device) % len(batch.clip_id)
    names = tuple(map(str, range(n_clips)))
    chosen = SedBatch(*(one[rows] for one in batch.tensors), clip_id=names)
    macs = 2 * n_clips * network_macs(module.sed_student, bench.config, bench.made.n_tokens)
    steps = {"validation": module.validation_step, "devtest": module.test_step}
    for stage, step in steps.items():

        def detect_batch(step: Callable[[SedBatch, int], None] = step) -> None:
            module.score_accumulator.clear()
            with torch.inference_mode():
                step(chosen, 0)

        bench.time(f"{stage}/network", Work(n_clips, macs), detect_batch)


def _run_whole(bench: Bench) -> None:
    """Time all metrics of both networks after a validation and a test, and sed_scores_eval's."""
    for name, stage, score in (
        ("validation/scoring", "val", _metrics),
        ("devtest/scoring", "test", _metrics),
        ("devtest/sed_scores_eval", "test", _package_metrics),
    ):
        if bench.wants(name):
            with bench.skipping(name):
                found = _found_in(bench, stage)
                n_clips = sum(len(one.batch.clip_id) for one in found) // len(ROLES)
                n_bytes = sum(one.detection.strong.numel() * _FLOAT_BYTES for one in found)
                bench.time(
                    name,
                    Work(n_clips, n_bytes=n_bytes),
                    partial(score, bench, stage),
                    # A new one per call, as the accumulator caches smoothed scores.
                    partial(_filled, bench, found),
                )


def _metrics(bench: Bench, stage: str, accumulator: ScoreAccumulator) -> dict[str, float]:
    score = accumulator.validation_metrics if stage == "val" else accumulator.test_metrics
    return score(bench.data.truths(stage))


def _package_metrics(bench: Bench, stage: str, accumulator: ScoreAccumulator) -> None:
    """What --verify_metrics adds to a test."""
    truths = bench.data.truths(stage)
    for role in ROLES:
        scores = [accumulator.smoothed(role, truth.part.corpus) for truth in truths]
        verification.package_metrics(scores, truths, role)


class _Found(NamedTuple):
    """Synthetic scores of a network for all clips of a corpus."""

    role: str
    batch: SedBatch
    detection: Detection


def _found_in(bench: Bench, stage: str) -> list[_Found]:
    """Synthetic scores of the corpora of a stage, for both networks."""
    loader = bench.data.val_dataloader() if stage == "val" else bench.data.test_dataloader()
    joined: Any = loader.dataset
    return [
        _Found(role, *_found(dataset, seed=number))
        for number, role in enumerate(ROLES)
        for dataset in joined.leaves
    ]


def _filled(bench: Bench, found: Sequence[_Found]) -> ScoreAccumulator:
    accumulator = ScoreAccumulator(bench.made.config)
    for one in found:
        accumulator.add(one.role, one.batch, one.detection)
    return accumulator


def _found(dataset: SedDataset, seed: int) -> tuple[SedBatch, Detection]:
    """Return all clips of a corpus as one batch, and scores correlated with their targets."""
    n_clips = len(dataset)
    target = np.stack([dataset.targets.target(row, 0.0) for row in range(n_clips)])
    strong = torch.from_numpy(random_scores(target, seed))
    empty = torch.empty(n_clips, 0)
    batch = SedBatch(
        waveform=empty,
        target=torch.from_numpy(target),
        known=dataset.known.expand(n_clips, -1),
        source=dataset.source.expand(n_clips),
        embedding=empty,
        clip_id=dataset.clip_ids,
    )
    return batch, Detection(strong, strong.mean(-1))


def random_scores(target: np.ndarray, seed: int) -> np.ndarray:
    """Synthesise scores (clip, class, frame): smooth noise, higher at the targets."""
    noise = np.random.default_rng(seed).standard_normal(target.shape, dtype=np.float32)
    smooth = uniform_filter1d(noise, _NOISE_FRAMES, axis=-1) * _NOISE_FRAMES**0.5
    scores: Tensor = torch.from_numpy(1.5 * smooth + 4 * (target > 0) - 3).sigmoid()
    return scores.numpy()


class _Input(NamedTuple):
    """Inputs of the metrics of a test, prepared as in `local.scoring.metrics`."""

    scores: Scores  # of all clips, scored classes
    truth: Detections
    with_events: Scores
    events: EventTable  # of the clips with events
    durations: dict[str, float]

    @classmethod
    def of(cls, accumulator: ScoreAccumulator, truth: Truth) -> _Input:
        """Prepare the student's scores."""
        scores, table, _ = match_clips(
            accumulator.smoothed("student", truth.part.corpus), truth.events
        )
        table = table.merged()
        scores = scores.select(labels=scored_classes(table, DESED_CLASSES)[0])
        clips = clips_with_events(table, scores.vocabulary)
        found = as_detections(table, scores.vocabulary)
        return cls(scores, found, scores.select(clips), table.select(clips), truth.durations)

    @property
    def dataset_s(self) -> float:
        """Total duration of all clips in seconds."""
        return sum(self.durations[clip_id] for clip_id in self.scores.clip_ids)


def _run_metrics(bench: Bench) -> None:
    accumulator = _filled(bench, _found_in(bench, "test"))
    desed, maestro = bench.data.truths("test")
    raw = accumulator.scores("student", desed.part.corpus).values
    test = _Input.of(accumulator, desed)
    all_classes = Work(len(raw), n_bytes=2 * raw.nbytes)
    bench.time("scores/median-filter", all_classes, lambda: accumulator.smooth(raw))
    unfiltered = accumulator.scores("student", desed.part.corpus).select(labels=DESED_CLASSES)
    boxes = decoder_of(DecoderSettings(BOXES), DESED_CLASSES, median_filter=[1] * 10)
    ten_classes = Work(len(raw), n_bytes=unfiltered.values.nbytes)
    bench.time("scores/event-boxes", ten_classes, lambda: boxes(unfiltered))
    thresholds = fscores.threshold_grid(bench.config.training.n_test_thresholds)
    work = Work(len(raw), n_bytes=test.scores.values.nbytes)
    several = work_times(work, len(thresholds))
    bench.time("scores/decoding", several, lambda: detect_at(test.scores, thresholds))
    _run_tuning(bench, accumulator)
    _run_psds(bench, test, work, detect_at(test.scores, thresholds))
    _run_f1(bench, test, work)
    _run_further(bench, test, work, accumulator.scores("student", desed.part.corpus))
    smoothed = accumulator.smoothed("student", maestro.part.corpus)
    n_bytes = smoothed.values.nbytes * len(MAESTRO_SCORED_CLASSES) // smoothed.values.shape[-1]
    bench.time(
        "metrics/maestro-segments",
        Work(len(smoothed.clip_ids), n_bytes=n_bytes),
        lambda: _maestro(smoothed, maestro),
    )


def _run_tuning(bench: Bench, accumulator: ScoreAccumulator) -> None:
    """Time sweeps of decoders over all classes of dev-test, from the scores in memory on."""
    truths = bench.data.truths("test")
    scores = tuple(accumulator.scores("student", truth.part.corpus) for truth in truths)
    part, desed = TeacherScores("test", scores, truths), scores[0]
    for kind in (MEDIAN, BOXES):
        space = Space.load(DEFAULT_FILE, "postprocessing", kind)
        grid = candidates_of(kind, space, bench.config)
        own = own_candidates(kind, bench.config)

        def sweep(kind: str = kind, grid: Any = grid, own: Any = own) -> None:
            objective = DecoderObjective(part, class_decoder(kind, bench.config))
            best_candidates(objective, own, grid, most_starts=MOST_STARTS)

        n_candidates = len(grid[DESED_CLASSES[0]])
        n_bytes = n_candidates * desed.values.nbytes * len(DESED_CLASSES) // desed.values.shape[-1]
        work = Work(len(desed.clip_ids), n_bytes=n_bytes)
        bench.time(f"scores/tuning-{kind}-{n_candidates}", work, sweep)


def work_times(work: Work, times: int) -> Work:
    """Return the work of several repetitions."""
    return Work(work.clips, work.macs * times, work.n_bytes * times)


def event_bytes(*detections: Detections) -> int:
    """Bytes of decoded events: clip, class, onset and offset."""
    return sum(4 * 8 * len(one) for one in detections)


def _run_psds(bench: Bench, test: _Input, work: Work, points: list[Detections]) -> None:
    """Time the recipe's exact PSDS, that of sed_scores_eval, and that of psds_eval's thresholds."""
    labels = test.scores.vocabulary.labels
    for name, spec in SPECS.items():
        exact = partial(exact_psds, test.scores, test.truth, dataset_s=test.dataset_s, spec=spec)
        theirs = partial(_of_package, test, package.psds, durations=test.durations, spec=spec)
        from_points = partial(
            psds_from_thresholds, points, test.truth, labels, dataset_s=test.dataset_s, spec=spec
        )
        bench.time(f"metrics/{name}/exact", work, exact)
        bench.time(f"metrics/{name}/sed_scores_eval", work, theirs)
        decoded = Work(work.clips, n_bytes=event_bytes(*points, test.truth))
        bench.time(f"metrics/{name}/thresholds", decoded, from_points)


def _run_f1(bench: Bench, test: _Input, work: Work) -> None:
    """Time F-scores at one threshold: from detection arrays and by sed_scores_eval."""
    labels = test.scores.vocabulary.labels
    found = detect(test.scores, metrics.F1_THRESHOLD)
    of_arrays: dict[str, Callable[[], Any]] = {
        "intersection_f1": partial(
            fscores.intersection_fscore, found, test.truth, labels, **metrics.INTERSECTION
        ),
        "collar_f1": partial(fscores.collar_fscore, found, test.truth, labels, **metrics.COLLAR),
        "segment_f1": partial(
            fscores.segment_fscore, found, test.truth, labels, segment_s=segments.SEGMENT_S
        ),
    }
    for name, function in of_arrays.items():
        decoded = Work(work.clips, n_bytes=event_bytes(found, test.truth))
        bench.time(f"metrics/{name}/arrays", decoded, function)
    of_packages: dict[str, Callable[..., Any]] = {
        "intersection_f1": partial(package.intersection_f1, **metrics.INTERSECTION),
        "collar_f1": partial(package.collar_f1, **metrics.COLLAR),
    }
    for name, function in of_packages.items():
        score = partial(_of_package, test, function, threshold=metrics.F1_THRESHOLD)
        bench.time(f"metrics/{name}/sed_scores_eval", work, score)


def _run_further(bench: Bench, test: _Input, work: Work, raw: Scores) -> None:
    """Time the metrics that only the recipe has, and what a resample of them takes."""
    clip_ids = test.with_events.clip_ids
    found = own.EventInput(test.scores, test.events, clip_ids, test.durations)
    specs = list(SPECS.values())
    curves = found.psds(test.with_events)
    empty = partial(report.MetricTable, "test", "student", DESED_CLASSES)
    bench.time("metrics/further", work, lambda: own.add_event_metrics(empty(), found, curves, None))
    bench.time(
        "metrics/further-with-pipsds",
        work,
        lambda: own.add_event_metrics(empty(), found, curves, raw),
    )
    duration_s = np.array([test.durations[clip_id] for clip_id in test.scores.clip_ids])
    exact = exact_psds_by_clip(test.scores, test.truth, duration_s=duration_s, specs=specs)
    counts = [metric for _, metric in event_counts(found, duration_s, raw)]
    counts += [WithNonOracle(psds) for psds in exact]
    draws = np.random.default_rng(0).multinomial(
        len(duration_s), np.full(len(duration_s), 1 / len(duration_s)), 10
    )
    weights = draws.astype(np.float64)
    for name, metrics_ in (("psds", exact), ("psds-and-further", counts)):
        bench.time(
            f"metrics/resamples/{name}",
            work_times(work, len(weights)),
            lambda metrics_=metrics_: [one.values(row) for row in weights for one in metrics_],
        )


def _of_package(test: _Input, function: Callable[..., Any], **arguments: Any) -> Any:
    """Call a function of the package, whose data frames are part of its time."""
    truth = package.truth_events(test.events, test.scores.vocabulary)
    return function(package.as_frames(test.with_events), truth, **arguments)


def _maestro(smoothed: Scores, truth: Truth) -> Any:
    """Time segment metrics of whole recordings, from the score tables on."""
    part = segment_part(smoothed, truth, "test")
    return part.metrics(part.scores)
