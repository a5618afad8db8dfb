"""Download the recipe's archives and unpack them where the configuration expects the contents.

    steps = fetch_archives(places, ["synth", "maestro"], load_sources())

Archives are downloaded into `downloads` below the base folder, unpacked and deleted; a record of
their files stays (`local.prep.download.unpack_record`). Complete files are not downloaded again,
and the next run completes an interrupted one.
"""

from __future__ import annotations

import fcntl
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from desed_task.atomic_files import atomic_path
from desed_task.errors import InputError
from desed_task.file_names import looked_up_from
from desed_task.parallel import write_line
from local.cli.exit_status import StoppedError
from local.cli.redaction import redact
from local.prep.download.plan import DownloadPlan, DownloadPlanRow, format_bytes, plan_downloads
from local.prep.download.resumable_download import (
    DownloadProgress,
    RemoteFile,
    RetryPolicy,
    download,
    explain_full_disk,
    file_mismatch,
)
from local.prep.download.sources import DownloadSource, SourceTable
from local.prep.download.unpack import (
    UnpackedFile,
    byte_bar,
    refuse_other_content,
    unpack,
)
from local.prep.download.unpack_record import (
    UnpackRecord,
    downloads_folder,
    is_as_written,
    missing_paths,
)
from local.prep.layout import DataLayout
from local.prep.resample import PreparationStep

_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
# Data servers limit the number of connections per address.
MOST_AT_ONCE = 4


def plan_archives(
    layout: DataLayout, parts: Iterable[str], sources: SourceTable, *, mirror: str | None = None
) -> DownloadPlan:
    """Plan `fetch_archives`: what it would download, the sizes, and whether the disk has room.

    Sizes come from the servers; nothing is written. Takes the arguments of `fetch_archives`.
    """
    return plan_downloads(layout, set(parts), sources.redirected(mirror))


