"""Exact PSDS over all thresholds in arrays, as sed_scores_eval has it in a tenth of its time.

Ebbers et al., "Threshold independent evaluation of sound event detection scores", ICASSP 2022, but
with the runs of `threshold_runs` instead of a change at each score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from desed_task.evaluation.boxes import Boxes, Decoded
from desed_task.evaluation.intersection import Overlaps, overlaps_of
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
from desed_task.evaluation.threshold_runs import Rises, Runs, find_rises, find_runs

# Times are compared to the microsecond, as in sed_scores_eval, so that shares that meet a criterion
# exactly are not lost to rounding.
_DECIMALS = 6
# Kinds of counts; from TRIGGERS on cross-triggers, by the class triggered.
TRUE: Final = 0
FALSE: Final = 1
TRIGGERS: Final = 2


class Changes(NamedTuple):
    """By how much the counts of one class change as the threshold falls below a score.

    Attributes:
        score: (change,) the threshold falls below it.
        clip: (change,) index of the clip.
        kind: (change,) TRUE or FALSE for true and false positives, TRIGGERS + class for
            cross-triggers.
        amount: (change,) 1 or -1.
    """

    score: npt.NDArray[Any]
    clip: Ints
    kind: Ints
    amount: Ints


def exact_psds(scores: Decoded, truth: Detections, *, dataset_s: float, spec: PsdsSpec) -> Psds:
    """PSDS over all thresholds.

    Args:
        scores: post-processed, finite scores, or boxes, of the clips and classes to count.
        truth: true events, their indices those of `scores`; every class occurs. Events of a class
            and clip do not overlap.
        dataset_s: total length of all clips, seconds.
        spec: parameters of the PSDS.
    """
    (found,) = several_exact_psds(scores, truth, dataset_s=dataset_s, specs=[spec])
    return found


def several_exact_psds(
    scores: Decoded, truth: Detections, *, dataset_s: float, specs: Sequence[PsdsSpec]
) -> list[Psds]:
    """`exact_psds` of several specs, which share what takes most of the time."""
    labels = scores.vocabulary.labels
    specs = [spec.of_classes(len(labels)) for spec in specs]
    class_s = seconds_of_classes(truth, len(labels))
    # One more than the curves show, so that rounding decides nothing.
    most_false = max(spec.max_efpr for spec in specs) * dataset_s / SECONDS_PER_HOUR + 1
    points: list[list[Roc]] = [[] for _ in specs]
    for label, changes in enumerate(class_changes(scores, truth, specs, most_false)):
        n_true = int(np.count_nonzero(truth.label_index == label))
        for of_spec, spec, found in zip(points, specs, changes, strict=True):
            of_spec.append(_points(found, n_true, class_s, dataset_s, spec))
    return [
        psds_of_rocs(
            # By rising threshold, so that sums round as before there were `class_points`.
            [staircase(one.efpr[::-1], one.tpr[::-1]) for one in found],
            labels,
            spec,
        )._replace(class_points=dict(zip(labels, found, strict=True)))
        for found, spec in zip(points, specs, strict=True)
    ]


def class_changes(
    scores: Decoded,
    truth: Detections,
    specs: Sequence[PsdsSpec],
    most_false: float = np.inf,
    *,
    by_clip: bool = False,
) -> Iterator[list[Changes]]:
    """Changes of the counts of each class in turn, one for each spec.

    Args:
        scores: see `exact_psds`.
        truth: see `exact_psds`.
        specs: parameters, as of `PsdsSpec.of_classes`.
        most_false: low thresholds may be left out if they have more false positives than this,
            which saves most of the time.
        by_clip: leave them out if more clips than that have a false positive instead, which they
            keep at every threshold below.
    """
    # Without the criterion, detections may be tolerated that meet no event.
    most = most_false if min(spec.dtc for spec in specs) > 0 else np.inf
    every = any(spec.alpha_ct for spec in specs)
    for found in found_of_classes(scores, truth, most, every_class=every, by_clip=by_clip):
        yield [changes_of(found, spec) for spec in specs]


def found_of_classes(
    scores: Decoded,
    truth: Detections,
    most_false: float = np.inf,
    *,
    every_class: bool = False,
    by_clip: bool = False,
) -> Iterator[DetectedRuns]:
    """Everything of each class in turn that is detected at any threshold.

    Args:
        scores: see `exact_psds`.
        truth: see `exact_psds`.
        most_false: see `class_changes`.
        every_class: whether detections are met by the events of all classes, or of their own.
        by_clip: see `class_changes`.
    """
    for label in range(len(scores.vocabulary)):
        own = truth.rows(truth.label_index == label)
        met = truth if every_class else own
        with_events = np.unique(own.clip_index)
        if isinstance(scores, Boxes):
            boxes = scores.rows(scores.label_index == label)
            yield _found_boxes(boxes, with_events, met, most_false, by_clip=by_clip)
            continue
        signals = [np.ascontiguousarray(block.values[..., label]) for _, block in scores.blocks]
        if most_false < np.inf:
            lowest = _lowest_level(signals, with_events, most_false, by_clip=by_clip)
            signals = [np.where(rows < lowest, -np.inf, rows) for rows in signals]
        yield _found_of(scores, signals, met, label)


def _clips_level(highest: npt.NDArray[Any], most: float) -> float:
    """The score below which more than `most` clips have a detection; -inf if there is none.

    Args:
        highest: (clip,) its highest score.
        most: number of clips.
    """
    if len(highest) <= most:
        return -np.inf
    return float(np.partition(highest, -int(most) - 1)[-int(most) - 1])


def _lowest_level(
    signals: Sequence[npt.NDArray[Any]], with_events: Ints, most_false: float, *, by_clip: bool
) -> float:
    """The lowest score that the threshold may fall below with at most `most_false` detections in
    clips without an event of the class, all of which are false; infinity if there is none.

    With `by_clip`, that below which more such clips than that have a detection.
    """
    absent = np.ones(sum(map(len, signals)), dtype=bool)
    absent[with_events] = False
    parts = np.split(absent, np.cumsum([len(rows) for rows in signals])[:-1])
    highest = np.concatenate([rows.max(axis=1, initial=-np.inf) for rows in signals])[absent]
    # Few scores are above it.
    bound = _clips_level(highest, most_false)
    if by_clip:
        return bound
    rises = [
        find_rises(np.where(rows[part] < bound, -np.inf, rows[part]))
        for rows, part in zip(signals, parts, strict=True)
    ]
    high, low = (np.concatenate([getattr(one, side) for one in rises]) for side in ("high", "low"))
    if len(high) <= most_false:
        return -np.inf
    low = low[low > -np.inf]
    score = np.concatenate([high, low])
    order = np.argsort(-score)
    count = np.cumsum(np.append(np.ones(len(high)), -np.ones(len(low)))[order])
    few = np.flatnonzero(count <= most_false)
    if not len(few):
        return float("inf")
    return float("-inf") if few[-1] == len(order) - 1 else float(score[order[few[-1]]])


def _points(
    changes: Changes, n_true: int, class_s: Floats, dataset_s: float, spec: PsdsSpec
) -> Roc:
    """The rates of one class by falling threshold, where they are not beyond the curve."""
    levels, place = np.unique(changes.score, return_inverse=True)

    def rates(kinds: npt.NDArray[np.bool_], weight: Floats | float) -> Floats:
        weights = changes.amount[kinds] * weight
        at = np.bincount(place[kinds], weights, len(levels))
        return at[::-1].cumsum()[::-1]

    tpr = rates(changes.kind == TRUE, 1.0) / n_true
    efpr = rates(changes.kind == FALSE, 1.0) * (SECONDS_PER_HOUR / dataset_s)
    if spec.alpha_ct:
        crossed = changes.kind >= TRIGGERS
        of_class = spec.alpha_ct * SECONDS_PER_HOUR / (class_s * (len(class_s) - 1))
        efpr = efpr + rates(crossed, of_class[changes.kind[crossed] - TRIGGERS])
    kept = np.flatnonzero(efpr <= spec.max_efpr)[::-1]
    return Roc(efpr[kept], tpr[kept])


class DetectedRuns(NamedTuple):
    """Everything of a class that is detected at any threshold, and the truth that it meets."""

    rises: Rises  # in every clip; `signal` is the clip, as in `runs`
    runs: Runs  # in clips with events
    events: Detections  # the runs as events
    truth: Detections
    own: Overlaps  # with events of the class
    others: Overlaps  # with events of other classes

    @property
    def length_s(self) -> Floats:
        """(run,) seconds."""
        return self.events.offset_s - self.events.onset_s


def _found_of(
    scores: Scores, signals: Sequence[npt.NDArray[Any]], truth: Detections, label: int
) -> DetectedRuns:
    """What is detected of a class in signals (clip, frame), one array for each block of scores."""
    rises, runs, times_s = [], [], []
    for (first_clip, block), rows in zip(scores.blocks, signals, strict=True):
        rising, found = find_rises(rows), _runs_near(rows, truth.clip_index - first_clip)
        times_s.append(block.boundaries_s[np.stack([found.first, found.last])])
        rises.append(rising._replace(signal=rising.signal + first_clip))
        runs.append(found._replace(signal=found.signal + first_clip))
    of_all = Runs(*map(np.concatenate, zip(*runs, strict=True)))
    onset_s, offset_s = np.concatenate(times_s, axis=1)
    events = Detections(of_all.signal, np.full(len(onset_s), label), onset_s, offset_s)
    return _met(Rises(*map(np.concatenate, zip(*rises, strict=True))), of_all, events, truth)


def _met(rises: Rises, runs: Runs, events: Detections, truth: Detections) -> DetectedRuns:
    """What runs, whose times are those of `events`, have in common with the truth."""
    overlaps = overlaps_of(events, truth)
    own = events.label_index[overlaps.found] == truth.label_index[overlaps.true]
    return DetectedRuns(rises, runs, events, truth, overlaps.rows(own), overlaps.rows(~own))


def _found_boxes(
    boxes: Boxes, with_events: Ints, truth: Detections, most_false: float, *, by_clip: bool
) -> DetectedRuns:
    """What is detected of the class of the boxes; see `class_changes`."""
    false = boxes.rows(~np.isin(boxes.clip_index, with_events))
    absent = np.sort(false.confidence)[::-1]
    if by_clip:
        highest = np.full(len(boxes.clip_ids), -np.inf)
        np.maximum.at(highest, false.clip_index, false.confidence)
        level = _clips_level(highest[np.unique(false.clip_index)], most_false)
        boxes = boxes.rows(boxes.confidence >= level)
    elif len(absent) > most_false:
        boxes = boxes.rows(boxes.confidence > absent[int(most_false)])
    rises = Rises(boxes.clip_index, np.full(len(boxes), -np.inf), boxes.confidence)
    near = boxes.rows(np.isin(boxes.clip_index, truth.clip_index))
    # Their frames are not asked for.
    nowhere = np.zeros(len(near), dtype=np.int64)
    low = np.full(len(near), -np.inf)
    runs = Runs(near.clip_index, nowhere, nowhere, low, near.confidence)
    return _met(rises, runs, near.detect(-np.inf), truth)


def _runs_near(signals: npt.NDArray[Any], clips: Ints) -> Runs:
    """Runs in those of the clips that the signals have."""
    clips = np.unique(clips[(clips >= 0) & (clips < len(signals))])
    runs = find_runs(signals[clips])
    return runs._replace(signal=clips[runs.signal])


def _reaches(seconds: npt.NDArray[Any], share: float, length_s: Floats) -> npt.NDArray[np.bool_]:
    """Whether seconds are at least that share of lengths."""
    enough: npt.NDArray[np.bool_] = np.round(seconds, _DECIMALS) >= np.round(
        share * length_s, _DECIMALS
    )
    return enough


def changes_of(found: DetectedRuns, spec: PsdsSpec) -> Changes:
    """The changes of one class by the criteria of a spec."""
    inside_s = np.bincount(found.own.found, found.own.seconds, len(found.length_s))
    tolerated = _reaches(inside_s, spec.dtc, found.length_s)
    score, clip, amount = _hits(found, tolerated, spec.gtc)
    parts = [(score, clip, np.full(len(score), TRUE), amount)]
    rises = found.rises
    parts += while_detected(rises.low, rises.high, rises.signal, FALSE, 1)
    low, high, of_run = found.runs.low, found.runs.high, found.runs.signal
    fine = np.flatnonzero(tolerated)
    parts += while_detected(low[fine], high[fine], of_run[fine], FALSE, -1)
    if spec.cttc is not None:
        run, other = _cross_triggers(found, tolerated, spec.cttc)
        parts += while_detected(low[run], high[run], of_run[run], TRIGGERS + other, 1)
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    # A whole signal stays detected at every lower threshold.
    kept = columns[0] > -np.inf
    return Changes(*(column[kept] for column in columns))


_Columns = tuple[npt.NDArray[Any], Ints, Ints, Ints]


def while_detected(
    low: npt.NDArray[Any], high: npt.NDArray[Any], clip: Ints, kind: Ints | int, amount: int
) -> list[_Columns]:
    """Changes by something that counts at thresholds from `low` to below `high`."""
    kinds = np.broadcast_to(kind, clip.shape)
    return [
        (high, clip, kinds, np.full(len(clip), amount)),
        (low, clip, kinds, np.full(len(clip), -amount)),
    ]


def _hits(
    found: DetectedRuns, tolerated: npt.NDArray[np.bool_], gtc: float
) -> tuple[npt.NDArray[Any], Ints, Ints]:
    """Score, clip and amount of changes of the true events found: those that tolerated runs cover
    for the share `gtc`.
    """
    kept = tolerated[found.own.found]
    run, true, seconds = (column[kept] for column in found.own)
    # The coverage of a run is added below its `high` and removed below its `low`.
    score = np.concatenate([found.runs.high[run], found.runs.low[run]])
    event = np.concatenate([true, true])
    change = np.concatenate([seconds, -seconds])
    order = np.lexsort((-score, event))
    score, event, change = score[order], event[order], change[order]
    new_event = event[1:] != event[:-1]
    first = np.append(True, new_event)[: len(event)]
    total = np.cumsum(change)
    start = np.flatnonzero(first)
    earlier = np.repeat((total - change)[start], np.diff(np.append(start, len(event))))
    length_s = found.truth.offset_s - found.truth.onset_s
    covered = _reaches(total - earlier, gtc, length_s[event])
    # Of several changes of an event at one score, the last one counts.
    last = np.append(new_event | (score[1:] != score[:-1]), True)[: len(event)]
    score, event = score[last], event[last]
    hit = covered[last].astype(np.int64)
    before = np.append(0, hit)[:-1]
    before[np.append(True, event[1:] != event[:-1])[: len(event)]] = 0
    changed = hit != before
    return score[changed], found.truth.clip_index[event[changed]], (hit - before)[changed]


def _cross_triggers(
    found: DetectedRuns, tolerated: npt.NDArray[np.bool_], cttc: float
) -> tuple[Ints, Ints]:
    """Runs that are false, and the class of whose events they lie in for the share `cttc`."""
    others = found.others.rows(~tolerated[found.others.found])
    n_classes = int(found.truth.label_index.max(initial=0)) + 1
    cells, place = np.unique(
        others.found * n_classes + found.truth.label_index[others.true], return_inverse=True
    )
    inside_s = np.bincount(place, others.seconds, len(cells))
    run, other = np.divmod(cells, n_classes)
    crossed = _reaches(inside_s, cttc, found.length_s[run])
    return run[crossed], other[crossed]
