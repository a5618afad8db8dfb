"""Messages of our sources, to look up what a page quotes."""

from __future__ import annotations

import ast
import bisect
import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("desed_recipe", "desed_task", "local", "benchmarks")
# What may stand in a quoted message where the code has a value: a word, number or path.
_VALUE = r"[\w./:@-]+"


def is_in_code(message: str) -> bool:
    """Whether our sources can write this message.

    `...` in it stands for anything; a value of the code for a word, number or path. A heading and
    the line below it may come from two places.
    """
    parts = [" ".join(part.split()) for part in message.split("...")]
    parts = [part for part in (part.strip(" :;,") for part in parts) if len(part) > 1]
    return any(
        _is_text(parts[:n]) and (n == len(parts) or _is_text(parts[n:]))
        for n in range(len(parts), 0, -1)
    )


def _is_text(parts: Sequence[str]) -> bool:
    return bool(parts) and bool(frozenset.intersection(*map(_having, parts)))


@functools.cache
def _having(part: str) -> frozenset[int]:
    """Numbers of the texts that write a part: in a piece, or with values that lie in it."""
    whole, starts, numbers = _joined()
    found, at = set(), whole.find(part)
    while at >= 0:
        piece = bisect.bisect(starts, at) - 1
        found.add(numbers[piece])
        at = whole.find(part, starts[piece + 1])
    heads = tuple(part[:k] for k in range(1, len(part) + 1))
    more = (n for n, text in enumerate(_texts()) if n not in found and _has(text, part, heads))
    return frozenset(found.union(more))


@functools.cache
def _joined() -> tuple[str, list[int], list[int]]:
    """All pieces in one string, where each begins, and the end; the number of the text of each."""
    pieces = [(piece, number) for number, text in enumerate(_texts()) for piece in text]
    starts = [0, *itertools.accumulate(len(piece) + 1 for piece, _ in pieces)]
    return "\0".join(piece for piece, _ in pieces), starts, [number for _, number in pieces]


def _has(text: Sequence[str], part: str, heads: tuple[str, ...]) -> bool:
    """Whether a part is written by several pieces of a text; `heads` are its beginnings."""
    for first in range(len(text) - 1):
        if not text[first].endswith(heads):
            continue
        for last in range(first + 1, len(text)):
            if last > first + 1 and text[last - 1] not in part:
                break  # Nor do pieces further away have all between them in it.
            if _spans(text[first : last + 1], part):
                return True
    return False


def _spans(pieces: Sequence[str], part: str) -> bool:
    """Whether a part begins in the first piece, has those between whole and ends in the last."""
    start, *middle, end = pieces
    pattern = _VALUE.join(["", *map(re.escape, middle), ""]) if middle else _VALUE
    heads = (k for k in range(1, min(len(start), len(part)) + 1) if start.endswith(part[:k]))
    return any(
        re.fullmatch(pattern, part[k:stop])
        for k in heads
        for stop in range(k, len(part) + 1)
        if end.startswith(part[stop:])
    )


@functools.cache
def _texts() -> tuple[tuple[str, ...], ...]:
    """Every string of our sources, but docstrings: its pieces, with a value between any two."""
    sources = [*ROOT.glob("*.py")]
    sources += (path for top in PACKAGES for path in (ROOT / top).rglob("*.py"))
    found = [text for path in sources for text in _strings(ast.parse(path.read_text("utf-8")))]
    for path in (ROOT / "Makefile", *ROOT.glob("*.sh")):
        joined = re.sub(r'\\\n\s*f?"?|" \\\n\s*"', "", path.read_text("utf-8"))
        found += [(" ".join(line.split()),) for line in joined.splitlines()]
    return tuple(dict.fromkeys(found))


def _of_many(value: ast.expr) -> str | None:
    """The words of a value that are the same for every number but 1: pages quote the plural."""
    if not isinstance(value, ast.Call):
        return None
    called = getattr(value.func, "id", getattr(value.func, "attr", ""))
    words = [str(one.value) for one in value.args[1:] if isinstance(one, ast.Constant)]
    if called == "count_of" and words:
        return f" {words[-1]}{'' if len(words) == 2 else 's'}"
    if called == "_share" and words:  # of `local.doctor.corpus`
        return f" {words[-1]}"
    return words[-1] if called == "agree" and words else None


def _strings(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            pieces = [""]
            for part in node.values:
                if isinstance(part, ast.Constant):
                    pieces[-1] += str(part.value)
                else:
                    words = _of_many(part.value)
                    if words is None or words.startswith(" "):
                        pieces.append("")
                    pieces[-1] += words or ""
            yield tuple(" ".join(piece.split("\n")) for piece in pieces)
        elif isinstance(node, ast.Constant) and id(node) not in docstrings | inside:
            yield (str(node.value),)
