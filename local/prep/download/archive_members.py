"""List and read members of zip and tar archives, and reject unsafe names."""

from __future__ import annotations

import posixpath
import re
import stat
import tarfile
import zipfile
from collections.abc import Container, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from desed_task.errors import InputError

# What macOS and Windows add to archives; `._x.wav` would be taken for audio.
_CLUTTER = re.compile(r"(^|/)(__MACOSX/|\._|\.DS_Store$|Thumbs\.db$|desktop\.ini$)")
_BLOCK_BYTES = 1 << 20
_LONGEST_LINK = 4096


class Member(NamedTuple):
    """One archive entry.

    Attributes:
        name: path in the archive, with `/` between folders.
        size: declared content size in bytes.
        is_file: whether it is a file with content of its own.
        is_folder: whether it is a folder.
        link: target of a symbolic link as stored; None otherwise.
        hard_link: member that a hard link refers to; None otherwise.
    """

    name: str
    size: int
    is_file: bool
    is_folder: bool
    link: str | None = None
    hard_link: str | None = None


def safe_path(name: str, keep_from: Sequence[str], own_folder: str) -> PurePosixPath | None:
    """Return a member's path relative to the target folder.

    Args:
        name: the member's name.
        keep_from: folder names; the path starts at the first of them.
        own_folder: name of the target folder; a member's first folder of the same
            name is dropped.

    Returns:
        The path, or None if the member is not part of the data.

    Raises:
        InputError: the name is absolute or leads out of the folder.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        raise InputError(f"{name!r} is an absolute path")
    if ".." in parts:
        raise InputError(f"{name!r} leads out of the folder")
    if "\0" in name:
        raise InputError(f"{name!r} contains a zero byte")
    if not parts or _CLUTTER.search(name):
        return None
    kept = next((i for i, part in enumerate(parts[:-1]) if part in keep_from), None)
    if kept is None and len(parts) > 1 and parts[0] == own_folder:
        kept = 1
    return PurePosixPath(*parts[kept or 0 :])


def link_target(member: Member) -> str | None:
    """Return the name of a link's target; None if the member is not a link.

    Raises:
        InputError: it points out of the archive.
    """
    if member.link is None and member.hard_link is None:
        return None
    # A symbolic link starts at its own folder, a hard link at the archive's top.
    place = posixpath.dirname(member.name) if member.link is not None else ""
    said = member.link if member.link is not None else member.hard_link or ""
    said = said.replace("\\", "/")
    target = posixpath.normpath(posixpath.join(place, said))
    if said.startswith("/") or re.match("[A-Za-z]:", said) or target.split("/")[0] == "..":
        raise InputError(f"{member.name!r} is a link to {said!r}, outside the archive")
    return target


class ZipReader:
    """A zip archive; reading never returns more than the declared size."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)

    def __enter__(self) -> ZipReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def members(self) -> Iterator[Member]:
        """All entries."""
        for info in self._zip.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            link = self._link(info) if kind == stat.S_IFLNK else None
            is_file = link is None and not info.is_dir() and kind in (0, stat.S_IFREG)
            yield Member(_slashes(info), info.file_size, is_file, info.is_dir(), link)

    def _link(self, info: zipfile.ZipInfo) -> str:
        """Read a link's target, which is its content."""
        with self._zip.open(info) as stream:
            return stream.read(_LONGEST_LINK).decode(errors="replace")

    def streams(self, names: Container[str]) -> Iterator[tuple[str, IO[bytes]]]:
        """Yield the contents of the requested members in turn."""
        for info in self._zip.infolist():
            name = _slashes(info)
            if name in names:
                with self._zip.open(info) as stream:
                    yield name, stream


def _slashes(info: zipfile.ZipInfo) -> str:
    # Some Windows programs write backslashes; orig_filename keeps what follows a zero byte.
    return info.orig_filename.replace("\\", "/")


class TarReader:
    """A tar archive, compressed or not; it is read once for names and once for contents."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> TarReader:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: no file stays open between readings."""

    def members(self) -> Iterator[Member]:
        """Return all entries; reading to the end also verifies a compressed archive's checksum."""
        with tarfile.open(self._path) as tar:
            for info in tar:
                yield Member(
                    info.name,
                    info.size if info.isreg() else 0,
                    info.isreg(),
                    info.isdir(),
                    info.linkname if info.issym() else None,
                    info.linkname if info.islnk() else None,
                )
            while tar.fileobj is not None and tar.fileobj.read(_BLOCK_BYTES):
                pass

    def streams(self, names: Container[str]) -> Iterator[tuple[str, IO[bytes]]]:
        """Yield the contents of the requested members in turn."""
        with tarfile.open(self._path) as tar:
            for info in tar:
                stream = tar.extractfile(info) if info.isreg() and info.name in names else None
                if stream is not None:
                    yield info.name, stream
