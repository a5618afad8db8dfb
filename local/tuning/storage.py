"""Open the storage of a study: SQLite file, database server, or journal in a shared folder."""

from __future__ import annotations

import abc
import glob
import logging
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from desed_task.errors import InputError, disk_full
from desed_task.file_names import is_utf8, looked_up_from
from desed_task.parallel import write_line
from local.cli.redaction import redact, redact_address

DATABASE_FILE = "optuna-sed.db"
JOURNAL_PREFIX = "journal://"
SQLITE_PREFIX = "sqlite:///"
_SQLITE_MARK = b"SQLite format 3\0"
JOURNAL_GRACE_S = 30  # without a change of the journal, until a lock is taken for a killed one's
LOCK_TIMEOUT_S = 60  # for SQLite, which only one process can write at a time
PATIENCE_S = 900.0  # without an answer of a server, until the command ends
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
# Of tuners that create the tables of an empty database at the same moment, all but one fail.
_OPENING_ATTEMPTS = 5
_MADE_BY_ANOTHER = re.compile(r"already exists|duplicate key|UniqueViolation|Duplicate entry", re.I)
# PostgreSQL: being shut down or started, connection lost, too many connections, deadlock.
_AWAY = re.compile(r"\b(57P0\d|08\d{3}|53300|40001|40P01)\b")
_KINDS = "give sqlite:///FILE, postgresql://..., mysql://... or journal://FILE"
_LACKS_SLASHES = re.compile(
    r"(?i)(sqlite|postgres(ql)?|mysql|mariadb|oracle|journal|https?)\b[\w+]*:"
)
DRIVERS = {
    "postgresql": "pip install pg8000, and begin the URL with postgresql+pg8000://",
    "mysql": "pip install pymysql cryptography, and begin the URL with mysql+pymysql://",
}


def default_url(log_dir: Path) -> str:
    """URL of the SQLite file of a folder."""
    # Characters such as ? and % have a meaning in URLs.
    return URL.create("sqlite", database=str(log_dir / DATABASE_FILE)).render_as_string()


