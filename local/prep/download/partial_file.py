"""The part of a file that has come so far, and what is known of the file that it is a part of."""

from __future__ import annotations

import json
import os
from pathlib import Path

from desed_task.atomic_files import write_json_atomic


class PartialDownload:
    """`<target>.part` with its bytes and `<target>.part.json` with what the server said.

    Attributes:
        target: where the whole file goes.
        path: of the bytes.
        validator: ETag or Last-Modified of the file, None when the server gave neither.
        total: size of the whole file in bytes, None when unknown.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._about = target.with_name(target.name + ".part.json")
        self.validator: str | None = None
        self.total: int | None = None
        self._known = self._read()

    def _read(self) -> bool:
        try:
            about = json.loads(self._about.read_text(encoding="utf-8"))
            self.validator, self.total = about["validator"], about["total"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return True

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def resumable(self, has_checksum: bool) -> int:
        """Byte to go on from: 0 where nothing would tell that the file is still the same.

        Args:
            has_checksum: the whole file's is known, so a mixture of two files comes to light.
        """
        if not self._known or not (self.validator or has_checksum):
            return 0
        return self.size

    def begin(self, validator: str | None, total: int | None) -> None:
        """Start from nothing. The record comes first, so that no bytes are without one."""
        self.remove()
        self.validator, self.total, self._known = validator, total, True
        write_json_atomic(self._about, {"validator": validator, "total": total})
        self.path.touch()

    def remove(self) -> None:
        """Forget what has come."""
        self.path.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)
        self._known = False

    def become(self, target: Path) -> None:
        """The part is whole: it takes its place."""
        os.replace(self.path, target)
        self._about.unlink(missing_ok=True)
