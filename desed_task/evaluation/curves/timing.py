"""Errors of onsets and offsets of matched events, and false events per hour, at a threshold."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from desed_task.evaluation.fscores import SED_SCORES_EVAL_DECIMALS, pairs_matched
from desed_task.evaluation.intersection import EventPairs, intersection_matches, overlaps_of
from desed_task.evaluation.psds import SECONDS_PER_HOUR
from desed_task.evaluation.scores import Detections, Floats, Ints

# A pair of events matches if they share at least half of the time of either.
MATCHING_SHARE = 0.5


class TimeErrors(NamedTuple):
    """Times of matched detections less those of their true events.

    Attributes:
        clip: (match,) index of the clip.
        label: (match,) index of the class.
        onset_s: (match,) seconds, positive if detected late.
        offset_s: (match,) the same of the offset.
    """

    clip: Ints
    label: Ints
    onset_s: Floats
    offset_s: Floats


def matched_events(found: Detections, truth: Detections) -> EventPairs:
    """One-to-one pairs of a detection and a true event of its clip and class.

    Both share at least half (`MATCHING_SHARE`) of the time of either, to the microsecond. Events of
    a class and clip do not overlap, so that an event has two such partners only if each has exactly
    half of it; as many pairs as possible are then matched.
    """
    pairs = overlaps_of(found, truth)
    near = found.label_index[pairs.found] == truth.label_index[pairs.true]
    for events, index in ((found, pairs.found), (truth, pairs.true)):
        least_s = MATCHING_SHARE * (events.offset_s - events.onset_s)[index]
        seconds = np.round(pairs.seconds, SED_SCORES_EVAL_DECIMALS)
        near &= seconds >= np.round(least_s, SED_SCORES_EVAL_DECIMALS)
    partner = pairs_matched(pairs.found[near], pairs.true[near], (len(found), len(truth)))
    true = np.flatnonzero(partner >= 0)
    return EventPairs(partner[true].astype(np.int64), true)


def time_errors(found: Detections, truth: Detections) -> TimeErrors:
    """The errors of `matched_events`."""
    one, other = matched_events(found, truth)
    return TimeErrors(
        truth.clip_index[other],
        truth.label_index[other],
        found.onset_s[one] - truth.onset_s[other],
        found.offset_s[one] - truth.offset_s[other],
    )


def weighted_median(values: Floats, weights: Floats) -> float:
    """The median of values that are there `weights[i]` times each; NaN without any.

    Of an even number, it is the mean of the two in the middle.
    """
    order = np.argsort(values, kind="stable")
    values, reached = values[order], np.cumsum(weights[order])
    if not len(reached) or not reached[-1]:
        return float("nan")
    half = reached[-1] / 2
    low, high = (values[np.searchsorted(reached, half, side=side)] for side in ("left", "right"))
    return float((low + high) / 2)


def false_events(
    found: Detections, truth: Detections, shape: tuple[int, int], dtc: float
) -> Floats:
    """(clip, class): detections of which less than `dtc` lies in true events of their class.

    Args:
        found: detections at one threshold.
        truth: true events.
        shape: numbers of clips and classes.
        dtc: detection tolerance criterion.
    """
    verdicts = intersection_matches(
        found, truth, shape[1], dtc=dtc, gtc=dtc, cttc=None, decimals=SED_SCORES_EVAL_DECIMALS
    )
    false = found.rows(~verdicts.tolerated)
    counts = np.zeros(shape)
    np.add.at(counts, (false.clip_index, false.label_index), 1.0)
    return counts


def per_hour(counts: Floats, seconds: float) -> Floats:
    """Counts in so many seconds, per hour."""
    return counts * (SECONDS_PER_HOUR / seconds)
