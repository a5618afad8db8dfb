"""Run a command and turn errors into an exit status and one message instead of a traceback."""

from __future__ import annotations

import argparse
import errno
import logging
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any

from desed_task.errors import InputError, forget_warnings
from desed_task.file_names import printable
from local.cli.interrupts import EXIT_STOPPED, raise_again
from local.cli.redaction import redact
from local.cli.remedies import remedies_of
from local.cli.streams import accept_any_name
from local.cli.threads import threads_set

EXIT_WRONG_INPUT = 2
# Errors of the system that the user can mend: paths, permissions and disk space.
USER_ERRNOS = frozenset(
    (
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ENAMETOOLONG,
    )
)
# What PyTorch says of operations and types that a Mac's GPU does not have, and of its memory.
_OF_MPS = re.compile(r"\bMPS(:| (device|backend|framework|[Tt]ensor))|on MPS\b")
CPU_INSTEAD = (
    "a limit of PyTorch on a Mac's GPU; compute on the CPU (--gpus 0; extract_embeddings.py takes "
    "--use_gpu 0)"
)
WRITABLE_HINT = "check the path, its permissions and the free space"


class StoppedError(Exception):
    """The user stopped the command; the message says how to resume."""


def run_command(action: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command and print the error that ended it, if any, without passwords.

    Threads are set before (`local.cli.threads`), so PyTorch should be imported by `action`, within
    `leaving_at_once` (`local.cli.interrupts`).

    Args:
        action: the command; returns its exit status.
        args: its arguments; `threads`, if there, becomes the command's `ThreadChoice`.

    Returns:
        The exit status: that of `action`, 2 for wrong input or a place that cannot be written to,
        130 after Ctrl-C.
    """
    accept_any_name()
    complete = remedies_of(args)
    hide_secrets(complete)
    forget_warnings()
    raise_again()
    try:
        with threads_set(getattr(args, "threads", None)) as threads:
            return action(argparse.Namespace(**{**vars(args), "threads": threads}))
    except InputError as error:
        print(f"error: {_shown(complete(_message(error)))}", file=sys.stderr)
        return EXIT_WRONG_INPUT
    except OSError as error:
        if error.errno not in USER_ERRNOS:
            raise
        origin = error.filename2 or error.filename
        text = f"{f'{origin}: ' if origin else ''}{error.strerror}"
        print(f"error: {_shown(text)}; {WRITABLE_HINT}", file=sys.stderr)
        return EXIT_WRONG_INPUT
    except (NotImplementedError, RuntimeError, TypeError) as error:
        if not _OF_MPS.search(str(error)):
            raise
        print(f"error: {_shown(_first_line(error))}; {CPU_INSTEAD}", file=sys.stderr)
        return EXIT_WRONG_INPUT
    except StoppedError as stop:
        print(_shown(str(stop)), file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped; run the same command again to resume", file=sys.stderr)
    return EXIT_STOPPED


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def hide_secrets(complete: Callable[[str], str] = str) -> None:
    """Redact what this process prints without us: warnings, logs of libraries, tracebacks.

    Args:
        complete: applied to warnings first, such as `remedies_of`.
    """
    # Show users the message only, without file and line.
    warnings.formatwarning = lambda message, *_args, **_kw: (
        f"warning: {_shown(complete(str(message)))}\n"
    )
    sys.excepthook = _print_traceback
    threading.excepthook = _print_traceback_of_thread
    logging.setLogRecordFactory(_log_record)


def _log_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = logging.LogRecord(*args, **kwargs)
    try:
        text = record.getMessage()
    except Exception:
        return record  # It does not fit its arguments, which logging reports.
    shown = redact(text)
    if shown != text:
        record.msg, record.args = shown, None
    if record.exc_info and record.exc_info[0] is not None:
        # Handlers print this text instead of the exception.
        record.exc_text = redact("".join(traceback.format_exception(*record.exc_info))).rstrip()
    return record


def _print_traceback_of_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit and args.exc_value is not None:
        _print_traceback(args.exc_type, args.exc_value, args.exc_traceback)


def _shown(text: str) -> str:
    """A message as it may be printed: without passwords and control characters."""
    return printable(redact(text))


def _print_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print what ends the program unexpectedly, with the errors that led to it."""
    print(_shown("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def _message(error: InputError) -> str:
    """The message for the user, without the traceback that a loader's worker wraps it in."""
    text = str(error)
    if text.startswith("Caught InputError in"):
        text = text.rpartition("InputError: ")[2].strip()
    return text
