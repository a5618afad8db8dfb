"""Groups of test clips by a column of a table (data.test_groups), for PSDS by group."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from desed_task.dataio.clip_names import match_names
from desed_task.dataio.tables import clip_ids as ids_of_rows
from desed_task.dataio.tables import read_text_table, row_location
from desed_task.errors import InputError, count_of
from desed_task.file_names import escape_name
from local.config import RecipeConfig
from local.data.truth import Truth, truth_of

_EXAMPLES = 3


@dataclass(frozen=True)
class ClipGroups:
    """Which group each clip is in.

    Attributes:
        column: name of the column.
        of: clip -> its value; "" for a clip of no group.
    """

    column: str
    of: Mapping[str, str]

    @property
    def values(self) -> list[str]:
        """The groups, sorted."""
        return sorted(set(self.of.values()) - {""})

    def clips(self, value: str) -> list[str]:
        """The clips of a group."""
        return [clip_id for clip_id, own in self.of.items() if own == value]

    def metric_name(self, metric: str, value: str) -> str:
        """Name of a metric of one group."""
        return f"{metric}[{escape_name(self.column)}={escape_name(value)}]"

    def report(self, left_out: Mapping[str, Iterable[str]]) -> dict[str, Any]:
        """What results.json says about the groups.

        Args:
            left_out: group -> scored classes without an event in it.
        """
        rows = json.dumps(sorted(self.of.items())).encode()
        return {
            "column": self.column,
            "sha256": hashlib.sha256(rows).hexdigest(),
            "clips": {value: len(self.clips(value)) for value in self.values},
            "clips_in_no_group": len(self.clips("")),
            "left_out": {value: list(labels) for value, labels in left_out.items()},
        }


def check_groups(config: RecipeConfig, truths: Sequence[Truth]) -> None:
    """Refuse groups of test clips that cannot be used, before anything is computed.

    Args:
        config: gives table and column.
        truths: of the test.

    Raises:
        InputError: the test scores no events, or as `read_groups`.
    """
    if config.data.test_groups is None:
        return
    truth = truth_of(truths, "events")
    if truth is None:
        raise InputError(
            "data.test_groups: PSDS by group needs a test of events; name a corpus in "
            "task.scored.events.test, or set data.test_groups to null"
        )
    read_groups(config, truth.events.clip_ids)


def read_groups(config: RecipeConfig, clip_ids: Iterable[str]) -> ClipGroups | None:
    """The groups of the clips of a test; None if none are configured.

    Args:
        config: gives table and column.
        clip_ids: the clips of the test.

    Raises:
        InputError: the table cannot be read, lacks the column or clips, or has several values for
            one clip.
    """
    asked = config.data.test_groups
    if asked is None:
        return None
    path = Path(asked.table)
    try:
        return _read(path, asked.column, list(clip_ids))
    except InputError as error:
        raise InputError(f"data.test_groups: {error}") from None


def _read(path: Path, column: str, clip_ids: list[str]) -> ClipGroups:
    frame = read_text_table(path, ("filename", column))
    names = ids_of_rows(path, frame).tolist()
    values = [value.strip() for value in frame[column]]
    found: dict[str, str] = {}
    problems = []
    for row, (name, value) in enumerate(zip(names, values, strict=True)):
        if found.setdefault(name, value) != value:
            problems.append(
                f"{row_location(path, frame, np.int64(row))}: {column} of {name} is {value!r}, "
                f"above it {found[name]!r}; give each clip one value"
            )
    if problems:
        raise InputError.collect(problems, f"{path} cannot be used:")
    here = match_names(clip_ids, found)
    absent = [clip_id for clip_id in clip_ids if clip_id not in here]
    if absent:
        raise InputError(
            f"{path}: lacks {count_of(len(absent), 'clip')} of the test set (e.g. "
            f"{', '.join(absent[:_EXAMPLES])}); add a row for each, whose {column} is empty for a "
            "clip of no group"
        )
    groups = ClipGroups(column, {clip_id: found[here[clip_id]] for clip_id in clip_ids})
    if not groups.values:
        raise InputError(
            f"{path}: {column} is empty for every clip of the test set; name another column, or "
            "set data.test_groups to null"
        )
    return groups
