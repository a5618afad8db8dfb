"""Counts of the intersection criteria for given detections, in arrays (Bilen et al. 2020).

Rounding is that of psds_eval 0.5.3 or of sed_scores_eval 0.0.4.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from desed_task.evaluation.scores import Detections, Floats, Ints


class IntersectionCounts(NamedTuple):
    """Per class: true events found, false detections, cross-triggers by the class triggered."""

    true_positives: Ints  # (class,)
    false_positives: Ints  # (class,)
    cross_triggers: Ints  # (class, class)
    references: Ints  # (class,), true events


class IntersectionMatches(NamedTuple):
    """Which events meet the criteria."""

    hit: npt.NDArray[np.bool_]  # (true event,) found
    tolerated: npt.NDArray[np.bool_]  # (detection,) not false
    trigger: Ints  # (cross-trigger,) index of the detection
    triggered: Ints  # (cross-trigger,) class of the events that it lies in


class EventPairs(NamedTuple):
    """Detections with true events of their clips."""

    found: Ints  # (pair,) index of the detection
    true: Ints  # (pair,) index of the true event


class Overlaps(NamedTuple):
    """Pairs of a detection and a true event of its clip that have time in common."""

    found: Ints
    true: Ints
    seconds: Floats

    def rows(self, index: npt.NDArray[np.bool_]) -> Overlaps:
        """The pairs at which `index` is True."""
        return Overlaps(self.found[index], self.true[index], self.seconds[index])


def pair_up(found: Detections, truth: Detections) -> EventPairs:
    """Every detection with every true event of its clip."""
    order = np.argsort(truth.clip_index, kind="stable")
    start = np.searchsorted(truth.clip_index[order], found.clip_index, side="left")
    stop = np.searchsorted(truth.clip_index[order], found.clip_index, side="right")
    count = stop - start
    index = np.repeat(np.arange(len(found)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return EventPairs(index, order[np.repeat(start, count) + within])


def overlaps_of(found: Detections, truth: Detections) -> Overlaps:
    """The pairs of a detection and a true event that overlap."""
    pairs = pair_up(found, truth)
    seconds = np.minimum(found.offset_s[pairs.found], truth.offset_s[pairs.true])
    seconds -= np.maximum(found.onset_s[pairs.found], truth.onset_s[pairs.true])
    return Overlaps(pairs.found, pairs.true, seconds).rows(seconds > 0)


def intersection_counts(
    found: Detections,
    truth: Detections,
    n_classes: int,
    *,
    dtc: float,
    gtc: float,
    cttc: float | None,
    decimals: int | None = None,
) -> IntersectionCounts:
    """Count the results of `intersection_matches` per class; takes the same arguments."""
    hit, tolerated, trigger, triggered = intersection_matches(
        found, truth, n_classes, dtc=dtc, gtc=gtc, cttc=cttc, decimals=decimals
    )
    triggers = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(triggers, (found.label_index[trigger], triggered), 1)
    return IntersectionCounts(
        np.bincount(truth.label_index[hit], minlength=n_classes),
        np.bincount(found.label_index[~tolerated], minlength=n_classes),
        triggers,
        np.bincount(truth.label_index, minlength=n_classes),
    )


def intersection_matches(
    found: Detections,
    truth: Detections,
    n_classes: int,
    *,
    dtc: float,
    gtc: float,
    cttc: float | None,
    decimals: int | None = None,
) -> IntersectionMatches:
    """Apply the detection tolerance, ground truth and cross-trigger criteria.

    Args:
        found: detections; those of a class and clip do not overlap.
        truth: true events; those of a class and clip do not overlap.
        n_classes: classes counted.
        dtc: share of a detection that must lie in true events of its class, or it is false.
        gtc: share of a true event that tolerated detections must cover for it to be found.
        cttc: share of a false detection in true events of another class from which on it is a
            cross-trigger; None counts none.
        decimals: to which seconds are rounded before they are compared, as in sed_scores_eval.
            None compares shares unrounded, as psds_eval does: rounding errors then decide on a
            share equal to its criterion.
    """
    pairs = overlaps_of(found, truth)
    own = found.label_index[pairs.found] == truth.label_index[pairs.true]
    found_s, true_s = found.offset_s - found.onset_s, truth.offset_s - truth.onset_s
    same = pairs.rows(own)
    tolerated = _reach(same.found, same.seconds, found_s, dtc, decimals)
    useful = same.rows(tolerated[same.found])
    hit = _reach(useful.true, useful.seconds, true_s, gtc, decimals)
    trigger = triggered = np.zeros(0, dtype=np.int64)
    if cttc is not None:
        wrong = pairs.rows(~own & ~tolerated[pairs.found])
        cell = wrong.found * n_classes + truth.label_index[wrong.true]
        crossed = _reach(cell, wrong.seconds, np.repeat(found_s, n_classes), cttc, decimals)
        # A criterion of 0 would be met by clips without the class.
        crossed &= np.bincount(cell, minlength=len(crossed)) > 0
        trigger, triggered = np.nonzero(crossed.reshape(-1, n_classes))
    return IntersectionMatches(hit, tolerated, trigger, triggered)


def _reach(
    index: Ints, overlap_s: Floats, length_s: Floats, share: float, decimals: int | None
) -> npt.NDArray[np.bool_]:
    """(entry,) whether the overlaps of an index sum to that share of its length."""
    reached: npt.NDArray[np.bool_]
    if decimals is None:
        # Shares are summed, not overlaps, so that sums round as in psds_eval.
        reached = _sums(index, overlap_s / length_s[index], len(length_s)) >= share
    else:
        sums_s = _sums(index, overlap_s, len(length_s))
        reached = np.round(sums_s, decimals) >= np.round(share * length_s, decimals)
    return reached


def _sums(index: Ints, values: Floats, size: int) -> Floats:
    sums: Floats = np.bincount(index, weights=values, minlength=size).astype(np.float64)
    return sums
