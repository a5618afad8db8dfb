"""Write files atomically, by renaming a temporary sibling; read text; SHA-256 of files."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from desed_task.errors import InputError, disk_full, warn_once
from desed_task.file_names import LONGEST_NAME, STREAM_ERRORS, shorten_name

PathLike = str | os.PathLike[str]
# Called with target and temporary file before a file appears; may raise to prevent it.
WriteObserver = Callable[[Path, Path], None]

_observers: list[WriteObserver] = []

# Byte order marks; that of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_WESTERN = "cp1252"
_ENCODING_NAMES = {
    "utf-16-le": "UTF-16 (little endian)",
    "utf-16-be": "UTF-16 (big endian)",
    _WESTERN: "Windows-1252, the common extension of Latin-1",
}
_SAVE_AS_UTF8 = "save it as UTF-8"
_LONGEST_EXAMPLE = 60
_CONTROLS = re.compile("[\0-\x08\x0e-\x19\x1b-\x1f]")

_TEMPORARY = re.compile(r"\..+\.tmp[0-9a-f]{5}(\.[^.]*)?")
# Folders in which this process has looked for the temporary files of killed ones.
_TIDIED: set[str] = set()


@contextmanager
def observed_writes(observer: WriteObserver) -> Iterator[None]:
    """Call `observer` before any file of this process appears by `atomic_path`, in any thread."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """A temporary sibling of `path` (same suffix), renamed onto it if the block does not raise.

    The sibling is hidden and removed when the block raises, so a reader sees the old file, the
    new file or none, never a partial one. Parent folders are created. Siblings that killed
    processes left in the folder are removed; those of running ones are locked.

    Raises:
        DiskFullError: for any error of the block that comes from a full disk, whatever it says.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target.parent)
    temporary, lock = _create_temporary(target)
    try:
        yield temporary
        for observe in tuple(_observers):
            observe(target, temporary)
        os.replace(temporary, target)
    except Exception as error:
        # Before the temporary file, and with it the fault, is gone.
        full = None if isinstance(error, InputError) else disk_full(error, target)
        if full is None or full is error:
            raise
        raise full from error
    finally:
        temporary.unlink(missing_ok=True)
        os.close(lock)


@contextmanager
def atomic_folder(path: PathLike) -> Iterator[Path]:
    """A hidden empty sibling of a folder, which replaces it if the block does not raise.

    A killed process leaves the old folder or the new one, except between two renames: then the old
    one is hidden, and restored by the next call. Only one process may write the folder at a time.
    """
    target = Path(path)
    new, old = (target.with_name(f".{target.name}.{end}") for end in ("new", "old"))
    target.parent.mkdir(parents=True, exist_ok=True)
    if old.exists() and not target.exists():
        old.rename(target)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    try:
        new.mkdir()
        yield new
        if target.exists():
            target.rename(old)
        new.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _create_temporary(target: Path) -> tuple[Path, int]:
    """An empty file beside `target`, and its open descriptor, which keeps it locked."""
    # Not by tempfile: its files are private, and results are meant to be shared like any other
    # file. The umask is left to the system, as threads cannot ask for it without changing it.
    while True:
        temporary = target.with_name(_hidden_name(target))
        with suppress(FileExistsError):
            file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            # Another process may have taken it for a leftover before it was locked.
            if _locked(file, otherwise=True) and os.fstat(file).st_nlink:
                return temporary, file
            os.close(file)


def _hidden_name(target: Path) -> str:
    """A new name for a temporary sibling; that of a long name is not longer than a name may be."""
    mark = f".tmp{secrets.token_hex(3)[:5]}"
    room = LONGEST_NAME - len(os.fsencode(f".{mark}{target.suffix}"))
    if room > 0:
        return f".{shorten_name(target.stem, room)}{mark}{target.suffix}"
    return f".x{mark}"


