"""Unfinished files of a set, one per process, and the embeddings taken from them.

A process writes a file of its own, as HDF5 lets one process write a file. When all are done, the
first one copies the rows of the others into its own file, which becomes the set's. What a run that
was killed has left is collected when the next one begins, whatever its number of processes: a file
is removed once its rows are on disk in the first one's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from desed_task.audio.freshness import ClipSource, current_source
from desed_task.dataio.embedding_sources import changed_clips, read_sources
from desed_task.dataio.embedding_writer import EmbeddingWriter, clip_of
from desed_task.dataio.embeddings import finished_of, layout_of, read_layout
from desed_task.dataio.row_stores.unfinished import (
    open_part,
    part_of,
    parts_of_others,
    remove_stale,
)
from desed_task.errors import InputError, agree, count_of
from desed_task.hdf5 import open_hdf5
from desed_task.parallel import thread_map

_MIN_FILES_FOR_BAR = 2000
# Of unfinished files, whose own time is that of their last opening: rows without a recorded source
# are not believed.
_UNRECORDED_S = float("-inf")


def take_over(
    name: str, writer: EmbeddingWriter, clips: Mapping[str, Path], *, progress: bool
) -> None:
    """Reuse embeddings of unchanged clips from an interrupted run or an older file.

    Args:
        name: name of the set.
        writer: that of the first process.
        clips: clip -> file, of the whole set.
        progress: whether to show it.

    Raises:
        InputError: another run writes one of the files, or one is damaged.
    """
    leftovers = parts_of_others(writer.path)
    for part in leftovers:
        open_part(part, writer.layout.form)[0].close()  # refused before anything is changed
    remove_stale(writer.part)
    rows, todo = writer.layout.rows, set(writer.todo)
    done = [row for row in rows if row not in todo]
    begun = {clip_id: clips[clip_id] for clip_id in map(clip_of, done)}
    changed = set(changed_clips(begun, writer.sources, _UNRECORDED_S, read=True).changed)
    writer.forget([row for row in done if clip_of(row) in changed])
    n_discarded = writer.n_discarded
    for part in leftovers:
        n_discarded += _unlike(part, writer)
        _adopt(name, writer, part, clips, _UNRECORDED_S, progress=progress)
        part.unlink()
    if n_discarded:
        row = writer.layout.form.what.removesuffix("s")
        print(
            f"{name}: dropped {count_of(n_discarded, row)} that an interrupted run has "
            f"computed with other {writer.layout.form.varies}"
        )
    for donor in (writer.old, writer.path):
        if donor.exists() and _has_layout(donor):
            _adopt(name, writer, donor, clips, donor.stat().st_mtime, progress=progress)
    left = {clip_of(row) for row in writer.todo}
    n_done = len(clips) - len(left)
    if n_done:
        print(
            f"{name}: resuming, {n_done} of {count_of(len(clips), 'clip')} "
            f"{agree(n_done, 'is', 'are')} done"
        )


def _unlike(part: Path, writer: EmbeddingWriter) -> int:
    """Number of finished rows of an unfinished file if they cannot be used; 0 if they can."""
    with open_hdf5(part) as file:
        layout = layout_of(file)
        return 0 if layout.alike(writer.layout) else int(finished_of(file, len(layout.rows)).sum())


def _adopt(
    name: str,
    writer: EmbeddingWriter,
    donor: Path,
    clips: Mapping[str, Path],
    written_s: float,
    *,
    progress: bool,
) -> None:
    """Copy embeddings of unchanged clips, and record their audio.

    Args:
        name: name of the set.
        writer: receives the embeddings.
        donor: file that has them.
        clips: clip -> file, of the whole set.
        written_s: when it was written; decides for clips without a recorded source.
        progress: whether to show it.
    """
    layout = read_layout(donor)
    if not layout.alike(writer.layout):
        return
    known = read_sources(donor, layout.clip_ids)
    there, left = set(layout.clip_ids), dict.fromkeys(map(clip_of, writer.todo))
    wanted = [clip_id for clip_id in left if clip_id in there and clips[clip_id].exists()]

    def look(clip_id: str) -> ClipSource | None:
        return current_source(clips[clip_id], known.get(clip_id), written_s)

    shown = progress and len(wanted) >= _MIN_FILES_FOR_BAR
    found = thread_map(look, wanted, jobs=None, desc=f"{name}: comparing", progress=shown)
    looked = zip(wanted, found, strict=True)
    same = {clip_id: source for clip_id, source in looked if source is not None}
    writer.adopt(donor, [row for row in writer.todo if clip_of(row) in same], same)


def merge(writer: EmbeddingWriter, n_processes: int) -> None:
    """Copy what the other processes of this run have computed, and remove their files.

    Args:
        writer: that of the first process.
        n_processes: number of all, of which each but the first has closed its file.

    Raises:
        InputError: a file is damaged, or the disk is full.
    """
    for number in range(2, n_processes + 1):
        part = part_of(writer.path, number)
        writer.adopt(part, writer.todo, read_sources(part, writer.layout.clip_ids))
        part.unlink()


def _has_layout(path: Path) -> bool:
    """Whether embeddings can be taken from a file; not from one that --overwrite replaces."""
    try:
        read_layout(path)
    except InputError:
        return False
    return True
