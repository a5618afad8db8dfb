"""Parallel work in threads, for files and batches, and its progress.

Progress is a bar on a terminal and plain lines in a file or pipe.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Final, TypeAlias, TypeVar

from tqdm import tqdm

from desed_task.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

# Lines of a file are written after this share of the work, but not for each second of a quick one,
# and after this time at the latest.
_LINE_SHARE: Final = 0.1
_LEAST_BETWEEN_LINES_S: Final = 5.0
_MOST_BETWEEN_LINES_S: Final = 30.0


class ProgressLines:
    """Progress as plain lines on standard error: now and then, and one when the work is done.

    Has the methods of tqdm that are used here.

    Args:
        title: begins each line.
        total: amount of work; None if unknown.
        unit: of the amount, in the singular.
        initial: what was done before.
        leave: whether quick work gets a line, too.
        scaled: whether amounts are written as 1.2M.
    """

    def __init__(
        self,
        title: str,
        total: float | None,
        *,
        unit: str,
        initial: float = 0,
        leave: bool = True,
        scaled: bool = False,
    ) -> None:
        self.total, self.n = total, initial
        self._title, self._unit, self._leave, self._scaled = title, unit, leave, scaled
        self._postfix = ""
        self._closed = False
        self._begin()

    def __enter__(self) -> ProgressLines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, n: float = 1) -> None:
        """Count further work, and write a line if one is due."""
        self.n += n
        since_s = time.monotonic() - self._written_s
        far = bool(self.total) and self.n - self._written_n >= _LINE_SHARE * (self.total or 0)
        if since_s >= (_LEAST_BETWEEN_LINES_S if far else _MOST_BETWEEN_LINES_S):
            self.refresh()

    def refresh(self) -> None:
        """Write a line now."""
        self._written_s, self._written_n = time.monotonic(), self.n
        self._n_lines += 1
        self.write(self._line())

    def close(self) -> None:
        """Write the last line."""
        if not self._closed and (self._leave or self._n_lines) and self.n != self._written_n:
            self.refresh()
        self._closed = True

    def reset(self, total: float | None = None) -> None:
        """Begin again."""
        self.n, self.total = 0, total if total is not None else self.total
        self._begin()

    def set_description(self, title: str) -> None:
        """Change the title."""
        self._title = title

    def set_postfix(self, *, refresh: bool = False, **values: object) -> None:
        """Change what ends a line."""
        self._postfix = ", ".join(f"{name}={value}" for name, value in values.items())

    @staticmethod
    def write(text: str, file: IO[str] | None = None) -> None:
        """Write another line."""
        print(text, file=file or sys.stderr, flush=True)

    def _begin(self) -> None:
        self._started_s = self._written_s = time.monotonic()
        self._written_n, self._n_lines = self.n, 0

    def _line(self) -> str:
        """title: 30/60 files (50 %), 00:12"""
        done = self._amount(self.n)
        if self.total:
            done += f"/{self._amount(self.total)}"
        share = f" ({100 * self.n / self.total:.0f} %)" if self.total else ""
        plural = "" if self._scaled else "es" if self._unit.endswith("ch") else "s"
        if (self.total or self.n) == 1:
            plural = ""
        took = tqdm.format_interval(time.monotonic() - self._started_s)
        shown = f"{self._title}: {done} {self._unit}{plural}{share}, {took}"
        return f"{shown}, {self._postfix}" if self._postfix else shown

    def _amount(self, n: float) -> str:
        return str(tqdm.format_sizeof(n)) if self._scaled else f"{n:.0f}"


Progress: TypeAlias = "ProgressLines | tqdm[Any]"


def progress_of(
    title: str,
    total: float | None,
    *,
    unit: str = "file",
    initial: float = 0,
    shown: bool = True,
    leave: bool = True,
    scaled: bool = False,
    bar_format: str | None = None,
) -> Progress:
    """Progress of long work: a bar if standard error is a terminal, else plain lines.

    Args:
        title: what is done.
        total: amount of work; None if unknown.
        unit: of the amount, in the singular.
        initial: what was done before.
        shown: False shows nothing.
        leave: whether the bar stays when the work is done, and quick work gets a line.
        scaled: whether amounts are written as 1.2M.
        bar_format: tqdm's format of the bar.
    """
    if shown and not sys.stderr.isatty():
        return ProgressLines(title, total, unit=unit, initial=initial, leave=leave, scaled=scaled)
    return tqdm(
        desc=title,
        total=total,
        unit=unit,
        initial=initial,
        unit_scale=scaled,
        leave=leave,
        bar_format=bar_format,
        dynamic_ncols=True,
        disable=not shown,
    )


def track(
    items: Iterable[Item],
    title: str,
    total: int | None = None,
    *,
    unit: str = "file",
    shown: bool = True,
    leave: bool = True,
) -> Iterator[Item]:
    """Pass items through, showing progress; arguments as of `progress_of`."""
    with progress_of(title, total, unit=unit, shown=shown, leave=leave) as bar:
        for item in items:
            yield item
            bar.update()


def write_line(text: str, file: IO[str] | None = None) -> None:
    """Write a line, by default to standard error, above the bars that are shown."""
    tqdm.write(text, file=file or sys.stderr)


def thread_map(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    jobs: int | None,
    desc: str,
    progress: bool,
    unit: str = "file",
) -> Iterator[Result]:
    """Apply `work` to items in threads, showing progress; yields results in order.

    Args:
        work: called in threads, so it should spend its time without holding the GIL.
        items: its arguments.
        jobs: number of threads; None for one per usable core.
        desc: title of the progress.
        progress: whether to show it.
        unit: what it counts.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs {jobs}: at least one file must be processed at a time; give 1")
    pool = ThreadPoolExecutor(jobs or available_cores())
    try:
        results: Iterable[Result] = pool.map(work, items)
        yield from track(results, desc, len(items), unit=unit, shown=progress)
    finally:
        # After Ctrl-C files in progress are finished, queued ones are not.
        pool.shutdown(cancel_futures=True)


def prefetch(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    n_threads: int,
    most: int | None = None,
) -> Iterator[Result]:
    """Apply `work` to items in threads, a few items ahead; yields results in order.

    Args:
        work: called in threads.
        items: consumed in the caller's thread, only as fast as results are needed.
        n_threads: number of threads.
        most: items begun whose results are not yielded yet, at most; None for twice the threads
            and one.
    """
    ahead = 2 * n_threads if most is None else min(most - 1, 2 * n_threads)
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > ahead:
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
        cores = float(limit) / float(period)  # ValueError for "max", which means no limit
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None  # -1: none
