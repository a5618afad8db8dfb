"""The listing of an archive: its recordings and their lengths, found once and kept in a file.

It is kept in the folder `.archive` of the output folder, one file per list of inputs, so that
listings of other inputs are never taken for it. Names of results are decided when it is made, from
all recordings, so that they do not depend on shards. Paths are kept below the inputs, which another
machine or folder may reach by other paths.

The first line is the header, each further line a recording.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from desed_task.atomic_files import atomic_path
from desed_task.errors import InputError, count_of
from desed_task.file_names import escape_name
from local.predict.archives.claims import work_once
from local.predict.archives.lengths import UNKNOWN, Length, measure
from local.predict.recordings import NOT_READ, Place, Recording, search

ARCHIVE_FOLDER = ".archive"
_VERSION = 1
_EXAMPLES = 3
# Listings of arrays, and of commands with several processes, which list anew each time.
SHARDS, DEVICES = "shards", "devices"


class ArchiveRow(NamedTuple):
    """A recording of an archive.

    Attributes:
        place: where it is below the inputs.
        name: path of its results below the output folder, without ending.
        listed: how a table of all recordings names it.
        length: its length, and the file that it was read from.
    """

    place: Place
    name: str
    listed: str
    length: Length


class ArchiveListing:
    """A stored listing, which is read line by line.

    Args:
        path: the file.

    Raises:
        InputError: it is not a listing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            line = file.readline()
        try:
            header = json.loads(line)
            if header["version"] != _VERSION:
                raise ValueError(header["version"])
            self.key = str(header["key"])
            self.n_recordings = int(header["n_recordings"])
            self.listed_at = str(header["listed_at"])
            self.inputs = [Path(text) for text in header["inputs"]]
            self.faults = [str(text) for text in header["faults"]]
            self.notes = [str(text) for text in header["notes"]]
            self.several = bool(header["several"])
            self.folders = {Place(*place): int(changed) for *place, changed in header["folders"]}
        except (ValueError, KeyError, TypeError):
            raise self._damaged() from None

    def rows(self) -> Iterator[ArchiveRow]:
        """The recordings, in the order in which one process has them."""
        number = 0
        with self.path.open("rb") as file:
            next(file)
            for line in file:
                try:
                    of, below, name, listed, *length = json.loads(line)
                    yield ArchiveRow(Place(of, below), name, listed, Length(*length))
                except (ValueError, TypeError):
                    raise self._damaged() from None
                number += 1
        if number != self.n_recordings:
            raise self._damaged()

    def lengths_ms(self) -> list[int]:
        """Lengths of all recordings."""
        return [row.length.ms for row in self.rows()]

    def _damaged(self) -> InputError:
        return InputError(
            f"{escape_name(self.path)}: is not a listing of this version; remove it and run again"
        )


def recording_of(row: ArchiveRow, inputs: Sequence[Path]) -> Recording:
    """A recording by the inputs as they are given now."""
    return Recording(row.place.path(inputs), row.name, row.listed)


def listing_path(output_dir: Path, inputs: Sequence[Path], kind: str = SHARDS) -> Path:
    """The file of the listing of these inputs."""
    return output_dir / ARCHIVE_FOLDER / f"{kind}-{_key(inputs)}.jsonl"


