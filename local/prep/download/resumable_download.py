"""Download a file over HTTP with resumption, retries and checksums; publish only a complete file.

Received bytes are kept in `<file>.part` beside the target. A range request resumes the download,
but only if the file is known to be the same: the server's ETag or Last-Modified is sent along
(If-Range), or a checksum decides in the end. A server without ranges sends the whole file, which
then replaces the partial one.

It uses requests, which codecarbon depends on anyway, which obeys HTTPS_PROXY, NO_PROXY and
REQUESTS_CA_BUNDLE, and which gives access to the raw bytes. pooch does not resume, and the standard
library does not read chunked bodies in blocks without hiding where they were cut.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3

from desed_task.errors import InputError, count_of
from local.cli.exit_status import StoppedError
from local.prep.download.http_response import (
    BodyInfo,
    ChangedError,
    RetryableError,
    classify_response,
)
from local.prep.download.partial_file import PartialDownload

# A broken connection loses the unfinished block.
BLOCK_BYTES = 1 << 18
# ENOSPC is a full disk, EDQUOT a used-up quota, EFBIG what a file system or ulimit refuses.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server and what is known of it.

    Attributes:
        url: its address.
        size: size in bytes.
        checksum: md5:... or sha256:...
    """

    url: str
    size: int | None = None
    checksum: str | None = None


@dataclass(frozen=True)
class RetryPolicy:
    """Retries and timeouts of a download.

    Attributes:
        tries: attempts in a row without progress before giving up.
        first_wait_s: wait before the second attempt; it doubles with each further one.
        longest_wait_s: upper limit of the wait and of the server's Retry-After.
        timeout_s: time to connect, and between two pieces of the file.
    """

    tries: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 120.0
    timeout_s: tuple[float, float] = (15.0, 30.0)


class DownloadProgress:
    """Progress callbacks of a download; this class ignores them."""

    def at(self, done: int, total: int | None) -> None:
        """Report bytes received and total bytes (None if unknown)."""

    def say(self, message: str) -> None:
        """Report a message for the user."""


def download(
    remote: RemoteFile,
    target: Path,
    *,
    policy: RetryPolicy | None = None,
    stop: threading.Event | None = None,
    progress: DownloadProgress | None = None,
) -> None:
    """Download a file, resuming an earlier attempt.

    A file with a wrong checksum is deleted and downloaded once more.

    Args:
        remote: the file to download.
        target: path to write; an existing file is replaced.
        policy: retries and timeouts.
        stop: when another thread sets it, the download ends within one block.
        progress: receives progress and messages.

    Raises:
        InputError: the download fails, its size or checksum differs, or the disk is full; the
            message gives the address, the reason and the remedy.
        StoppedError: `stop` was set; the partial file is kept.
    """
    fetch = _Fetch(
        remote,
        PartialDownload(target),
        policy or RetryPolicy(),
        stop or threading.Event(),
        progress or DownloadProgress(),
    )
    with explain_full_disk(target, "nothing was fetched"):
        target.parent.mkdir(parents=True, exist_ok=True)
    for last in (False, True):
        fetch.receive()
        fault = file_mismatch(fetch.part.path, remote.size, remote.checksum)
        if fault is None:
            fetch.part.become(target)
            return
        fetch.part.remove()
        if last:
            raise InputError(
                f"{remote.url}: {fault}, twice; the file was deleted. Fetch it from another server "
                "(--mirror), or correct size and checksum in the table of sources"
            )
        fetch.progress.say(f"{target.name}: {fault}; deleted, fetching it again")


def file_mismatch(path: Path, size: int | None, checksum: str | None) -> str | None:
    """Describe how a file differs from the expected size or checksum; None if it does not."""
    there = path.stat().st_size
    if size is not None and there != size:
        return f"has {count_of(there, 'byte')} instead of {size}"
    if checksum is None:
        return None
    kind, _, wanted = checksum.partition(":")
    digest = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    found = digest.hexdigest()
    return None if found == wanted.lower() else f"has {kind} {found} instead of {wanted}"


