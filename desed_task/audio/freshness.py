"""Whether a file has changed since something was made from it.

Order in time does not tell: a file replaced by an older one, or by one of the same second, would
pass for unchanged, and a copied folder for changed. So size, modification time and a digest of the
bytes are kept of each source. Size and time are compared first; the digest decides only if the time
alone differs. What was made before sources were recorded is taken to be current if its source is
not newer, and its source is recorded then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from desed_task.atomic_files import write_text_atomic

DIGEST_BYTES = 16
SourceState = Literal["same", "touched", "changed"]


class ClipSource(NamedTuple):
    """A file as something was made from it.

    Attributes:
        size: in bytes.
        mtime_ns: modification time in nanoseconds.
        digest: BLAKE2b (16 bytes) of its content, in hexadecimal.
    """

    size: int
    mtime_ns: int
    digest: str


def source_stamp(path: Path) -> tuple[int, int] | None:
    """Size and modification time (ns) of a file; None if it is missing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def source_of(path: Path, stamp: tuple[int, int] | None) -> ClipSource | None:
    """The record of a file; None if it is missing or has been written since it was stamped.

    Args:
        path: the file.
        stamp: its `source_stamp` before something was made from it.
    """
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return None
    if stamp is None or source_stamp(path) != stamp:
        return None
    return ClipSource(*stamp, digest.hexdigest())


def source_state(path: Path, known: ClipSource | None, written_s: float) -> SourceState:
    """Compare a file with its record by size and time.

    Args:
        path: the file; may be missing, which is not a change.
        known: its record; None if there is none.
        written_s: when what was made from it was written; decides without a record.

    Returns:
        "touched" if only the time differs, so that the content has to be compared.
    """
    try:
        found = path.stat()
    except OSError:
        return "same"
    if known is None:
        return "changed" if found.st_mtime > written_s else "same"
    if found.st_size != known.size:
        return "changed"
    return "same" if found.st_mtime_ns == known.mtime_ns else "touched"


def current_source(path: Path, known: ClipSource | None, written_s: float) -> ClipSource | None:
    """The record of an unchanged file as it is now; None if the file has changed.

    Reads the file if only its time differs, or if there is no record yet.

    Args:
        path: the file.
        known: its record; None if there is none.
        written_s: see `source_state`.
    """
    state = source_state(path, known, written_s)
    if state == "changed":
        return None
    if known is not None and state == "same":
        return known
    now = source_of(path, source_stamp(path))
    return now if now is not None and (known is None or now.digest == known.digest) else None


def source_index(folder: Path) -> Path:
    """The index of a folder's files, hidden beside it: the folder contains nothing but audio."""
    return folder.with_name(f".{folder.name}.sources.json")


def is_source_index(path: Path) -> bool:
    """Whether a file is the index of a folder's sources, by its name."""
    return path.name.startswith(".") and path.name.endswith(".sources.json")


def read_source_index(folder: Path) -> dict[str, ClipSource]:
    """Name -> record of the sources of a folder's files; empty without an index."""
    try:
        tree = json.loads(source_index(folder).read_text(encoding="utf-8"))
        return {
            str(name): ClipSource(int(size), int(mtime_ns), str(digest))
            for name, (size, mtime_ns, digest) in tree["sources"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_source_index(folder: Path, sources: Mapping[str, ClipSource]) -> None:
    """Write the index if it has changed; a folder that is complete may be read-only."""
    if sources == read_source_index(folder):
        return
    lines = {name: list(source) for name, source in sorted(sources.items())}
    with suppress(OSError):
        write_text_atomic(source_index(folder), json.dumps({"sources": lines}, indent=0) + "\n")
