"""Whether an embeddings file is current: its clips, their audio, and what computed them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from desed_task.audio.windows import WindowKey
from desed_task.dataio.embedding_sources import (
    ChangedClips,
    changed_clips,
    note_new_times,
    read_sources,
)
from desed_task.dataio.embeddings import EmbeddingReader, made_with, read_layout
from desed_task.dataio.row_stores.forms import EMBEDDINGS, StoreForm
from desed_task.errors import InputError, count_of
from local.stores.identity import StoredIdentity


def why_outdated(
    path: Path,
    clips: Mapping[str, Path],
    windows: Iterable[WindowKey],
    shape: tuple[int, int],
    identity: StoredIdentity,
    form: StoreForm = EMBEDDINGS,
) -> tuple[str | None, bool]:
    """Why a file must be extracted again (None if it need not), and whether we wrote it.

    Args:
        path: the file.
        clips: clip -> file, of the whole set.
        windows: windows that need rows of their own.
        shape: features and tokens of a clip's frame embeddings.
        identity: what embeddings are computed with now.
        form: kind of the file.
    """
    try:
        # Published files do not record what they were computed with; other programs may have
        # written attributes of their own.
        ours = bool(made_with(read_layout(path).identity))
    except InputError as error:
        return str(error), False
    try:
        reader = EmbeddingReader(path, form)
        reader.match(clips)
    except InputError as error:
        return f"extracted again: {error}", ours
    if (reader.size, reader.n_tokens) != shape:
        return f"extracted again: {path} has {form.what} of another size or clip length", ours
    # Published files are assumed to match.
    if ours and reader.identity != identity:
        return f"extracted again: {path} has other {form.varies}", ours
    absent = reader.missing(clips)
    there = {clip_id: wav for clip_id, wav in clips.items() if clip_id not in set(absent)}
    found = compare_clips(there, reader, read=True, desc=f"{path.stem}: comparing")
    if absent or found.changed:
        n_changed = len(found.changed)
        changed = count_of(n_changed, "changed clip")
        text = f"{len(absent)} new and {changed} since {path} was written"
        return text, ours
    if found.touched:
        note_new_times(path, reader.clip_ids, found.sources)
        print(
            f"{path.stem}: {count_of(len(found.touched), 'clip has', 'clips have')} other "
            "times, but the same content"
        )
    if lacking := reader.missing(windows):
        return f"{path} lacks {count_of(len(lacking), 'window')} of longer clips", ours
    return None, ours


def tell_unrecorded(path: Path) -> None:
    """Say that a file of an earlier version does not record the audio of its clips."""
    layout = read_layout(path)
    if layout.identity and not read_sources(path, layout.clip_ids):
        print(f"{path.stem}: {path} does not record its audio; only the order in time was compared")


def compare_clips(
    clips: Mapping[str, Path], reader: EmbeddingReader, *, read: bool, desc: str = ""
) -> ChangedClips:
    """Compare clips with the audio that a file's embeddings were computed from.

    Args:
        clips: clip -> audio file, of clips in the file.
        reader: reader of the file.
        read: whether to read audio of which only the time differs.
        desc: title of a progress bar; none if empty.
    """
    known = read_sources(reader.path, reader.clip_ids)
    return changed_clips(clips, known, reader.path.stat().st_mtime, read=read, desc=desc)