@contextmanager
def explain_full_disk(path: Path, done: str) -> Iterator[None]:
    """Turn the errors of a full disk into an InputError.

    Args:
        path: the file being written.
        done: what is kept, for the message.

    Raises:
        InputError: the disk is full, or the file cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise InputError(
                f"{path}: no space left on the disk ({error.strerror}); {done}. Free some space, "
                "or use a folder on another disk (for data: --basedir), and run the same command "
                "again"
            ) from None
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None


@dataclass
class _Fetch:
    """The transfer of one file into its partial file."""

    remote: RemoteFile
    part: PartialDownload
    policy: RetryPolicy
    stop: threading.Event
    progress: DownloadProgress

    def receive(self) -> None:
        """Complete the partial file, over as many connections as it takes."""
        most, failures = 0, 0
        while True:
            try:
                self._connect_once()
                return
            except RetryableError as fault:
                size = self.part.size
                # A server that always restarts makes no progress, however much it sends.
                failures = 1 if size > most else failures + 1
                most = max(most, size)
                if failures >= self.policy.tries:
                    raise InputError(self._given_up(fault, failures)) from None
                self._wait(fault, failures)

    def _wait(self, fault: RetryableError, failures: int) -> None:
        wait_s = self.policy.first_wait_s * 2 ** (failures - 1)
        if fault.retry_after_s is not None:
            wait_s = fault.retry_after_s
        wait_s = min(max(wait_s, 0.0), self.policy.longest_wait_s)
        name = self.part.target.name
        self.progress.say(f"{name}: {fault}; {self._so_far()}, next attempt in {wait_s:.0f} s")
        if self.stop.wait(wait_s):
            raise StoppedError(f"{name}: stopped; {self._so_far()}")

    def _so_far(self) -> str:
        return f"{count_of(self.part.size, 'byte')} received"

    def _given_up(self, fault: RetryableError, failures: int) -> str:
        return (
            f"{self.remote.url}: {fault}, {failures} times in a row; "
            f"{self._so_far()} and kept. Run the same command again to resume, set HTTPS_PROXY "
            "behind a proxy, or fetch from another server with --mirror"
        )

    def _connect_once(self) -> None:
        """Make one request; return when the partial file is complete."""
        start = self.part.resumable(self.remote.checksum is not None)
        if start and start == (self.remote.size or self.part.total):
            self.progress.at(start, start)
            return
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers |= {"Range": f"bytes={start}-"}
            headers |= {"If-Range": self.part.validator} if self.part.validator else {}
        try:
            with requests.get(
                self.remote.url, headers=headers, stream=True, timeout=self.policy.timeout_s
            ) as response:
                reply = classify_response(response, start, self.remote.size)
                if start and reply.start == 0:
                    name = self.part.target.name
                    self.progress.say(
                        f"{name}: the server cannot resume, so the download starts again"
                    )
                elif start and self.part.total not in (None, reply.total):
                    raise ChangedError("the file on the server has changed")
                self._take(reply, response)
        except ChangedError:
            self.part.remove()
            raise
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise RetryableError.of(error, self.remote.url) from None

    def _take(self, reply: BodyInfo, response: requests.Response) -> None:
        with explain_full_disk(self.part.path, "the partial file is kept"):
            if reply.start == 0:
                self.part.begin(reply.validator, reply.total)
            size = reply.start
            with self.part.path.open("ab", buffering=0) as file:
                self.progress.at(size, reply.total)
                for block in _blocks(response):
                    _write(file.write, block)
                    size += len(block)
                    self.progress.at(size, reply.total)
                    if self.stop.is_set():
                        raise StoppedError(f"{self.part.target.name}: stopped; {self._so_far()}")
                os.fsync(file.fileno())
        if reply.total is not None and size < reply.total:
            raise RetryableError(f"the connection was cut at {100 * size // reply.total} %")
        if reply.total is not None and size > reply.total:
            self.part.remove()
            raise RetryableError("the server sent more than it announced")


def _write(write: Callable[[memoryview], int | None], block: bytes) -> None:
    """Write a whole block: unbuffered files may accept only part of it."""
    view = memoryview(block)
    while view:
        view = view[write(view) or 0 :]


def _blocks(response: requests.Response) -> Iterator[bytes]:
    """Yield undecoded bytes: a server may declare a .tar.gz to be an encoded .tar."""
    try:
        yield from response.raw.stream(BLOCK_BYTES, decode_content=False)
    except OSError as error:
        # An error of the connection, which must not be taken for one of the disk.
        raise RetryableError(str(error)) from None
