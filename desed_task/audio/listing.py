"""List the audio files of a folder, and account for everything that is left out."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from desed_task.atomic_files import PathLike
from desed_task.audio.formats import AUDIO_SUFFIXES
from desed_task.errors import InputError, count_of
from desed_task.file_names import escape_name, looked_up_from

OTHER_ENDING = "other ending"
HIDDEN = "hidden"
BROKEN_LINK = "link to nothing"
LINK_LOOP = "link in a circle"
LINK_UPWARDS = "link to a folder above"
SEARCHED = "link to a folder searched already"  # or a mount of it
LINKED = "linked folder"
SPECIAL = "not a regular file"
UNREADABLE = "cannot be opened"
_EXAMPLES = 3
_MOST_ENDINGS = 8
_LONGEST_ENDING = 12


class LeftOut(NamedTuple):
    """A file or folder that is not listed.

    Attributes:
        path: path of it.
        reason: one of the constants of this module.
    """

    path: Path
    reason: str


@dataclass
class Listing:
    """The audio files of a folder and what else is in it.

    Attributes:
        folder: the folder.
        suffixes: endings of audio files.
        files: audio files, sorted.
        left_out: everything else, sorted.
        followed: linked folders below `folder` that were searched.
        folders: searched folder -> when it had last been changed (ns) before it was searched.
    """

    folder: Path
    suffixes: Collection[str] = AUDIO_SUFFIXES
    files: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    followed: list[Path] = field(default_factory=list)
    folders: dict[Path, int] = field(default_factory=dict)

    def line(self, noun: str = "recording") -> str:
        """One line that accounts for the folder; "" if all of it is listed, without links.

        "rec: 12 recordings (2 of them in 1 linked folder: old); left out: 3 .txt (not audio by
        ending), 1 link to nothing (a.wav)".

        Args:
            noun: what the files are, in the singular.
        """
        if not (self.left_out or self.followed):
            return ""
        text = f"{escape_name(self.folder)}: {count_of(len(self.files), noun)}"
        if self.followed:
            links = {os.fspath(link) for link in self.followed}
            inside = sum(_is_below(file, links) for file in self.files)
            what = count_of(len(self.followed), "linked folder")
            text += f" ({inside} of them in {what}: {self._examples(self.followed)})"
        return f"{text}; left out: {self.left_out_text()}" if self.left_out else text

    def left_out_text(self, *, audio_only: bool = False) -> str:
        """What is left out and why, as a list in one line; "" for nothing.

        Args:
            audio_only: without files that are not audio by their ending, and hidden ones.
        """
        by_reason: dict[str, list[Path]] = {}
        for path, reason in self.left_out:
            by_reason.setdefault(reason, []).append(path)
        endings = by_reason.pop(OTHER_ENDING, [])
        if audio_only:
            endings = [path for path in endings if path.suffix.lower() in AUDIO_SUFFIXES]
            by_reason.pop(HIDDEN, None)
        parts = [f"{_endings_text(endings)} ({self._not_listed()})"] if endings else []
        for reason, paths in by_reason.items():
            parts.append(f"{_phrase(reason, len(paths))} ({self._examples(paths)})")
        return ", ".join(parts)

    def _not_listed(self) -> str:
        if tuple(self.suffixes) == AUDIO_SUFFIXES:
            return "not audio by ending"
        return f"not {' or '.join(self.suffixes)}"

    def _examples(self, paths: Sequence[Path]) -> str:
        shown = [escape_name(path.relative_to(self.folder)) for path in paths[:_EXAMPLES]]
        return ", ".join([*shown, "..."] if len(paths) > len(shown) else shown)


def list_audio(
    folder: PathLike,
    suffixes: Collection[str] = AUDIO_SUFFIXES,
    *,
    recursive: bool = True,
    follow_links: bool = True,
    without: PathLike | None = None,
) -> Listing:
    """List the audio files of a folder.

    Hidden files and folders are left out, and so is what is not a regular file or a link to one.
    Linked folders are searched like others, each folder once: a link to a folder above or to one
    that was searched already is left out, so that links in a circle end.

    Args:
        folder: where to look.
        suffixes: endings of audio files, in lower case and with their dot.
        recursive: whether to look in subfolders; if not, they are not mentioned either.
        follow_links: whether to look in linked folders; if not, they are left out.
        without: a folder that is neither searched nor mentioned, if it lies inside.

    Raises:
        InputError: the folder is missing or cannot be opened.
    """
    listing = Listing(Path(folder), suffixes)
    _Search(listing, recursive, follow_links, without).run()
    listing.files.sort()
    listing.left_out.sort()
    return listing


class _Search:
    """A walk over a folder that fills a `Listing`."""

    def __init__(
        self, listing: Listing, recursive: bool, follow_links: bool, without: PathLike | None
    ) -> None:
        self._listing = listing
        self._recursive = recursive
        self._follow_links = follow_links
        self._without = None if without is None else Path(without).resolve()
        self._searched: set[tuple[int, int]] = set()
        self._links: list[Path] = []

    def run(self) -> None:
        folder = self._listing.folder
        try:
            above = {_identity(path) for path in folder.resolve().parents}
            self._searched.add(_identity(folder))
            entries = self._entries(folder)
        except NotADirectoryError:
            raise InputError(f"{folder}: is not a folder; check the path") from None
        except FileNotFoundError:
            where = looked_up_from(folder)
            raise InputError(f"{folder}: no such folder{where}; check the path") from None
        except OSError as error:
            raise InputError(
                f"{folder}: cannot be opened ({error.strerror}); check its permissions"
            ) from None
        self._below(entries)
        # Links come after all real folders, so that files keep their own paths if they have two.
        while self._links:
            self._links.sort(reverse=True)
            self._follow(self._links.pop(), above)

    def _follow(self, link: Path, above: Collection[tuple[int, int]]) -> None:
        try:
            upwards = _identity(link) in above
        except OSError:
            self._leave_out(link, UNREADABLE)
            return
        if upwards:
            self._leave_out(link, LINK_UPWARDS)
            return
        opened = self._open(link)
        if opened is not None:
            self._listing.followed.append(link)
            self._below(opened)

    def _below(self, entries: Sequence[os.DirEntry[str]]) -> None:
        """Walk without recursion, as folders may be nested deeper than Python's stack."""
        todo = list(entries)
        while todo:
            entry = todo.pop()
            path = Path(entry.path)
            if entry.name.startswith("."):
                self._leave_out(path, HIDDEN)
            elif not _is_folder(entry):
                self._file(entry, path)
            elif not self._recursive or self._is_excluded(path):
                continue
            elif entry.is_symlink() and not self._follow_links:
                self._leave_out(path, LINKED)
            elif entry.is_symlink():
                self._links.append(path)
            else:
                todo += self._open(path) or []

    def _open(self, folder: Path) -> list[os.DirEntry[str]] | None:
        """Entries of a folder that was not searched before; None if it cannot be opened or was."""
        try:
            identity = _identity(folder)
            if identity in self._searched:
                self._leave_out(folder, SEARCHED)
                return None
            self._searched.add(identity)
            return self._entries(folder)
        except OSError:
            self._leave_out(folder, UNREADABLE)
            return None

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        changed_ns = folder.stat().st_mtime_ns
        with os.scandir(folder) as entries:
            found = list(entries)
        self._listing.folders[folder] = changed_ns
        return found

    def _file(self, entry: os.DirEntry[str], path: Path) -> None:
        try:
            # Most entries are no links, and need no further call to the file system.
            real = not entry.is_symlink() and entry.is_file()
            regular = real or stat.S_ISREG(path.stat().st_mode)
        except OSError as error:
            # Whatever its ending: a broken link may have been one to a folder.
            reasons = {errno.ENOENT: BROKEN_LINK, errno.ELOOP: LINK_LOOP}
            self._leave_out(path, reasons.get(error.errno or 0, UNREADABLE))
            return
        if path.suffix.lower() not in self._listing.suffixes:
            self._leave_out(path, OTHER_ENDING)
        elif regular:
            self._listing.files.append(path)
        else:
            self._leave_out(path, SPECIAL)

    def _is_excluded(self, folder: Path) -> bool:
        return self._without is not None and folder.resolve() == self._without

    def _leave_out(self, path: Path, reason: str) -> None:
        self._listing.left_out.append(LeftOut(path, reason))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # `_Search._file` finds the reason.


