"""Lengths of recordings from their headers, read in threads; guessed from sizes where unknown."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from desed_task.audio.files import estimate_duration_s
from desed_task.errors import InputError
from desed_task.parallel import available_cores, prefetch, track

# Bytes per millisecond where no length is known: 16 bits at 16 kHz.
_USUAL_RATE = 32.0
# A thread mostly waits for the disk, or for a program that reads the header.
_THREADS_PER_CORE, _MOST_THREADS = 4, 32


class Length(NamedTuple):
    """The length of a recording, and size and time of the file that it was read from.

    Attributes:
        ms: in milliseconds.
        is_guess: whether it follows from the size, as the header does not tell it.
        size: bytes of the file; 0 if it cannot be looked at.
        changed_ns: when the file was last changed.
    """

    ms: int
    is_guess: int
    size: int
    changed_ns: int


UNKNOWN = Length(0, 1, 0, 0)


def measure(paths: Sequence[Path], known: Sequence[Length | None]) -> list[Length]:
    """Read lengths of recordings from headers.

    Args:
        paths: the recordings.
        known: what is known of each; read again if the file has changed since, or it is a guess.
    """
    n_threads = min(_MOST_THREADS, _THREADS_PER_CORE * available_cores())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # They come again when it is read.
        tasks = zip(paths, known, strict=True)
        read = list(
            track(
                prefetch(lambda task: _length(*task), tasks, n_threads),
                "reading lengths",
                len(paths),
                unit="recording",
                leave=False,
            )
        )
    told = [length for length in read if not length.is_guess]
    n_bytes, n_ms = sum(one.size for one in told), sum(one.ms for one in told)
    rate = n_bytes / n_ms if n_bytes and n_ms else _USUAL_RATE
    return [one._replace(ms=round(one.size / rate)) if one.is_guess else one for one in read]


def _length(path: Path, known: Length | None) -> Length:
    """What the header tells, or a guess of 0."""
    try:
        found = os.stat(path)
    except OSError:
        return UNKNOWN
    file = (found.st_size, found.st_mtime_ns)
    if known is not None and not known.is_guess and file == known[2:]:
        return known
    try:
        length_s = estimate_duration_s(path)
    except (InputError, OSError):  # Whoever reads it tells what is wrong.
        length_s = math.nan
    if not math.isfinite(length_s):
        return Length(0, 1, *file)
    return Length(round(1000 * length_s), 0, *file)
