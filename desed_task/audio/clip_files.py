"""The clips of a corpus on disk: every WAV file below its folder, known by its path there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from desed_task.atomic_files import PathLike
from desed_task.audio.formats import AUDIO_SUFFIXES
from desed_task.audio.listing import (
    BROKEN_LINK,
    HIDDEN,
    LINK_LOOP,
    LINKED,
    OTHER_ENDING,
    SPECIAL,
    UNREADABLE,
    list_audio,
)
from desed_task.errors import InputError, agree, count_of
from desed_task.file_names import escape_name, is_plain, looked_up_from

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
        odd: WAV files that are left out because of their names, by their paths below the folder.
        broken: links to nothing and special files, left out, by their paths below the folder.
        hidden: hidden files and folders, by their paths below the folder.
        no_audio: ending -> number of files that are no audio by their ending.
    """

    folder: Path
    files: dict[str, Path]
    linked: tuple[str, ...] = ()
    others: tuple[tuple[str, int], ...] = ()
    odd: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    no_audio: tuple[tuple[str, int], ...] = ()

    @property
    def all_notes(self) -> tuple[str, ...]:
        """`notes`, and a line on files that are no audio or hidden, which are common in a corpus.

        For commands that make something of every file of a folder.
        """
        skipped = []
        if self.no_audio:
            skipped.append(f"not audio by ending: {_counts(self.no_audio)}")
        if self.hidden:
            skipped.append(f"hidden: {len(self.hidden)} ({_some(self.hidden)})")
        line = f"{self.folder}: skipped: {', '.join(skipped)}"
        return (*self.notes, line) if skipped else self.notes

    @property
    def notes(self) -> tuple[str, ...]:
        """One line each: clips from subfolders, and per reason what is left out."""
        lines = []
        below = [clip_id for clip_id in self.files if "/" in clip_id]
        if below:
            places = list(dict.fromkeys(clip_id.rpartition("/")[0] for clip_id in below))
            lines.append(
                f"{self.folder}: {len(below)} of {count_of(len(self.files), 'clip')} "
                f"{agree(len(below), 'comes', 'come')} from subfolders ({_some(places)})"
            )
        if self.linked:
            lines.append(
                f"{self.folder}: linked folders, not searched: {len(self.linked)} "
                f"({_some(self.linked)}); link or copy their files instead"
            )
        if self.others:
            counts = _counts(self.others)
            lines.append(f"{self.folder}: audio that is not WAV, left out: {counts}; convert it")
        if self.odd:
            lines.append(
                f"{self.folder}: WAV files whose names are not UTF-8 or contain control "
                f"characters, left out: {len(self.odd)} ({_some(self.odd)}); rename them"
            )
        if self.broken:
            lines.append(
                f"{self.folder}: links to nothing and special files, left out: "
                f"{len(self.broken)} ({_some(self.broken)}); mend or remove them"
            )
        return tuple(lines)


def find_clips(
    folder: PathLike, *, without: PathLike | None = None, suffixes: Collection[str] = (_ENDING,)
) -> ClipFolder:
    """The WAV files (`.wav` in any case) of a folder and its subfolders.

    Hidden files and folders are left out; half-written files are hidden. Files whose names no table
    can hold are left out, too; broken links to WAV files stay, so that reading them is an error.

    Args:
        folder: where to look.
        without: a folder that is not searched, if it lies inside.
        suffixes: endings of other files that are clips, for folders that are not trained on.

    Raises:
        InputError: the folder is missing, cannot be opened or contains no WAV file, or two files
            are one clip (`1.wav` and `1.WAV`).
    """
    folder = Path(folder)
    if not folder.is_dir():
        where = looked_up_from(folder)
        raise InputError(f"{folder}: no such folder{where}; check the path or put the audio there")
    listing = list_audio(folder, suffixes, follow_links=False, without=without)
    left_out: dict[str, list[str]] = {}
    wavs = [str(path.relative_to(folder)) for path in listing.files]
    for path, reason in listing.left_out:
        name = str(path.relative_to(folder))
        if reason == UNREADABLE:
            raise InputError(f"{path}: cannot be read; correct its permissions")
        if reason in (BROKEN_LINK, LINK_LOOP) and name.lower().endswith(tuple(suffixes)):
            wavs.append(name)
        else:
            left_out.setdefault(reason, []).append(name)
    odd = [name for name in wavs if not is_plain(name)]
    endings = Counter(Path(name).suffix.lower() for name in left_out.get(OTHER_ENDING, ()))
    others = sorted((one, n) for one, n in endings.items() if one in AUDIO_SUFFIXES)
    rest = sorted((one, n) for one, n in endings.items() if one not in AUDIO_SUFFIXES)
    wavs = sorted(set(wavs).difference(odd), key=lambda name: name.split(os.sep))
    if not wavs:
        but = f" but those left out for their names ({_some(odd)})" if odd else ""
        remedy = "put the audio there or remove the folder"
        if others:
            but += f" but {_counts(others)}"
            remedy = "convert it to WAV, for example with ffmpeg"
        what = "WAV file" if tuple(suffixes) == (_ENDING,) else "audio file"
        raise InputError(f"{folder}: contains no {what}{but}; {remedy}")
    files = {clip_id_below(name): folder / name for name in wavs}
    _check_ids(folder, wavs, files)
    broken = [n for why in (BROKEN_LINK, LINK_LOOP, SPECIAL) for n in left_out.get(why, ())]
    return ClipFolder(
        folder,
        files,
        tuple(left_out.get(LINKED, ())),
        tuple(others),
        tuple(odd),
        tuple(broken),
        tuple(left_out.get(HIDDEN, ())),
        tuple((escape_name(ending) or "without ending", n) for ending, n in rest),
    )


def clip_files(folder: PathLike) -> dict[str, Path]:
    """`find_clips(folder).files`; empty if the folder cannot be used."""
    try:
        return find_clips(folder).files
    except InputError:
        return {}


def clip_id_below(name: str | Path) -> str:
    """The clip id of an audio file, from its path below the corpus folder."""
    return os.fspath(name).replace(os.sep, "/").rpartition(".")[0]


def _check_ids(folder: Path, names: Sequence[str], files: dict[str, Path]) -> None:
    if len(files) == len(names):
        return
    count = Counter(map(clip_id_below, names))
    faults = [
        f"{folder}: {' and '.join(same)} would be one clip; rename one of them"
        for same in _grouped(name for name in names if count[clip_id_below(name)] > 1)
    ]
    raise InputError.collect(faults, f"{folder} cannot be used:")


def _grouped(names: Iterable[str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(clip_id_below(name), []).append(name)
    return list(groups.values())


def _counts(endings: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{n} {ending}" for ending, n in endings)


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(escape_name, names[:_EXAMPLES])) + (
        ", ..." if len(names) > _EXAMPLES else ""
    )
