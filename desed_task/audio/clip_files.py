"""The clips of a corpus on disk: every WAV file below its folder, known by its path there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

from desed_task.atomic_files import PathLike
from desed_task.audio.formats import AUDIO_SUFFIXES
from desed_task.errors import InputError

_ENDING = ".wav"
_EXAMPLES = 3


@dataclass(frozen=True)
class ClipFolder:
    """The clips below a folder, and what else is there.

    Attributes:
        folder: the folder.
        files: clip id (path below the folder without ending, parts separated by `/`) -> file, in
            the order of the paths, whatever the order in the file system.
        linked: linked subfolders, which are not searched, by their paths below the folder.
        others: ending -> number of audio files that are left out because they are not WAV.
    """

    folder: Path
    files: dict[str, Path]
    linked: tuple[str, ...] = ()
    others: tuple[tuple[str, int], ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """One line each: clips from subfolders, linked folders, audio of other kinds."""
        lines = []
        below = [clip_id for clip_id in self.files if "/" in clip_id]
        if below:
            places = list(dict.fromkeys(clip_id.rpartition("/")[0] for clip_id in below))
            lines.append(
                f"{self.folder}: {len(below)} of {len(self.files)} clips come from subfolders "
                f"({_some(places)})"
            )
        if self.linked:
            lines.append(
                f"{self.folder}: linked folders, not searched: {len(self.linked)} "
                f"({_some(self.linked)}); link or copy their files instead"
            )
        if self.others:
            counts = ", ".join(f"{n} {ending}" for ending, n in self.others)
            lines.append(f"{self.folder}: audio that is not WAV, left out: {counts}; convert it")
        return tuple(lines)


def find_clips(folder: PathLike, *, without: PathLike | None = None) -> ClipFolder:
    """The WAV files (`.wav` in any case) of a folder and its subfolders.

    Hidden files and folders are left out; half-written files are hidden.

    Args:
        folder: where to look.
        without: a folder that is not searched, if it lies inside.

    Raises:
        InputError: the folder is missing or contains no WAV file, two files are one clip
            (`1.wav` and `1.WAV`), or a name cannot be written in a table.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the path or put the audio there")
    seen = _search(folder, None if without is None else Path(without).resolve())
    if not seen.wavs:
        raise InputError(
            f"{folder}: contains no WAV file; put the audio there or remove the folder"
        )
    files = {clip_id_below(name): folder / name for name in seen.wavs}
    _check_names(folder, seen.wavs, files)
    return ClipFolder(folder, files, tuple(seen.linked), tuple(sorted(seen.others.items())))


def clip_files(folder: PathLike) -> dict[str, Path]:
    """`find_clips(folder).files`; empty if the folder cannot be used."""
    try:
        return find_clips(folder).files
    except InputError:
        return {}


def clip_id_below(name: str | Path) -> str:
    """The clip id of a WAV file, from its path below the corpus folder."""
    return os.fspath(name).replace(os.sep, "/")[: -len(_ENDING)]


class _Seen(NamedTuple):
    wavs: list[str]  # paths below the folder, sorted by their parts
    linked: list[str]
    others: Counter[str]


def _search(folder: Path, without: Path | None) -> _Seen:
    wavs: list[str] = []
    linked: list[str] = []
    others: Counter[str] = Counter()
    for place, folders, names in os.walk(folder, onerror=_refuse):
        here = Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links = [name for name in folders if (here / name).is_symlink()]
        linked += [str((here / name).relative_to(folder)) for name in links]
        leave = {*links, *(n for n in folders if without and (here / n).resolve() == without)}
        folders[:] = [name for name in folders if name not in leave]
        for name in names:
            ending = Path(name).suffix.lower()
            if name.startswith("."):
                continue
            if ending == _ENDING:
                wavs.append(str((here / name).relative_to(folder)))
            elif ending in AUDIO_SUFFIXES:
                others[ending] += 1
    return _Seen(sorted(wavs, key=lambda name: name.split(os.sep)), linked, others)


def _refuse(error: OSError) -> NoReturn:
    raise InputError(
        f"{error.filename}: cannot be read ({error.strerror}); correct its permissions"
    ) from None


def _check_names(folder: Path, names: Sequence[str], files: dict[str, Path]) -> None:
    faults = [
        f"{str(folder / name)!r}: file names of clips must be UTF-8 without tabs and line ends; "
        "rename it"
        for name in names
        if not _can_be_listed(name)
    ]
    if len(files) < len(names):
        count = Counter(map(clip_id_below, names))
        faults += [
            f"{folder}: {' and '.join(same)} would be one clip; rename one of them"
            for same in _grouped(name for name in names if count[clip_id_below(name)] > 1)
        ]
    if faults:
        raise InputError.collect(faults, f"{folder} cannot be used:")


def _grouped(names: Iterable[str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(clip_id_below(name), []).append(name)
    return list(groups.values())


def _can_be_listed(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return not set(name) & set("\t\n\r")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_EXAMPLES]) + (", ..." if len(names) > _EXAMPLES else "")
