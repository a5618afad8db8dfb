"""Where a study is kept: an SQLite file, a database server, or a journal in a shared folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from desed_task.errors import InputError

DATABASE_FILE = "optuna-sed.db"
JOURNAL_PREFIX = "journal://"
SQLITE_PREFIX = "sqlite:///"
LOCK_TIMEOUT_S = 60  # for SQLite, which one process at a time writes
DRIVERS = {
    "postgresql": "pip install 'psycopg[binary]', and begin the URL with postgresql+psycopg://",
    "mysql": "pip install pymysql cryptography, and begin the URL with mysql+pymysql://",
}


def default_url(log_dir: Path) -> str:
    """The SQLite file of a folder."""
    return f"{SQLITE_PREFIX}{log_dir / DATABASE_FILE}"


def is_journal(url: str) -> bool:
    """Whether it names a journal: `journal://PATH`, or just a path."""
    return url.startswith(JOURNAL_PREFIX) or "://" not in url


def without_password(url: str) -> str:
    """The URL as it may be printed."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def open_storage(url: str, *, make: bool = True) -> BaseStorage:
    """The storage of a URL; a file and its folder are made.

    Args:
        url: `sqlite:///PATH`, `postgresql://...`, `mysql://...`, `journal://PATH` or a path, which
            is a journal's too.
        make: whether a file that is not there is made.

    Raises:
        InputError: if it is not there and not to be made, the URL is of another kind, its driver is
            missing, or nobody answers there.
    """
    origin = f"--storage {without_password(url)}"
    if is_journal(url) or url.startswith(SQLITE_PREFIX):
        path = Path(url.removeprefix(JOURNAL_PREFIX).removeprefix(SQLITE_PREFIX))
        if not make and not path.exists():
            raise InputError(f"{origin}: there is no such file; nothing was tuned there yet")
        path.parent.mkdir(parents=True, exist_ok=True)
    if is_journal(url):
        if path.is_dir():
            raise InputError(f"{origin}: that is a folder; give a file, such as {path}/study.log")
        with storage_errors(origin):
            return JournalStorage(JournalFileBackend(str(path)))
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
        raise InputError(
            f"{origin}: no such kind of storage; give sqlite:///FILE, postgresql://..., "
            "mysql://... or journal://FILE"
        ) from None


@contextmanager
def storage_errors(origin: str) -> Iterator[None]:
    """Let a storage that fails say so in one line.

    Raises:
        InputError: with what the database or the file system says.
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
        said = " ".join(without_password(str(error.__cause__ or error)).split())
        raise InputError(
            f"{origin}: the study cannot be read or written ({said[:300]}); check the place and "
            "its rights, then run the same command again"
        ) from None
