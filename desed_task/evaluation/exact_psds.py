"""Exact PSDS over all thresholds in arrays, faster than sed_scores_eval.

Ebbers et al., "Threshold independent evaluation of sound event detection scores", ICASSP 2022, but
with the runs of `threshold_runs` instead of a change at each score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from desed_task.evaluation.intersection import pair_up
from desed_task.evaluation.psds import (
    SECONDS_PER_HOUR,
    Psds,
    PsdsSpec,
    Roc,
    psds_of_rocs,
    seconds_of_classes,
    staircase,
)
from desed_task.evaluation.scores import Detections, Floats, Ints, Scores
from desed_task.evaluation.threshold_runs import Runs, find_runs, sums_below

# Times are compared to the microsecond, as in sed_scores_eval, so that shares that meet a criterion
# exactly are not lost to rounding.
_DECIMALS = 6


class _TimedRuns(NamedTuple):
    """Runs with their times."""

    runs: Runs
    events: Detections  # the same, `label_index` is that of the class

    @property
    def length_s(self) -> Floats:
        return self.events.offset_s - self.events.onset_s

    def chosen(self, index: npt.NDArray[np.bool_]) -> _TimedRuns:
        return _TimedRuns(self.runs.chosen(index), self.events.rows(index))


def exact_psds(scores: Scores, truth: Detections, *, dataset_s: float, spec: PsdsSpec) -> Psds:
    """PSDS over all thresholds.

    Args:
        scores: post-processed, finite scores of the clips and classes to count.
        truth: true events, their indices those of `scores`; every class occurs. Events of a class
            and clip do not overlap.
        dataset_s: total length of all clips, seconds.
        spec: parameters of the PSDS.
    """
    labels = scores.vocabulary.labels
    spec = spec.of_classes(len(labels))
    class_s = seconds_of_classes(truth, len(labels))
    rocs = [_roc(scores, truth, label, class_s, dataset_s, spec) for label in range(len(labels))]
    return psds_of_rocs(rocs, labels, spec)


def _roc(
    scores: Scores,
    truth: Detections,
    label: int,
    class_s: Floats,
    dataset_s: float,
    spec: PsdsSpec,
) -> Roc:
    """The staircase of one class."""
    levels, blocks = _levels(scores, label)
    own = truth.rows(truth.label_index == label)
    clips = np.arange(len(scores.clip_ids)) if spec.alpha_ct else np.unique(own.clip_index)
    found = _timed_runs(blocks, clips, label)
    tolerated, overlaps = _tolerated(found, own, spec.dtc)
    hits = _hits(found, own, overlaps, tolerated, spec.gtc, len(levels))
    counts = sum(_count(block.signals, len(levels)) for block in blocks)
    false = counts - _n_detected(found.runs.chosen(tolerated), len(levels))
    efpr: Floats = false * np.float64(SECONDS_PER_HOUR / dataset_s)
    if spec.alpha_ct and spec.cttc is not None:
        others = truth.rows(truth.label_index != label)
        rate = _cross_triggers(found.chosen(~tolerated), others, class_s, spec.cttc, len(levels))
        efpr = efpr + spec.alpha_ct * SECONDS_PER_HOUR * rate
    kept = efpr <= spec.max_efpr
    return staircase(efpr[kept], hits[kept] / len(own))


class _Block(NamedTuple):
    """Clips of one length."""

    first: int  # index of the first one
    signals: Ints  # (clip, frame), levels of a class
    boundaries_s: Floats


def _levels(scores: Scores, label: int) -> tuple[npt.NDArray[Any], list[_Block]]:
    """The distinct scores of a class, and each frame's place among them."""
    blocks = list(scores.blocks)
    of_class = [block.values[:, :, label] for _, block in blocks]
    flat = np.concatenate([values.ravel() for values in of_class])
    levels, ranks = np.unique(flat, return_inverse=True)
    parts = np.split(ranks, np.cumsum([values.size for values in of_class])[:-1])
    return levels, [
        _Block(first, part.reshape(values.shape), block.boundaries_s)
        for (first, block), values, part in zip(blocks, of_class, parts, strict=True)
    ]


def _timed_runs(blocks: Sequence[_Block], clips: Ints, label: int) -> _TimedRuns:
    """Everything that is detected at any threshold in some clips."""
    found = [_timed_runs_of(block, clips, label) for block in blocks]
    runs = Runs(*map(np.concatenate, zip(*(one.runs for one in found), strict=True)))
    columns = ([getattr(one.events, field.name) for one in found] for field in fields(Detections))
    return _TimedRuns(runs, Detections(*map(np.concatenate, columns)))


