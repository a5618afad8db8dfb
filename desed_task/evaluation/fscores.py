"""F-scores by intersection, collars and segments, of detections.

Intersection: Bilen et al. 2020, counted as by psds_eval 0.5.3. Collars and segments: Mesaros et
al., "Metrics for polyphonic sound event detection", 2016, counted as by sed_eval 0.2.1 with optimal
matching. A class without a true positive has an F-score of 0 in sed_eval and sed_scores_eval, and
none in psds_eval (`FScore.as_psds_eval`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from desed_task.evaluation.intersection import EventPairs, intersection_counts, pair_up
from desed_task.evaluation.scores import Detections, Floats, Ints
from desed_task.evaluation.segments import touched_segments

# Radix of the numbers that stand for (clip, segment).
MAX_SEGMENTS = 1 << 20
SED_SCORES_EVAL_DECIMALS = 6


class FScore(NamedTuple):
    """F-scores and the counts they are computed from.

    `macro` is the mean over the classes that have a value. A class with neither true events nor
    detections has none (NaN); one whose events were all missed has 0. Classes that are detected but
    have no true event count as 0 too, where the packages have no common rule: leave them out.
    """

    macro: float
    micro: float
    per_class: dict[str, float]
    true_positives: dict[str, int]
    false_positives: dict[str, int]
    references: dict[str, int]

    def as_psds_eval(self) -> FScore:
        """The F-scores that psds_eval 0.5.3 reports: a class without a true positive has no value.

        Such a class is NaN and left out of `macro`, which is 0 if no class is left.
        """
        per_class = {
            label: value if self.true_positives[label] else float("nan")
            for label, value in self.per_class.items()
        }
        values = [value for value in per_class.values() if not np.isnan(value)]
        return self._replace(per_class=per_class, macro=float(np.mean(values)) if values else 0.0)


def intersection_fscore(
    found: Detections,
    truth: Detections,
    labels: Sequence[str],
    *,
    dtc: float,
    gtc: float,
    decimals: int | None = None,
) -> FScore:
    """Intersection-based F-score of given detections.

    Args:
        found: detections at one threshold.
        truth: true events.
        labels: classes, in the order of the label indices.
        dtc: detection tolerance criterion.
        gtc: ground truth intersection criterion.
        decimals: to which seconds are rounded before they are compared, as in sed_scores_eval
            (SED_SCORES_EVAL_DECIMALS). None compares shares unrounded, as psds_eval does.
    """
    counts = intersection_counts(
        found, truth, len(labels), dtc=dtc, gtc=gtc, cttc=None, decimals=decimals
    )
    return _fscore(counts.true_positives, counts.false_positives, counts.references, labels)


def collar_fscore(
    found: Detections,
    truth: Detections,
    labels: Sequence[str],
    *,
    onset_collar_s: float,
    offset_collar_s: float,
    offset_collar_rate: float,
    decimals: int | None = None,
) -> FScore:
    """Collar-based F-score of given detections.

    A detection and a true event of its class and clip may be matched if their onsets are within
    the onset collar, and their offsets within the offset collar or that share of the true event's
    length, whichever is longer. As many as possible are matched.

    Args:
        found: detections at one threshold.
        truth: true events.
        labels: classes, in the order of the label indices.
        onset_collar_s: seconds.
        offset_collar_s: seconds.
        offset_collar_rate: share of a true event's length.
        decimals: to which the excess of a difference over its collar is rounded, as in
            sed_scores_eval (SED_SCORES_EVAL_DECIMALS). None compares times unrounded, as sed_eval
            does: rounding errors then decide on a difference equal to the collar.
    """
    matched = collar_matches(
        found,
        truth,
        onset_collar_s=onset_collar_s,
        offset_collar_s=offset_collar_s,
        offset_collar_rate=offset_collar_rate,
        decimals=decimals,
    )
    n_classes = len(labels)
    true_positives = np.bincount(truth.label_index[matched], minlength=n_classes)
    return _fscore(
        true_positives,
        np.bincount(found.label_index, minlength=n_classes) - true_positives,
        np.bincount(truth.label_index, minlength=n_classes),
        labels,
    )


def collar_matches(
    found: Detections,
    truth: Detections,
    *,
    onset_collar_s: float,
    offset_collar_s: float,
    offset_collar_rate: float,
    decimals: int | None = None,
) -> npt.NDArray[np.bool_]:
    """(true event,): which ones `collar_fscore`, whose arguments these are, matches."""
    one, other = near_pairs(
        found,
        truth,
        onset_collar_s=onset_collar_s,
        offset_collar_s=offset_collar_s,
        offset_collar_rate=offset_collar_rate,
        decimals=decimals,
    )
    return pairs_matched(one, other, (len(found), len(truth))) >= 0


def near_pairs(
    found: Detections,
    truth: Detections,
    *,
    onset_collar_s: float,
    offset_collar_s: float,
    offset_collar_rate: float,
    decimals: int | None = None,
) -> EventPairs:
    """The pairs that `collar_fscore`, whose arguments these are, may match."""
    one, other = pair_up(found, truth)
    length_s = (truth.offset_s - truth.onset_s)[other]
    reach_s = np.maximum(offset_collar_s, offset_collar_rate * length_s)
    near = found.label_index[one] == truth.label_index[other]
    for off_s, collar_s in (
        (np.abs(found.onset_s[one] - truth.onset_s[other]), onset_collar_s),
        (np.abs(found.offset_s[one] - truth.offset_s[other]), reach_s),
    ):
        if decimals is None:
            near &= off_s <= collar_s
        else:
            near &= np.round(off_s - collar_s, decimals) <= 0
    return EventPairs(one[near], other[near])


def segment_fscore(
    found: Detections, truth: Detections, labels: Sequence[str], *, segment_s: float
) -> FScore:
    """Segment-based F-score of given detections: a class is active in each segment it touches.

    Args:
        found: detections at one threshold.
        truth: true events.
        labels: classes, in the order of the label indices.
        segment_s: length of a segment in seconds.
    """
    cells = _active_cells(found, truth, len(labels), segment_s)
    hit, false, true = (
        np.bincount(of_kind % len(labels), minlength=len(labels))
        for of_kind in (cells.hit, cells.false, cells.true)
    )
    return _fscore(hit, false, true, labels)


class ErrorRate(NamedTuple):
    """Errors in segments as shares of the segments with events (Mesaros et al. 2016).

    Attributes:
        rate: of all classes: substitutions, deletions and insertions.
        substitutions: missed classes in whose segment another one was wrongly detected.
        deletions: other missed classes.
        insertions: other wrongly detected classes.
        references: segments of all classes with events.
        per_class: class -> its misses and false detections as a share of its segments; NaN for a
            class without events.
    """

    rate: float
    substitutions: int
    deletions: int
    insertions: int
    references: int
    per_class: dict[str, float]


def segment_error_rate(
    found: Detections, truth: Detections, labels: Sequence[str], *, segment_s: float
) -> ErrorRate:
    """Segment-based error rate of given detections; arguments as of `segment_fscore`."""
    n_classes = len(labels)
    cells = _active_cells(found, truth, n_classes, segment_s)
    missed = np.setdiff1d(cells.true, cells.hit, assume_unique=True)
    segments, place = np.unique(
        np.concatenate([missed, cells.false]) // n_classes, return_inverse=True
    )
    n_missed, n_false = (
        np.bincount(of, minlength=len(segments))
        for of in (place[: len(missed)], place[len(missed) :])
    )
    swapped, references = np.minimum(n_missed, n_false), len(cells.true)
    wrong, true = (
        np.bincount(of % n_classes, minlength=n_classes)
        for of in (np.concatenate([missed, cells.false]), cells.true)
    )
    per_class = np.divide(wrong, true, out=np.full(n_classes, np.nan), where=true > 0)
    total = int((n_missed + n_false - swapped).sum())
    return ErrorRate(
        total / references if references else float("nan"),
        int(swapped.sum()),
        int((n_missed - swapped).sum()),
        int((n_false - swapped).sum()),
        references,
        dict(zip(labels, per_class.tolist(), strict=True)),
    )


class _Cells(NamedTuple):
    """Numbers of (clip, segment, class), each once, sorted; `number % n_classes` is the class."""

    hit: Ints
    false: Ints
    true: Ints


def _active_cells(found: Detections, truth: Detections, n_classes: int, segment_s: float) -> _Cells:
    """The cells that events touch."""
    detected, true = (_touched_cells(events, n_classes, segment_s) for events in (found, truth))
    return _Cells(np.intersect1d(detected, true), np.setdiff1d(detected, true), true)


def _touched_cells(events: Detections, n_classes: int, segment_s: float) -> Ints:
    event, segment = touched_segments(events, segment_s)
    cell = events.clip_index[event] * MAX_SEGMENTS + segment
    return np.unique(cell * n_classes + events.label_index[event])


def pairs_matched(one: Ints, other: Ints, shape: tuple[int, int]) -> npt.NDArray[np.int32]:
    """(of the second kind,): its partner in a maximum matching of the allowed pairs; -1 if none."""
    graph = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=shape).tocsr()
    matching: npt.NDArray[np.int32] = maximum_bipartite_matching(graph, perm_type="row")
    return matching


def _fscore(
    true_positives: Ints, false_positives: Ints, references: Ints, labels: Sequence[str]
) -> FScore:
    relevant = true_positives + false_positives + references
    with np.errstate(invalid="ignore"):
        per_class = np.where(relevant > 0, 2 * true_positives / relevant, np.nan)
    total = relevant.sum()
    return FScore(
        macro=float(np.nanmean(per_class)) if total else float("nan"),
        micro=float(2 * true_positives.sum() / total) if total else float("nan"),
        per_class=dict(zip(labels, per_class.tolist(), strict=True)),
        true_positives=dict(zip(labels, true_positives.tolist(), strict=True)),
        false_positives=dict(zip(labels, false_positives.tolist(), strict=True)),
        references=dict(zip(labels, references.tolist(), strict=True)),
    )


def threshold_grid(n_thresholds: int) -> Floats:
    """The centres of `n_thresholds` equal parts of [0, 1]: 0.01, 0.03 ... 0.99 for 50."""
    return (np.arange(n_thresholds) + 0.5) / n_thresholds
