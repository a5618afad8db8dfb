"""Files of the user in an output folder: they are replaced only with `--overwrite`.

A command records what it writes in `.written.jsonl` of its output folder, one line per file: name
and SHA-256. A file whose name and content are not in the record is the user's, or was changed by
them since. A line is written before its file appears, so a killed run can be resumed.

Processes that write into one folder at the same time, perhaps from several machines, have a record
each, in the folder `.written`: on a network file system, appending to one file loses lines. All
records are read.

    with own_outputs(folder, [folder / "summary.md"], overwrite=args.overwrite):
        ...  # hours of work, then write_text_atomic(folder / "summary.md", text)
"""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO
from pathlib import Path

from desed_task.atomic_files import observed_writes, sha256_of
from desed_task.errors import InputError

RECORD_FILE = ".written.jsonl"
# Records of processes that write at the same time.
RECORD_FOLDER = ".written"
_MOST_SHOWN = 10
# Name and digest; a file name has at most 255 bytes, a path 4096, escaped six times as many.
_LONGEST_LINE = 1 << 15


class OwnFiles:
    """The record of an output folder.

    Args:
        folder: the folder; need not exist.
        overwrite: whether to replace the user's files.
        recognise: whether a file that is not recorded is ours, e.g. of an earlier version without
            records.
        writer: name of this process among those that write into the folder at the same time; ""
            for a single one.
        names: files whose records are kept in memory, if others are never written; None for all.
    """

    def __init__(
        self,
        folder: Path,
        *,
        overwrite: bool = False,
        recognise: Callable[[Path], bool] | None = None,
        writer: str = "",
        names: Iterable[Path] | None = None,
    ) -> None:
        self._folder = Path(os.path.abspath(folder))
        self._overwrite = overwrite
        self._recognise = recognise
        self._writer = writer
        self._names = None if names is None else {self._name(path) for path in names}
        self._known: dict[str, set[str]] = {}
        self._read_bytes: dict[Path, int] = {}
        self._lock = threading.Lock()

    @property
    def exists(self) -> bool:
        """Whether anything was recorded in this folder."""
        return any(path.is_file() for path in self._records())

    def check(self, paths: Iterable[Path]) -> None:
        """Refuse to replace what is not ours.

        Args:
            paths: files that will be written.

        Raises:
            InputError: naming the user's files among them, folders in their places, and files in
                the places of their folders.
        """
        found = ((path, self._not_a_folder(path)) for path in paths)
        foreign = [(path, file) for path, file in found if file or not self._may_write(path)]
        if not foreign:
            return
        names = [
            f"{file} (a folder is needed)" if file else f"{path}{' (a folder)' * path.is_dir()}"
            for path, file in foreign
        ]
        names = list(dict.fromkeys(names))
        shown = "\n".join(f"  - {name}" for name in names[:_MOST_SHOWN])
        if len(names) > _MOST_SHOWN:
            shown += f"\n  - ... and {len(names) - _MOST_SHOWN} more"
        raise InputError(
            "files that this program did not write, or that were changed since, would be replaced; "
            f"move them away, give another folder, or --overwrite:\n{shown}"
        )

    def record(self, path: Path, content: Path | None = None) -> None:
        """Record a file that is about to appear.

        Args:
            path: the file; ignored outside the folder.
            content: file with its content; `path` itself if None.
        """
        name = self._name(path)
        if name is None:
            return
        digest = sha256_of(content or path)
        if not self._knows(name, digest, [self._path]):
            line = json.dumps([name, digest]).encode() + b"\n"
            # A single write to the end, so that lines of several runs do not mix.
            if self._writer:
                self._own_folder().mkdir(parents=True, exist_ok=True)
            with self._open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND) as file:
                if file.seek(0, os.SEEK_END):
                    file.seek(-1, os.SEEK_END)
                    line = line if file.read(1) == b"\n" else b"\n" + line
                file.write(line)

    def _own_folder(self) -> Path:
        """The folder of records, which may come with a folder from elsewhere: never a link."""
        folder = self._folder / RECORD_FOLDER
        if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
            raise InputError(
                f"{folder}: is not the folder of records that this program keeps of its files; "
                "remove it"
            )
        return folder

    def _records(self) -> list[Path]:
        """All records of the folder."""
        folder = self._own_folder()
        try:
            parts = sorted(entry for entry in os.listdir(folder) if entry.endswith(".jsonl"))
        except FileNotFoundError:
            parts = []
        return [self._folder / RECORD_FILE, *(folder / part for part in parts)]

    def _open(self, path: Path, flags: int) -> FileIO:
        """Open a record, which may come with a folder from elsewhere: never follow a link."""
        # Without blocking, as a pipe would.
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            file = os.open(path, flags, 0o666)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.ENXIO):
                raise
        else:
            if stat.S_ISREG(os.fstat(file).st_mode):
                return FileIO(file, "rb+" if flags & os.O_RDWR else "rb")
            os.close(file)
        raise InputError(
            f"{path}: is a link, folder or pipe, not the record that this program keeps of "
            "its files; remove it"
        )

    def _not_a_folder(self, path: Path) -> Path | None:
        """What stands in the place of a folder between the output folder and a path."""
        folders = path.parents[: len(Path(self._name(path) or "").parts)]
        there = next((folder for folder in folders if os.path.lexists(folder)), None)
        return None if there is None or there.is_dir() else there

    def _may_write(self, path: Path) -> bool:
        name = self._name(path)
        if name is None or not os.path.lexists(path):
            return True
        if path.is_dir():
            return False
        return self._overwrite or self._is_ours(path, name)

    def _is_ours(self, path: Path, name: str) -> bool:
        if path.is_symlink() or not path.is_file():
            return False
        # The digest first: another run records a file before it replaces it.
        digest = sha256_of(path)
        if self._knows(name, digest):
            return True
        return self._recognise is not None and self._recognise(path)

    def _knows(self, name: str, digest: str, records: Iterable[Path] | None = None) -> bool:
        """Whether a content of a name was ever recorded.

        Args:
            name: name of the file in the record.
            digest: its content.
            records: where to look for what was added since; None for all records of the folder.
        """
        with self._lock:
            if digest not in self._known.get(name, ()):
                for path in self._records() if records is None else records:
                    self._catch_up(path)
            return digest in self._known.get(name, ())

    def _catch_up(self, path: Path) -> None:
        """Read what was added to a record."""
        read_bytes = self._read_bytes.get(path, 0)
        try:
            with self._open(path, os.O_RDONLY) as raw, BufferedReader(raw) as file:
                file.seek(read_bytes)
                while line := file.readline(_LONGEST_LINE):
                    if len(line) < _LONGEST_LINE and not line.endswith(b"\n"):
                        break  # It is being written.
                    read_bytes += len(line)
                    self._learn(line)
        except FileNotFoundError:
            pass
        self._read_bytes[path] = read_bytes

    def _learn(self, line: bytes) -> None:
        try:
            written, digest = json.loads(line)
            if self._names is None or written in self._names:
                self._known.setdefault(written, set()).add(digest)
        except (ValueError, TypeError, RecursionError):
            pass  # A line that was cut when the disk was full, or is not ours.

    @property
    def _path(self) -> Path:
        """The record that this process writes to."""
        if self._writer:
            return self._own_folder() / f"{self._writer}.jsonl"
        return self._folder / RECORD_FILE

    def _name(self, path: Path) -> str | None:
        """The name of a file in the record; None outside the folder."""
        absolute = Path(os.path.abspath(path))
        if not absolute.is_relative_to(self._folder):
            return None
        return absolute.relative_to(self._folder).as_posix()


