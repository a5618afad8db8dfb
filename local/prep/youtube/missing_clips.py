"""The table of missing clips and reasons (columns filename and reason)."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from desed_task.atomic_files import write_text_atomic
from desed_task.errors import InputError
from local.cli.redaction import redact
from local.prep.youtube.client import ClipCut, parse_clip_name
from local.prep.youtube.errors import ClipError, Failure

NOT_YET = "not fetched yet"
NO_NAME = "not a YouTube name"
_HEADER = "filename\treason\n"
# Reasons that another attempt would not change.
_NOT_TO_BE_HAD = (Failure.GONE.value, Failure.SIGN_IN.value, NO_NAME)


def missing_reason(error: ClipError) -> str:
    """Format the reason of a missing clip, with the kind of failure as prefix."""
    return redact(f"{error.kind.value}: {error}")


class MissingTable:
    """The clips of a set that are not on disk.

    Attributes:
        path: path of the table.
        reasons: clip's file name -> reason, in the listed order.
    """

    def __init__(self, path: Path, absent: Sequence[str]) -> None:
        """Create the table of missing clips with the reasons found by an earlier run.

        Args:
            path: path of the table; it need not exist.
            absent: file names of missing clips.
        """
        self.path = path
        earlier = dict(_rows(path))
        self.reasons = {
            name: earlier.get(name, NOT_YET) if parse_clip_name(name) else NO_NAME
            for name in absent
        }

    @property
    def n_gone(self) -> int:
        """Number of clips that are not worth another attempt."""
        return sum(reason.startswith(_NOT_TO_BE_HAD) for reason in self.reasons.values())

    def to_fetch(self, *, retry_gone: bool, signed_in: bool) -> list[ClipCut]:
        """List the clips to try.

        Args:
            retry_gone: whether to include clips that were gone.
            signed_in: whether to include clips that need an account.
        """
        passed_over: list[str] = []
        if not retry_gone:
            passed_over += [Failure.GONE.value] + [Failure.SIGN_IN.value] * (not signed_in)
        cuts = [
            parse_clip_name(name)
            for name, reason in self.reasons.items()
            if not reason.startswith(tuple(passed_over))
        ]
        return [cut for cut in cuts if cut is not None]

    def write(self) -> None:
        """Write the table, unless nothing is missing.

        Raises:
            InputError: it cannot be written, or would replace a file that is not such a table.
        """
        if not self.reasons and not self.path.is_file():
            return
        _refuse_other(self.path)
        rows = [f"{name}\t{reason}\n" for name, reason in self.reasons.items()]
        try:
            write_text_atomic(self.path, "".join([_HEADER, *rows]))
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error})") from None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the table: two runs would double the request rate and overwrite each other's tables.

        Raises:
            InputError: another run has locked it, or its folder cannot be created.
        """
        lock = self.path.with_name(f".{self.path.stem}.lock")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = lock.open("w")
        except OSError as error:
            raise InputError(f"{lock.parent}: cannot be written to ({error})") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"{self.path}: another run is fetching these clips; wait for it, or stop it"
                ) from None
            except OSError:
                pass  # Some file systems have no locks.
            yield


def _refuse_other(path: Path) -> None:
    """Refuse to replace a file of the user that only has the name of the table."""
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            first = file.readline(1000).rstrip()
        if first != _HEADER.rstrip().encode():
            raise InputError(
                f"{path}: this program did not write it, as its first line is another; move it away"
            )


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    if not path.is_file():
        return
    # The table may have been edited; malformed rows are ignored.
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[1:]:
        name, _, reason = line.partition("\t")
        if reason:
            yield name, reason
