"""Write files atomically, by renaming a temporary sibling; SHA-256 of files."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from desed_task.file_names import LONGEST_NAME, STREAM_ERRORS, shorten_name

PathLike = str | os.PathLike[str]


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """A temporary sibling of `path` (same suffix), renamed onto it if the block does not raise.

    The sibling is hidden and removed when the block raises, so a reader sees the old file, the
    new file or none, never a partial one. Parent folders are created.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(_hidden_name(target))
    # Not by tempfile: its files are private, and results are meant to be shared like any other
    # file. The umask is left to the system, as threads cannot ask for it without changing it.
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _hidden_name(target: Path) -> str:
    """A new name for a temporary sibling; that of a long name is not longer than a name may be."""
    mark = f".{secrets.token_hex(4)}"
    room = LONGEST_NAME - len(os.fsencode(f".{mark}{target.suffix}"))
    if room > 0:
        return f".{shorten_name(target.stem, room)}{mark}{target.suffix}"
    return mark


def sha256_of(path: PathLike) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_text_atomic(path: PathLike, text: str) -> None:
    """Write `text` (UTF-8) atomically; bytes of a file name that are not UTF-8 are escaped."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=STREAM_ERRORS)


def write_json_atomic(path: PathLike, value: Any) -> None:
    """Write `value` atomically as indented JSON; NaN, which JSON lacks, is rejected."""
    write_text_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
