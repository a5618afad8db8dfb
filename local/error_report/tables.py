"""errors.json, and events.tsv with a row per true event and per false alarm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from desed_task.evaluation.error_analysis import NOTHING, SHARE
from desed_task.evaluation.scores import Floats, Ints
from desed_task.file_names import escape_name
from local.error_report.findings import FoundErrors

FORMAT = 1
COLUMNS = (
    "filename",
    "event_label",
    "verdict",
    "cause",
    "other_label",
    "onset",
    "offset",
    "detected_onset",
    "detected_offset",
    "onset_error",
    "offset_error",
    "detections",
    "highest_score",
)
HIT, MISS, FALSE_ALARM = "hit", "miss", "false alarm"
# Why an event is a miss or a detection a false alarm.
INEXACT, CONFUSED, NOTHING_THERE = "inexact", "confused", "nothing there"
CAUSES = (INEXACT, CONFUSED, NOTHING_THERE)
# Edges of histograms of errors; what lies beyond the first and last is counted in the outer bins.
# A bin is as wide as the collar of the F-score, and one is centred at 0.
ERROR_EDGES_S = np.round(np.arange(-2.5, 2.51, 0.2), 1)


class EventRow(NamedTuple):
    """A true event or a false alarm.

    Attributes:
        clip: index of its clip.
        label: its class.
        verdict: HIT, MISS or FALSE_ALARM.
        cause: one of CAUSES; "" for a hit.
        other: index of the class it was confused with; NOTHING for none.
        onset_s, offset_s: of the true event, or of the false alarm.
        partner: index of the detection that a hit is compared with; -1 if there is none.
        event: index of the true event; -1 for a false alarm.
    """

    clip: int
    label: int
    verdict: str
    cause: str
    other: int
    onset_s: float
    offset_s: float
    partner: int = -1
    event: int = -1


def event_verdicts(errors: FoundErrors) -> list[EventRow]:
    """Every true event and every false alarm, by clip and onset."""
    rows = [*_true_events(errors), *_false_alarms(errors)]
    return sorted(rows, key=lambda row: (row.clip, row.onset_s, row.offset_s, row.label))


def _true_events(errors: FoundErrors) -> Iterator[EventRow]:
    truth, verdicts = errors.truth, errors.verdicts
    columns = (
        *(truth.clip_index, truth.label_index, truth.onset_s, truth.offset_s),
        *(verdicts.hit, verdicts.detected_as, verdicts.partner),
    )
    for event, values in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        clip, label, onset_s, offset_s, hit, other, partner = values
        cause = "" if hit else cause_of(label, other)
        yield EventRow(
            clip,
            label,
            HIT if hit else MISS,
            cause,
            other if cause == CONFUSED else NOTHING,
            onset_s,
            offset_s,
            partner,
            event,
        )


def _false_alarms(errors: FoundErrors) -> Iterator[EventRow]:
    found, verdicts = errors.found, errors.verdicts
    columns = (
        *(found.clip_index, found.label_index, found.onset_s, found.offset_s),
        *(verdicts.right, verdicts.lies_in),
    )
    for values in zip(*(column.tolist() for column in columns), strict=True):
        clip, label, onset_s, offset_s, right, other = values
        if not right:
            cause = cause_of(label, other)
            other = other if cause == CONFUSED else NOTHING
            yield EventRow(clip, label, FALSE_ALARM, cause, other, onset_s, offset_s)


def cause_of(label: int, other: int) -> str:
    """The cause of a miss or false alarm from its class and the class that was there instead."""
    if other == NOTHING:
        return NOTHING_THERE
    return INEXACT if other == label else CONFUSED


def format_events(errors: FoundErrors, rows: Sequence[EventRow]) -> str:
    """The table of `event_verdicts`, tab-separated; times in seconds."""
    lines = ["\t".join(COLUMNS)]
    names = [escape_name(f"{clip_id}.wav") for clip_id in errors.clip_ids]
    for clip, of_clip in groupby(rows, lambda row: row.clip):
        values, boundaries_s = errors.scores.of(errors.clip_ids[clip])
        lines += [
            "\t".join(
                (
                    names[clip],
                    errors.labels[row.label],
                    row.verdict,
                    row.cause,
                    "" if row.other == NOTHING else errors.labels[row.other],
                    f"{row.onset_s:.3f}",
                    f"{row.offset_s:.3f}",
                    *_compared(errors, row),
                    _highest(values[:, row.label], boundaries_s, row),
                )
            )
            for row in of_clip
        ]
    return "\n".join(lines) + "\n"


def _highest(scores: NDArray[Any], boundaries_s: Floats, row: EventRow) -> str:
    """The highest score of the frames that an event touches; "" if it begins after them."""
    first = int(np.searchsorted(boundaries_s, row.onset_s, side="right")) - 1
    last = int(np.searchsorted(boundaries_s, row.offset_s, side="left"))
    part = scores[max(first, 0) : last]
    return f"{part.max():.4f}" if len(part) else ""


def _compared(errors: FoundErrors, row: EventRow) -> tuple[str, ...]:
    """Times of the compared detection, errors, and the number of right detections."""
    if row.event < 0:
        return ("",) * 5
    n_right = str(errors.verdicts.n_right[row.event])
    if row.partner < 0:
        return ("", "", "", "", n_right)
    found = errors.found
    return (
        f"{found.onset_s[row.partner]:.3f}",
        f"{found.offset_s[row.partner]:.3f}",
        f"{errors.onset_error_s[row.event]:.3f}",
        f"{errors.offset_error_s[row.event]:.3f}",
        n_right,
    )


class ClassRow(NamedTuple):
    """The figures of one class, or of all; rates and medians are None where they are undefined.

    Attributes:
        label: the class.
        threshold: None for all classes together.
        events: true events: hits and misses.
        hits: true events that were found.
        missed: misses by cause, in the order of CAUSES.
        detections: right ones and false alarms.
        right: detections that are not false.
        false: false alarms by cause, in the order of CAUSES.
        onset_error_s, offset_error_s: medians of the signed errors, and how many there are.
    """

    label: str
    threshold: float | None
    events: int
    hits: int
    missed: tuple[int, ...]
    detections: int
    right: int
    false: tuple[int, ...]
    n_compared: int
    onset_error_s: float | None
    offset_error_s: float | None

    @property
    def recall(self) -> float | None:
        """Share of the true events that are hits."""
        return self.hits / self.events if self.events else None

    @property
    def precision(self) -> float | None:
        """Share of the detections that are right."""
        return self.right / self.detections if self.detections else None


def class_rows(errors: FoundErrors) -> list[ClassRow]:
    """A row per class."""
    counts = errors.counts
    return [
        ClassRow(
            label,
            float(errors.thresholds[index]),
            int(counts.events[index]),
            int(counts.hits[index]),
            _by_cause(counts.misses[index], index),
            int(counts.detections[index]),
            int(counts.right[index]),
            _by_cause(counts.false_alarms[index], index),
            *_medians(errors, errors.truth.label_index == index),
        )
        for index, label in enumerate(errors.labels)
    ]


def total_row(errors: FoundErrors) -> ClassRow:
    """The sums over all classes."""
    rows = class_rows(errors)
    return ClassRow(
        "all classes",
        None,
        sum(row.events for row in rows),
        sum(row.hits for row in rows),
        tuple(sum(column) for column in zip(*(row.missed for row in rows), strict=True)),
        sum(row.detections for row in rows),
        sum(row.right for row in rows),
        tuple(sum(column) for column in zip(*(row.false for row in rows), strict=True)),
        *_medians(errors, np.ones(len(errors.truth), dtype=np.bool_)),
    )


def _by_cause(row: Ints, own: int) -> tuple[int, ...]:
    """A row of `ErrorCounts.misses` or `false_alarms` in the order of CAUSES."""
    inexact, nothing = int(row[own]), int(row[-1])
    return inexact, int(row.sum()) - inexact - nothing, nothing


def _medians(
    errors: FoundErrors, chosen: NDArray[np.bool_]
) -> tuple[int, float | None, float | None]:
    onset_s, offset_s = (
        errors_of(errors.onset_error_s, chosen),
        errors_of(errors.offset_error_s, chosen),
    )
    return len(onset_s), _median(onset_s), _median(offset_s)


def errors_of(error_s: Floats, chosen: NDArray[np.bool_]) -> Floats:
    """The errors of the chosen true events that have one."""
    of_chosen = error_s[chosen]
    there: Floats = of_chosen[np.isfinite(of_chosen)]
    return there


def _median(values: Floats) -> float | None:
    return float(np.round(np.median(values), 6)) if len(values) else None


def histogram(error_s: Floats) -> list[int]:
    """Counts of errors in the bins of ERROR_EDGES_S."""
    low, high = ERROR_EDGES_S[0], ERROR_EDGES_S[-1]
    # Rounded, since 0.1 + 0.2 is more than 0.3; the last bin includes its upper edge.
    inside = np.clip(np.round(error_s, 6), low, high)
    counts: list[int] = np.histogram(inside, ERROR_EDGES_S)[0].tolist()
    return counts


def errors_as_json(errors: FoundErrors, pages: Mapping[int, str], run: Mapping[str, Any]) -> Any:
    """The content of errors.json.

    Args:
        errors: the errors.
        pages: clip -> path of its page in the report, of the worst clips that have one.
        run: what was tested, further keys of the file.
    """
    return {
        "format": FORMAT,
        **run,
        "network": errors.role,
        "criterion": {"dtc": SHARE, "gtc": SHARE, "confusion": SHARE},
        "clips": len(errors.clip_ids),
        "clips_left_out": errors.n_left_out,
        "clips_without_scores": errors.n_unscored,
        "all_classes": _figures(total_row(errors)),
        "classes": {row.label: _figures(row) for row in class_rows(errors)},
        "missed_as": _pairs(errors, errors.counts.misses),
        "false_in": _pairs(errors, errors.counts.false_alarms),
        "errors": _histograms(errors),
        "worst_clips": [
            {
                "clip": escape_name(errors.clip_ids[clip]),
                "missed_s": float(errors.missed_s[clip]),
                "false_s": float(errors.false_s[clip]),
                "page": pages.get(clip),
            }
            for clip in errors.worst_clips().tolist()
        ],
    }


def _figures(row: ClassRow) -> dict[str, Any]:
    return {
        "threshold": row.threshold,
        "events": row.events,
        "hits": row.hits,
        "misses": dict(zip(CAUSES, row.missed, strict=True)),
        "detections": row.detections,
        "right": row.right,
        "false_alarms": dict(zip(CAUSES, row.false, strict=True)),
        "compared": row.n_compared,
        "median_onset_error_s": row.onset_error_s,
        "median_offset_error_s": row.offset_error_s,
    }


def _pairs(errors: FoundErrors, counts: Ints) -> dict[str, dict[str, int]]:
    """Class -> class that was there instead -> how often, where that is another class."""
    found: dict[str, dict[str, int]] = {}
    for one, other in np.argwhere(counts[:, :-1]).tolist():
        if one != other:
            of_one = found.setdefault(errors.labels[one], {})
            of_one[errors.labels[other]] = int(counts[one, other])
    return found


def _histograms(errors: FoundErrors) -> dict[str, Any]:
    label = errors.truth.label_index
    return {
        "edges_s": ERROR_EDGES_S.tolist(),
        **{
            name: {
                of: histogram(errors_of(error_s, label == index))
                for index, of in enumerate(errors.labels)
            }
            for name, error_s in (
                ("onset", errors.onset_error_s),
                ("offset", errors.offset_error_s),
            )
        },
    }