def _is_below(file: Path, folders: Collection[str]) -> bool:
    # As text, which is many times faster than `Path.parents`.
    path = os.path.dirname(file)
    while path and path not in folders:
        above = os.path.dirname(path)
        path = "" if above == path else above
    return bool(path)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _endings_text(paths: Sequence[Path]) -> str:
    """Count the endings: "3 .txt, 2 .doc, 1 without ending"."""
    counts = Counter(_ending(path) for path in paths).most_common()
    shown = [f"{number} {ending}" for ending, number in counts[:_MOST_ENDINGS]]
    rest = sum(number for _, number in counts[_MOST_ENDINGS:])
    if rest:
        shown.append(f"{rest} of {count_of(len(counts) - _MOST_ENDINGS, 'other ending')}")
    return ", ".join(shown)


def _ending(path: Path) -> str:
    ending = escape_name(path.suffix.lower())
    if not ending:
        return "without ending"
    return ending if len(ending) <= _LONGEST_ENDING else "with a long ending"


def _phrase(reason: str, number: int) -> str:
    """The number and the reason in its form: "1 link to nothing", "2 links to nothing"."""
    if reason == UNREADABLE:
        return f"{number} that {reason}"
    if number > 1 and reason == LINKED:
        return f"{number} {reason}s"
    return f"{number} {reason.replace('link', 'links', 1) if number > 1 else reason}"
