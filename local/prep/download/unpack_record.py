"""Records of the files that each archive contained, to detect complete and damaged contents.

`downloads/<file>.json` is written without files before the first one is unpacked, and with all of
them after the last, so that the remains of a killed run are not taken for complete.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from desed_task.atomic_files import write_json_atomic
from local.prep.download.sources import DownloadSource
from local.prep.download.unpack import UnpackedFile
from local.prep.layout import DataLayout, rebase

DOWNLOADS_FOLDER = "downloads"
# Users remove clips from tables; that is not damage.
_EDITABLE = (".tsv", ".csv", ".txt", ".md")


class UnpackRecord:
    """The record of one archive, stored on disk.

    Attributes:
        name: name of the archive.
        started: whether unpacking was started, finished or not.
        files: all unpacked files once the last one was written; None before.
    """

    def __init__(self, layout: DataLayout, source: DownloadSource, name: str) -> None:
        self._path = downloads_folder(layout) / f"{name}.json"
        self.name, self._into = name, source.into
        self._folder = layout.basedir / source.into
        self.started, self.files = self._read()

    def _read(self) -> tuple[bool, list[UnpackedFile] | None]:
        try:
            tree = json.loads(self._path.read_text(encoding="utf-8"))
            if tree["into"] != self._into:
                return False, None  # A record of another source whose name matches the pattern too.
            return True, [UnpackedFile(str(path), int(size)) for path, size in tree["files"]]
        except (OSError, ValueError, KeyError, TypeError):
            return self._path.is_file(), None

    def start(self) -> None:
        """Record that the contents are incomplete."""
        self._write(None)

    def finish(self, files: Iterable[UnpackedFile]) -> None:
        """Record that the contents are complete."""
        self._write(list(files))

    def _write(self, files: list[UnpackedFile] | None) -> None:
        write_json_atomic(self._path, {"into": self._into, "files": files})
        self.started, self.files = True, files

    @property
    def is_whole(self) -> bool:
        """Whether every file still exists with its size; tables may have been edited."""
        return self.files is not None and all(
            is_as_written(self._folder / path, size) for path, size in self.files
        )

    def edited(self) -> list[str]:
        """Tables whose size has changed since they were unpacked."""
        return [
            path
            for path, size in self.files or ()
            if (self._folder / path).is_file() and (self._folder / path).stat().st_size != size
        ]


def records_of(layout: DataLayout, source: DownloadSource) -> list[UnpackRecord]:
    """Existing records of a source; they resolve a pattern without network access."""
    names = [source.file]
    if source.is_pattern:
        found = sorted(path.stem for path in downloads_folder(layout).glob("*.json"))
        names = [name for name in fnmatch.filter(found, source.file) if not name.endswith(".part")]
    records = [UnpackRecord(layout, source, name) for name in names]
    return [record for record in records if record.started]


def is_complete(layout: DataLayout, source: DownloadSource) -> bool:
    """Whether nothing of a source has to be fetched.

    Its own records decide. Without records, the user put the configured files there and they
    are kept.
    """
    records = records_of(layout, source)
    if any(record.files is None for record in records):
        return False
    if records and all(record.is_whole for record in records):
        return True
    return has_made(layout, source) or not (records or any(missing_paths(layout, source)))


def is_as_written(path: Path, size: int) -> bool:
    """Whether a file exists with its size, or is an edited table."""
    try:
        found = path.stat().st_size
    except OSError:
        return False
    return found == size or (found > 0 and path.suffix in _EDITABLE)


def downloads_folder(layout: DataLayout) -> Path:
    """The folder of archives and partial downloads."""
    return layout.basedir / DOWNLOADS_FOLDER


def has_made(layout: DataLayout, source: DownloadSource) -> bool:
    """Whether everything that is made from a source exists."""
    return bool(source.made) and all(_is_there(layout.found(key)) for key in source.made)


def missing_paths(layout: DataLayout, source: DownloadSource) -> Iterator[Path]:
    """Paths that a source should provide and that are missing below the base folder."""
    for key in source.gives or ():
        wanted = (
            getattr(layout, key)
            if key.startswith("recordings_")
            else rebase(getattr(layout.data, key), layout.basedir)
        )
        if not _is_there(wanted):
            yield wanted
    if not source.gives and not _is_there(layout.basedir / source.into):
        yield layout.basedir / source.into


def _is_there(path: Path) -> bool:
    """Whether a path is a non-empty file or a folder with a visible entry."""
    if path.is_dir():
        return any(not entry.name.startswith(".") for entry in path.iterdir())
    return path.is_file() and path.stat().st_size > 0
