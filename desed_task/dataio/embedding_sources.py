"""The audio that embeddings were computed from, beside them in their file.

    source_size      (clip,)     int64  bytes; -1 if unknown
    source_mtime_ns  (clip,)     int64  modification time
    source_digest    (clip, 16)  uint8  BLAKE2b of the file

Published files and those of earlier versions lack these; then only the order in time tells whether
a clip is newer than its embeddings.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from desed_task.audio.freshness import (
    DIGEST_BYTES,
    ClipSource,
    current_source,
    source_state,
)
from desed_task.errors import InputError, count_of
from desed_task.hdf5 import number_dataset, open_hdf5, write_values
from desed_task.parallel import thread_map

SIZE, MTIME, DIGEST = "source_size", "source_mtime_ns", "source_digest"
# Of audio that was written while it was embedded: no file is like it.
CHANGED = ClipSource(0, 0, "00" * DIGEST_BYTES)
_MIN_FILES_FOR_BAR = 2000


class ChangedClips(NamedTuple):
    """How the clips of an embeddings file compare with their audio now.

    Attributes:
        changed: clips whose audio is another one.
        touched: clips whose audio has another time; compared by content, they are the same, or not
            compared.
        sources: clip -> record of its audio now, of clips compared by content.
    """

    changed: tuple[str, ...]
    touched: tuple[str, ...]
    sources: Mapping[str, ClipSource]


def add_source_datasets(file: Any, n_clips: int) -> None:
    """Add the datasets to a new file, all unknown."""
    file.create_dataset(SIZE, data=np.full(n_clips, -1, dtype=np.int64))
    file.create_dataset(MTIME, data=np.zeros(n_clips, dtype=np.int64))
    file.create_dataset(DIGEST, data=np.zeros((n_clips, DIGEST_BYTES), dtype=np.uint8))


def has_source_datasets(file: Any) -> bool:
    """Whether an open file can store sources."""
    return all(name in file for name in (SIZE, MTIME, DIGEST))


def put_source(file: Any, row: int, source: ClipSource | None) -> None:
    """Store the source of a row of an open file; None if unknown."""
    write_values(file, SIZE, row, -1)  # unknown until all of it is written
    if source is not None:
        write_values(file, MTIME, row, source.mtime_ns)
        digest = np.frombuffer(bytes.fromhex(source.digest), dtype=np.uint8)
        write_values(file, DIGEST, row, digest)
        write_values(file, SIZE, row, source.size)


def sources_in(file: Any, clip_ids: Iterable[str]) -> dict[str, ClipSource]:
    """Clip -> known source, from an open file whose rows are `clip_ids`.

    Raises:
        InputError: the records have other types or another number of rows.
    """
    if not has_source_datasets(file):
        return {}
    clip_ids = tuple(clip_ids)
    found = [
        number_dataset(file, name, n, "iu") for name, n in ((SIZE, 1), (MTIME, 1), (DIGEST, 2))
    ]
    if [of.shape for of in found] != [(len(clip_ids),)] * 2 + [(len(clip_ids), DIGEST_BYTES)]:
        raise InputError(
            f"{file.filename}: {SIZE}, {MTIME} and {DIGEST} do not fit its "
            f"{count_of(len(clip_ids), 'clip')}"
        )
    size, mtime, digest = (of[:] for of in found)
    return {
        clip_id: ClipSource(int(size[row]), int(mtime[row]), digest[row].tobytes().hex())
        for row, clip_id in enumerate(clip_ids)
        if size[row] >= 0
    }


def read_sources(path: Path, clip_ids: Iterable[str]) -> dict[str, ClipSource]:
    """Clip -> known source, of a finished file whose rows are `clip_ids`."""
    with open_hdf5(path) as file:
        return sources_in(file, clip_ids)


def changed_clips(
    clips: Mapping[str, Path],
    known: Mapping[str, ClipSource],
    written_s: float,
    *,
    read: bool,
    desc: str = "",
) -> ChangedClips:
    """Compare clips with the sources of their embeddings.

    Args:
        clips: clip -> audio file; missing files do not count as changed.
        known: clip -> source of its embeddings.
        written_s: when the embeddings file was written; decides for clips without a known source.
        read: whether to read the audio whose time alone differs.
        desc: title of a progress bar, shown if many files are read; none if empty.
    """
    states = {c: source_state(path, known.get(c), written_s) for c, path in clips.items()}
    changed = [clip_id for clip_id, state in states.items() if state == "changed"]
    touched = [clip_id for clip_id, state in states.items() if state == "touched"]
    if not read:
        return ChangedClips(tuple(changed), tuple(touched), {})

    def look(clip_id: str) -> ClipSource | None:
        return current_source(clips[clip_id], known.get(clip_id), written_s)

    shown = bool(desc) and len(touched) >= _MIN_FILES_FOR_BAR
    found = thread_map(look, touched, jobs=None, desc=desc, progress=shown)
    sources = {c: source for c, source in zip(touched, found, strict=True) if source is not None}
    changed += [clip_id for clip_id in touched if clip_id not in sources]
    return ChangedClips(tuple(changed), tuple(sources), sources)


def note_new_times(path: Path, clip_ids: Iterable[str], sources: Mapping[str, ClipSource]) -> None:
    """Store new modification times of unchanged audio in a finished file; nothing if read-only.

    Its own time stays as it is: packed sets and running trainings take it for a change.
    """
    before = path.stat()
    rows = {clip_id: row for row, clip_id in enumerate(clip_ids)}
    try:
        with open_hdf5(path, "r+") as file:
            times = file[MTIME][:]
            for clip_id, source in sources.items():
                times[rows[clip_id]] = source.mtime_ns
            write_values(file, MTIME, slice(None), times)
    except (OSError, RuntimeError, InputError):
        return
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