def stored_listings(output_dir: Path) -> list[ArchiveListing]:
    """All listings of an output folder, the newest first."""
    paths = [
        path
        for kind in (SHARDS, DEVICES)
        for path in (output_dir / ARCHIVE_FOLDER).glob(f"{kind}-*.jsonl")
    ]
    paths.sort(key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
    return [ArchiveListing(path) for path in paths]


def listing_of_shards(output_dir: Path, inputs: Sequence[Path]) -> ArchiveListing:
    """The listing that all shards share; the first one to need it makes it, and others wait.

    Raises:
        InputError: there is no recording.
    """
    path = listing_path(output_dir, inputs)
    claim = path.with_suffix(".claim")
    work_once(
        claim, path.is_file, lambda: _publish(path, inputs), what="lists the recordings for all"
    )
    return ArchiveListing(path)


def new_listing(output_dir: Path, inputs: Sequence[Path], kind: str) -> ArchiveListing:
    """List the inputs again; lengths of files that have not changed since come from the old one.

    Raises:
        InputError: there is no recording.
    """
    path = listing_path(output_dir, inputs, kind)
    known: dict[Place, Length] = {}
    with suppress(FileNotFoundError, InputError):
        known = {row.place: row.length for row in ArchiveListing(path).rows()}
    lines = _lines(inputs, known)
    with atomic_path(path) as temporary:
        _write(temporary, lines)
    return ArchiveListing(path)


@contextmanager
def passing_listing(inputs: Sequence[Path]) -> Iterator[ArchiveListing]:
    """A listing without lengths, which is removed when the block ends.

    Raises:
        InputError: there is no recording.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = listing_path(Path(folder), inputs)
        path.parent.mkdir()
        _write(path, _lines(inputs, None))
        yield ArchiveListing(path)


def _publish(path: Path, inputs: Sequence[Path]) -> None:
    """Make a listing unless another process has made it meanwhile: the first one stays."""
    # Two listings may differ, and so would the shards of those who have read them.
    lines = _lines(inputs, {})
    own = path.with_suffix(f".{platform.node()}-{os.getpid()}-{secrets.token_hex(3)}.part")
    try:
        _write(own, lines)
        try:
            os.link(own, path)
        except FileExistsError:
            pass
        except OSError:  # The file system has no second names for a file.
            if not path.exists():
                os.replace(own, path)
        for left in path.parent.glob(f"{path.stem}.*.part"):  # of killed processes
            left.unlink(missing_ok=True)
    finally:
        own.unlink(missing_ok=True)


def _write(path: Path, lines: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def _key(inputs: Sequence[Path]) -> str:
    paths = json.dumps([os.path.abspath(path) for path in inputs])
    return hashlib.sha256(paths.encode()).hexdigest()[:12]


def _lines(inputs: Sequence[Path], known: dict[Place, Length] | None) -> Iterator[bytes]:
    """The lines of a new listing, once it is complete.

    Args:
        inputs: files and folders.
        known: lengths that were read before; None leaves out all lengths.
    """
    listed_at = time.strftime("%Y-%m-%d %H:%M:%S%z")
    found, places, folders = search(inputs)
    if not found.recordings:
        raise InputError.collect(found.faults, NOT_READ)
    notes = list(found.notes)
    if known is None:
        lengths = [UNKNOWN] * len(places)
    else:
        files = [one.path for one in found.recordings]
        lengths = measure(files, [known.get(place) for place in places])
        notes += _guesses_line(found.recordings, lengths)
    header: dict[str, Any] = {
        "version": _VERSION,
        "key": _key(inputs),
        "n_recordings": len(found.recordings),
        "listed_at": listed_at,
        "inputs": [os.path.abspath(path) for path in inputs],
        "faults": found.faults,
        "notes": notes,
        "several": found.several,
        "folders": [[*place, changed_ns] for place, changed_ns in folders.items()],
    }

    def lines() -> Iterator[bytes]:
        yield _line(header)
        for one, place, length in zip(found.recordings, places, lengths, strict=True):
            yield _line([*place, one.name, one.listed, *length])

    return lines()


def _guesses_line(recordings: Sequence[Recording], lengths: Sequence[Length]) -> list[str]:
    """A line that names recordings whose lengths are guessed, if there are any."""
    pairs = zip(recordings, lengths, strict=True)
    guessed = [one.listed or one.path.name for one, length in pairs if length.is_guess]
    if not guessed:
        return []
    names = ", ".join(map(escape_name, guessed[:_EXAMPLES]))
    more = ", ..." if len(guessed) > _EXAMPLES else ""
    text = count_of(len(guessed), "length that a header does", "lengths that headers do")
    return [f"{text} not tell: guessed from sizes ({names}{more})"]


def _line(value: Any) -> bytes:
    # Bytes of names that are not UTF-8 become escapes of ASCII, which are read as they were.
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"
