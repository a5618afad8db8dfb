"""Flags about describing a folder of recordings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

# Flags that go with --describe.
_FITTING: Final = frozenset({"describe", "out", "overwrite"})


def add_describing(parser: argparse.ArgumentParser) -> None:
    """Add `--describe` and `--out`."""
    add = parser.add_argument_group("own recordings").add_argument
    add(
        "--describe",
        metavar="FOLDER",
        type=Path,
        help="look at a folder of recordings and label files, write a configuration for a training "
        "on them, and say what is odd (docs/own_data.md)",
    )
    add(
        "--out",
        metavar="FILE",
        type=Path,
        help="with --describe: the file to write (default: FOLDER.yaml in the current folder)",
    )


def describing_contradiction(args: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    """Explain which arguments do not go with --describe; "" if all do."""
    if args.describe is None:
        return "" if args.out is None else "--out names the file of --describe; give that, too"
    given = [
        f"--{name}"
        for name, value in vars(args).items()
        if name not in _FITTING and value != parser.get_default(name)
    ]
    if not given:
        return ""
    return f"--describe only looks at FOLDER and writes a file; leave out {', '.join(given)}"
