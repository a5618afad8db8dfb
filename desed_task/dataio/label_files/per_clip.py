"""Label files of one clip each, found by a path with a place for the clip's name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from desed_task.dataio.clip_names import last_part
from desed_task.errors import InputError
from desed_task.file_names import looked_up_from

_PLACES: Final = {"clip": "(?P<clip>.+)", "folder": "(?P<folder>.+)", "name": "(?P<name>[^/]+)"}
_PLACE = re.compile(r"\{(clip|folder|name)\}")


def is_per_clip(path: str) -> bool:
    """Whether a path has a place for a clip's name: {clip}, {folder} or {name}."""
    return _PLACE.search(path) is not None


def label_file_of(template: str, clip_id: str) -> Path:
    """The label file of a clip.

    Args:
        template: with {clip} (the clip id), {folder} (its folders) or {name} (what is behind them).
        clip_id: the clip's path below the audio folder, without ending.
    """
    folder, name = clip_id.rpartition("/")[0], last_part(clip_id)
    values = {"clip": clip_id, "folder": folder, "name": name}
    return Path(_PLACE.sub(lambda match: values[match[1]], template))


def files_by_clip(template: str) -> dict[str, Path]:
    """Clip -> label file, of every file that fits a template, sorted by clip.

    Raises:
        InputError: there is none, or two are those of one clip.
    """
    above, pattern = _searched(template)
    found: dict[str, Path] = {}
    for path in _files_below(above):
        match = pattern.fullmatch(path.as_posix())
        if match is None:
            continue
        clip_id = _clip_of(match)
        if clip_id in found:
            raise InputError(
                f"{template}: {found[clip_id]} and {path} would both be that of {clip_id}; "
                "write {clip} or {folder} in the path"
            )
        found[clip_id] = path
    if not found:
        where = looked_up_from(above)
        raise InputError(f"{template}: no label file{where}; check the path, or the ending")
    return dict(sorted(found.items()))


def _searched(template: str) -> tuple[Path, re.Pattern[str]]:
    """The folder that all files of a template are below, and what their paths look like."""
    first = _PLACE.search(template)
    assert first is not None, template
    above = Path(template[: first.start()] + "x").parent
    # As the paths of the files below it will be written.
    rest = Path(template).as_posix()
    parts, seen, end = [], set(), 0
    for match in _PLACE.finditer(rest):
        parts.append(re.escape(rest[end : match.start()]))
        named = match[1]
        # Again, the same text as before.
        parts.append(f"(?P={named})" if named in seen else _PLACES[named])
        seen.add(named)
        end = match.end()
    parts.append(re.escape(rest[end:]))
    return above, re.compile("".join(parts))


def _clip_of(match: re.Match[str]) -> str:
    named = match.groupdict()
    if "clip" in named:
        return named["clip"]
    if "name" in named and "folder" in named:
        return f"{named['folder']}/{named['name']}"
    return named.get("name") or named["folder"]


def _files_below(folder: Path) -> Iterator[Path]:
    """Files of a folder and its subfolders that are not hidden."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(root) / name
