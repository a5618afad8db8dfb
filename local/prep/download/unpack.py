"""Unpack a zip or tar archive block by block, never outside its folder.

All names are checked before anything is written: an archive with one bad member is refused
entirely. Links are not created: a link within the archive becomes a copy of its target. Each file
is written atomically, so interrupted unpacking can simply be repeated.
"""

from __future__ import annotations

import lzma
import posixpath
import shutil
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from desed_task.atomic_files import atomic_path
from desed_task.errors import InputError, count_of
from desed_task.parallel import Progress, progress_of
from local.cli.own_files import is_beginning
from local.prep.download.archive_members import TarReader, ZipReader, link_target, safe_path
from local.prep.download.resumable_download import explain_full_disk

_BLOCK_BYTES = 1 << 20
# Deflate reaches 1:1000 on zeros; audio and tables stay far below this.
_MOST_TIMES_LARGER = 200
_SMALL_BYTES = 1 << 28
# gzip and bz2 raise OSError; that of a full disk has become an InputError before.
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError)


class UnpackedFile(NamedTuple):
    """A file of the archive: its path relative to the folder, and its size in bytes."""

    path: str
    size: int


class _Planned(NamedTuple):
    name: str
    path: PurePosixPath
    size: int
    link: str | None


def unpack(
    archive: Path,
    folder: Path,
    *,
    keep_from: Sequence[str] = (),
    flat: bool = False,
    spare: Callable[[Path, int], bool] | None = None,
    replace: bool = True,
    check: Callable[[], None] | None = None,
    progress: bool = True,
) -> tuple[UnpackedFile, ...]:
    """Unpack an archive (zip; tar, plain or compressed).

    Args:
        archive: path of the archive.
        folder: target folder; created if missing.
        keep_from: folder names; paths start at the first of them (see `confs/sources.yaml`).
        flat: whether all files go directly into `folder`.
        spare: whether to keep an existing file, given its expected size in bytes; given if the
            archive was unpacked before.
        replace: whether to replace files with other content, which are the user's.
        check: called after every block; an exception ends the unpacking.
        progress: whether to show a bar.

    Returns:
        All files of the archive, including those that were kept.

    Raises:
        InputError: it is damaged, has a member that leads elsewhere, is not a file or clashes with
            another one, would replace files of the user or not fit the disk, or the disk is full.
    """
    try:
        with _reader(archive) as reader:
            planned = _plan(reader, archive, folder, keep_from, flat)
            total = sum(member.size for member in planned)
            if not replace and spare is None:
                _refuse_others(archive, folder, planned)
            _check_size(archive, folder, total)
            with byte_bar(f"unpacking {archive.name}", total, progress) as bar:
                guarded = None if replace else archive
                work = _Work(folder, spare, guarded, check or (lambda: None), bar)
                return tuple(work.write(reader, planned))
    except (*_DAMAGE, NotImplementedError, RuntimeError) as error:
        # Further lines of tarfile's message list what each of its readers reported.
        what = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
        raise InputError(
            f"{archive}: cannot be unpacked ({what}); it is damaged, or "
            "not an archive of a known kind. Delete it and run the same command again"
        ) from None


def byte_bar(title: str, total: int | None, shown: bool) -> Progress:
    """Progress in bytes."""
    return progress_of(title, total, unit="B", scaled=True, leave=False, shown=shown)


def _reader(archive: Path) -> ZipReader | TarReader:
    is_zip = archive.suffix == ".zip" or zipfile.is_zipfile(archive)
    return ZipReader(archive) if is_zip else TarReader(archive)


def _plan(
    reader: ZipReader | TarReader, archive: Path, folder: Path, keep_from: Sequence[str], flat: bool
) -> list[_Planned]:
    """Map members to their target paths.

    Raises:
        InputError: naming every refused member.
    """
    planned, problems = [], []
    folders: dict[PurePosixPath, str] = {}
    for member in reader.members():
        try:
            inside = f"{member.name}/file" if member.is_folder else member.name
            path = safe_path(inside, keep_from, folder.name)
            link = link_target(member)
        except InputError as error:
            problems.append(str(error))
            continue
        if path is None:
            continue
        if member.is_folder:
            folders[path.parent] = member.name
            continue
        if not (member.is_file or link):
            problems.append(f"{member.name!r} is neither a file nor a folder (a device?)")
            continue
        path = PurePosixPath(path.name) if flat else path
        planned.append(_Planned(member.name, path, member.size, link))
    problems += _clashes(planned, {} if flat else folders)
    if problems:
        heading = f"{archive}: not unpacked, because it has unsafe members:"
        raise InputError.collect(problems, heading, most_shown=5)
    return planned


