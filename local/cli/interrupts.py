"""Ctrl-C while modules are imported: one line and status 130, whatever the modules do.

An exception in the midst of an import comes out of some packages as another error, and where a
script imports what it needs nothing catches it. Nothing has been done by then, so there is nothing
to clean up. This module imports next to nothing, as scripts import it first:

    if __name__ == "__main__":
        from local.cli import interrupts

        interrupts.leave_at_once()
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

EXIT_STOPPED = 130
_LINE = "stopped before anything was done\n"


def leave_at_once() -> None:
    """End the process at Ctrl-C, until `raise_again`; what ignores Ctrl-C goes on ignoring it."""
    _replace_handler(signal.default_int_handler, _leave)


def raise_again() -> None:
    """Raise KeyboardInterrupt at Ctrl-C, as Python does."""
    _replace_handler(_leave, signal.default_int_handler)


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """For a block of slow imports, before a command has done anything."""
    leave_at_once()
    try:
        yield
    finally:
        raise_again()


def _replace_handler(old: object, new: object) -> None:
    # Handlers belong to the main thread.
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGINT) is old:
        signal.signal(signal.SIGINT, new)  # type: ignore[arg-type]


def _leave(_signal: int, _frame: FrameType | None) -> None:
    with suppress(Exception):  # it may be in use at this moment
        sys.stdout.flush()
    with suppress(OSError):
        os.write(2, _LINE.encode())
    os._exit(EXIT_STOPPED)
