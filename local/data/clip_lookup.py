"""Find the clips that tables name among those on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from desed_task.dataio.annotations import read_durations
from desed_task.dataio.clip_names import match_names
from desed_task.errors import InputError
from local.data.expected_clips import listed_clips


def names_on_disk(
    table: Path, clip_ids: Iterable[str], folder: Path, present: Iterable[str]
) -> dict[str, str]:
    """The clips of a table -> their ids on disk (see `match_names`), of those that are there.

    Args:
        table: the table, for messages.
        clip_ids: its clips.
        folder: the corpus folder, for messages.
        present: ids of all clips below it.

    Raises:
        InputError: a name could be that of several clips.
    """
    try:
        return match_names(clip_ids, present)
    except InputError as error:
        raise InputError.collect(
            str(error).splitlines(),
            f"{table}: has names that could be several clips of {folder}; name files by their path "
            "below that folder:",
        ) from None


def listed_on_disk(table: Path, folder: Path, present: Iterable[str]) -> tuple[str, ...]:
    """The distinct clips that a table lists, under their ids on disk if they are there.

    Raises:
        InputError: the table cannot be read, or a name could be that of several clips.
    """
    listed = listed_clips(table)
    names = names_on_disk(table, listed, folder, present)
    return tuple(names.get(clip_id, clip_id) for clip_id in listed)


def durations_of(table: Path, clip_ids: Iterable[str], folder: Path) -> dict[str, float]:
    """Read a durations table: clip -> seconds, with the names of `clip_ids` where it has them.

    Args:
        table: the durations table.
        clip_ids: all clips or recordings whose durations are needed.
        folder: their folder, for messages.

    Raises:
        InputError: the table cannot be read, or a name could be that of several clips.
    """
    duration_s = read_durations(table)
    named = {row: c for c, row in names_on_disk(table, clip_ids, folder, duration_s).items()}
    return {named.get(name, name): value for name, value in duration_s.items()}
