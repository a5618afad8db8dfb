"""Look up file sizes and checksums in Zenodo's record listing or from the server itself.

With a mirror, the listing is expected at the same path (MIRROR/api/records/<record>). Without a
listing, the file's Content-Length is used.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

import requests

from desed_task.errors import InputError
from local.prep.download.resumable_download import RemoteFile
from local.prep.download.sources import DownloadSource, SourceTable, is_checksum

_TIMEOUT_S = (10.0, 20.0)


class ListedFile(NamedTuple):
    """A file of a record: size in bytes and checksum, None if the listing has no valid value."""

    size: int | None
    checksum: str | None


def remote_files(source: DownloadSource, table: SourceTable) -> dict[str, RemoteFile]:
    """Resolve a source to its file names and remote files.

    Args:
        source: a row of the table.
        table: gives the servers.

    Raises:
        InputError: the row is a pattern and there is no listing, or nothing in it matches.
    """
    listing = _listing(source, table) if source.is_pattern or not _is_complete(source) else {}
    names = [source.file]
    if source.is_pattern:
        names = sorted(fnmatch.filter(listing, source.file))
        if not names:
            raise InputError(_no_match(source, table, listing))
    found = {}
    for name in names:
        listed = listing.get(name, ListedFile(None, None))
        size, checksum = source.size or listed.size, source.checksum or listed.checksum
        found[name] = RemoteFile(_address(source, table, name), size, checksum)
    return found


def announced_size(url: str) -> int | None:
    """Query a file's size in bytes; None if the server does not report it.

    Raises:
        InputError: the server does not have the file.
    """
    try:
        reply = requests.head(
            url, timeout=_TIMEOUT_S, allow_redirects=True, headers={"Accept-Encoding": "identity"}
        )
    except requests.RequestException:
        return None
    if reply.status_code in (404, 410):
        raise InputError(f"{url}: not found (HTTP {reply.status_code})")
    length = reply.headers.get("Content-Length", "")
    return int(length) if reply.status_code == 200 and length.isdecimal() else None


def _is_complete(source: DownloadSource) -> bool:
    return source.record is None or bool(source.size and source.checksum)


def _address(source: DownloadSource, table: SourceTable, name: str) -> str:
    if table.mirror:
        return f"{table.mirror.rstrip('/')}/{quote(name)}"
    return source.url or f"{table.zenodo.rstrip('/')}/records/{source.record}/files/{quote(name)}"


def _listing_address(source: DownloadSource, table: SourceTable) -> str:
    return f"{(table.mirror or table.zenodo).rstrip('/')}/api/records/{source.record}"


def _listing(source: DownloadSource, table: SourceTable) -> dict[str, ListedFile]:
    """List the files of a source's record by name; empty if there is no listing."""
    try:
        reply = requests.get(_listing_address(source, table), timeout=_TIMEOUT_S)
        reply.raise_for_status()
        return dict(_files(reply.json()))
    # requests' JSON error is a ValueError too; a malformed listing counts as missing.
    except (requests.RequestException, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _files(tree: dict[str, list[dict[str, object]]]) -> Iterator[tuple[str, ListedFile]]:
    for file in tree["files"]:
        name, size, checksum = file["key"], file.get("size"), file.get("checksum")
        # The name becomes a path.
        if isinstance(name, str) and name and not set(name) & set("/\\\0") and name[0] != ".":
            yield (
                name,
                ListedFile(
                    size if isinstance(size, int) and size > 0 else None,
                    checksum if isinstance(checksum, str) and is_checksum(checksum) else None,
                ),
            )


def _no_match(source: DownloadSource, table: SourceTable, listing: dict[str, ListedFile]) -> str:
    where = _listing_address(source, table)
    if listing:
        return (
            f"{where}: none of {', '.join(sorted(listing))} matches {source.file}; correct it "
            "in the table of sources"
        )
    return (
        f"{where}: no listing of the record, which alone has the names of {source.file}; give "
        f"the file's name in the table of sources instead, or put a copy of "
        f"https://zenodo.org/api/records/{source.record} there"
    )
