"""Open the storage of a study: SQLite file, database server, or journal in a shared folder."""

from __future__ import annotations

import glob
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from desed_task.errors import InputError, disk_full
from desed_task.file_names import is_utf8, looked_up_from
from local.cli.redaction import redact, redact_address

DATABASE_FILE = "optuna-sed.db"
JOURNAL_PREFIX = "journal://"
SQLITE_PREFIX = "sqlite:///"
JOURNAL_GRACE_S = 30  # without a change of the journal, until a lock is taken for a killed one's
LOCK_TIMEOUT_S = 60  # for SQLite, which only one process can write at a time
_KINDS = "give sqlite:///FILE, postgresql://..., mysql://... or journal://FILE"
_LACKS_SLASHES = re.compile(
    r"(?i)(sqlite|postgres(ql)?|mysql|mariadb|oracle|journal|https?)\b[\w+]*:"
)
DRIVERS = {
    "postgresql": "pip install 'psycopg[binary]', and begin the URL with postgresql+psycopg://",
    "mysql": "pip install pymysql cryptography, and begin the URL with mysql+pymysql://",
}


def default_url(log_dir: Path) -> str:
    """URL of the SQLite file of a folder."""
    # Characters such as ? and % have a meaning in URLs.
    return URL.create("sqlite", database=str(log_dir / DATABASE_FILE)).render_as_string()


def is_journal(url: str) -> bool:
    """Whether a URL names a journal: `journal://PATH` or a plain path."""
    return url.startswith(JOURNAL_PREFIX) or "://" not in url


def _file_of(url: str) -> Path:
    """The file of a journal or an SQLite database."""
    if not url.startswith(SQLITE_PREFIX):
        return Path(url.removeprefix(JOURNAL_PREFIX))
    return Path(str(make_url(url).database or ""))


def open_storage(url: str, *, make: bool = True) -> BaseStorage:
    """Open the storage of a URL; files and folders are created.

    Args:
        url: `sqlite:///PATH`, `postgresql://...`, `mysql://...`, `journal://PATH` or the path of a
            journal.
        make: whether to create a missing file.

    Raises:
        InputError: if it is missing and must not be created, the kind of URL is unknown, its driver
            is missing, or the server does not respond.
    """
    origin = f"--storage {redact_address(url)}"
    _check_kind(url, origin)
    if is_journal(url) or url.startswith(SQLITE_PREFIX):
        path = _file_of(url)
        if not is_utf8(path):
            raise InputError(f"{origin}: the path is not UTF-8; rename it or give another")
        if not make and not path.exists():
            where = looked_up_from(path)
            raise InputError(f"{origin}: no such file{where}; nothing was tuned there yet")
        path.parent.mkdir(parents=True, exist_ok=True)
    if is_journal(url):
        if path.is_dir():
            raise InputError(f"{origin}: is a folder; give a file, such as {path}/study.log")
        with storage_errors(origin):
            return _open_journal(path.absolute())
    waiting = {"connect_args": {"timeout": LOCK_TIMEOUT_S}} if url.startswith(SQLITE_PREFIX) else {}
    try:
        with storage_errors(origin):
            return RDBStorage(url, engine_kwargs=waiting)
    except ImportError as error:
        kind = url.partition(":")[0].partition("+")[0]
        remedy = DRIVERS.get(kind, "install it")
        missing = getattr(error.__cause__ or error, "name", None) or "the driver"
        raise InputError(f"{origin}: {missing} is not installed; {remedy}") from None
    except (ArgumentError, NoSuchModuleError):
        raise InputError(f"{origin}: unknown kind of storage; {_KINDS}") from None


def _check_kind(url: str, origin: str) -> None:
    """Refuse what would be taken for the path of a journal, or for no file at all."""
    # C:/study.log is a path.
    if "://" not in url and _LACKS_SLASHES.match(url):
        raise InputError(f"{origin}: an address has :// behind its kind; {_KINDS}")
    try:
        database = "" if is_journal(url) else make_url(url).database
    except ArgumentError:
        return  # reported when it is opened
    except ValueError:
        raise InputError(f"{origin}: the port is not a number; correct the address") from None
    if url.startswith("sqlite:") and database in (None, "", ":memory:"):
        raise InputError(f"{origin}: names no file, so the study would be lost; {_KINDS}")


def _open_journal(path: Path) -> JournalStorage:
    """Open a journal; the lock of a killed process is released after `JOURNAL_GRACE_S`.

    The path must be absolute: the lock is a link to it, and while a link leads nowhere, Optuna
    waits for ever.
    """
    for released in path.parent.glob(f"{glob.escape(path.name)}.lock?*.rename"):
        # Left by a process that was killed as it released the lock.
        with suppress(FileNotFoundError):
            if time.time() - released.lstat().st_mtime > JOURNAL_GRACE_S:
                released.unlink()
    lock = JournalFileSymlinkLock(str(path), grace_period=JOURNAL_GRACE_S)
    return JournalStorage(JournalFileBackend(str(path), lock))


@contextmanager
def storage_errors(origin: str) -> Iterator[None]:
    """Turn errors of the storage into one-line messages; those of a full disk are raised as such.

    Raises:
        InputError: with the message of the database or the file system.
    """
    try:
        yield
    except (ArgumentError, NoSuchModuleError):
        raise
    except (
        SQLAlchemyError,
        optuna.exceptions.StorageInternalError,
        optuna.exceptions.OptunaError,
    ) as error:
        if disk_full(error):
            raise
        said = " ".join(redact(str(error.__cause__ or error)).split())
        raise InputError(
            f"{origin}: the study cannot be read or written ({said[:300]}); check the path and "
            "its permissions, then run the same command again"
        ) from None
