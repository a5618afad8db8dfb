"""Members of zip and tar archives under one interface, and which of their names are safe."""

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
    """One entry.

    Attributes:
        name: as the archive has it, `/` between folders.
        size: of its content in bytes, as declared.
        is_file: a file with content of its own.
        is_folder: a folder.
        link: where a symbolic link points, as it says; None for others.
        hard_link: the member that a hard link repeats; None for others.
    """

    name: str
    size: int
    is_file: bool
    is_folder: bool
    link: str | None = None
    hard_link: str | None = None


def safe_path(name: str, keep_from: Sequence[str], own_folder: str) -> PurePosixPath | None:
    """Where a member goes, relative to the folder that is unpacked into.

    Args:
        name: of the member.
        keep_from: names of folders; the path is kept from the first of them on.
        own_folder: name of the folder that is unpacked into; a member's first folder of the same
            name is dropped.

    Returns:
        The path, or None for what is no part of the data.

    Raises:
        InputError: the name is absolute, or leads upwards.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        raise InputError(f"{name!r} is an absolute path")
    if ".." in parts:
        raise InputError(f"{name!r} leads out of the folder")
    if "\0" in name:
        raise InputError(f"{name!r} holds a zero byte")
    if not parts or _CLUTTER.search(name):
        return None
    kept = next((i for i, part in enumerate(parts[:-1]) if part in keep_from), None)
    if kept is None and len(parts) > 1 and parts[0] == own_folder:
        kept = 1
    return PurePosixPath(*parts[kept or 0 :])


def link_target(member: Member) -> str | None:
    """The member that a link stands for, by name; None when it is no link.

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
        raise InputError(f"{member.name!r} is a link to {said!r}, outside of the archive")
    return target


class ZipReader:
    """A zip archive; sizes are as declared, and reading never gives more than that."""

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
        """A link's content is where it points."""
        with self._zip.open(info) as stream:
            return stream.read(_LONGEST_LINK).decode(errors="replace")

    def streams(self, names: Container[str]) -> Iterator[tuple[str, IO[bytes]]]:
        """The contents of the members asked for, one after the other."""
        for info in self._zip.infolist():
            name = _slashes(info)
            if name in names:
                with self._zip.open(info) as stream:
                    yield name, stream


def _slashes(info: zipfile.ZipInfo) -> str:
    # Some programs of Windows write backslashes; orig_filename still has what follows a zero byte.
    return info.orig_filename.replace("\\", "/")


class TarReader:
    """A tar archive, compressed or not; read once for its names and once for the contents."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> TarReader:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing stays open between two readings."""

    def members(self) -> Iterator[Member]:
        """All entries; reads to the end, so that a compressed archive's own checksum is tested."""
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
        """The contents of the members asked for, one after the other."""
        with tarfile.open(self._path) as tar:
            for info in tar:
                stream = tar.extractfile(info) if info.isreg() and info.name in names else None
                if stream is not None:
                    yield info.name, stream
