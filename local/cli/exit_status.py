"""Run a command and turn errors into an exit status and one message instead of a traceback."""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import re
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from desed_task.errors import DiskFullError, InputError, disk_full, forget_warnings, free_bytes
from desed_task.file_names import STREAM_ERRORS
from local.cli.interrupts import EXIT_STOPPED
from local.cli.redaction import redact, shown
from local.cli.remedies import remedies_of
from local.cli.threads import threads_set

EXIT_WRONG_INPUT = 2
# Errors of the system that the user can mend: paths, permissions and disk space.
USER_ERRNOS = frozenset(
    (
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.EFBIG,
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
# Argument -> the flag that makes the same command resume; others resume without one.
_RESUMING = {
    "skip_existing": "--skip_existing",
    "resume_from_checkpoint": "--resume_from_checkpoint auto",
}
# Arguments that name the folder a command writes to.
_OUTPUTS = ("output_dir", "log_dir", "out_dir", "basedir")
# Met by threads of libraries, such as TensorBoard's, which often raise them in ours, too.
_full_in_threads: list[DiskFullError] = []


class StoppedError(Exception):
    """The user stopped the command; the message says how to resume."""


class ToldElsewhereError(Exception):
    """Another process of the command says what ended it.

    Args:
        status: the exit status.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def run_command(
    action: Callable[[argparse.Namespace], int], args: argparse.Namespace, *, computes: bool = True
) -> int:
    """Run a command and print the error that ended it, if any, without passwords.

    Threads are set before (`local.cli.threads`), so PyTorch should be imported by `action`: within
    `local.cli.interrupts.leaving_at_once`, after which Ctrl-C is an exception.

    Args:
        action: the command; returns its exit status.
        args: its arguments; `threads`, if there, becomes the command's `ThreadChoice`.
        computes: whether threads are set; not if it only starts the processes that compute.

    Returns:
        The exit status: that of `action`, 2 for wrong input or a place that cannot be written to,
        130 after Ctrl-C. A full disk is one, too, whatever library met it.
    """
    accept_any_name()
    complete = remedies_of(args)
    hide_secrets(complete)
    forget_warnings()
    _full_in_threads.clear()
    try:
        if not computes:
            return action(args)
        with threads_set(getattr(args, "threads", None)) as threads:
            status = action(argparse.Namespace(**{**vars(args), "threads": threads}))
            if _full_in_threads:
                raise _full_in_threads[0]
            return status
    except InputError as error:
        print(f"error: {shown(complete(_message(error)))}", file=sys.stderr)
        return EXIT_WRONG_INPUT
    except StoppedError as stop:
        print(shown(str(stop)), file=sys.stderr)
        return EXIT_STOPPED
    except ToldElsewhereError as told:
        return told.status
    except Exception as error:
        text = _explained(error, args)
        if text is None:
            raise
        print(f"error: {shown(text)}", file=sys.stderr)
        return EXIT_WRONG_INPUT
    except KeyboardInterrupt:
        print("stopped; run the same command again to resume", file=sys.stderr)
    return EXIT_STOPPED


def _explained(error: Exception, args: argparse.Namespace) -> str | None:
    """A message for the user, if an error is no fault of the code."""
    if full := _full_disk(error, args):
        return _full_text(full, args)
    of_mps = isinstance(error, NotImplementedError | RuntimeError | TypeError)
    if of_mps and _OF_MPS.search(str(error)):
        return f"{_first_line(error)}; {CPU_INSTEAD}"
    if not isinstance(error, OSError) or error.errno not in USER_ERRNOS:
        return None
    origin = error.filename2 or error.filename
    return f"{f'{origin}: ' if origin else ''}{error.strerror}; {WRITABLE_HINT}"


def _full_disk(error: Exception, args: argparse.Namespace) -> DiskFullError | None:
    """The full disk that an error comes from, wherever it was raised.

    Where the error does not name a file, it is the fullest of those that the command writes to.
    """
    place: str | None = None
    with suppress(OSError):  # A folder may be gone.
        named = (getattr(args, name, None) for name in _OUTPUTS)
        places = [*map(str, filter(None, named)), os.getcwd(), tempfile.gettempdir()]
        place = min(places, key=free_bytes)
    return disk_full(error, place or tempfile.gettempdir())


def _full_text(full: DiskFullError, args: argparse.Namespace) -> str:
    return f"{full}; free some space, then {resuming_hint(args)}"


def resuming_hint(args: argparse.Namespace) -> str:
    """`run the same command again to resume`, with the flag that makes it resume."""
    flags = [flag for name, flag in _RESUMING.items() if hasattr(args, name)]
    # A test or an evaluation has nothing to resume.
    if getattr(args, "test_from_checkpoint", None) or getattr(args, "eval_from_checkpoint", None):
        flags = []
    more = f" with {flags[0]}" if flags else ""
    return f"run the same command again{more} to resume"


def accept_any_name() -> None:
    """Print what a stream's encoding lacks as escapes instead of raising UnicodeEncodeError.

    Names of files need not be UTF-8, and the encoding of a pipe or of the C locale may be ASCII.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=STREAM_ERRORS)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def hide_secrets(complete: Callable[[str], str] = str) -> None:
    """Redact what this process prints without us: warnings, logs of libraries, tracebacks.

    Args:
        complete: applied to warnings first, such as `remedies_of`.
    """
    # Show users the message only, without file and line.
    warnings.formatwarning = lambda message, *_args, **_kw: (
        f"warning: {shown(complete(str(message)))}\n"
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
    redacted = redact(text)
    if redacted != text:
        record.msg, record.args = redacted, None
    if record.exc_info and record.exc_info[0] is not None:
        # Handlers print this text instead of the exception.
        record.exc_text = redact("".join(traceback.format_exception(*record.exc_info))).rstrip()
    return record


def _print_traceback_of_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit or args.exc_value is None:
        return
    if full := disk_full(args.exc_value):
        _full_in_threads.append(full)
    else:
        _print_traceback(args.exc_type, args.exc_value, args.exc_traceback)


def _print_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print what ends the program unexpectedly, with the errors that led to it."""
    print(shown("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def _message(error: InputError) -> str:
    """The message for the user, without the traceback that a loader's worker wraps it in."""
    text = str(error)
    if text.startswith("Caught InputError in"):
        text = text.rpartition("InputError: ")[2].strip()
    return text
