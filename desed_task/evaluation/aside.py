"""Evaluations in other processes, beside the one that asks for them.

sed_scores_eval works through clips one by one in Python, so that threads would wait for each other.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from types import TracebackType
from typing import Final, TypeVar

MOST_PROCESSES: Final = 8
Result = TypeVar("Result")


def usable_processors() -> int:
    """Those that this process may run on; a cluster grants fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _leave_interrupts() -> None:
    """Ctrl-C reaches every process of a terminal; the one that asked answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Aside:
    """Runs functions in other processes, or here, when their result is asked for.

    Args:
        n_processes: how many at most; with less than 2 everything runs here. Started processes
            need a second to import what they compute with, so that small work is done here.

    Example:
        with Aside(usable_processors()) as aside:
            value = aside.start(function, argument)
            ...
            print(value())
    """

    def __init__(self, n_processes: int) -> None:
        self.n_processes = min(n_processes, MOST_PROCESSES)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Aside:
        if self.n_processes > 1:
            # Forks of a process with threads, as PyTorch's, may wait for ever for their locks.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self.n_processes, mp_context=context, initializer=_leave_interrupts
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)
            self._pool = None

    def start(
        self, function: Callable[..., Result], *args: object, **kwargs: object
    ) -> Callable[[], Result]:
        """Begin to compute; a function that waits for the result and returns it.

        Args:
            function: of a module, so that another process finds it.
            *args: of the function, copied to the other process; as `kwargs`.
        """
        here = partial(function, *args, **kwargs)
        if self._pool is None:
            return here
        try:
            future = self._pool.submit(here)
        except BrokenProcessPool:
            return here

        def result() -> Result:
            try:
                return future.result()
            except BrokenProcessPool:
                # Killed, as by a memory limit: the figure is worth the time it takes here.
                return here()

        return result
