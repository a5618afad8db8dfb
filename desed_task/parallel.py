"""Parallel work: threads for files and batches, processes for metric computations.

sed_scores_eval iterates over clips in Python, where threads would block each other: it runs in
worker processes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from types import TracebackType
from typing import Final, TypeVar

from tqdm import tqdm

from desed_task.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_PROCESSES: Final = 8


def thread_map(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    jobs: int | None,
    desc: str,
    progress: bool,
    unit: str = "file",
) -> Iterator[Result]:
    """`work` of each item, in order, several at a time, under a progress bar.

    Args:
        work: called in threads, so it should spend its time outside Python's lock.
        items: its arguments.
        jobs: threads; None for one a processor.
        desc: the bar's title.
        progress: whether to show it.
        unit: what the bar counts.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs {jobs}: at least one file must be worked on at a time; give 1")
    pool = ThreadPoolExecutor(jobs or os.cpu_count() or 1)
    try:
        results: Iterable[Result] = pool.map(work, items)
        yield from tqdm(
            results, desc, len(items), unit=unit, dynamic_ncols=True, disable=not progress
        )
    finally:
        # Ctrl-C ends the files at work, not the queue.
        pool.shutdown(cancel_futures=True)


def prefetch(
    work: Callable[[Item], Result], items: Iterable[Item], n_threads: int
) -> Iterator[Result]:
    """`work` of each item, in order, in threads that are a few items ahead.

    Args:
        work: called in threads.
        items: taken one by one in the caller's thread, no more of them than the threads need.
        n_threads: that work at a time.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * n_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            # An error or Ctrl-C need not wait for what is still queued.
            for future in waiting:
                future.cancel()


def available_cores() -> int:
    """Those that this process may run on; a cluster grants fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _ignore_interrupts() -> None:
    """Ctrl-C reaches every process of a terminal; the one that asked answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class EvaluationPool:
    """Runs functions in other processes, or here, when their result is asked for.

    Args:
        n_processes: how many at most; with less than 2 everything runs here. Started processes
            need a second to import what they compute with, so that small work is done here.

    Example:
        with EvaluationPool(available_cores()) as pool:
            value = pool.start(function, argument)
            ...
            print(value())
    """

    def __init__(self, n_processes: int) -> None:
        self.n_processes = min(n_processes, MAX_PROCESSES)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> EvaluationPool:
        if self.n_processes > 1:
            # Forks of a process with threads, as PyTorch's, may wait for ever for their locks.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self.n_processes, mp_context=context, initializer=_ignore_interrupts
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
