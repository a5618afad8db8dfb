"""Parallel work in threads, for files and batches."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
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
        jobs: number of threads; None for one per usable core.
        desc: the bar's title.
        progress: whether to show it.
        unit: what the bar counts.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs {jobs}: at least one file must be processed at a time; give 1")
    pool = ThreadPoolExecutor(jobs or available_cores())
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
    """Number of CPU cores this process may use, in containers and on clusters fewer than all.

    The smaller of its affinity and its CPU quota, never less than 1. Of a quota that is no whole
    number the fraction is left over: a thread more would be stopped for a part of every period,
    and the others would wait for it.
    """
    quota = cpu_quota()
    return affine_cores() if quota is None else min(affine_cores(), max(1, int(quota)))


def affine_cores() -> int:
    """Number of CPU cores that the system schedules this process on, whatever its quota."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(process: Path = Path("/proc/self")) -> float | None:
    """CPU time per second that the control groups of a process allow, in cores; None: no limit.

    Groups are nested, and the tightest quota counts: of the group of the process or of one around
    it, as far as they are mounted.

    Args:
        process: its folder in /proc.
    """
    try:
        groups = (process / "cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (process / "mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None  # not Linux
    controllers = [line.split(":", 2) for line in groups if line.count(":") >= 2]
    quotas = [
        quota
        for mount in mounts
        for _, names, group in controllers
        for folder in _group_folders(mount, names, group)
        if (quota := _quota_in(folder)) is not None
    ]
    return min(quotas, default=None)


def _group_folders(mount: str, controllers: str, group: str) -> list[Path]:
    """Folders of a control group and those around it, if a line of mountinfo is their mount."""
    before, _, after = mount.partition(" - ")
    fields, kind = before.split(), after.split()
    if len(fields) < 5 or len(kind) < 3:
        return []
    version_2 = kind[0] == "cgroup2" and not controllers
    version_1 = kind[0] == "cgroup" and "cpu" in controllers.split(",")
    if not (version_2 or (version_1 and "cpu" in kind[2].split(","))):
        return []
    root, top = (re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), f) for f in fields[3:5])
    folder = Path(top)
    # In a container, the group may be named as outside, where the mount shows only a part.
    below = os.path.relpath(group, root)
    if below == os.curdir or below.split(os.sep)[0] == os.pardir:
        return [folder]
    parts = Path(below).parts
    return [folder.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]


def _quota_in(folder: Path) -> float | None:
    """The quota of one control group in cores; None if it has none."""
    try:
        if (folder / "cpu.max").is_file():
            limit, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            limit, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8").strip()
                for name in ("quota", "period")
            )
        cores = float(limit) / float(period)  # "max" is no number
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None  # -1: none
