"""Clips that tables and published splits list, and which of them are on disk.

Training uses every unlabelled file in the folder, but a table next to that of the weak clips lists
them. MAESTRO's tables are made from the recordings on disk, so only the published split tells which
recordings are missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from desed_task.dataio.annotations import read_durations
from desed_task.dataio.clip_names import last_part, match_names
from desed_task.dataio.tables import clip_ids as ids_of_rows
from desed_task.dataio.tables import read_text_table
from desed_task.errors import InputError
from local.config import RecipeConfig
from local.corpora import MAESTRO_TRAIN, MAESTRO_VALIDATION, UNLABELLED_TRAIN, Corpus
from local.data.maestro_split import (
    MAESTRO_TRAIN_RECORDINGS,
    MAESTRO_VALIDATION_RECORDINGS,
    first_of_each_scene,
)

UNLABELLED_TABLE = "unlabel_in_domain.tsv"
_RECORDINGS = {
    MAESTRO_TRAIN.name: MAESTRO_TRAIN_RECORDINGS,
    MAESTRO_VALIDATION.name: MAESTRO_VALIDATION_RECORDINGS,
}
# File in a mini corpus's folder that states its sizes.
MINI_CORPUS_MARKER = "mini_corpus.json"


def table_path(corpus: Corpus, config: RecipeConfig) -> Path | None:
    """The table that lists a corpus's clips, or None."""
    if corpus.table_key is not None:
        return Path(getattr(config.data, corpus.table_key))
    if corpus.name == UNLABELLED_TRAIN.name:
        path = Path(config.data.weak_tsv).with_name(UNLABELLED_TABLE)
        return path if path.is_file() else None
    return None


def listed_clips(path: Path) -> tuple[str, ...]:
    """The distinct clips that a table lists, whatever its other columns.

    Raises:
        InputError: the table is missing, empty or of another kind.
    """
    return tuple(dict.fromkeys(ids_of_rows(path, read_text_table(path, ("filename",)))))


def absent_recordings(corpus: Corpus, folder: Path, clip_ids: Iterable[str]) -> tuple[str, ...]:
    """Recordings of MAESTRO's published split without any clip; empty for other corpora.

    Args:
        corpus: any corpus.
        folder: folder of its clips; inside a mini corpus only that corpus's recordings count.
        clip_ids: all clips listed or on disk.
    """
    expected = _RECORDINGS.get(corpus.name, ())
    planned = _mini_recordings(folder) if expected else None
    there = {last_part(clip_id).rsplit("-", 2)[0] for clip_id in clip_ids}
    return tuple(
        name for name in expected if name not in there and (planned is None or name in planned)
    )


def _mini_recordings(folder: Path) -> set[str] | None:
    """The recordings of the mini corpus that contains a folder; None outside a mini corpus."""
    markers = (parent / MINI_CORPUS_MARKER for parent in folder.resolve().parents)
    marker = next((path for path in markers if path.is_file()), None)
    if marker is None:
        return None
    try:
        sizes = json.loads(marker.read_text(encoding="utf-8"))["sizes"]
        return {
            *first_of_each_scene(MAESTRO_TRAIN_RECORDINGS, sizes["train_recordings"]),
            *first_of_each_scene(MAESTRO_VALIDATION_RECORDINGS, sizes["validation_recordings"]),
        }
    except (ValueError, KeyError, TypeError):
        return None  # Damaged or from another version: expect the published split.


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
