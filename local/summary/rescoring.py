"""Rescore a stored run clip by clip, to compute its metrics on resamples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from desed_task.audio.files import probe
from desed_task.dataio.annotations import EventTable
from desed_task.errors import InputError, count_of
from desed_task.evaluation import clip_counts, fscores
from desed_task.evaluation.boxes import Decoded
from desed_task.evaluation.psds import PSDS1, PSDS2
from desed_task.evaluation.scores import (
    Scores,
    as_detections,
    clips_with_events,
    detect,
    detect_at,
    match_clips,
)
from desed_task.evaluation.weighted_metrics import WeightedMetric
from local.config import RecipeConfig
from local.data.clip_ends import (
    check_scored_lengths,
    header_durations,
    leave_out_late_events,
    windows_of,
)
from local.data.clips.files import clips_of
from local.data.expected_clips import durations_of, names_on_disk
from local.data.label_tables import read_labels
from local.data.loaded_corpus import LoadedCorpus, table_durations
from local.data.splits import divide
from local.data.truth import Truth, scored_classes
from local.schema.task import ScoreKind
from local.scoring.own.criteria import COLLAR, F1_THRESHOLD, INTERSECTION, MAX_FPR
from local.scoring.own.groups import ClipGroups
from local.scoring.own.metrics import EventInput
from local.scoring.own.tuned import TunedThresholds
from local.scoring.segment_metrics import segment_part
from local.summary.own import counts as own
from local.task.corpus import Corpus
from local.task.task import ScoredPart, Task

# Boxes do not tell how long the frames were that they come from.
LONGEST_FRAME_S = 0.1


class MetricCounts(NamedTuple):
    """Counts that the metrics are functions of.

    Attributes:
        names: of the metrics, without stage and network.
        metric: their values for weights of the units.
    """

    names: tuple[str, ...]
    metric: WeightedMetric


class UnitCounts(NamedTuple):
    """Counts of one network on one corpus, per unit."""

    units: tuple[str, ...]  # clips, or recordings that clips were cut from
    counted: list[MetricCounts]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all metrics."""
        return tuple(name for counted in self.counted for name in counted.names)

    def values(self, weights: np.ndarray) -> list[float]:
        """Values of all metrics if unit i occurs `weights[i]` times."""
        return [value for counted in self.counted for value in counted.metric.values(weights)]


def read_truth(part: ScoredPart, config: RecipeConfig, clip_ids: Sequence[str]) -> Truth:
    """Load the ground truth of a test, for the clips that were scored.

    Args:
        part: what was scored.
        config: gives the paths of its corpus; where the audio is there, its headers are read.
        clip_ids: the scored clips, which were those on disk.

    Raises:
        InputError: for missing or unusable tables, and durations that differ from the audio.
    """
    corpus = _corpus_of(part, config.detection_task)
    files, folder = _files(corpus), Path(corpus.folder)
    events, listed, left_out = _tested_events(part, corpus, config, files, clip_ids)
    # Of recordings that are scored whole the length of clips does not matter.
    asked = () if corpus.cut_from_recordings else events.clip_ids
    known = {}
    if corpus.durations is not None:
        known = durations_of(Path(corpus.durations), asked, folder)
    own = header_durations({c: files[c] for c in events.clip_ids if c in files})
    untold = [c for c in asked if c not in known and c not in own]
    own |= {c: probe(files[c]).duration_s for c in untold if c in files}
    lost = [c for c in untold if c not in files]
    if lost:
        raise InputError(_lost_text(corpus, folder, lost))
    loaded = LoadedCorpus(
        corpus,
        folder,
        events.clip_ids,
        own,
        events=events,
        listed=listed,
        left_out=left_out,
        files=files,
    )
    durations_s = table_durations(loaded, config)
    ends_s: Mapping[str, float] = durations_s
    if corpus.cut_from_recordings:
        # Without audio, the names of clips tell where they end, cropped or not.
        ends_s = windows_of(files, own, events.clip_ids, clip_s=math.inf).length_s
    events = leave_out_late_events(events, ends_s)
    return Truth(part._replace(corpus=corpus), events, durations_s, left_out)


def _tested_events(
    part: ScoredPart,
    corpus: Corpus,
    config: RecipeConfig,
    files: Mapping[str, Path],
    clip_ids: Sequence[str],
) -> tuple[EventTable, tuple[str, ...], tuple[str, ...]]:
    """Events of the scored clips; every clip of the labels; those that the test left out."""
    assert corpus.table is not None, corpus.name
    task, there = config.detection_task, set(clip_ids)
    table, folder = Path(corpus.table.path), Path(corpus.folder)
    # Without audio, the scores tell which clips there were.
    present = {**{clip_id: folder / f"{clip_id}.wav" for clip_id in clip_ids}, **files}
    events = read_labels(corpus, task.vocabulary, present)
    assert isinstance(events, EventTable), corpus.name
    names = names_on_disk(table, events.clip_ids, folder, clip_ids)
    others = [clip_id for clip_id in events.clip_ids if clip_id not in names]
    names |= names_on_disk(table, others, folder, (c for c in files if c not in there))
    events = events.renamed(names)
    listed, left_out = events.clip_ids, ()
    if not part.corpus.keeps_clips_without_events:
        own_share = listed
        if corpus.is_divided:
            own_share = divide(corpus, listed, config.training.seed, task.fold).test
        # The scores show which clips without events the test left out, by whatever rule.
        left_out = tuple(c for c in own_share if c in events.eventless and c not in there)
    events = events.select([clip_id for clip_id in listed if clip_id in there])
    return events, listed, left_out