def _timed_runs_of(block: _Block, clips: Ints, label: int) -> _TimedRuns:
    end = block.first + len(block.signals)
    clips = clips[(clips >= block.first) & (clips < end)]
    runs = find_runs(block.signals[clips - block.first])
    labels = np.full(len(runs.signal), label)
    events = Detections(
        clips[runs.signal], labels, block.boundaries_s[runs.first], block.boundaries_s[runs.last]
    )
    return _TimedRuns(runs, events)


class _Overlaps(NamedTuple):
    """Pairs of a run and a true event of its clip that have time in common."""

    found: Ints
    true: Ints
    seconds: Floats


def _overlaps(found: Detections, truth: Detections) -> _Overlaps:
    pairs = pair_up(found, truth)
    seconds = np.minimum(found.offset_s[pairs.found], truth.offset_s[pairs.true])
    seconds -= np.maximum(found.onset_s[pairs.found], truth.onset_s[pairs.true])
    common = seconds > 0
    return _Overlaps(pairs.found[common], pairs.true[common], seconds[common])


def _reaches(seconds: npt.NDArray[Any], share: float, length_s: Floats) -> npt.NDArray[np.bool_]:
    """Whether seconds are at least that share of lengths."""
    enough: npt.NDArray[np.bool_] = np.round(seconds, _DECIMALS) >= np.round(
        share * length_s, _DECIMALS
    )
    return enough


def _tolerated(
    found: _TimedRuns, own: Detections, dtc: float
) -> tuple[npt.NDArray[np.bool_], _Overlaps]:
    """Which runs lie in true events of their class for the share `dtc`, and their overlaps."""
    overlaps = _overlaps(found.events, own)
    inside_s = np.bincount(overlaps.found, weights=overlaps.seconds, minlength=len(found.events))
    return _reaches(inside_s, dtc, found.length_s), overlaps


def _hits(
    found: _TimedRuns,
    own: Detections,
    overlaps: _Overlaps,
    tolerated: npt.NDArray[np.bool_],
    gtc: float,
    n_levels: int,
) -> Ints:
    """(level,) true events found: those that tolerated runs cover for the share `gtc`."""
    kept = tolerated[overlaps.found]
    run, true, seconds = overlaps.found[kept], overlaps.true[kept], overlaps.seconds[kept]
    # The coverage of a run is added below its `high` and removed below its `low`.
    level = np.concatenate([found.runs.high[run], found.runs.low[run]])
    event = np.concatenate([true, true])
    change = np.concatenate([seconds, -seconds])
    order = np.lexsort((-level, event))
    level, event, change = level[order], event[order], change[order]
    start = _starts(event)
    total = np.cumsum(change)
    earlier = np.repeat((total - change)[start], np.diff(np.append(start, len(event))))
    covered = _reaches(total - earlier, gtc, (own.offset_s - own.onset_s)[event])
    # Of several changes of an event at one level, the last one counts.
    last = _ends(event * n_levels + level)
    level, event, covered = level[last], event[last], covered[last].astype(np.int64)
    gained = covered - np.append(0, covered)[:-1]
    first = _starts(event)
    gained[first] = covered[first]
    hits: Ints = sums_below(level, n_levels, gained).round().astype(np.int64)
    return hits


def _starts(values: Ints) -> Ints:
    """Where equal neighbours begin."""
    return np.flatnonzero(np.append(True, values[1:] != values[:-1])[: len(values)])


def _ends(values: Ints) -> Ints:
    """Where equal neighbours end."""
    return np.flatnonzero(np.append(values[1:] != values[:-1], True)[: len(values)])


def _count(signals: Ints, n_levels: int) -> Ints:
    """(level,) events detected: active frames without those whose left neighbour is active too."""
    joined = np.minimum(signals[:, 1:], signals[:, :-1]).ravel()
    count: Ints = sums_below(signals.ravel(), n_levels) - sums_below(joined, n_levels)
    return count


def _n_detected(runs: Runs, n_levels: int) -> Ints:
    """(level,) how many of the runs are detected."""
    alive: Ints = sums_below(runs.high, n_levels) - sums_below(runs.low, n_levels)
    return alive


def _cross_triggers(
    false: _TimedRuns, others: Detections, class_s: Floats, cttc: float, n_levels: int
) -> Floats:
    """(level,) cross-triggers per second of the class triggered, mean over the other classes."""
    n_classes = len(class_s)
    overlaps = _overlaps(false.events, others)
    cell = overlaps.found * n_classes + others.label_index[overlaps.true]
    cells, place = np.unique(cell, return_inverse=True)
    inside_s = np.bincount(place, weights=overlaps.seconds, minlength=len(cells))
    run, other = np.divmod(cells, n_classes)
    crossed = _reaches(inside_s, cttc, false.length_s[run])
    run, weight = run[crossed], 1.0 / (class_s[other[crossed]] * (n_classes - 1))
    high, low = (
        sums_below(side[run], n_levels, weight) for side in (false.runs.high, false.runs.low)
    )
    rate: Floats = high - low
    return rate
