"""What is odd about events: classes with few of them, and events that overlap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from desed_task.dataio.annotations import EventTable, WeakTable
from local.task.class_names import comparable

# Fewer events or clips of a class in training than these are told.
FEW = 10
# An annotated soft label above this counts as an event.
_CERTAIN = 0.5


def events_by_class(table: EventTable | WeakTable | None) -> dict[str, int]:
    """Class -> its events (soft ones above 0.5) or, of weak labels, its clips; none left out."""
    if table is None:
        return {}
    vocabulary = table.vocabulary
    if isinstance(table, WeakTable):
        counts = (table.target > _CERTAIN).sum(axis=0)
    else:
        certain = table.label_index[table.confidence > _CERTAIN]
        counts = np.bincount(certain, minlength=len(vocabulary))
    return {vocabulary[int(i)]: int(counts[i]) for i in np.flatnonzero(counts)}


def overlapping_events(table: EventTable) -> dict[str, tuple[str, ...]]:
    """Clip -> classes of which it has events that begin before another one has ended."""
    order = np.lexsort((table.onset_s, table.label_index, table.clip_index))
    found: dict[str, dict[str, None]] = {}
    last, end_s = (-1, -1), 0.0
    for row in order:
        key = (int(table.clip_index[row]), int(table.label_index[row]))
        if key == last and table.onset_s[row] < end_s - 1e-6:
            clip, label = table.clip_ids[key[0]], table.vocabulary[key[1]]
            found.setdefault(clip, {})[label] = None
        end_s = float(table.offset_s[row]) if key != last else max(end_s, table.offset_s[row])
        last = key
    return {clip: tuple(labels) for clip, labels in found.items()}


def alike(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of labels that differ only in case, blanks, underscores or Unicode form."""
    groups: dict[str, list[str]] = {}
    for label in dict.fromkeys(labels):
        groups.setdefault(comparable(label), []).append(label)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def few(counts: Mapping[str, int], classes: Sequence[str], least: int = FEW) -> dict[str, int]:
    """Class -> its number, of classes with fewer than `least` but at least one, fewest first."""
    found = {label: counts.get(label, 0) for label in classes}
    wanted = {label: n for label, n in found.items() if 0 < n < least}
    return dict(sorted(wanted.items(), key=lambda one: one[1]))
