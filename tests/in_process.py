"""Scripts without a process of their own, whose start costs up to six seconds of processor time.

For tests of what a command prints, writes and returns. What belongs to a process needs a real one:
being killed, Ctrl-C, memory, environment, what is imported, the same result in a fresh process.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.conftest import plain_text


def run_main(script: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Call `main` of a script in the folder `cwd`; an error that it does not catch is raised."""
    main = importlib.import_module(script.removesuffix(".py")).main
    words = [*map(str, arguments)]
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with (
        _in_folder(cwd),
        _as_command(script, words),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            status = main(words)
        except SystemExit as ended:  # argparse
            status = ended.code
    told = [plain_text(stream.buffer.getvalue()) for stream in (out, err)]
    return subprocess.CompletedProcess((script, *words), status, *told)


@contextlib.contextmanager
def _in_folder(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _as_command(script: str, words: list[str]) -> Iterator[None]:
    """Warnings are printed, each again in each command; argv and Ctrl-C are as before after it."""
    argv, sys.argv = sys.argv, [script, *words]
    handlers = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        with warnings.catch_warnings():
            warnings.resetwarnings()
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.showwarning = _print_warning
            yield
    finally:
        sys.argv = argv
        for name, handler in handlers.items():
            signal.signal(name, handler)


def _print_warning(message: Any, category: Any, filename: Any, lineno: Any, *_: Any) -> None:
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))
