"""A partially downloaded file and its metadata."""

from __future__ import annotations

import json
import os
from pathlib import Path

from desed_task.atomic_files import write_json_atomic


class PartialDownload:
    """The received bytes, `<target>.part`, and the server's metadata, `<target>.part.json`.

    Attributes:
        target: path of the complete file.
        path: path of the received bytes.
        validator: ETag or Last-Modified of the file, None if the server sent neither.
        total: size of the complete file in bytes, None if unknown.
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
        """Number of bytes received."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def resumable(self, has_checksum: bool) -> int:
        """Offset to resume from: 0 if nothing could show that the file is still the same.

        Args:
            has_checksum: whether the file's checksum is known, which detects a mix of two files.
        """
        if not self._known or not (self.validator or has_checksum):
            return 0
        return self.size

    def begin(self, validator: str | None, total: int | None) -> None:
        """Start again. The record is written first, so that no bytes are without one."""
        self.remove()
        self.validator, self.total, self._known = validator, total, True
        write_json_atomic(self._about, {"validator": validator, "total": total})
        self.path.touch()

    def remove(self) -> None:
        """Delete the received bytes and their record."""
        self.path.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)
        self._known = False

    def become(self, target: Path) -> None:
        """Move the complete file to its target."""
        os.replace(self.path, target)
        self._about.unlink(missing_ok=True)
