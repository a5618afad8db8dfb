"""Standard output and error that can print any file name."""

from __future__ import annotations

import io
import sys

from desed_task.file_names import STREAM_ERRORS


def accept_any_name() -> None:
    """Print what a stream's encoding lacks as escapes instead of raising UnicodeEncodeError.

    Names of files need not be UTF-8, and the encoding of a pipe or of the C locale may be ASCII.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=STREAM_ERRORS)
