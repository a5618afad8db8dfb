"""Counts of the recipe's own metrics, clip by clip or recording by recording."""

from __future__ import annotations

from functools import partial

import numpy as np

from desed_task.evaluation.clip_counts import weighted_collar_f1, weighted_intersection_f1
from desed_task.evaluation.curves import timing
from desed_task.evaluation.curves.by_clip import precision_by_clip, unions_by_clip
from desed_task.evaluation.curves.collars import Collars
from desed_task.evaluation.curves.weighted import (
    AREAS,
    OfUnits,
    Reordered,
    WeightedAreas,
    WeightedRate,
    WeightedTimeErrors,
    WithNonOracle,
)
from desed_task.evaluation.fscores import SED_SCORES_EVAL_DECIMALS
from desed_task.evaluation.scores import Floats, Scores, detect
from desed_task.evaluation.weighted_metrics import WeightedMetric, WeightedPsds, WeightedSegments
from local.scoring.own.criteria import COLLAR, F1_THRESHOLD, INTERSECTION, OWN, PI_LENGTHS
from local.scoring.own.groups import ClipGroups
from local.scoring.own.metrics import SPECS, EventInput, filtered, group_clips
from local.scoring.own.tuned import TunedThresholds

# Names of the values of one metric, without stage and network, and the metric.
Named = tuple[tuple[str, ...], WeightedMetric]


def psds_counts(name: str, psds: WeightedPsds) -> Named:
    """A PSDS with its non-oracle value, which take the same counts."""
    return (f"{name}/sed_scores_eval", f"{name}_nonoracle/{OWN}"), WithNonOracle(psds)


def event_counts(found: EventInput, duration_s: Floats, raw: Scores | None) -> list[Named]:
    """What `add_event_metrics` adds, without non-oracle PSDS.

    Args:
        found: what is scored.
        duration_s: (unit,) seconds; the first units are the clips of `found`, the others are not
            scored.
        raw: see `add_event_metrics`.
    """
    clip_ids = found.scores.clip_ids
    truth, n_units = found.truth(clip_ids), len(duration_s)
    there = np.zeros(n_units, dtype=bool)
    there[: len(clip_ids)] = np.isin(clip_ids, found.with_events)
    of_events_s = np.where(there, duration_s, 0.0)
    counted: list[Named] = []
    if raw is not None:
        counted += _union_counts(found, of_events_s, raw)
    by_kind = precision_by_clip(
        found.scores, truth, duration_s=of_events_s, collars=Collars(**COLLAR), **INTERSECTION
    )
    for kind, metric in zip(("intersection", "collar"), by_kind, strict=True):
        counted.append(((f"{kind}_map/{OWN}", f"{kind}_f1_macro_oracle/{OWN}"), metric))
    return counted + _time_counts(found, duration_s)


def _union_counts(found: EventInput, duration_s: Floats, raw: Scores) -> list[Named]:
    """The piPSDS; arguments as of `event_counts`, with 0 s for clips without events."""
    clip_ids = found.scores.clip_ids
    chosen = raw.select(clip_ids).select(labels=found.labels)
    # Scores of longer clips come last, boxes are in the order of the table.
    place = {clip_id: number for number, clip_id in enumerate(clip_ids)}
    unscored = range(len(clip_ids), len(duration_s))
    order = np.array([*(place[clip_id] for clip_id in chosen.clip_ids), *unscored])
    decoded = found.scores.select(chosen.clip_ids)
    members = [lambda: decoded, *(partial(filtered, chosen, n) for n in PI_LENGTHS)]
    unions = unions_by_clip(
        members,
        found.truth(chosen.clip_ids),
        duration_s=duration_s[order],
        specs=list(SPECS.values()),
    )
    return [
        ((f"pi{name}/{OWN}",), Reordered(union, order))
        for name, union in zip(SPECS, unions, strict=True)
    ]


def _time_counts(found: EventInput, duration_s: Floats) -> list[Named]:
    """Errors of onsets and offsets, and the rate of false events."""
    clip_ids = found.scores.clip_ids
    truth, half = found.truth(clip_ids), detect(found.scores, F1_THRESHOLD)
    names = tuple(f"{border}_error_s_thres05/{OWN}" for border in ("onset", "offset"))
    errors = WeightedTimeErrors(timing.time_errors(half, truth))
    # Clips that were not scored have no hours either.
    scored_s = np.where(np.arange(len(duration_s)) < len(clip_ids), duration_s, 0.0)
    shape = len(duration_s), len(found.labels)
    inside = half.within(duration_s)
    counts = timing.false_events(inside, truth, shape, INTERSECTION["dtc"]).sum(axis=1)
    rate = WeightedRate(counts, scored_s)
    return [(names, errors), ((f"false_events_per_hour_thres05/{OWN}",), rate)]


def group_counts(
    found: EventInput, groups: ClipGroups, psds: dict[str, WeightedPsds]
) -> list[Named]:
    """What `add_group_metrics` adds.

    Args:
        found: what is scored.
        groups: of its clips.
        psds: exact PSDS of all clips, by name.
    """
    counted: list[Named] = []
    for value in groups.values:
        clip_ids, absent = group_clips(found, groups, value)
        if absent:
            continue
        for name, metric in psds.items():
            chosen = np.zeros(len(metric.duration_s), dtype=bool)
            chosen[: len(found.scores.clip_ids)] = np.isin(found.scores.clip_ids, clip_ids)
            full = f"{groups.metric_name(name, value)}/{OWN}"
            counted.append(((full,), OfUnits(metric, chosen)))
    return counted


def segment_counts(metric: WeightedSegments) -> Named:
    """What `add_segment_metrics` adds."""
    return (f"segment_map/{OWN}", *(f"segment_{name}/{OWN}" for name in AREAS)), WeightedAreas(
        metric
    )


def tuned_counts(found: EventInput, n_units: int, tuned: TunedThresholds | None) -> list[Named]:
    """What `add_tuned_metrics` adds; nothing without thresholds.

    Args:
        found: what is scored.
        n_units: clips, of which the first ones are those of `found`.
        tuned: the thresholds.
    """
    if tuned is None:
        return []
    clip_ids, labels = found.scores.clip_ids, found.labels
    events = detect(found.scores, tuned.of_classes(labels))
    events = events.rows(np.isin(clip_ids, found.with_events)[events.clip_index])
    truth, shape, decimals = found.truth(clip_ids), (n_units, len(labels)), SED_SCORES_EVAL_DECIMALS
    by_collar = weighted_collar_f1(events, truth, shape, decimals=decimals, **COLLAR)
    by_intersection = weighted_intersection_f1(
        events, truth, shape, decimals=decimals, **INTERSECTION
    )
    return [
        ((f"{kind}_f1_macro_{tuned.suffix}/{OWN}",), metric)
        for kind, metric in (("collar", by_collar), ("intersection", by_intersection))
    ]
