"""Resampling of the recipe's folders: each `*_44k` folder gets its 16 kHz sibling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from desed_task.audio import resample_folder
from desed_task.errors import InputError
from local.prep.layout import FOLDERS, Places

Failures = tuple[tuple[Path, str], ...]


class Step(NamedTuple):
    """What became of one folder or table: files written, files there before, failures."""

    title: str
    done: int
    there: int
    failed: Failures = ()


def resample_parts(
    places: Places, parts: Iterable[str], *, jobs: int | None = None, progress: bool = True
) -> Iterator[Step]:
    """Resample every folder of the parts that is on disk; the others are passed over.

    Args:
        places: where they lie.
        parts: of `layout.PARTS`.
        jobs: files at a time; None for one a processor.
        progress: show a bar for each folder.

    Returns:
        One step a folder. An empty folder is a failure.
    """
    wanted = set(parts)
    for folder in FOLDERS:
        source = source_of(places, folder.key)
        if folder.part not in wanted or not source.is_dir():
            continue
        try:
            report = resample_folder(
                source,
                places.made(folder.key),
                sample_rate=places.data.fs,
                jobs=jobs,
                progress=progress,
            )
        except InputError as error:
            yield Step(folder.title, 0, 0, ((source, str(error)),))
        else:
            yield Step(folder.title, report.done, report.skipped, report.failed)


def source_of(places: Places, key: str) -> Path:
    """The folder at its original rate that `data.<key>` is resampled from.

    MAESTRO's clips are made, not downloaded, so those below `out_dir` are the newer ones.
    """
    made = places.made(f"{key}_44k")
    return made if "maestro" in key and made.is_dir() else places.found(f"{key}_44k")
