"""Plan the downloads: sizes, what is present, and whether the disk has room."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from desed_task.errors import InputError
from local.prep.download.partial_file import PartialDownload
from local.prep.download.resumable_download import RemoteFile, file_mismatch
from local.prep.download.sources import DownloadSource, SourceTable
from local.prep.download.unpack_record import downloads_folder, is_complete, records_of
from local.prep.download.zenodo_listing import announced_size, remote_files
from local.prep.layout import DataLayout

# Zipped audio loses about a third; an archive is deleted once it is unpacked.
_TIMES_LARGER = 1.5


@dataclass(frozen=True)
class DownloadPlanRow:
    """One source of a plan.

    Attributes:
        source: row of the table.
        there: whether nothing has to be fetched.
        remotes: files by name, with sizes as far as known; empty if all are present.
        names: file names, as far as known.
        come: bytes kept by an earlier run.
        edited: tables changed since they were unpacked.
        problem: why it cannot be fetched; empty if no reason is known.
    """

    source: DownloadSource
    there: bool
    remotes: dict[str, RemoteFile] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    come: int = 0
    edited: tuple[str, ...] = ()
    problem: str = ""

    @property
    def title(self) -> str:
        """The files' names."""
        return ", ".join(self.names) or self.source.file

    @property
    def size(self) -> int | None:
        """Bytes to fetch, including those received; None if a size is unknown."""
        sizes = [remote.size for remote in self.remotes.values()]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @property
    def left(self) -> int:
        """Bytes still to fetch, as far as known."""
        return 0 if self.there else max(0, (self.size or 0) - self.come)

    @property
    def state(self) -> str:
        """State of the source in words."""
        if self.problem:
            return self.problem
        if self.there:
            return f"there; edited: {', '.join(self.edited)}" if self.edited else "there"
        if self.come and self.size:
            return f"{100 * self.come // self.size} % there"
        return "to fetch"

    @property
    def size_text(self) -> str:
        """Size to fetch, for people."""
        return "" if self.there else "unknown" if self.size is None else format_bytes(self.size)


@dataclass(frozen=True)
class DownloadPlan:
    """The planned downloads.

    Attributes:
        rows: one per source.
        folder: base folder of all files.
        free: free bytes on its disk.
        clips: bytes needed for the AudioSet clips.
    """

    rows: tuple[DownloadPlanRow, ...]
    folder: Path
    free: int
    clips: int = 0

    @property
    def left(self) -> int:
        """Bytes still to fetch, as far as known."""
        return sum(row.left for row in self.rows)

    @property
    def needed(self) -> int:
        """Estimate the bytes for archives, their contents and clips."""
        archives = sum(row.size or 0 for row in self.rows if not row.there)
        return self.left + round(_TIMES_LARGER * archives) + self.clips

    @property
    def is_feasible(self) -> bool:
        """Whether the disk has room and nothing is known to be impossible."""
        return self.needed <= self.free and not any(row.problem for row in self.rows)

    def text(self) -> str:
        """Format the rows as a table with totals."""
        width = max([len(row.title) for row in self.rows] + [24]) + 2
        lines = [f"{'file':<{width}}{'part':<12}{'size':>10}  state"]
        for row in self.rows:
            licence = f"; licence: {row.source.licence}" if row.source.licence else ""
            lines.append(
                f"{row.title:<{width}}{row.source.part:<12}{row.size_text:>10}  "
                f"{row.state}{licence}"
            )
        unknown = any(row.size is None and not row.there for row in self.rows)
        left = format_bytes(self.left) + " and what is unknown" * unknown
        unpacked = "unpacked and with clips" if self.clips else "unpacked"
        verdict = "which is enough" if self.needed <= self.free else "which is NOT ENOUGH"
        lines.append(
            f"to fetch: {left}; {unpacked}, it takes about {format_bytes(self.needed)}; "
            f"free in {self.folder}: {format_bytes(self.free)}, {verdict}"
        )
        return "\n".join(lines)


def plan_downloads(layout: DataLayout, parts: set[str], table: SourceTable) -> DownloadPlan:
    """Inspect the disk and query sizes from the servers; write nothing.

    Args:
        layout: paths of the data.
        parts: names from `sources.FETCHED_PARTS`.
        table: the table of sources, with its mirror.
    """
    wanted = [source for source in table.sources if source.part in parts]
    with ThreadPoolExecutor(max(1, len(wanted))) as pool:
        rows = tuple(pool.map(partial(_row, layout, table), wanted))
    return DownloadPlan(rows, layout.basedir, _free(layout.basedir))


def _row(layout: DataLayout, table: SourceTable, source: DownloadSource) -> DownloadPlanRow:
    if is_complete(layout, source):
        records = records_of(layout, source)
        edited = [name for record in records for name in record.edited()]
        return DownloadPlanRow(
            source, True, names=tuple(r.name for r in records), edited=tuple(edited)
        )
    return row_to_fetch(source, table, downloads_folder(layout))


def row_to_fetch(source: DownloadSource, table: SourceTable, downloads: Path) -> DownloadPlanRow:
    """The row of a source that is not complete: its files, sizes, and what is in `downloads`."""
    row, problem = DownloadPlanRow(source, False), ""
    try:
        found = remote_files(source, table)
        row = replace(row, remotes=found, names=tuple(found))
        row = replace(row, come=sum(_come(downloads / n, r) for n, r in row.remotes.items()))
        row = replace(row, remotes={n: _sized(downloads / n, r) for n, r in row.remotes.items()})
    except InputError as error:
        problem = str(error)
    return replace(row, problem=problem)


def _come(archive: Path, remote: RemoteFile) -> int:
    if archive.is_file() and file_mismatch(archive, remote.size, None) is None:
        return archive.stat().st_size
    return PartialDownload(archive).resumable(remote.checksum is not None)


def _sized(archive: Path, remote: RemoteFile) -> RemoteFile:
    if remote.size is not None:
        return remote
    known = archive.stat().st_size if archive.is_file() else announced_size(remote.url)
    return replace(remote, size=known)


def _free(folder: Path) -> int:
    """Free bytes on the disk of a folder that may not exist yet."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def format_bytes(size: int) -> str:
    """Format bytes for people."""
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB"), (3, "kB")):
        if size >= 10**power:
            return f"{size / 10**power:.1f} {unit}"
    return f"{size} B"
