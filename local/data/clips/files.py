"""The clips of a corpus on disk: all of its folder, or those that a list and a pattern choose."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from desed_task.atomic_files import read_text
from desed_task.audio.clip_files import ClipFolder, find_clips
from desed_task.audio.formats import AUDIO_SUFFIXES
from desed_task.dataio.clip_names import clip_id_of, match_names
from desed_task.errors import InputError, count_of
from desed_task.file_names import looked_up_from
from local.task.corpus import Corpus

# Names of the column of clips in a list.
_COLUMNS: Final = ("filename", "file", "fname", "clip", "path")


def clips_of(corpus: Corpus) -> ClipFolder:
    """The clips of a corpus that are on disk, whether a table has labels of them or not.

    Raises:
        InputError: there are none, or two files are one clip, or the list cannot be used.
    """
    found = find_clips(corpus.folder)
    files = found.files
    if corpus.pattern is not None:
        files = {clip: file for clip, file in files.items() if fits(clip, corpus.pattern)}
        if not files:
            raise InputError(
                f"{corpus.folder}: none of {count_of(len(found.files), 'clip')} fits the pattern "
                f"{corpus.pattern!r} (e.g. {next(iter(found.files))}); correct it"
            )
    if corpus.clips is not None:
        chosen = set(_on_disk(corpus.clips, corpus.folder, files).values())
        files = {clip_id: file for clip_id, file in files.items() if clip_id in chosen}
    return found if files is found.files else replace(found, files=files)


def clips_not_found(corpus: Corpus, present: Iterable[str]) -> tuple[str, ...]:
    """Clips that the list of a corpus names and that are not on disk.

    Raises:
        InputError: the list cannot be used.
    """
    if corpus.clips is None:
        return ()
    names = clips_in_list(Path(corpus.clips))
    there = match_names(names, present)
    return tuple(name for name in names if name not in there)


def _on_disk(clips: str, folder: str, files: Iterable[str]) -> dict[str, str]:
    names = clips_in_list(Path(clips))
    try:
        found = match_names(names, files)
    except InputError as error:
        raise InputError.collect(
            str(error).splitlines(), f"{clips}: has names that could be several clips of {folder}:"
        ) from None
    if not found:
        raise InputError(
            f"{clips}: none of its {count_of(len(names), 'clip')} is in {folder} (e.g. "
            f"{names[0]}); check both paths"
        )
    return found


def clips_in_list(path: Path) -> tuple[str, ...]:
    """The clips that a list names: one a line, or in the first or the named column of a table.

    Args:
        path: the list, with commas between columns in *.csv and tabs otherwise. A first line that
            has one of the names `filename`, `file`, `fname`, `clip` and `path` is no clip.

    Raises:
        InputError: it is missing or empty, or a name is not that of a file below a folder.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such list of clips{looked_up_from(path)}")
    stat = path.stat()
    return _clips_in_list(path, (stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=16)
def _clips_in_list(path: Path, stamp: tuple[int, int]) -> tuple[str, ...]:
    separator = "," if path.suffix.lower() == ".csv" else "\t"
    lines = [(n, line) for n, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
    column = 0
    if lines:
        head = [_unquoted(cell).casefold() for cell in lines[0][1].split(separator)]
        named = [head.index(name) for name in _COLUMNS if name in head]
        if named:
            column, lines = named[0], lines[1:]
    names: dict[str, None] = {}
    faults = []
    for number, line in lines:
        cells = line.split(separator)
        name = _unquoted(cells[column]) if column < len(cells) else ""
        try:
            names[clip_id_of(name)] = None
        except InputError as error:
            faults.append(f"{path}, line {number}: {error}")
    if faults:
        raise InputError.collect(faults, f"{path} cannot be used:")
    if not names:
        raise InputError(f"{path}: names no clip; give one a line")
    return tuple(names)


def _unquoted(cell: str) -> str:
    return cell.strip().strip('"').strip()


def fits(clip_id: str, pattern: str) -> bool:
    """Whether a clip's path, with or without its ending, fits a glob pattern.

    `*` and `?` stand for letters of one folder or file name, `**` for any number of folders.
    """
    ending = Path(pattern).suffix.lower()
    name = clip_id + ending if ending in AUDIO_SUFFIXES else clip_id
    return _regular(pattern.replace("\\", "/").removeprefix("./")).fullmatch(name) is not None


@lru_cache(maxsize=16)
def _regular(pattern: str) -> re.Pattern[str]:
    parts = []
    for token in re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]/]+\]|[^*?\[]+|\[", pattern):
        if token == "**/":
            parts.append("(?:.+/)?")
        elif token == "**":
            parts.append(".*")
        elif token == "*":
            parts.append("[^/]*")
        elif token == "?":
            parts.append("[^/]")
        elif len(token) > 2 and token[0] == "[":
            inner = token[1:-1].replace("\\", r"\\")
            parts.append(f"[{'^' + inner[1:] if inner[0] == '!' else inner}]")
        else:
            parts.append(re.escape(token))
    return re.compile("".join(parts))