def _clashes(planned: list[_Planned], folders: Mapping[PurePosixPath, str]) -> Iterator[str]:
    """Find members that would overwrite each other, and broken links.

    Names that differ only by case or Unicode form are one file or folder on many file systems
    (macOS, Windows, network shares), and a name cannot be both a file and a folder.
    """
    known: dict[str, tuple[PurePosixPath, str, bool]] = {}
    for path, name, is_file in _places(planned, folders):
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFD", str(path)).casefold())
        if key not in known:
            known[key] = path, name, is_file
            continue
        other, other_name, was_file = known[key]
        if other != path:
            yield f"{name!r} and {other_name!r} differ only by case or Unicode form"
        elif is_file and was_file:
            yield f"{name!r} and {other_name!r} have the same path, {path}"
        elif is_file or was_file:
            yield f"{name!r} and {other_name!r} need {path} as a file and as a folder"
    files = _files(planned)
    for member in planned:
        if member.link is not None and member.link not in files:
            yield f"{member.name!r} is a link to {member.link!r}, which is not a file in it"


def _places(
    planned: list[_Planned], folders: Mapping[PurePosixPath, str]
) -> Iterator[tuple[PurePosixPath, str, bool]]:
    """Every path that unpacking creates, the member that needs it, and whether it is a file."""
    for member in planned:
        yield member.path, member.name, True
    parents = {parent: member.name for member in planned for parent in member.path.parents}
    for folder, name in {**parents, **folders}.items():
        for path in (folder, *folder.parents):
            if path.name:
                yield path, name, False


def _files(planned: list[_Planned]) -> dict[str, _Planned]:
    """Members with content, by name without a leading ./, as links refer to them."""
    return {posixpath.normpath(m.name): m for m in planned if m.link is None}


def _refuse_others(archive: Path, folder: Path, planned: list[_Planned]) -> None:
    """Refuse to replace files of another size, before anything is written.

    Raises:
        InputError: naming them.
    """
    files = _files(planned)
    others = []
    for member in planned:
        target = folder / member.path
        size = member.size if member.link is None else files[member.link].size
        if target.is_dir() or is_other(target, size):
            others.append(f"{target} is there with other content")
    if others:
        heading = (
            f"{archive}: not unpacked, because it would replace files that it does not contain so; "
            "move them away, or give --overwrite:"
        )
        raise InputError.collect(others, heading, most_shown=5)


def is_other(path: Path, size: int) -> bool:
    """Whether there is a link, or a file with content of another size; an empty one has none."""
    return path.is_symlink() or (path.exists() and path.stat().st_size not in (0, size))


def refuse_other_content(path: Path, new: Path, archive: Path) -> None:
    """Refuse to replace a file, unless it is the new one or was cut off while it was written.

    Raises:
        InputError: naming it.
    """
    if path.is_symlink() or (path.is_file() and not is_beginning(path, new)):
        raise InputError(
            f"{path}: is there with other content than in {archive}; move it away, or give "
            "--overwrite"
        )


def _check_size(archive: Path, folder: Path, total: int) -> None:
    packed = archive.stat().st_size
    if total > max(_MOST_TIMES_LARGER * packed, _SMALL_BYTES):
        raise InputError(
            f"{archive}: would unpack from {packed} to {count_of(total, 'byte')}, which audio "
            "never does; not unpacked"
        )
    with explain_full_disk(folder, "nothing was unpacked"):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    if total > free:
        raise InputError(
            f"{archive}: unpacks to {count_of(total, 'byte')}, but {folder} has room for {free}; "
            "the archive is kept. Free some space or give another --basedir, then run the same "
            "command again"
        )


class _Work(NamedTuple):
    """Write members into a folder; from a guarded archive, none replaces other content."""

    folder: Path
    spare: Callable[[Path, int], bool] | None
    guarded: Path | None
    check: Callable[[], None]
    bar: Progress

    def write(
        self, reader: ZipReader | TarReader, planned: list[_Planned]
    ) -> Iterator[UnpackedFile]:
        """Write the files in the archive's order, then copies for links."""
        wanted = {member.name: member for member in planned if member.link is None}
        for name, stream in reader.streams(wanted):
            member = wanted[name]
            target = self._target(member, member.size)
            if target is not None:
                self._copy(stream.read, target, member.size, name)
            yield UnpackedFile(str(member.path), member.size)
        files = _files(planned)
        for member in planned:
            if member.link is None:
                continue
            source = files[member.link]
            target = self._target(member, source.size)
            if target is not None:
                with (self.folder / source.path).open("rb") as file:
                    self._copy(file.read, target, source.size, member.name)
            yield UnpackedFile(str(member.path), source.size)

    def _target(self, member: _Planned, size: int) -> Path | None:
        """Return a member's target path; None if the existing file is to be kept."""
        target = self.folder / member.path
        if self.spare and target.is_file() and self.spare(target, size):
            self.bar.update(size)
            return None
        return target

    def _copy(self, read: Callable[[int], bytes], target: Path, size: int, name: str) -> None:
        written = 0
        with explain_full_disk(target, "the archive is kept"), atomic_path(target) as temporary:
            with temporary.open("wb") as file:
                while block := read(_BLOCK_BYTES):
                    file.write(block)
                    written += len(block)
                    self.bar.update(len(block))
                    self.check()
            if written != size:
                raise EOFError(f"{name} has {count_of(written, 'byte')} instead of {size}")
            if self.guarded is not None:
                refuse_other_content(target, temporary, self.guarded)