def is_database(path: Path) -> bool:
    """Whether a file is an SQLite database, by its first bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE_MARK)) == _SQLITE_MARK


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
    try:
        with storage_errors(origin):
            return _open_database(url)
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


def _open_database(url: str) -> BaseStorage:
    """Open an SQLite file, or a server, whose restarts are waited for."""
    if url.startswith(SQLITE_PREFIX):
        return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": LOCK_TIMEOUT_S}})
    # It logs the traceback of each connection that a server has closed.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    for attempt in range(1, _OPENING_ATTEMPTS):
        try:
            return PatientStorage(RDBStorage(url))
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if not any(_MADE_BY_ANOTHER.search(str(one)) for one in _causes(error)):
                raise
            time.sleep(attempt * _FIRST_PAUSE_S)
    return PatientStorage(RDBStorage(url))


class ServerGoneError(optuna.exceptions.StorageInternalError):
    """A database server has not answered for `PATIENCE_S`."""


def _repeated(cls: type[PatientStorage]) -> type[PatientStorage]:
    """Let every method of a storage go through `call`."""

    def method(name: str) -> Callable[..., Any]:
        return lambda self, *args, **kwargs: self.call(name, *args, **kwargs)

    for name, found in vars(BaseStorage).items():
        if callable(found) and not name.startswith("_") and name not in vars(cls):
            setattr(cls, name, method(name))
    return abc.update_abstractmethods(cls)


@_repeated
class PatientStorage(BaseStorage):
    """The storage of a database server, which waits while the server is being restarted.

    A call that fails for lack of a connection is repeated until the server answers. The first one
    may have been carried out all the same, so a repeated write is compared with what is there.

    Args:
        database: the storage itself.
        clock: time in seconds.
        sleep: waits for a number of seconds.

    Attributes:
        n_outages: how often the server did not answer and answered again.
    """

    def __init__(
        self,
        database: RDBStorage,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.n_outages = 0
        self._database = database
        self._cached = get_storage(database)
        self._clock, self._sleep = clock, sleep
        # None while it answers. Kept when it is given up, so that later calls fail at once.
        self._away_since: float | None = None

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the storage, again and again while the server does not answer.

        Raises:
            ServerGoneError: it has not answered for `PATIENCE_S`.
        """
        pause_s, repeated = _FIRST_PAUSE_S, False
        while True:
            try:
                found = None
                if repeated and name == "create_new_trial":
                    found = self._made_before(*args, **kwargs)
                if found is None:
                    found = getattr(self._cached, name)(*args, **kwargs)
            except Exception as error:
                if repeated and self._done_before(error, name, *args, **kwargs):
                    return True
                if not _is_outage(error):
                    raise
                self._give_up_if_late(error)
                repeated = True
                self._pause(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                self._answered()
                return found

    def _give_up_if_late(self, error: Exception) -> None:
        with suppress(Exception):  # Nothing of the lost connection is used again.
            self._database.remove_session()
            self._database.engine.dispose()
        if self._away_since is None:
            self._away_since = self._clock()
            line = (
                f"the server of the study does not answer ({_reason(error)}); trying again for up "
                f"to {PATIENCE_S / 60:g} min"
            )
            write_line(line, sys.stdout)
            sys.stdout.flush()
        elif self._clock() - self._away_since >= PATIENCE_S:
            raise ServerGoneError(
                f"the server has not answered for {PATIENCE_S / 60:g} min ({_reason(error)})"
            ) from None

    def _pause(self, pause_s: float) -> None:
        try:
            self._sleep(pause_s)
        except BaseException:  # Ctrl-C: what is left to store is not waited for.
            self._away_since = -math.inf
            raise

    def _answered(self) -> None:
        if self._away_since is None:
            return
        away_s, self._away_since = self._clock() - self._away_since, None
        self.n_outages += 1
        if math.isfinite(away_s):  # not after Ctrl-C
            write_line(f"the server of the study answers again, after {away_s:.0f} s", sys.stdout)
            sys.stdout.flush()

    def _made_before(self, study_id: int, template_trial: FrozenTrial | None = None) -> int | None:
        """The trial that a repeated call is to enqueue, if the call before did it.

        One that was begun has no mark yet: it is retried for lack of an owner.
        """
        asked = {} if template_trial is None else template_trial.user_attrs
        for trial in self._cached.get_all_trials(study_id, deepcopy=False) if asked else ():
            if asked.items() <= trial.user_attrs.items():
                return trial._trial_id
        return None

    def _done_before(self, error: Exception, name: str, *args: Any, **kwargs: Any) -> bool:
        """Whether a trial cannot be ended because the call before has done it."""
        if name != "set_trial_state_values" or not isinstance(
            error, optuna.exceptions.UpdateFinishedTrialError
        ):
            return False
        trial_id, state, *values = (*args, *kwargs.values())
        found = self.get_trial(trial_id)
        wanted = list(values[0]) if values and values[0] is not None else None
        return found.state == state and found.values == wanted


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised from."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__


def _is_outage(error: BaseException) -> bool:
    """Whether a call failed because a server does not answer, and may succeed later."""
    if disk_full(error):
        return False
    for one in _causes(error):
        if isinstance(one, OSError | OperationalError | InterfaceError):
            return True
        if isinstance(one, DBAPIError) and (
            # Not of the whole error, in which the parameters of the statement are.
            one.connection_invalidated or _AWAY.search(str(one.orig))
        ):
            return True
    return False


def _reason(error: BaseException) -> str:
    """What the driver of a database says of a lost connection, without the statement it was for."""
    for one in _causes(error):
        if isinstance(one, DBAPIError) and one.orig is not None:
            return _said(one.orig)
    return _said(error)


def _said(error: BaseException) -> str:
    """What a database says of a fault, in a line without passwords."""
    return " ".join(redact(str(error.__cause__ or error)).split())[:300]


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
    except ServerGoneError as error:
        raise InputError(
            f"{origin}: {error}; what the study has is stored, so when the server answers again, "
            "run the same command again to resume"
        ) from None
    except (
        SQLAlchemyError,
        optuna.exceptions.StorageInternalError,
        optuna.exceptions.OptunaError,
    ) as error:
        if disk_full(error):
            raise
        raise InputError(
            f"{origin}: the study cannot be read or written ({_said(error)}); check the path and "
            "its permissions, then run the same command again"
        ) from None
