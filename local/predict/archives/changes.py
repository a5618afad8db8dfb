"""Recordings that were added to an archive since it was listed.

Only folders that have changed since are searched, so that a large archive is not listed again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from desed_task.audio.listing import list_audio
from desed_task.errors import InputError, agree, count_of
from desed_task.file_names import escape_name
from local.predict.archives.stored_listing import ArchiveListing

_EXAMPLES = 3


def added_since(listing: ArchiveListing, inputs: Sequence[Path]) -> list[Path]:
    """Recordings that are not in a listing, in folders that have changed since; links left out.

    Args:
        listing: the listing.
        inputs: its inputs as they are given now.
    """
    searched = {place: place.path(inputs) for place in listing.folders}
    changed = [
        folder
        for place, folder in searched.items()
        if _changed_ns(folder) not in (None, listing.folders[place])
    ]
    if not changed:
        return []
    there: list[Path] = []
    known_folders = {os.path.abspath(folder) for folder in searched.values()}
    for folder in changed:
        with suppress(InputError, OSError):
            there += list_audio(folder, recursive=False).files
            there += _in_new_folders(folder, known_folders)
    places = {os.path.abspath(folder) for folder in changed}
    known = set()
    for row in listing.rows():
        path = os.path.abspath(row.place.path(inputs))
        if os.path.dirname(path) in places:
            known.add(path)
    new = {os.path.abspath(path) for path in there if not path.is_symlink()} - known
    return [Path(path) for path in sorted(new - _led_to(new, listing, inputs))]


def added_text(listing: ArchiveListing, added: Sequence[Path]) -> str:
    """The warning about recordings that were added."""
    names = [escape_name(path) for path in added[:_EXAMPLES]]
    more = ", ..." if len(added) > len(names) else ""
    return (
        f"{count_of(len(added), 'recording')} added since the archive was listed "
        f"({listing.listed_at}) {agree(len(added), 'is', 'are')} not processed: "
        f"{', '.join(names)}{more}; list it again with --list when no shard is running"
    )


def _led_to(paths: set[str], listing: ArchiveListing, inputs: Sequence[Path]) -> set[str]:
    """Those of these files that are listed by the name of a link to them."""
    of_files: dict[tuple[int, int], list[str]] = {}
    for path in paths:
        with suppress(OSError):
            found = os.stat(path)
            of_files.setdefault((found.st_size, found.st_mtime_ns), []).append(path)
    led_to: set[str] = set()
    for row in listing.rows() if of_files else ():
        # The disk is asked about few recordings only.
        if same := of_files.get((row.length.size, row.length.changed_ns)):
            target = os.path.realpath(row.place.path(inputs))
            led_to.update(path for path in same if os.path.realpath(path) == target)
    return led_to


def _changed_ns(folder: Path) -> int | None:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None


def _in_new_folders(folder: Path, known: set[str]) -> list[Path]:
    """Recordings in subfolders that were not searched."""
    found: list[Path] = []
    with os.scandir(folder) as entries:
        new = [
            Path(entry.path)
            for entry in entries
            if entry.is_dir(follow_symlinks=False)
            and not entry.name.startswith(".")
            and os.path.abspath(entry.path) not in known
        ]
    for path in new:
        with suppress(InputError):
            found += list_audio(path, follow_links=False).files
    return found
