r"""File names in tables, messages and on the terminal (docs/predict.md, Names).

A name may contain any byte but / and NUL, so a tab or a newline in it breaks a table's rows, bytes
that are not UTF-8 cannot be written as text, and ESC sequences steer a terminal. Tables get the
escaped form, which is unique and can be undone: \t, \n, \r, \\ for a backslash, \xNN for a byte
that is not UTF-8 or an ASCII control character, and \uNNNN for other control characters.
"""

from __future__ import annotations

import codecs
import os
import re
import unicodedata
from hashlib import sha256

# Linux, macOS and Windows all limit one component of a path to 255 (bytes or UTF-16 units).
LONGEST_NAME = 255
# Characters that reverse the reading direction of what follows, so that a name shows as another.
_REVERSING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SHORT = {"\t": r"\t", "\n": r"\n", "\r": r"\r", "\\": r"\\"}
_LONG = {escape: character for character, escape in _SHORT.items()}
_ESCAPE = re.compile(rb"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|[tnr\\])")
STREAM_ERRORS = "desed_task.file_names"


def escape_name(path: str | os.PathLike[str]) -> str:
    r"""A file name or path for a table: one line of valid UTF-8, different for different names.

    >>> escape_name("street\t1.wav")
    'street\\t1.wav'
    """
    return "".join(_SHORT.get(c) or _escaped(c) for c in _decoded(os.fspath(path)))


def unescape_name(text: str) -> str:
    """The name that `escape_name` escaped; text that is no escape stays as it is."""
    return os.fsdecode(_ESCAPE.sub(_unescaped, text.encode("utf-8", "surrogateescape")))


def printable(text: str) -> str:
    """A message without what cannot be encoded or would steer a terminal; newlines stay."""
    return "".join(c if c in "\n\t" else _escaped(c) for c in _decoded(text))


def looked_up_from(path: str | os.PathLike[str]) -> str:
    """What messages about a missing path add: the folder that a relative one starts from.

    Relative paths, also those in a configuration, start from the folder in which the command was
    started.

    Returns:
        " (looked up from FOLDER)", or "" for an absolute path.
    """
    return "" if os.path.isabs(path) else f" (looked up from {current_folder()})"


def current_folder() -> str:
    """The folder in which the command was started, for messages."""
    try:
        return printable(os.getcwd())
    except FileNotFoundError:
        return "a folder that does not exist any more"


def shorten_name(name: str, longest: int) -> str:
    """A name of at most `longest` bytes: cut, with ~ and a digest of it, if it is longer."""
    raw = os.fsencode(name)
    if len(raw) <= longest:
        return name
    mark = f"~{sha256(raw).hexdigest()[:8]}"[:longest]
    end = longest - len(mark)
    # A character of UTF-8 has at most four bytes, and is not cut.
    start = next((i for i in range(end, max(end - 4, -1), -1) if raw[i] & 0xC0 != 0x80), end)
    return os.fsdecode(raw[:start]) + mark


def is_utf8(name: str | os.PathLike[str]) -> bool:
    """Whether a name or path is valid UTF-8, which some packages require."""
    try:
        os.fsencode(name).decode()
    except UnicodeError:
        return False
    return True


def is_plain(name: str | os.PathLike[str]) -> bool:
    """Whether a name is valid UTF-8 without control characters, so that any table can hold it."""
    return all(c == _escaped(c) for c in _decoded(os.fspath(name)))


def _decoded(name: str) -> str:
    """A name from the system as UTF-8, whatever the locale; other bytes become U+DC80..DCFF."""
    try:
        raw = os.fsencode(name)
    except UnicodeEncodeError:
        raw = name.encode("utf-8", "surrogatepass")
    return raw.decode("utf-8", "surrogateescape")


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return rf"\x{code - 0xDC00:02x}"
    if character in _REVERSING or unicodedata.category(character) in ("Cc", "Zl", "Zp"):
        return rf"\x{code:02x}" if code < 0x80 else rf"\u{code:04x}"
    return character


def _unescaped(escape: re.Match[bytes]) -> bytes:
    if escape[1]:
        return bytes([int(escape[1], 16)])
    if escape[2]:
        return chr(int(escape[2], 16)).encode("utf-8", "surrogatepass")
    return _LONG[escape[0].decode()].encode()


def _for_stream(error: UnicodeError) -> tuple[str, int]:
    r"""Escape what a stream's encoding lacks: \xNN for bytes of names that are not UTF-8."""
    assert isinstance(error, UnicodeEncodeError)
    part = error.object[error.start : error.end]
    escaped = "".join(map(_escaped, part))
    return escaped.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(STREAM_ERRORS, _for_stream)
