"""Flags that take lists of words, beside arguments without a flag in any place.

    add("recordings", nargs="*", type=Path)
    formats = add("--formats", action=ListOption, choices=("tsv", "json"), default=["tsv"])
    args = parse_in_any_order(parser, argv, "recordings", Path, [formats])

`argparse` would take `x.wav` in `--formats tsv x.wav` for a format.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any


class ListOption(argparse.Action):
    """A list of words, with commas or spaces between: `--formats tsv,json` or `--formats tsv json`.

    Given again, it goes on; a word counts once. Words after spaces need `parse_in_any_order`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._words: Sequence[str] = kwargs.pop("choices")
        super().__init__(*args, **kwargs)
        self.metavar = "{" + ",".join(self._words) + "}"

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add the words of one flag."""
        words = [word.strip() for word in values.split(",") if word.strip()]
        for word in words or [values]:
            if word not in self._words:
                known = ", ".join(map(repr, self._words))
                problem = f"invalid choice: {word!r} (choose from {known})"
                raise argparse.ArgumentError(self, problem)
        before = getattr(namespace, self.dest)
        before = [] if before is self.default else before
        setattr(namespace, self.dest, list(dict.fromkeys([*before, *words])))

    def takes(self, word: str) -> bool:
        """Whether a word after the list belongs to it, and not to the arguments without a flag.

        A word that is neither one of the list nor looks like a file is taken for a mistyped one.
        """
        if all(part.strip() in self._words for part in word.split(",") if part.strip()):
            return True
        return not (os.path.splitext(word)[1] or os.sep in word or os.path.lexists(word))


def parse_in_any_order(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    dest: str,
    kind: Callable[[str], Any] = str,
    lists: Sequence[argparse.Action] = (),
) -> argparse.Namespace:
    """Parse a command line whose arguments without a flag may stand anywhere between the flags.

    `argparse` takes them in one place only, and takes those after a list for words of the list.

    Args:
        parser: its only argument without a flag is `dest`, with `nargs="*"`.
        argv: the words of the command line; None for those of this process.
        dest: name of the argument.
        kind: its type.
        lists: `ListOption`s of the parser, which end at the first word that is not theirs.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    end = words.index("--") if "--" in words else len(words)
    args, others = parser.parse_known_args(_joined(words[:end], lists))
    if unknown := [word for word in others if word.startswith("-") and word != "-"]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    found = [*getattr(args, dest), *map(kind, [*others, *words[end + 1 :]])]
    setattr(args, dest, found)
    return args


def _joined(words: Sequence[str], lists: Sequence[argparse.Action]) -> list[str]:
    """The words, with those of a list as one word, `--formats=tsv,json`."""
    joined: list[str] = []
    taking: ListOption | None = None
    for word in words:
        if taking is not None and not word.startswith("-"):
            flag, _, value = joined[-1].partition("=")
            if not value or taking.takes(word):
                joined[-1] = f"{flag}={','.join(filter(None, (value, word)))}"
                continue
        taking = _list_of(word, lists)
        joined.append(word)
    return joined


def _list_of(word: str, lists: Sequence[argparse.Action]) -> ListOption | None:
    """The list that a flag begins, which may be abbreviated as in `argparse`."""
    flag = word.partition("=")[0]
    if not flag.startswith("--") or len(flag) < len("--x"):
        return None
    return next(
        (
            one
            for one in lists
            if isinstance(one, ListOption) and any(o.startswith(flag) for o in one.option_strings)
        ),
        None,
    )
