"""Fetch the recipe's archives and unpack them to where the configuration expects their contents.

    steps = fetch_archives(places, ["synth", "maestro"], load_sources())

An archive comes into `downloads` below the base folder, is unpacked and then deleted; a record of
its files stays (`local.prep.download.unpack_record`). What is there and whole is not fetched again,
and a run that was stopped, however it was, is completed by the next.
"""

from __future__ import annotations

import fcntl
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tqdm import tqdm

from desed_task.atomic_files import atomic_path
from desed_task.errors import InputError
from local.cli.exit_status import StoppedError
from local.prep.download.http import (
    DownloadProgress,
    RemoteFile,
    RetryPolicy,
    download,
    explain_full_disk,
    file_mismatch,
)
from local.prep.download.plan import DownloadPlan, DownloadPlanRow, format_bytes, plan_downloads
from local.prep.download.sources import DownloadSource, SourceTable
from local.prep.download.unpack import UnpackedFile, byte_bar, unpack
from local.prep.download.unpack_record import (
    UnpackRecord,
    downloads_folder,
    is_as_written,
    missing_paths,
)
from local.prep.layout import DataLayout
from local.prep.resample import PreparationStep

_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
# Servers of data sets do not like more from one address.
_MOST_AT_ONCE = 4


def plan_archives(
    layout: DataLayout, parts: Iterable[str], sources: SourceTable, *, mirror: str | None = None
) -> DownloadPlan:
    """What `fetch_archives` would fetch, how large it is, and whether the disk has room.

    Servers are asked for sizes; nothing is written. Arguments are those of `fetch_archives`.
    """
    return plan_downloads(layout, set(parts), sources.redirected(mirror))


def fetch_archives(
    layout: DataLayout,
    parts: Iterable[str],
    sources: SourceTable,
    *,
    mirror: str | None = None,
    jobs: int | None = None,
    progress: bool = True,
    policy: RetryPolicy | None = None,
) -> list[PreparationStep]:
    """Fetch, check and unpack what is not there.

    Args:
        layout: where things belong; archives go below `basedir`.
        parts: of `sources.FETCHED_PARTS`.
        sources: the table.
        mirror: an address that has all files under their names; None for the table's.
        jobs: sources at a time; None for four.
        progress: show bars, and tell of retries.
        policy: how patient to be with servers.

    Returns:
        One step a source. What could not be had is its failure; the others go on.

    Raises:
        InputError: the disk is too small, or another run is fetching into the same folder.
        StoppedError: never here; Ctrl-C ends all downloads within a block, and their parts stay.
    """
    plan = plan_archives(layout, parts, sources, mirror=mirror)
    if all(row.there for row in plan.rows):
        return [PreparationStep(row.title, 0, 1) for row in plan.rows]
    if plan.left > plan.free:
        raise InputError(
            f"{layout.basedir}: has room for {format_bytes(plan.free)}, but "
            f"{format_bytes(plan.left)} are to be fetched; free some, give another --basedir, or "
            "fetch parts (--only_*)"
        )
    stop = threading.Event()
    fetch = partial(_fetch, layout, stop=stop, progress=progress, policy=policy)
    with _alone(layout), ThreadPoolExecutor(min(jobs or _MOST_AT_ONCE, len(plan.rows))) as pool:
        try:
            return list(pool.map(fetch, plan.rows))
        except BaseException:
            # Otherwise the pool would wait for gigabytes to come.
            stop.set()
            raise


@contextmanager
def _alone(layout: DataLayout) -> Iterator[None]:
    """One run at a time writes into the folder of archives."""
    lock = downloads_folder(layout) / ".lock"
    with explain_full_disk(lock, "nothing was fetched"):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{lock.parent}: another run is fetching into it; wait for it, or stop it"
            ) from None
        except OSError:
            pass  # Some file systems have no locks.
        yield


