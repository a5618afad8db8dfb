"""Work on many files or batches at a time."""

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


def in_threads(
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


def ahead(
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
