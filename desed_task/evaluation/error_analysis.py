"""What goes wrong at given thresholds: hits and misses, confusions, onset and offset errors.

A verdict is that of the intersection criteria (Bilen et al. 2020) with dtc = gtc = 0.5, on times
rounded as in sed_scores_eval. All functions take detections, so any decoder's.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from desed_task.evaluation.fscores import SED_SCORES_EVAL_DECIMALS
from desed_task.evaluation.intersection import Overlaps, intersection_matches, overlaps_of
from desed_task.evaluation.scores import Detections, Floats, Ints

# Detection tolerance, ground truth intersection, and the share that makes a confusion.
SHARE: Final = 0.5
# Stands for a class where there is none.
NOTHING: Final = -1
_DECIMALS = SED_SCORES_EVAL_DECIMALS


class EventVerdicts(NamedTuple):
    """What became of each true event and each detection.

    Attributes:
        hit: (true event,) at least half of it lies in right detections; else it is a miss.
        right: (detection,) at least half of it lies in true events of its class; else it is a false
            alarm.
        detected_as: (true event,) its own class for a hit; for a miss, the class detected there:
            the one whose detections cover at least half of it; else its own if one of its class
            overlaps it at all; else NOTHING.
        lies_in: (detection,) its own class if it is right; for a false alarm, the class annotated
            there: the one whose events cover at least half of it; else its own if one of its class
            overlaps it at all; else NOTHING.
        partner: (true event,) index of the detection that its boundaries are compared with, of a
            hit; -1 if it has none.
        n_right: (true event,) right detections that overlap it.
    """

    hit: npt.NDArray[np.bool_]
    right: npt.NDArray[np.bool_]
    detected_as: Ints
    lies_in: Ints
    partner: Ints
    n_right: Ints


class ErrorCounts(NamedTuple):
    """Verdicts counted per class: hits + misses = events, right + false alarms = detections.

    Attributes:
        hits: (class,) true events that are hits.
        misses: (class, class + 1) misses by their class and the class detected there
            (`EventVerdicts.detected_as`); NOTHING is the last column.
        right: (class,) right detections.
        false_alarms: (class, class + 1) false alarms by their class and the class annotated there
            (`EventVerdicts.lies_in`); NOTHING is the last column.
    """

    hits: Ints
    misses: Ints
    right: Ints
    false_alarms: Ints

    @property
    def events(self) -> Ints:
        """(class,) true events."""
        events: Ints = self.hits + self.misses.sum(axis=1)
        return events

    @property
    def detections(self) -> Ints:
        """(class,) detections."""
        detections: Ints = self.right + self.false_alarms.sum(axis=1)
        return detections


def judge_events(found: Detections, truth: Detections, n_classes: int) -> EventVerdicts:
    """Judge every true event and every detection.

    A miss is confused only with false alarms: a right detection of another class is a second sound
    that was there, too. If several classes reach half, the one that covers most counts, the first
    of equal ones. For a miss its own class precedes others if its detections, which then are too
    long, cover half of it.

    Args:
        found: detections; those of a class and clip do not overlap.
        truth: true events; those of a class and clip do not overlap.
        n_classes: number of classes that the label indices count.
    """
    matches = intersection_matches(
        found, truth, n_classes, dtc=SHARE, gtc=SHARE, cttc=None, decimals=_DECIMALS
    )
    hit, right = matches.hit, matches.tolerated
    pairs = overlaps_of(found, truth)
    # What rounding leaves of touching events is no overlap.
    pairs = pairs.rows(np.round(pairs.seconds, _DECIMALS) > 0)
    found_label, true_label = found.label_index, truth.label_index
    own = found_label[pairs.found] == true_label[pairs.true]
    of_misses = pairs.rows(own | ~right[pairs.found])
    detected_as = _class_there(
        of_misses.true, found_label[of_misses.found], of_misses.seconds, truth, n_classes
    )
    lies_in = _class_there(pairs.found, true_label[pairs.true], pairs.seconds, found, n_classes)
    useful = pairs.rows(own & right[pairs.found])
    return EventVerdicts(
        hit,
        right,
        np.where(hit, true_label, detected_as),
        np.where(right, found_label, lies_in),
        _partners(useful.rows(hit[useful.true]), found, truth),
        np.bincount(useful.true, minlength=len(truth)),
    )


def _class_there(
    index: Ints, label: Ints, overlap_s: Floats, events: Detections, n_classes: int
) -> Ints:
    """(event,) the class that overlaps each event, see `EventVerdicts`.

    Args:
        index: (overlap,) index of the event.
        label: (overlap,) class that overlaps it.
        overlap_s: (overlap,) seconds.
        events: the events.
        n_classes: number of classes.
    """
    n_events = len(events)
    cell = index * n_classes + label
    covered_s = np.bincount(cell, weights=overlap_s, minlength=n_events * n_classes)
    # Rounded, so that equal shares are a tie.
    covered_s = np.round(covered_s.reshape(n_events, n_classes), _DECIMALS)
    enough_s = np.round(SHARE * (events.offset_s - events.onset_s), _DECIMALS)
    rows, own = np.arange(n_events), events.label_index
    own_s = covered_s[rows, own]
    covered_s[rows, own] = 0.0
    other = covered_s.argmax(axis=1)
    other_s = covered_s[rows, other]
    is_own = (own_s > 0) & (own_s >= enough_s)
    is_other = (other_s > 0) & (other_s >= enough_s)
    found: Ints = np.select([is_own, is_other, own_s > 0], [own, other, own], NOTHING)
    return found


def _partners(pairs: Overlaps, found: Detections, truth: Detections) -> Ints:
    """(true event,) its detection, each in one pair: the best pair first, -1 for none.

    The better pair has the larger intersection over union, or begins earlier.
    """
    begin_s = np.minimum(found.onset_s[pairs.found], truth.onset_s[pairs.true])
    end_s = np.maximum(found.offset_s[pairs.found], truth.offset_s[pairs.true])
    share = np.round(pairs.seconds / (end_s - begin_s), _DECIMALS)
    order = np.lexsort((found.onset_s[pairs.found], truth.onset_s[pairs.true], -share))
    partner = np.full(len(truth), -1, dtype=np.int64)
    taken = np.zeros(len(found), dtype=np.bool_)
    for detection, event in zip(pairs.found[order], pairs.true[order], strict=True):
        if partner[event] < 0 and not taken[detection]:
            partner[event], taken[detection] = detection, True
    return partner


def boundary_errors(
    verdicts: EventVerdicts, found: Detections, truth: Detections
) -> tuple[Floats, Floats]:
    """(true event,) onset and offset errors in seconds: detected minus true, NaN without partner.

    Onsets that are detected too late and offsets that are detected too late are positive.
    """
    matched = verdicts.partner >= 0
    partner = verdicts.partner[matched]
    onset_s, offset_s = np.full((2, len(truth)), np.nan)
    onset_s[matched] = np.round(found.onset_s[partner] - truth.onset_s[matched], _DECIMALS)
    offset_s[matched] = np.round(found.offset_s[partner] - truth.offset_s[matched], _DECIMALS)
    return onset_s, offset_s


def count_errors(
    verdicts: EventVerdicts, found: Detections, truth: Detections, n_classes: int
) -> ErrorCounts:
    """Count verdicts per class; the arguments are those of `judge_events`."""
    hit, right = verdicts.hit, verdicts.right
    return ErrorCounts(
        np.bincount(truth.label_index[hit], minlength=n_classes),
        _crossed(truth.label_index[~hit], verdicts.detected_as[~hit], n_classes),
        np.bincount(found.label_index[right], minlength=n_classes),
        _crossed(found.label_index[~right], verdicts.lies_in[~right], n_classes),
    )


def _crossed(label: Ints, other: Ints, n_classes: int) -> Ints:
    """(class, class + 1) counts of pairs of classes, NOTHING in the last column."""
    column = np.where(other == NOTHING, n_classes, other)
    size = n_classes * (n_classes + 1)
    counts = np.bincount(label * (n_classes + 1) + column, minlength=size)
    table: Ints = counts.reshape(n_classes, n_classes + 1)
    return table


def wrong_seconds(found: Detections, truth: Detections, n_clips: int) -> tuple[Floats, Floats]:
    """(clip,) seconds of true events outside detections of their class, and the other way round.

    Seconds of several classes add up.
    """
    pairs = overlaps_of(found, truth)
    own = found.label_index[pairs.found] == truth.label_index[pairs.true]
    pairs = pairs.rows(own)
    common_s = np.bincount(truth.clip_index[pairs.true], pairs.seconds, minlength=n_clips)
    true_s, found_s = (
        np.bincount(events.clip_index, events.offset_s - events.onset_s, minlength=n_clips)
        for events in (truth, found)
    )
    # Without what rounding leaves, which would order clips by chance.
    missed_s, false_s = (
        np.round(whole_s - common_s, _DECIMALS).clip(0.0) for whole_s in (true_s, found_s)
    )
    return missed_s, false_s
