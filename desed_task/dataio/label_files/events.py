"""Rows of label files as tables of events or of labels of clips, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from desed_task.dataio.annotations import LONGEST_S, EventTable, WeakTable
from desed_task.dataio.label_files.forms import CONFIDENCE, LABEL, OFFSET, ONSET, LabelForm
from desed_task.dataio.label_files.label_map import LabelMap
from desed_task.dataio.label_files.numbers import read_numbers
from desed_task.dataio.label_files.rows import LabelRows
from desed_task.errors import InputError, agree, count_of, warn_once

Floats = npt.NDArray[np.float64]

_SECONDS: Final = "is not a number; correct the row"
_COMMA_HINT: Final = "is not a number: write a decimal point; correct the row"


@dataclass(frozen=True)
class ReadEvents:
    """Events of rows, in the order of the rows.

    Attributes:
        table: the events.
        row: (event,) the row of each event; a label that means several classes has several events.
    """

    table: EventTable
    row: npt.NDArray[np.int64]


def events_of_rows(
    rows: LabelRows, form: LabelForm, labels: LabelMap, *, path: Path, clip_soft: bool = False
) -> ReadEvents:
    """The events of rows; what is ignored, clipped or left out is named in one warning each.

    A row whose onset, offset and label are all empty names a clip without events.

    Args:
        rows: of one table or of one file per clip.
        form: of the files.
        labels: classes of the labels.
        path: of the table, for messages.
        clip_soft: whether a confidence outside [0, 1] becomes 0 or 1; otherwise it is refused.

    Raises:
        InputError: with every row that cannot be used.
    """
    texts = [rows.column(role) for role in (ONSET, OFFSET, LABEL)]
    used = np.array([any(cells) for cells in zip(*texts, strict=True)], dtype=bool)
    confidence_texts = rows.column(CONFIDENCE, "1")
    numbers = read_numbers((*texts[:2], confidence_texts))
    onset_s, offset_s = (column * form.seconds for column in numbers.columns[:2])
    confidence = numbers.columns[2]
    if numbers.commas is not None:
        warn_once(f"{rows.places[numbers.commas]}: decimal commas are read as points")
    classes = [
        (labels.indices(label) if label or label in labels.targets else None) if there else ()
        for label, there in zip(texts[2], used, strict=True)
    ]
    faults = _faults(rows, form, used, onset_s, offset_s)
    faults += [(row, labels.refusal(texts[2][row])) for row, of in enumerate(classes) if of is None]
    confidence, outside = _confidence(rows, used, confidence, clip_soft)
    faults += outside
    _raise(path, rows, faults)
    _name_ignored(path, labels, int(used.sum()))
    return _table(rows, used, classes, onset_s, offset_s, confidence, labels, path)


def _faults(
    rows: LabelRows,
    form: LabelForm,
    used: npt.NDArray[np.bool_],
    onset_s: Floats,
    offset_s: Floats,
) -> list[tuple[int, str]]:
    """Row and message of times that cannot be used."""
    found = []
    of_unit = "" if form.seconds == 1 else f" (unit: {1 / form.seconds:g} in a second)"
    for role, times in ((ONSET, onset_s), (OFFSET, offset_s)):
        texts = rows.column(role)
        for row in np.flatnonzero(used & ~np.isfinite(times)):
            reason = _COMMA_HINT if "," in texts[row] else _SECONDS
            found.append((int(row), f"{role} {texts[row]!r} {reason}"))
        for row in np.flatnonzero(used & (times > LONGEST_S)):
            text = f"{role} {texts[row]!r} is more than a week of seconds{of_unit}; correct the row"
            found.append((int(row), text))
    for row in np.flatnonzero(used & (onset_s < 0)):
        found.append((int(row), f"onset {rows.column(ONSET)[row]} is before the clip; correct it"))
    for row in np.flatnonzero(used & (offset_s < onset_s)):
        onset, offset = rows.column(ONSET)[row], rows.column(OFFSET)[row]
        found.append(
            (int(row), f"offset {offset} is before onset {onset}; correct the row, or `columns`")
        )
    return found


def _confidence(
    rows: LabelRows, used: npt.NDArray[np.bool_], confidence: Floats, clip_soft: bool
) -> tuple[Floats, list[tuple[int, str]]]:
    """Confidences within [0, 1], and faults."""
    texts = rows.column(CONFIDENCE, "1")
    bad = ~np.isfinite(confidence)
    outside = ~bad & ((confidence < 0) | (confidence > 1))
    if clip_soft and (n := int((outside & used).sum())):
        row = int(np.flatnonzero(outside & used)[0])
        warn_once(
            f"{rows.places[row]}: {count_of(n, 'confidence')} outside [0, 1] "
            f"{agree(n, 'is', 'are')} read as the nearest of 0 and 1, e.g. {texts[row]}"
        )
        confidence = np.clip(confidence, 0.0, 1.0)
    elif not clip_soft:
        bad |= outside
    faults = [
        (int(row), f"confidence {texts[row]!r} is not in [0, 1]; correct the row")
        for row in np.flatnonzero(bad & used)
    ]
    return confidence, faults


def _raise(path: Path, rows: LabelRows, faults: Sequence[tuple[int, str]]) -> None:
    lines = [*rows.faults, *(f"{rows.places[row]}: {text}" for row, text in sorted(faults))]
    if lines:
        raise InputError.collect(lines, f"{path} cannot be used:")


def _name_ignored(path: Path, labels: LabelMap, n_labels: int) -> None:
    if text := labels.ignored_text(n_labels):
        warn_once(f"{path}: {text}", ("ignored", path))


def _table(
    rows: LabelRows,
    used: npt.NDArray[np.bool_],
    classes: Sequence[tuple[int, ...] | None],
    onset_s: Floats,
    offset_s: Floats,
    confidence: Floats,
    labels: LabelMap,
    path: Path,
) -> ReadEvents:
    number = {clip_id: index for index, clip_id in enumerate(rows.clip_ids)}
    clip_index = np.array([number[clip_id] for clip_id in rows.clips], dtype=np.int64)
    n_classes = np.array([len(of or ()) for of in classes], dtype=np.int64)
    empty = np.flatnonzero(used & (n_classes > 0) & (offset_s == onset_s))
    if len(empty):
        others = len(empty) - 1
        as_well = f", as {agree(others, 'is', 'are')} {others} more" if others else ""
        warn_once(
            f"{rows.places[empty[0]]}: the event ends where it begins and is left out{as_well}"
        )
    # A clip all of whose labels are ignored has no event, one whose events have no length had some.
    eventful = np.unique(clip_index[n_classes > 0])
    n_classes[empty] = 0
    row = np.repeat(np.arange(len(rows)), n_classes)
    label_index = [
        index for of, n in zip(classes, n_classes, strict=True) if n for index in of or ()
    ]
    clip_ids = tuple(rows.clip_ids)
    eventless = np.setdiff1d(np.arange(len(clip_ids)), eventful)
    table = EventTable(
        clip_ids,
        clip_index[row],
        onset_s[row],
        offset_s[row],
        np.array(label_index, dtype=np.int64),
        confidence[row].astype(np.float32),
        labels.vocabulary,
        path,
        frozenset(clip_ids[int(index)] for index in eventless),
    )
    return ReadEvents(table, row)


def weak_labels_of_rows(rows: LabelRows, labels: LabelMap, *, path: Path) -> WeakTable:
    """The labels of clips; several rows of a clip are put together.

    Args:
        rows: of one table or of one file per clip, with a list of labels each.
        labels: classes of the labels.
        path: of the table, for messages.

    Raises:
        InputError: with every row with an unknown or no label.
    """
    number = {clip_id: index for index, clip_id in enumerate(rows.clip_ids)}
    target = np.zeros((len(number), len(labels.vocabulary)), dtype=bool)
    faults: list[tuple[int, str]] = []
    lists: dict[str, list[str]] = {}
    n_labels = 0
    for row, (clip_id, text) in enumerate(zip(rows.clips, rows.column(LABEL), strict=True)):
        if text not in lists:
            lists[text] = labels.labels_in(text)
        found = lists[text]
        n_labels += len(found)
        for label in found or [""]:
            indices = labels.indices(label) if label else None
            if indices is None:
                faults.append((row, labels.refusal(label)))
            else:
                target[number[clip_id], list(indices)] = True
    _raise(path, rows, faults)
    _name_ignored(path, labels, n_labels)
    return WeakTable(tuple(rows.clip_ids), target, labels.vocabulary, path)
