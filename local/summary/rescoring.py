"""Rescore a stored run clip by clip, to compute its metrics on resamples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from desed_task.audio.clip_files import clip_files
from desed_task.audio.files import probe
from desed_task.dataio.annotations import read_strong_table
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
from local.classes_dict import DESED_CLASSES, VOCABULARY
from local.config import RecipeConfig
from local.corpora import DEVTEST, MAESTRO_VALIDATION, Corpus
from local.data.clip_ends import (
    check_scored_lengths,
    header_durations,
    leave_out_late_events,
    windows_of,
)
from local.data.expected_clips import durations_of, names_on_disk
from local.data.loaded_corpus import LoadedCorpus, table_durations
from local.data.truth import Truth, scored_classes
from local.scoring.metrics import COLLAR, F1_THRESHOLD, INTERSECTION, MAX_FPR, segment_part
from local.scoring.own.groups import ClipGroups
from local.scoring.own.metrics import EventInput
from local.scoring.own.tuned import TunedThresholds
from local.summary.own import counts as own

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

    units: tuple[str, ...]  # clips of DESED, recordings of MAESTRO
    counted: list[MetricCounts]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all metrics."""
        return tuple(name for counted in self.counted for name in counted.names)

    def values(self, weights: np.ndarray) -> list[float]:
        """Values of all metrics if unit i occurs `weights[i]` times."""
        return [value for counted in self.counted for value in counted.metric.values(weights)]


def read_truth(corpus: Corpus, config: RecipeConfig, clip_ids: Sequence[str]) -> Truth:
    """Load the ground truth of a test, for the clips that were scored.

    Args:
        corpus: a test corpus.
        config: gives the paths of its tables; where the audio is there, its headers are read.
        clip_ids: the scored clips, which were those on disk.

    Raises:
        InputError: for missing or unusable tables, and durations that differ from the audio.
    """
    table = Path(getattr(config.data, corpus.table_key))
    folder = Path(getattr(config.data, corpus.folder_key))
    events = read_strong_table(table, VOCABULARY)
    files, there = clip_files(folder), set(clip_ids)
    names = names_on_disk(table, events.clip_ids, folder, clip_ids)
    others = [clip_id for clip_id in events.clip_ids if clip_id not in names]
    names |= names_on_disk(table, others, folder, (c for c in files if c not in there))
    events = events.renamed(names)
    # The scores show which clips without events the test left out, by whatever rule.
    listed = events.clip_ids
    left_out = tuple(c for c in listed if c in events.eventless and c not in there)
    events = events.select([clip_id for clip_id in listed if clip_id in there])
    # MAESTRO is scored by recording, so the length of its clips does not matter.
    asked = () if corpus == MAESTRO_VALIDATION else events.clip_ids
    durations = Path(getattr(config.data, corpus.duration_key))
    known = durations_of(durations, asked, folder)
    own = header_durations({c: files[c] for c in events.clip_ids if c in files})
    untold = [c for c in asked if c not in known and c not in own]
    own |= {c: probe(files[c]).duration_s for c in untold if c in files}
    lost = [c for c in untold if c not in files]
    if lost:
        raise InputError(
            f"{durations}: lacks {count_of(len(lost), 'clip that is', 'clips that are')} not in "
            f"{folder} either (e.g. {lost[0]}); add their durations to the table or put their "
            "audio there"
        )
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
    if corpus == MAESTRO_VALIDATION:
        # Without audio, the names of clips tell where they end, cropped or not.
        ends_s = windows_of(files, own, events.clip_ids, clip_s=math.inf).length_s
    events = leave_out_late_events(events, ends_s)
    return Truth(corpus.source, events, durations_s, left_out)


def count_desed(
    scores: Decoded,
    truth: Truth,
    n_thresholds: int,
    raw: Scores | None = None,
    groups: ClipGroups | None = None,
    tuned: TunedThresholds | None = None,
) -> UnitCounts:
    """Count for all metrics of `desed_test_metrics`, whose arguments the last three are.

    Units are the clips of the set: those without scores, left out because they have no event, only
    add their durations to psds_eval's hours.
    """
    scores, events, _ = match_clips(scores, truth.events)
    ends_s = dict(zip(scores.clip_ids, scores.end_s.tolist(), strict=True))
    name, frame_s = f"data.{DEVTEST.duration_key}", LONGEST_FRAME_S
    if isinstance(scores, Scores):
        frame_s = float(scores.boundaries_s[1])
    check_scored_lengths(name, ends_s, truth.durations, frame_s=frame_s)
    events = events.within(truth.durations).merged()
    chosen = scores.select(labels=scored_classes(events, DESED_CLASSES)[0])
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


def count_maestro(
    scores: Scores,
    truth: Truth,
    n_thresholds: int,
    raw: Scores | None = None,
    groups: ClipGroups | None = None,
    tuned: TunedThresholds | None = None,
) -> UnitCounts:
    """Count for all metrics of `maestro_metrics` in a test; units are recordings.

    Clips of one recording overlap, and their scores are averaged, so clips cannot be units.
    """
    part = segment_part(scores, truth.events, truth.durations, "test")
    recordings = part.events.clip_ids
    names = ("segment_f1_macro_thresopt", "segment_mauc", "segment_mpauc")
    metric = clip_counts.segments_by_unit(
        part.segments(part.scores), len(recordings), max_fpr=MAX_FPR
    )
    published = MetricCounts(tuple(f"{name}/sed_scores_eval" for name in names), metric)
    return UnitCounts(recordings, [published, MetricCounts(*own.segment_counts(metric))])


COUNT_FUNCTIONS: dict[Corpus, Callable[..., UnitCounts]] = {
    DEVTEST: count_desed,
    MAESTRO_VALIDATION: count_maestro,
}