def fetch_archives(
    layout: DataLayout,
    parts: Iterable[str],
    sources: SourceTable,
    *,
    mirror: str | None = None,
    jobs: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
    policy: RetryPolicy | None = None,
) -> list[PreparationStep]:
    """Download, check and unpack what is missing.

    Args:
        layout: paths of the data; archives go below `basedir`.
        parts: names from `sources.FETCHED_PARTS`.
        sources: the table of sources.
        mirror: URL that has all files under their names; None for the table's.
        jobs: sources downloaded in parallel; None for four.
        overwrite: whether to replace files with other content; what was cut off is completed.
        progress: whether to show bars and report retries.
        policy: retries and timeouts.

    Returns:
        One step per source. A failed download is its step's failure; the others continue.

    Raises:
        InputError: the disk is too small, or another run is fetching into the same folder.
        KeyboardInterrupt: after Ctrl-C; downloads end within one block, partial files are kept.
    """
    plan = plan_archives(layout, parts, sources, mirror=mirror)
    if all(row.there for row in plan.rows):
        return [PreparationStep(row.title, 0, 1) for row in plan.rows]
    if plan.left > plan.free:
        raise InputError(
            f"{layout.basedir}: has room for {format_bytes(plan.free)}, but "
            f"{format_bytes(plan.left)} must be fetched; free some, give another --basedir, or "
            "fetch parts (--only_*)"
        )
    stop = threading.Event()
    fetch = partial(
        _fetch, layout, overwrite=overwrite, stop=stop, progress=progress, policy=policy
    )
    with (
        alone_in(downloads_folder(layout)),
        ThreadPoolExecutor(min(jobs or MOST_AT_ONCE, len(plan.rows))) as pool,
    ):
        try:
            return list(pool.map(fetch, plan.rows))
        except BaseException:
            # Otherwise the pool would wait for gigabytes of downloads.
            stop.set()
            raise


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock a folder of archives, which is created, so that one run at a time writes to it.

    Raises:
        InputError: another run is fetching into it, or it cannot be written.
    """
    lock = folder / ".lock"
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
    overwrite: bool,
    stop: threading.Event,
    progress: bool,
    policy: RetryPolicy | None,
) -> PreparationStep:
    """Fetch one source; errors become its failures, so that the others continue."""
    if row.there:
        return PreparationStep(row.title, 0, 1)
    try:
        if row.problem and not row.remotes:
            raise InputError(row.problem)
        with explain_full_disk(downloads_folder(layout), "the partial file is kept"):
            for name, remote in row.remotes.items():
                with ByteBar(name, progress) as bar:
                    bring(downloads_folder(layout) / name, remote, policy, stop, bar)
            _put(layout, row.source, tuple(row.remotes), overwrite, stop, progress)
    except InputError as error:
        return PreparationStep(
            row.title, 0, 0, ((downloads_folder(layout) / row.source.file, str(error)),)
        )
    return PreparationStep(row.title, 1, 0)


def bring(
    archive: Path,
    remote: RemoteFile,
    policy: RetryPolicy | None,
    stop: threading.Event,
    bar: ByteBar,
) -> None:
    """Download one file, unless a seemingly complete one is in the archive folder."""
    if archive.is_file():
        fault = file_mismatch(archive, remote.size, remote.checksum)
        if fault is None:
            return
        bar.say(f"{archive}: {fault}; fetching it again")
    download(remote, archive, policy=policy, stop=stop, progress=bar)


def _put(
    layout: DataLayout,
    source: DownloadSource,
    names: Sequence[str],
    overwrite: bool,
    stop: threading.Event,
    progress: bool,
) -> None:
    """Unpack the files of a source, check that nothing is missing, and delete the archives."""
    records = {name: UnpackRecord(layout, source, name) for name in names}
    again = all(record.files is not None for record in records.values())
    for record in records.values():
        record.start()
    unpacked = {}
    for name in names:
        archive = downloads_folder(layout) / name
        unpacked[name] = _put_one(layout, source, archive, again, overwrite, stop, progress)
    missing = list(missing_paths(layout, source))
    if missing:
        where = looked_up_from(missing[0])
        raise InputError(
            f"{names[0]}: unpacked below {layout.basedir / source.into}, but {missing[0]} is "
            f"missing where the configuration expects it{where}; compare both, then correct "
            "the configuration, or into and keep_from in the table of sources"
        )
    for name, record in records.items():
        record.finish(unpacked[name])
        (downloads_folder(layout) / name).unlink()


def _put_one(
    layout: DataLayout,
    source: DownloadSource,
    archive: Path,
    again: bool,
    overwrite: bool,
    stop: threading.Event,
    progress: bool,
) -> tuple[UnpackedFile, ...]:
    """Unpack one file into its place.

    Args:
        again: whether it was unpacked before; tables edited since then are kept.
        overwrite: whether to replace the user's files, and others that were changed since.
    """
    folder = layout.basedir / source.into

    def check() -> None:
        if stop.is_set():
            raise StoppedError(f"{archive.name}: stopped; the next run unpacks it again")

    if archive.name.endswith(_ARCHIVES):
        return unpack(
            archive,
            folder,
            keep_from=source.keep_from,
            flat=source.flat,
            spare=is_as_written if again else None,
            replace=overwrite,
            check=check,
            progress=progress,
        )
    target, size = folder / archive.name, archive.stat().st_size
    if not (again and is_as_written(target, size)):
        if not overwrite:
            refuse_other_content(target, archive, archive)
        with explain_full_disk(target, f"{archive} is kept"), atomic_path(target) as temporary:
            shutil.copyfile(archive, temporary)
    return (UnpackedFile(archive.name, size),)


class ByteBar(DownloadProgress):
    """A progress bar in bytes, with messages above it."""

    def __init__(self, name: str, shown: bool) -> None:
        self._shown = shown
        self._bar = byte_bar(name, None, shown)

    def __enter__(self) -> ByteBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def at(self, done: int, total: int | None) -> None:
        """Move the bar to the bytes received."""
        self._bar.total = total
        if done >= self._bar.n:
            self._bar.update(done - self._bar.n)
        else:
            self._bar.reset(total)
            self._bar.update(done)

    def say(self, message: str) -> None:
        """Print a message above the bar."""
        if self._shown:
            write_line(redact(message))
