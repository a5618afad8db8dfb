"""Parallel work in threads, for files and batches."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

from desed_task.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")


def thread_map(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    jobs: int | None,
    desc: str,
    progress: bool,
    unit: str = "file",
) -> Iterator[Result]:
    """Apply `work` to items in threads, under a progress bar; yields results in order.

    Args:
        work: called in threads, so it should spend its time without holding the GIL.
        items: its arguments.
        jobs: number of threads; None for one per processor.
        desc: the bar's title.
        progress: whether to show it.
        unit: what the bar counts.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs {jobs}: at least one file must be processed at a time; give 1")
    pool = ThreadPoolExecutor(jobs or os.cpu_count() or 1)
    try:
        results: Iterable[Result] = pool.map(work, items)
        yield from tqdm(
            results, desc, len(items), unit=unit, dynamic_ncols=True, disable=not progress
        )
    finally:
        # After Ctrl-C files in progress are finished, queued ones are not.
        pool.shutdown(cancel_futures=True)


def prefetch(
    work: Callable[[Item], Result], items: Iterable[Item], n_threads: int
) -> Iterator[Result]:
    """Apply `work` to items in threads, a few items ahead; yields results in order.

    Args:
        work: called in threads.
        items: consumed in the caller's thread, only as fast as results are needed.
        n_threads: number of threads.
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
    """Number of CPU cores this process may use, on a cluster often fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
