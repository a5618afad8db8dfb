"""A progress bar over all processes of a command, shown by the first one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from desed_task.parallel import Progress
from local.processes.group import Group, is_lost_partner

# How often the first process asks what all have done.
_REFRESH_S = 0.5


@contextmanager
def shared_progress(
    bar: Progress, group: Group, key: str, *, parts: int = 1
) -> Iterator[Callable[[float], None]]:
    """Let a bar show what all processes have done, until the block ends.

    Args:
        bar: that of the first process; those of others are not touched.
        group: the processes.
        key: name of the work.
        parts: parts of a unit that are counted, as processes share whole numbers only.

    Yields:
        A function that counts further work of this process.
    """
    done, counted, shown = 0.0, 0, 0.0
    ended = threading.Event()

    def advance(amount: float) -> None:
        nonlocal done, counted
        done += amount
        more = int(done * parts) - counted
        if more > 0:
            counted += more
            group.add_up(key, more)

    def show() -> None:
        nonlocal shown
        total = group.add_up(key)
        n = total if parts == 1 else total / parts
        left = n - shown if bar.total is None else min(n - shown, bar.total - bar.n)
        bar.update(max(0, left))
        shown = n

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
