"""Results of two archives in one output folder, of which the later ones replace the earlier ones.

Recordings of equal names in two folders have results of equal names, unless one command names both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from desed_task.errors import InputError, agree, count_of
from desed_task.file_names import escape_name
from local.predict.archives.stored_listing import ArchiveListing, stored_listings


def clash_text(listing: ArchiveListing, output_dir: Path) -> str | None:
    """A warning if another archive has other recordings with results of the same names.

    Args:
        listing: the archive.
        output_dir: folder of the results, with the listings of all archives.
    """
    others: dict[str, ArchiveListing] = {}
    # A damaged listing of another archive concerns whoever uses it.
    with suppress(InputError, OSError):
        for stored in stored_listings(output_dir):  # the newest first
            if stored.key != listing.key:
                others.setdefault(stored.key, stored)
    if not others:
        return None
    # Some file systems ignore case.
    own = {name.casefold(): path for name, path in _results(listing)}
    for other in others.values():
        with suppress(InputError, OSError):
            names = [
                name for name, path in _results(other) if own.get(name.casefold(), path) != path
            ]
            if names:
                number = count_of(len(names), "recording")
                has = agree(len(names), "has results of its name", "have results of their names")
                return (
                    f"{number} ({escape_name(names[0])}{', ...' * (len(names) > 1)}) "
                    f"{has} from another archive, {_inputs_text(other)}, too: of both, the results "
                    "that were written last stay; give each archive an --output_dir of its own"
                )
    return None


def _results(listing: ArchiveListing) -> Iterator[tuple[str, str]]:
    """Names of results, and the paths of their recordings."""
    for row in listing.rows():
        yield row.name, os.path.abspath(row.place.path(listing.inputs))


def _inputs_text(listing: ArchiveListing) -> str:
    return " ".join(map(escape_name, listing.inputs[:2])) + " ..." * (len(listing.inputs) > 2)