@contextmanager
def own_outputs(
    folder: Path,
    paths: Iterable[Path],
    *,
    overwrite: bool,
    recognise: Callable[[Path], bool] | None = None,
    equivalent: Callable[[Path, Path], bool] | None = None,
    writer: str = "",
) -> Iterator[OwnFiles]:
    """Guard an output folder: what is written into it atomically is checked and recorded.

    A file with the content of its new version, or the beginning of it, is replaced, as nothing is
    lost.

    Args:
        folder: the output folder.
        paths: files known to be written, checked at once, before the work begins.
        overwrite: whether to replace the user's files.
        recognise: see `OwnFiles`.
        equivalent: whether a file that is there loses nothing when a new one replaces it.
        writer: see `OwnFiles`; of several ones, each writes only `paths`.

    Raises:
        InputError: a file of the user would be replaced, now or later in the block.
    """
    paths = list(paths)
    names = paths if writer else None
    own = OwnFiles(folder, overwrite=overwrite, recognise=recognise, writer=writer, names=names)
    own.check(paths)

    def observe(target: Path, temporary: Path) -> None:
        if not _loses_nothing(target, temporary, equivalent):
            own.check([target])
        own.record(target, temporary)

    with observed_writes(observe):
        yield own


def _loses_nothing(there: Path, new: Path, equivalent: Callable[[Path, Path], bool] | None) -> bool:
    if there.is_symlink() or not there.is_file():
        return False
    return is_beginning(there, new) or (equivalent is not None and equivalent(there, new))


def is_beginning(there: Path, new: Path) -> bool:
    """Whether a file holds the first bytes of another, like one whose writing was interrupted."""
    if there.stat().st_size > new.stat().st_size:
        return False
    with there.open("rb") as one, new.open("rb") as other:
        while block := one.read(1 << 20):
            if block != other.read(len(block)):
                return False
    return True
