"""Let one of many processes on many machines do a piece of work for all, by a file as a claim.

The others wait. The holder of the claim writes to it every few seconds. If that ceases, because the
process was killed or its machine lost, another one takes over, so that nobody waits for ever. Times
are compared on the clock of whoever waits, as clocks of machines differ.

A claim saves work, but does not exclude that it is done twice: a process that was stopped for
minutes may wake up. Whatever the work makes must therefore be made so that the first result stays.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

# How often the holder writes, how long silence means that it is dead, and how often others look.
# A network file system may show what is written on another machine a minute later.
BEAT_S, SILENCE_S, LOOK_S = 5.0, 120.0, 1.0


class _Seen(NamedTuple):
    """What a claim shows to others."""

    host: str
    process: int
    text: str
    changed_ns: int

    @property
    def is_gone(self) -> bool:
        """Whether it is of a process of this machine that has ended."""
        if self.host != platform.node() or not self.process or os.name != "posix":
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass  # It is another user's.
        return False

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}" if self.process else "another process"


def work_once(
    claim: Path, is_done: Callable[[], bool], work: Callable[[], None], *, what: str
) -> None:
    """Do a piece of work unless it is done; wait if another process does it.

    Args:
        claim: the file; removed when the work is done or has failed.
        is_done: whether the work is done.
        work: does it. Its errors are raised, and the next process tries it.
        what: what the holder of the claim does, for the message to those who wait.
    """
    last: _Seen | None = None
    since_s = 0.0
    told = False
    while not is_done():
        if _taken(claim):
            with _held(claim):
                if not is_done():
                    work()
            return
        seen = _look(claim)
        if seen is None:
            continue  # It has ended just now.
        if last is None or seen != last:
            last, since_s = seen, time.monotonic()
        silent = time.monotonic() - since_s >= SILENCE_S
        if seen.is_gone or silent:
            why = "has ended" if seen.is_gone else f"has been silent for {SILENCE_S:.0f} s"
            _say(f"{seen}, which {what}, {why}; this process does so instead")
            claim.unlink(missing_ok=True)
            last = None
            continue
        if not told:
            _say(f"waiting for {seen}, which {what}")
            told = True
        time.sleep(LOOK_S)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _taken(claim: Path) -> bool:
    """Create the claim, which one process can; whether it is ours."""
    claim.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = os.open(claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    with os.fdopen(file, "wb") as stream:
        stream.write(_line(0))
    return True


def _line(beat: int) -> bytes:
    # The number of the beat, as a file system may have times of whole seconds only.
    return json.dumps([platform.node(), os.getpid(), beat]).encode() + b"\n"


def _look(claim: Path) -> _Seen | None:
    """What another process claims; None if the claim is gone."""
    try:
        # Opening it makes a network file system ask its server.
        with claim.open("rb") as stream:
            text = stream.read(4096).decode("utf-8", "replace")
            changed_ns = os.fstat(stream.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None
    host, process = "", 0
    with suppress(ValueError, TypeError):  # It may be empty: created, but not yet written.
        host, process, _ = json.loads(text)
        host, process = str(host), int(process)
    return _Seen(host, process, text, changed_ns)


@contextmanager
def _held(claim: Path) -> Iterator[None]:
    """Write to the claim while the block runs, and remove it at the end if it is still ours."""
    ended = threading.Event()

    def beat() -> None:
        number = 0
        while not ended.wait(BEAT_S):
            number += 1
            if not _is_ours(claim):
                return
            with suppress(OSError), claim.open("r+b") as stream:
                stream.write(_line(number))

    thread = threading.Thread(target=beat, daemon=True, name="hold the claim")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if _is_ours(claim):
            claim.unlink(missing_ok=True)


def _is_ours(claim: Path) -> bool:
    seen = _look(claim)
    return seen is not None and (seen.host, seen.process) == (platform.node(), os.getpid())
