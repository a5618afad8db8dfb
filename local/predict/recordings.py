"""Collect the recordings to process and name their results."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from desed_task.audio.listing import UNREADABLE, LeftOut, Listing, list_audio
from desed_task.errors import InputError, count_of
from desed_task.file_names import LONGEST_NAME, escape_name, looked_up_from, shorten_name

# Results have a further ending, the longest of which is .scores.tsv.
_LONGEST_STEM = LONGEST_NAME - len(".scores.tsv")
_LISTED = "listed already"
NOT_READ = "Recordings not read:"
# The table of all recordings, beside their own files.
TABLE_NAME = "events"


class Recording(NamedTuple):
    """An audio file.

    Attributes:
        path: the file.
        name: path of its results below the output folder, without ending.
        listed: its path below the given folder, by which a table of several recordings names it,
            or its whole path, if two have the same; "" for the file's name.
    """

    path: Path
    name: str
    listed: str = ""


class FoundRecordings(NamedTuple):
    """What `find_recordings` returns.

    Attributes:
        recordings: in the order of the inputs, sorted within a folder.
        faults: messages about inputs that cannot be used.
        notes: a line per folder of which something is left out, and one on shortened names.
        several: whether a folder or several files were given, whose events have a common table.
    """

    recordings: list[Recording]
    faults: list[str]
    notes: list[str]
    several: bool = False


class Place(NamedTuple):
    """Where a recording was found.

    Attributes:
        number: of the input, counted from 0.
        below: its path below that folder; "" for an input that is a file.
    """

    number: int
    below: str

    def path(self, inputs: Sequence[Path]) -> Path:
        """The recording, by the inputs as they are given now."""
        return inputs[self.number] / self.below if self.below else inputs[self.number]


class Found(NamedTuple):
    """What `search` returns.

    Attributes:
        found: what `find_recordings` returns.
        places: where each recording was found, in their order.
        folders: place of each searched folder (`below` is "." for an input) -> when it had last
            been changed (ns) before it was searched.
    """

    found: FoundRecordings
    places: list[Place]
    folders: dict[Place, int]


def find_recordings(inputs: Sequence[Path]) -> FoundRecordings:
    """Collect the recordings of files and folders, each once.

    Folders are searched with their subfolders, see `list_audio`. Results are named by the path
    below the given folder or by the file's stem; recordings that would share a name keep their
    ending, and if that does not suffice, their full path. The name of the table of several
    recordings counts as taken. A name too long for the endings of results is cut, with a digest of
    it at its end.

    Args:
        inputs: files and folders.
    """
    return search(inputs).found


def search(inputs: Sequence[Path]) -> Found:
    """Collect the recordings of files and folders as `find_recordings` does, with their places."""
    given: dict[str, _Given] = {}
    faults: list[str] = []
    notes: list[str] = []
    folders: dict[Place, int] = {}
    for number, path in enumerate(inputs):
        try:
            if stat.S_ISDIR(_mode(path)):
                listing = _add_folder(path, number, given, faults, notes)
                for folder, changed_ns in listing.folders.items():
                    folders[Place(number, os.fspath(folder.relative_to(path)))] = changed_ns
            else:
                given.setdefault(
                    os.path.realpath(path), _Given(path, Path(path.name), Place(number, ""))
                )
        except InputError as error:
            faults.append(str(error))
    several = len(given) > 1 or any(os.path.isdir(path) for path in inputs)
    named = _named(list(given.values()), [TABLE_NAME] if several else [])
    listed = _listed(list(given.values()))
    recordings = [Recording(one.path, name, listed[one.path]) for one, name in named]
    cut = [one for one in recordings if _fitting(one.name) != one.name]
    if cut:
        notes.append(
            f"{count_of(len(cut), 'name')} too long for the endings of results, which are called "
            f"{escape_name(_fitting(cut[0].name))}{', ...' * (len(cut) > 1)}"
        )
        recordings = [one._replace(name=_fitting(one.name)) for one in recordings]
    found = FoundRecordings(recordings, faults, notes, several)
    return Found(found, [one.place for one in given.values()], folders)


class _Given(NamedTuple):
    """A file and its path below the given folder."""

    path: Path
    below: Path
    place: Place


def _mode(path: Path) -> int:
    """The mode of a folder or regular file; an InputError for anything else."""
    shown = escape_name(path)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if os.path.islink(path):
            raise InputError(f"{shown}: is a link to nothing; mend or remove it") from None
        if isinstance(error, PermissionError):
            raise InputError(f"{shown}: permission denied; correct its permissions") from None
        where = looked_up_from(path)
        raise InputError(f"{shown}: no such file or folder{where}; check the path") from None
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise InputError(f"{shown}: is not a regular file; save the audio in one and give that")
    return mode


def _add_folder(
    folder: Path, number: int, given: dict[str, _Given], faults: list[str], notes: list[str]
) -> Listing:
    """Add a folder's files, and the line on what is left out of it."""
    listing = list_audio(folder)
    files, listing.files = listing.files, []
    real_folders: dict[str, str] = {}
    for path in files:
        real = _resolved(path, real_folders)
        if real in given:
            listing.left_out.append(LeftOut(path, _LISTED))
        else:
            below = path.relative_to(folder)
            given[real] = _Given(path, below, Place(number, os.fspath(below)))
            listing.files.append(path)
    if not files:
        what = listing.left_out_text()
        left_out = f" (left out: {what})" if what else ""
        faults.append(f"{escape_name(folder)}: contains no audio{left_out}; check the folder")
    elif line := listing.line():
        notes.append(line)
    faults += [
        f"{escape_name(path)}: cannot be opened; correct its permissions"
        for path, reason in listing.left_out
        if reason == UNREADABLE
    ]
    return listing


def _resolved(path: Path, folders: dict[str, str]) -> str:
    """The real path, with that of its folder kept in `folders`: one question to the disk."""
    if os.path.islink(path):
        return os.path.realpath(path)
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.path.join(folders[folder], name)


def _listed(found: Sequence[_Given]) -> dict[Path, str]:
    """File -> its path below the given folder; its whole path if two files have that one."""
    count = Counter(given.below for given in found)
    return {
        given.path: (given.below if count[given.below] == 1 else given.path.absolute()).as_posix()
        for given in found
    }


def _named(found: Sequence[_Given], taken: Sequence[str]) -> list[tuple[_Given, str]]:
    """Give each file the shortest kind of name that is unique and not taken."""
    kinds: tuple[Callable[[_Given], Path], ...] = (
        lambda given: given.below.with_suffix(""),
        lambda given: given.below,
        lambda given: given.path.absolute().relative_to(given.path.absolute().anchor),
    )
    names = [""] * len(found)
    for kind in kinds:
        twice = _taken_twice([*names, *taken, *taken])
        names = [
            kind(given).as_posix() if not name or name.casefold() in twice else name
            for given, name in zip(found, names, strict=True)
        ]
    return list(zip(found, names, strict=True))


def _taken_twice(names: Iterable[str]) -> set[str]:
    """Find duplicate names, ignoring case as some file systems do."""
    count = Counter(name.casefold() for name in names)
    return {name for name, times in count.items() if times > 1}


def _fitting(name: str) -> str:
    """The name, its last part cut to leave room for an ending; different names stay different."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{shorten_name(last, _LONGEST_STEM)}"