def _fetch(
    layout: DataLayout,
    row: DownloadPlanRow,
    *,
    stop: threading.Event,
    progress: bool,
    policy: RetryPolicy | None,
) -> PreparationStep:
    """One source; what goes wrong with it becomes a failure, so that the others go on."""
    if row.there:
        return PreparationStep(row.title, 0, 1)
    try:
        if row.problem and not row.remotes:
            raise InputError(row.problem)
        with explain_full_disk(downloads_folder(layout), "what has come is kept"):
            for name, remote in row.remotes.items():
                with _Bar(name, progress) as bar:
                    _bring(downloads_folder(layout) / name, remote, policy, stop, bar)
            _put(layout, row.source, tuple(row.remotes), stop, progress)
    except InputError as error:
        return PreparationStep(
            row.title, 0, 0, ((downloads_folder(layout) / row.source.file, str(error)),)
        )
    return PreparationStep(row.title, 1, 0)


def _bring(
    archive: Path, remote: RemoteFile, policy: RetryPolicy | None, stop: threading.Event, bar: _Bar
) -> None:
    """Download one file, unless it lies in the folder of archives, whole as far as is known."""
    if archive.is_file():
        fault = file_mismatch(archive, remote.size, remote.checksum)
        if fault is None:
            return
        bar.say(f"{archive}: {fault}; fetching it anew")
    download(remote, archive, policy=policy, stop=stop, progress=bar)


def _put(
    layout: DataLayout,
    source: DownloadSource,
    names: Sequence[str],
    stop: threading.Event,
    progress: bool,
) -> None:
    """Unpack the files of a source, see that nothing lacks, and delete the archives."""
    records = {name: UnpackRecord(layout, source, name) for name in names}
    again = all(record.files is not None for record in records.values())
    for record in records.values():
        record.start()
    unpacked = {}
    for name in names:
        archive = downloads_folder(layout) / name
        unpacked[name] = _put_one(layout, source, archive, again, stop, progress)
    missing = list(missing_paths(layout, source))
    if missing:
        raise InputError(
            f"{names[0]}: is unpacked below {layout.basedir / source.into}, but {missing[0]} is "
            "not there, where the configuration expects it; compare both, then correct the "
            "configuration, or into and keep_from in the table of sources"
        )
    for name, record in records.items():
        record.finish(unpacked[name])
        (downloads_folder(layout) / name).unlink()


def _put_one(
    layout: DataLayout,
    source: DownloadSource,
    archive: Path,
    again: bool,
    stop: threading.Event,
    progress: bool,
) -> tuple[UnpackedFile, ...]:
    """The contents of one file, in their place.

    Args:
        again: it was unpacked before; tables that were edited since then stay.
    """
    folder = layout.basedir / source.into

    def check() -> None:
        if stop.is_set():
            raise StoppedError(f"{archive.name}: stopped; it is unpacked anew by the next run")

    if archive.name.endswith(_ARCHIVES):
        return unpack(
            archive,
            folder,
            keep_from=source.keep_from,
            flat=source.flat,
            spare=is_as_written if again else None,
            check=check,
            progress=progress,
        )
    target, size = folder / archive.name, archive.stat().st_size
    if not (again and is_as_written(target, size)):
        with explain_full_disk(target, f"{archive} is kept"), atomic_path(target) as temporary:
            shutil.copyfile(archive, temporary)
    return (UnpackedFile(archive.name, size),)


class _Bar(DownloadProgress):
    """A bar in bytes; messages stand above it."""

    def __init__(self, name: str, shown: bool) -> None:
        self._shown = shown
        self._bar = byte_bar(name, None, shown)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def at(self, done: int, total: int | None) -> None:
        self._bar.total = total
        if done >= self._bar.n:
            self._bar.update(done - self._bar.n)
        else:
            self._bar.reset(total)
            self._bar.update(done)

    def say(self, message: str) -> None:
        if self._shown:
            tqdm.write(message, file=sys.stderr)