def _locked(file: int, *, otherwise: bool) -> bool:
    """Lock an open file if nobody else has; `otherwise` where the file system has no locks."""
    try:
        import fcntl  # Not on Windows.

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (OSError, ImportError):
        return otherwise
    return True


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed processes, once in a process, as a folder may be large."""
    place = os.path.abspath(folder)
    if place in _TIDIED:
        return
    _TIDIED.add(place)
    for name in os.listdir(place):
        if not _TEMPORARY.fullmatch(name):
            continue
        path = os.path.join(place, name)
        with suppress(OSError):
            file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if _locked(file, otherwise=False):
                    os.unlink(path)
            finally:
                os.close(file)


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


class TextEncoding(NamedTuple):
    """The encoding of a text file.

    Attributes:
        mark: its byte order mark, which may be empty.
        codec: that of what follows the mark.
        assumed: whether the file does not say so, and other encodings are possible.
    """

    mark: bytes
    codec: str
    assumed: bool = False


def encoding_of(data: bytes) -> TextEncoding:
    """The encoding of a text: that of its byte order mark, UTF-8 if it is valid, or an assumption.

    Assumed are UTF-16, if zero bytes are where Western text has them, and Windows-1252, if no
    character is valid UTF-8 but those of ASCII: a damaged UTF-8 text is not taken for it.
    """
    for mark, codec in _MARKS.items():
        if data.startswith(mark):
            return TextEncoding(mark, codec)
    if b"\0" in data:
        even, odd = data[::2].count(0), data[1::2].count(0)
        wide = "utf-16-be" if even > odd else "utf-16-le"
        if 4 * max(even, odd) >= len(data) and _is_text(data, wide):
            return TextEncoding(b"", wide, assumed=True)
    elif (
        data.decode("utf-8", "ignore").isascii() and not data.isascii() and _is_text(data, _WESTERN)
    ):
        return TextEncoding(b"", _WESTERN, assumed=True)
    return TextEncoding(b"", "utf-8")


def _is_text(data: bytes, codec: str) -> bool:
    """Whether bytes can be text in this encoding, and not a binary file."""
    try:
        return not _CONTROLS.search(data.decode(codec))
    except UnicodeDecodeError:
        return False


def read_text(path: Path) -> str:
    """The text of a file, whose encoding is found by `encoding_of`; an assumed one is named.

    Spreadsheets save "Unicode text" as UTF-16, and tables of old ones are in Windows-1252.

    Raises:
        InputError: the file is in another encoding; with the first line that shows it.
        OSError: the file cannot be opened.
    """
    data = path.read_bytes()
    mark, codec, assumed = encoding_of(data)
    if codec == "utf-8" and b"\0" in data:
        raise InputError(f"{path}: contains NUL bytes, which no UTF-8 text has; {_SAVE_AS_UTF8}")
    body = data[len(mark) :]
    try:
        text = body.decode(codec)
    except UnicodeDecodeError as error:
        line = len((body[: error.start] + b".").splitlines())
        where = f"line {line}, byte 0x{body[error.start]:02x}" if codec == "utf-8" else "its end"
        name = codec.removesuffix("-le").removesuffix("-be").upper()
        raise InputError(f"{path}: is not {name} text ({where}); {_SAVE_AS_UTF8}") from None
    if assumed:
        _name_assumption(path, text, codec)
    return text


def _name_assumption(path: Path, text: str, codec: str) -> None:
    """Warn of an encoding that is not certain, with an example of what it yields."""
    lines = text.splitlines() or [""]
    number, line = next(
        ((n, line) for n, line in enumerate(lines, 1) if not line.isascii()), (1, lines[0])
    )
    words = line.split("\t")
    word = next((word for word in words if not word.isascii()), words[0])[:_LONGEST_EXAMPLE]
    warn_once(
        f"{path}: is not UTF-8 text and has no byte order mark; read as {_ENCODING_NAMES[codec]}, "
        f"e.g. {word.strip()!r} in line {number}; if that is wrong, {_SAVE_AS_UTF8}",
        stacklevel=3,
    )
