"""What is there and whole: a record beside the archives of what each of them held.

`downloads/<file>.json` is written without files before the first one is unpacked, and with all of
them after the last, so that what a killed run left is not taken for whole.
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
# People take clips out of tables; that is no damage.
_EDITABLE = (".tsv", ".csv", ".txt", ".md")


class UnpackRecord:
    """What a file of a source held; on disk.

    Attributes:
        name: of the file.
        started: its contents are there, or a run was stopped while they were written.
        files: all of them, when the last one was written; else None.
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
                return False, None  # Of another source, whose name the pattern matches too.
            return True, [UnpackedFile(str(path), int(size)) for path, size in tree["files"]]
        except (OSError, ValueError, KeyError, TypeError):
            return self._path.is_file(), None

    def start(self) -> None:
        """From now on the contents are incomplete."""
        self._write(None)

    def finish(self, files: Iterable[UnpackedFile]) -> None:
        """From now on they are complete."""
        self._write(list(files))

    def _write(self, files: list[UnpackedFile] | None) -> None:
        write_json_atomic(self._path, {"into": self._into, "files": files})
        self.started, self.files = True, files

    @property
    def is_whole(self) -> bool:
        """Whether every file is still there, in its size; a table may have been edited."""
        return self.files is not None and all(
            is_as_written(self._folder / path, size) for path, size in self.files
        )

    def edited(self) -> list[str]:
        """Tables whose size is not the one that they were unpacked with."""
        return [
            path
            for path, size in self.files or ()
            if (self._folder / path).is_file() and (self._folder / path).stat().st_size != size
        ]


def records_of(layout: DataLayout, source: DownloadSource) -> list[UnpackRecord]:
    """The records of a source that are there; what a pattern stood for, they know offline."""
    names = [source.file]
    if source.is_pattern:
        found = sorted(path.stem for path in downloads_folder(layout).glob("*.json"))
        names = [name for name in fnmatch.filter(found, source.file) if not name.endswith(".part")]
    records = [UnpackRecord(layout, source, name) for name in names]
    return [record for record in records if record.started]


def is_complete(layout: DataLayout, source: DownloadSource) -> bool:
    """Whether nothing of a source has to be fetched.

    Its own records decide. Without any, somebody else has put there what the configuration wants,
    and it is left alone.
    """
    records = records_of(layout, source)
    if any(record.files is None for record in records):
        return False
    if records and all(record.is_whole for record in records):
        return True
    return has_made(layout, source) or not (records or any(missing_paths(layout, source)))


def is_as_written(path: Path, size: int) -> bool:
    """Whether a file is there and has its size, or is a table that somebody edited."""
    try:
        found = path.stat().st_size
    except OSError:
        return False
    return found == size or (found > 0 and path.suffix in _EDITABLE)


def downloads_folder(layout: DataLayout) -> Path:
    """The folder of archives and parts of them."""
    return layout.basedir / DOWNLOADS_FOLDER


def has_made(layout: DataLayout, source: DownloadSource) -> bool:
    """Whether everything that is made from a source exists."""
    return bool(source.made) and all(_is_there(layout.found(key)) for key in source.made)


def missing_paths(layout: DataLayout, source: DownloadSource) -> Iterator[Path]:
    """What a source gives and the base folder lacks, where the configuration wants it."""
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
    """A file with something in it, or a folder with something that is not hidden."""
    if path.is_dir():
        return any(not entry.name.startswith(".") for entry in path.iterdir())
    return path.is_file() and path.stat().st_size > 0
