"""Names of files in tables and on terminals: one line, valid UTF-8, unique, and undone exactly."""

from __future__ import annotations

import io
import os
import random

import pytest

from desed_task.file_names import (
    STREAM_ERRORS,
    escape_name,
    is_plain,
    printable,
    shorten_name,
    unescape_name,
)

PIECES = [b"a", b" ", b".", b"%", b"{}", b"$", b"|", b"#", b"?", b"'", b'"', b"-", b"\\", b"\\\\"]
PIECES += [
    b"\t",
    b"\n",
    b"\r",
    b"\x1b[2J",
    b"\x7f",
    b"\xff",
    b"\x80",
    b"\xed\xa0\x80",
    b"\\t",
    b"\\xff",
]
PIECES += [s.encode() for s in ("é", "e\u0301", "名", "🎵", "\x85", "\u2028", "\u202e", "\\u2028")]


@pytest.mark.parametrize(
    ("raw", "escaped"),
    [
        (b"street 1.wav", "street 1.wav"),
        ("Café 名 🎵 {}%s|$x_1.wav".encode(), "Café 名 🎵 {}%s|$x_1.wav"),
        (b"a\tb\nc\rd\\e", r"a\tb\nc\rd\\e"),
        (b"rec\xff.wav", r"rec\xff.wav"),
        (b"rec\\xff.wav", r"rec\\xff.wav"),
        (b"\x1b[31mred", r"\x1b[31mred"),
        ("x\x85y\u2028z\u202e".encode(), r"x\u0085y\u2028z\u202e"),
    ],
)
def test_the_escapes(raw, escaped):
    name = os.fsdecode(raw)
    assert escape_name(name) == escaped
    assert os.fsencode(unescape_name(escaped)) == raw


def test_every_name_has_its_own_line_and_comes_back():
    draw = random.Random(0)
    seen: dict[str, bytes] = {}
    for _ in range(3000):
        raw = b"".join(draw.choices(PIECES, k=draw.randint(1, 6)))
        text = escape_name(os.fsdecode(raw))
        assert len(text.splitlines()) == 1 and "\t" not in text and text.encode()
        assert os.fsencode(unescape_name(text)) == raw
        assert seen.setdefault(text, raw) == raw
        assert is_plain(os.fsdecode(raw)) == (text.replace("\\\\", "\\") == os.fsdecode(raw)) or (
            b"\\" in raw
        )


def test_text_that_was_never_escaped_stays():
    for text in ("a.wav", r"C:\data\x.wav"[:3], r"odd\q", "é", r"\xZZ", "trailing\\"):
        assert unescape_name(text) == text


def test_messages_keep_their_lines():
    assert printable("a\nb\tc") == "a\nb\tc"
    assert printable("\x1b[2Jgone\r" + os.fsdecode(b"\xff")) == r"\x1b[2Jgone\x0d\xff"
    assert printable("lone \ud800").encode()


@pytest.mark.parametrize("character", ["a", "é", "名", "🎵"])
def test_long_names_are_cut_between_characters(character):
    for longest in range(200, 210):
        short = shorten_name(character * 300, longest)
        assert longest - 4 < len(os.fsencode(short)) <= longest
        assert short[-9] == "~" and is_plain(short)
        assert short != shorten_name(character * 301, longest)
    assert shorten_name(character * 3, 12) == character * 3
    assert len(os.fsencode(shorten_name(os.fsdecode(b"\x81" * 300), 200))) == 200
    assert [len(shorten_name("x" * 300, longest)) for longest in (0, 1, 8, 9, 10)] == [
        0,
        1,
        8,
        9,
        10,
    ]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_streams_of_any_encoding_print_any_name(encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors=STREAM_ERRORS)
    stream.write(f"{os.fsdecode(b'rec' + bytes([255]))} 名")
    stream.flush()
    shown = raw.getvalue().decode(encoding)
    assert shown.startswith(r"rec\xff ") and shown[8:] in ("名", r"\u540d")
