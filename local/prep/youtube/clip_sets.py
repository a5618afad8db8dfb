"""The sets of AudioSet clips: tables, folders and missing clips."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from desed_task.audio.clip_files import clip_files
from desed_task.audio.files import probe
from desed_task.dataio.clip_names import clip_id_of, match_names
from desed_task.dataio.tables import read_text_table
from desed_task.errors import InputError
from desed_task.parallel import thread_map
from local.prep.layout import UNLABELLED_TABLE, DataLayout, rebase


class AudiosetClips(NamedTuple):
    """Clips of one table.

    Attributes:
        name: name in the missing table's file name and of the unlabelled clips' table.
        part: a name from `layout.DATA_PARTS`.
        folder_key: configuration key of the resampled clips.
        table_key: configuration key of the table; None for a table beside the weak clips'.
        title: title in tables and messages.
    """

    name: str
    part: str
    folder_key: str
    table_key: str | None
    title: str


# The largest comes last: results are compared on the validation clips.
AUDIOSET_CLIPS = (
    AudiosetClips("validation", "real", "test_folder", "test_tsv", "DESED validation"),
    AudiosetClips("weak", "real", "weak_folder", "weak_tsv", "weak"),
    AudiosetClips("strong", "strong", "strong_folder", "strong_tsv", "strong real"),
    AudiosetClips("unlabel_in_domain", "real", "unlabeled_folder", None, "unlabelled in domain"),
)


def missing_folder(layout: DataLayout) -> Path:
    """Folder of the tables of missing clips."""
    return layout.basedir / "dcase" / "dataset" / "missing_files"


def missing_table(layout: DataLayout, name: str) -> Path:
    """Path of the table of a set's missing clips."""
    return missing_folder(layout) / f"missing_files_{name}.tsv"


def listed_names(layout: DataLayout, name: str) -> tuple[str, ...]:
    """Unique file names of a set's table, in its order.

    Args:
        layout: paths of the data.
        name: name of a set: weak, validation, strong or unlabel_in_domain.

    Raises:
        InputError: the table is missing, empty or not of this kind.
    """
    key = {clip_set.name: clip_set.table_key for clip_set in AUDIOSET_CLIPS}[name]
    tables = (
        rebase(getattr(layout.data, key or "weak_tsv"), root)
        for root in (layout.basedir, layout.out_dir)
    )
    found = [table if key else table.with_name(UNLABELLED_TABLE) for table in tables]
    path = next((table for table in found if table.is_file()), found[0])
    return tuple(dict.fromkeys(read_text_table(path, ("filename",))["filename"]))


def absent_clips(
    names: Sequence[str],
    folders: Sequence[Path],
    desc: str,
    *,
    jobs: int | None = None,
    progress: bool = True,
) -> list[str]:
    """Clips that are complete in none of the folders or their subfolders, in the given order."""
    elsewhere = [_found_below(folder, names) for folder in folders]
    places = [
        [below.get(name, folder / name) for folder, below in zip(folders, elsewhere, strict=True)]
        for name in names
    ]
    there = thread_map(_is_there, places, jobs=jobs, desc=desc, progress=progress, unit="clip")
    return [name for name, is_there in zip(names, there, strict=True) if not is_there]


def clip_folders(layout: DataLayout, clip_set: AudiosetClips) -> tuple[Path, Path]:
    """Folders of a set's fetched clips and of its 16 kHz clips."""
    original = rebase(getattr(layout.data, f"{clip_set.folder_key}_44k"), layout.basedir)
    return original, layout.found(clip_set.folder_key)


def _found_below(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """File name in a table -> file, of those in subfolders or spelt in another way."""
    ids: dict[str, str] = {}
    for name in names:
        with suppress(InputError):  # No name of a clip in this folder: nothing is found.
            ids[clip_id_of(name)] = name
    files = clip_files(folder)
    try:
        found = match_names(ids, files)
    except InputError:
        return {}  # The data check and training list what is ambiguous.
    return {ids[clip_id]: files[there] for clip_id, there in found.items()}


def _is_there(paths: Sequence[Path]) -> bool:
    """Whether one of the files is a complete clip."""
    for path in paths:
        try:
            probe(path)
        except InputError:
            continue
        return True
    return False
