"""Ctrl-C while a command is loaded: one line and status 130, whatever is being imported.

An exception in the midst of an import comes out of some packages as another error, and nothing
catches it where a script imports what it needs. Until a command begins its work there is nothing to
clean up. Scripts import this module first, so it imports next to nothing:

    if __name__ == "__main__":
        from local.cli import interrupts

        interrupts.leave_at_once()
    ...
    with leaving_at_once():  # ends with it
        import torch
"""

from __future__ import annotations

import os
import signal
import sys

EXIT_STOPPED = 130
_LINE = "stopped before anything was done\n"


def leave_at_once() -> None:
    """End the process at Ctrl-C, until `raise_again`; what ignores Ctrl-C goes on ignoring it."""
    _replace_handler(signal.default_int_handler, _leave)


def raise_again() -> None:
    """Raise KeyboardInterrupt at Ctrl-C, as Python does."""
    _replace_handler(_leave, signal.default_int_handler)


class leaving_at_once:  # noqa: N801
    """A block of slow imports, after which the command begins its work."""

    def __enter__(self) -> None:
        """End the process at Ctrl-C."""
        leave_at_once()

    def __exit__(self, *_error: object) -> None:
        """Raise KeyboardInterrupt again."""
        raise_again()


def _replace_handler(old: object, new: object) -> None:
    if signal.getsignal(signal.SIGINT) is old:
        try:  # noqa: SIM105 -- contextlib would have to be imported
            signal.signal(signal.SIGINT, new)  # type: ignore[arg-type]
        except ValueError:
            pass  # Handlers belong to the main thread.


def _leave(_signal: int, _frame: object) -> None:
    try:  # noqa: SIM105
        sys.stdout.flush()
    except Exception:
        pass  # It may be in use at this moment.
    os.write(2, _LINE.encode())
    os._exit(EXIT_STOPPED)