def _files(corpus: Corpus) -> Mapping[str, Path]:
    """The clips of a corpus on disk; none if its audio is not there."""
    try:
        return clips_of(corpus).files
    except InputError:
        return {}


def _corpus_of(part: ScoredPart, task: Task) -> Corpus:
    """The corpus of a part where a task has it; its table says what the test's did."""
    try:
        return task.corpus(part.corpus.name)
    except KeyError:
        raise InputError(
            f"the configuration's task {task.name} has no corpus {part.corpus.name}, which was "
            "tested on; give --conf_file with the task of the runs"
        ) from None


def _lost_text(corpus: Corpus, folder: Path, lost: Sequence[str]) -> str:
    counted = count_of(len(lost), "clip that is", "clips that are")
    if corpus.durations is None:
        return (
            f"{folder}: lacks {count_of(len(lost), 'clip')} (e.g. {lost[0]}), whose durations are "
            f"needed; put their audio there, or name a table of durations in {corpus.durations_key}"
        )
    return (
        f"{corpus.durations}: lacks {counted} not in {folder} either (e.g. {lost[0]}); add their "
        "durations to the table or put their audio there"
    )


def count_events(
    scores: Decoded,
    truth: Truth,
    n_thresholds: int,
    raw: Scores | None = None,
    groups: ClipGroups | None = None,
    tuned: TunedThresholds | None = None,
) -> UnitCounts:
    """Count for all metrics of `event_test_metrics`, whose arguments the last three are.

    Units are the clips of the set: those without scores, left out because they have no event, only
    add their durations to psds_eval's hours.
    """
    scores, events, _ = match_clips(scores, truth.certain)
    ends_s = dict(zip(scores.clip_ids, scores.end_s.tolist(), strict=True))
    name, frame_s = truth.part.corpus.durations_key, LONGEST_FRAME_S
    if isinstance(scores, Scores):
        frame_s = float(scores.boundaries_s[1])
    check_scored_lengths(name, ends_s, truth.durations, frame_s=frame_s)
    events = events.within(truth.durations).merged()
    chosen = scores.select(labels=scored_classes(events, truth.part.classes)[0])
    labels = chosen.vocabulary
    clip_ids = (*chosen.clip_ids, *(c for c in truth.left_out if c in truth.durations))
    duration_s = np.array([truth.durations[clip_id] for clip_id in clip_ids])
    # The metrics of sed_scores_eval take the clips with events.
    there = np.isin(clip_ids, clips_with_events(events, labels))
    true = as_detections(events, labels)
    found_at = detect_at(chosen, fscores.threshold_grid(n_thresholds))
    points = [found.within(duration_s) for found in found_at]
    found = detect(chosen, F1_THRESHOLD)
    inside, of_those = found.within(duration_s), found.rows(there[found.clip_index])
    shape, rounded = (len(clip_ids), len(labels)), {"decimals": fscores.SED_SCORES_EVAL_DECIMALS}
    metrics: dict[str, WeightedMetric] = {}
    exact = clip_counts.exact_psds_by_clip(
        chosen, true, duration_s=np.where(there, duration_s, 0.0), specs=[PSDS1, PSDS2]
    )
    for name, spec in (("psds1", PSDS1), ("psds2", PSDS2)):
        metrics[f"{name}/psds_eval"] = clip_counts.psds_by_threshold(
            points, true, len(labels), duration_s=duration_s, spec=spec
        )
    by_intersection, by_collar = "intersection_f1_macro_thres05", "collar_f1_macro_thres05"
    metrics[f"{by_intersection}/sed_scores_eval"] = clip_counts.weighted_intersection_f1(
        of_those, true, shape, **INTERSECTION, **rounded
    )
    metrics[f"{by_intersection}/psds_eval"] = clip_counts.weighted_intersection_f1(
        inside, true, shape, **INTERSECTION
    )
    metrics[f"{by_collar}/sed_scores_eval"] = clip_counts.weighted_collar_f1(
        of_those, true, shape, **COLLAR, **rounded
    )
    metrics[f"{by_collar}/sed_eval"] = clip_counts.weighted_collar_f1(found, true, shape, **COLLAR)
    part = EventInput(chosen, events, clips_with_events(events, labels), truth.durations)
    by_name = dict(zip(("psds1", "psds2"), exact, strict=True))
    further = [own.psds_counts(name, metric) for name, metric in by_name.items()]
    further += own.event_counts(part, duration_s, raw)
    further += own.tuned_counts(part, len(clip_ids), tuned)
    if groups is not None:
        further += own.group_counts(part, groups, by_name)
    counted = [((name,), metric) for name, metric in metrics.items()] + further
    return UnitCounts(clip_ids, [MetricCounts(*one) for one in counted])


def count_segments(
    scores: Scores,
    truth: Truth,
    n_thresholds: int,
    raw: Scores | None = None,
    groups: ClipGroups | None = None,
    tuned: TunedThresholds | None = None,
) -> UnitCounts:
    """Count for all metrics of `segment_metrics` in a test; units are recordings, or clips that
    were not cut from any.

    Clips of one recording overlap, and their scores are averaged, so clips cannot be units.
    """
    part = segment_part(scores, truth, "test")
    recordings = part.events.clip_ids
    names = ("segment_f1_macro_thresopt", "segment_mauc", "segment_mpauc")
    metric = clip_counts.segments_by_unit(
        part.segments(part.scores), len(recordings), max_fpr=MAX_FPR
    )
    published = MetricCounts(tuple(f"{name}/sed_scores_eval" for name in names), metric)
    return UnitCounts(recordings, [published, MetricCounts(*own.segment_counts(metric))])


COUNT_FUNCTIONS: dict[ScoreKind, Callable[..., UnitCounts]] = {
    "events": count_events,
    "segments": count_segments,
}
