"""Clips that tables list and recordings that a corpus should have, and which of them are on disk.

Tables of clips that were cut from recordings are made from the recordings on disk, so only the
task's description tells which recordings are missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from desed_task.dataio.annotations import read_durations
from desed_task.dataio.clip_names import last_part, match_names
from desed_task.dataio.tables import clip_ids as ids_of_rows
from desed_task.dataio.tables import read_text_table
from desed_task.errors import InputError
from local.data.splits import group_of, recording_in
from local.task.corpus import Corpus

# File in a mini corpus's folder that states its sizes.
MINI_CORPUS_MARKER = "mini_corpus.json"


def table_path(corpus: Corpus) -> Path | None:
    """The table that lists a corpus's clips, or None."""
    if corpus.table is not None:
        return Path(corpus.table.path)
    path = None if corpus.listed is None else Path(corpus.listed)
    return path if path is not None and path.is_file() else None


def listed_clips(path: Path) -> tuple[str, ...]:
    """The distinct clips that a table lists, whatever its other columns.

    Raises:
        InputError: the table is missing, empty or of another kind.
    """
    return tuple(dict.fromkeys(ids_of_rows(path, read_text_table(path, ("filename",)))))


def absent_recordings(corpus: Corpus, folder: Path, clip_ids: Iterable[str]) -> tuple[str, ...]:
    """Recordings that a corpus should have and that have no clip; empty where none are expected.

    Args:
        corpus: any corpus.
        folder: folder of its clips; inside a mini corpus only that corpus's recordings count.
        clip_ids: all clips listed or on disk.
    """
    expected = corpus.recordings.expected
    if not expected:
        return ()
    expected = _of_mini_corpus(corpus, folder)
    # Onset and offset are the last two parts of a name; a recording's own may have hyphens.
    recording = recording_in(corpus) if corpus.recordings.pattern else _without_times
    there = set(map(recording, clip_ids))
    return tuple(name for name in expected if name not in there)


def _without_times(clip_id: str) -> str:
    return last_part(clip_id).rsplit("-", 2)[0]


def _of_mini_corpus(corpus: Corpus, folder: Path) -> tuple[str, ...]:
    """The expected recordings, inside a mini corpus the first ones of each group."""
    expected = corpus.recordings.expected
    markers = (parent / MINI_CORPUS_MARKER for parent in folder.resolve().parents)
    marker = next((path for path in markers if path.is_file()), None)
    if marker is None:
        return expected
    try:
        sizes = json.loads(marker.read_text(encoding="utf-8"))["sizes"]
        used = "validation" if corpus.split == "test" else "train"
        return first_of_groups(expected, corpus.recordings.groups, sizes[f"{used}_recordings"])
    except (ValueError, KeyError, TypeError):
        return expected  # Damaged or from another version.


def first_of_groups(recordings: Iterable[str], groups: Sequence[str], n: int) -> tuple[str, ...]:
    """The first `n` recordings of each group, as in a mini corpus."""
    names = tuple(recordings)
    return tuple(
        name
        for group in groups
        for name in [one for one in names if group_of(one, groups) == group][:n]
    )


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
