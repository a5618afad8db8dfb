"""Addresses of files, percent-encoded, for links from a page."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote


def addresses(target: Path, page: Path) -> tuple[str, ...]:
    """Addresses of a file: relative to the page, then absolute; only that on another drive."""
    absolute = os.path.abspath(target)
    try:
        relative = os.path.relpath(absolute, os.path.dirname(os.path.abspath(page)))
    except ValueError:
        return (_file_url(absolute),)
    return quoted(relative.replace(os.sep, "/")), _file_url(absolute)


def quoted(path: str) -> str:
    """A relative path as an address, whatever bytes it has."""
    return quote(os.fsencode(path), safe="/")


def _file_url(absolute: str) -> str:
    if os.name == "nt":
        return Path(absolute).as_uri()
    return "file://" + quoted(absolute)
