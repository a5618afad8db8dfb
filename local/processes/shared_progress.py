"""A progress bar over all processes of a command, shown by the first one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from desed_task.parallel import Progress
from local.processes.group import Group, is_lost_partner

# How often the first process asks what all have done, and parts of a unit that are counted.
_REFRESH_S, _PARTS = 0.5, 10


@contextmanager
def shared_progress(bar: Progress, group: Group, key: str) -> Iterator[Callable[[float], None]]:
    """Let a bar show what all processes have done, until the block ends.

    Args:
        bar: that of the first process; those of others are not touched.
        group: the processes.
        key: name of the work.

    Yields:
        A function that counts further work of this process.
    """
    done, counted = 0.0, 0
    ended = threading.Event()

    def advance(amount: float) -> None:
        # Whole numbers are what processes share.
        nonlocal done, counted
        done += amount
        more = int(done * _PARTS) - counted
        if more > 0:
            counted += more
            group.add_up(key, more)

    def show() -> None:
        n = group.add_up(key) / _PARTS
        bar.update(max(0.0, n if bar.total is None else min(n, bar.total) - bar.n))

    def refresh() -> None:
        while not ended.wait(_REFRESH_S):
            try:
                show()
            except RuntimeError as error:
                # The main thread meets the same.
                if not is_lost_partner(error):
                    raise
                return

    thread = threading.Thread(target=refresh, daemon=True, name="progress of all processes")
    if group.world.is_first:
        thread.start()
    try:
        yield advance
    finally:
        ended.set()
        if group.world.is_first:
            thread.join()
    if group.world.is_first:
        show()
