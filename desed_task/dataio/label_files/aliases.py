"""Labels that training adds: of a class that contains the annotated one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from desed_task.dataio.annotations import EventTable, WeakTable


def add_aliases(table: EventTable, aliases: Sequence[tuple[str, str]]) -> EventTable:
    """A table with a copy of each aliased event behind its events.

    Args:
        table: events whose vocabulary contains the classes of the aliases.
        aliases: class, and the class that contains it.
    """
    sources = [np.arange(len(table.label_index))]
    labels = [table.label_index]
    # Alias by alias, in the order of the published tables: later rows of a class overwrite earlier.
    for label, containing in aliases:
        if label in table.vocabulary:
            rows = np.flatnonzero(table.label_index == table.vocabulary.index(label))
            sources.append(rows)
            labels.append(np.full(len(rows), table.vocabulary.index(containing)))
    order = np.concatenate(sources)
    return replace(
        table,
        clip_index=table.clip_index[order],
        onset_s=table.onset_s[order],
        offset_s=table.offset_s[order],
        label_index=np.concatenate(labels),
        confidence=table.confidence[order],
    )


def add_weak_aliases(table: WeakTable, aliases: Sequence[tuple[str, str]]) -> WeakTable:
    """A table whose clips with an aliased class have the class that contains it, too.

    Args:
        table: weak labels whose vocabulary contains the classes of the aliases.
        aliases: class, and the class that contains it.
    """
    target, index = table.target.copy(), table.vocabulary.index
    for label, containing in aliases:
        if label in table.vocabulary:
            target[:, index(containing)] |= table.target[:, index(label)]
    return replace(table, target=target)
