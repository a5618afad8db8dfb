"""Collect the recordings to process and name their results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

# For files found in folders; a file given by path may have any ending.
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


class Recording(NamedTuple):
    """An audio file and the path of its results below the output folder, without ending."""

    path: Path
    name: str


def find_recordings(inputs: Sequence[Path]) -> tuple[list[Recording], list[str]]:
    """Collect the recordings of files and folders, each once, and errors of the others.

    Folders are searched recursively, without hidden files. Results are named by the path below the
    given folder or by the file's stem; recordings that would share a name keep their ending, and if
    that does not suffice, their full path.

    Args:
        inputs: files and folders.
    """
    found: dict[Path, _Given] = {}
    faults = []
    for given in inputs:
        if given.is_dir():
            inside = _below(given)
            if not inside:
                faults.append(
                    f"{given}: contains no audio ({', '.join(AUDIO_SUFFIXES)}); check the folder"
                )
            for path in inside:
                found.setdefault(path.resolve(), _Given(path, path.relative_to(given)))
        elif given.is_file():
            found.setdefault(given.resolve(), _Given(given, Path(given.name)))
        else:
            faults.append(f"{given}: no such file or folder; check the path")
    return _named(list(found.values())), faults


class _Given(NamedTuple):
    """A file and its path below the given folder."""

    path: Path
    below: Path


def _below(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _named(found: Sequence[_Given]) -> list[Recording]:
    """Give each file the shortest kind of name that is unique."""
    kinds: tuple[Callable[[_Given], Path], ...] = (
        lambda given: given.below.with_suffix(""),
        lambda given: given.below,
        lambda given: given.path.absolute().relative_to(given.path.absolute().anchor),
    )
    names = [""] * len(found)
    for kind in kinds:
        twice = _taken_twice(names)
        names = [
            kind(given).as_posix() if not name or name.casefold() in twice else name
            for given, name in zip(found, names, strict=True)
        ]
    return [Recording(given.path, name) for given, name in zip(found, names, strict=True)]


def _taken_twice(names: Iterable[str]) -> set[str]:
    """Find duplicate names, ignoring case as some file systems do."""
    count = Counter(name.casefold() for name in names)
    return {name for name, times in count.items() if times > 1}
