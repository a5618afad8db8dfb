"""Storages by URL, and what is said where one cannot be used."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time

import optuna
import pytest
from optuna.storages import JournalStorage, RDBStorage
from sqlalchemy.exc import OperationalError

from desed_task.errors import InputError, disk_full
from local.tuning import storage as module
from local.tuning.storage import (
    default_url,
    is_journal,
    open_storage,
    storage_errors,
)


def test_every_kind_keeps_a_study(tmp_path):
    journals = [str(tmp_path / "new" / "a.log"), f"journal://{tmp_path}/b/b.log"]
    odd = tmp_path / "a?b #1 %20 {é}"
    for url in (default_url(tmp_path / "db"), default_url(odd), *journals, str(odd / "j?.log")):
        storage = open_storage(url)
        assert isinstance(storage, JournalStorage if is_journal(url) else RDBStorage)
        optuna.create_study(study_name="one", storage=storage)
        assert [s.study_name for s in open_storage(url).get_all_studies()] == ["one"]
    assert (tmp_path / "db" / "optuna-sed.db").is_file()
    assert (odd / "optuna-sed.db").is_file() and (odd / "j?.log").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"db", odd.name, "new", "b"}
    assert (tmp_path / "new" / "a.log").is_file() and (tmp_path / "b" / "b.log").is_file()


@pytest.mark.parametrize(
    ("url", "module", "remedy"),
    [
        ("postgresql+psycopg2://me:secret@host/db", "psycopg2", "pip install pg8000"),
        ("mysql://me:secret@host/db", "MySQLdb", "begin the URL with mysql+pymysql://"),
        ("mysql+pymysql://me:secret@host/db", "pymysql", "pip install pymysql"),
    ],
)
def test_a_driver_that_is_missing_is_named_with_its_remedy(url, module, remedy, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError) as error:
        open_storage(url)
    assert module in str(error.value) and remedy in str(error.value)
    assert "secret" not in str(error.value) and "me:***@host" in str(error.value)


@pytest.mark.parametrize("url", ["redis://localhost", "nosuch://host/db", "sqlite3:///x.db"])
def test_other_kinds_are_refused(url):
    with pytest.raises(InputError, match="unknown kind of storage; give sqlite:///FILE"):
        open_storage(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql:/me:S3cret@host/db", "an address has :// behind its kind"),
        ("mysql+pymysql:me:S3cret@host/db", "an address has :// behind its kind"),
        ("Journal:/study.log", "an address has :// behind its kind"),
        ("postgresql://me:S3cret@host:port/db", "the port is not a number"),
        ("sqlite:///", "names no file, so the study would be lost"),
        ("sqlite://", "names no file, so the study would be lost"),
        ("sqlite:///:memory:", "names no file, so the study would be lost"),
    ],
)
def test_addresses_that_are_not_quite_right(url, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as refused:
        open_storage(url)
    assert "S3cret" not in str(refused.value) and list(tmp_path.iterdir()) == []


def test_places_that_do_not_work_say_so_in_one_line(tmp_path):
    (tmp_path / "x.db").write_text("this is no database, and long enough to be seen as none" * 9)
    with pytest.raises(InputError, match=r"cannot be read or written \(.*not a database"):
        open_storage(f"sqlite:///{tmp_path}/x.db")
    with pytest.raises(InputError, match="is a folder; give a file"):
        open_storage(str(tmp_path))
    with pytest.raises(InputError) as error, storage_errors("--storage here"):
        raise optuna.exceptions.StorageInternalError("the server went away")
    assert "--storage here: the study cannot be read or written (the server went away)" in str(
        error.value
    )
    assert "\n" not in str(error.value)


def test_a_full_disk_is_not_a_fault_of_the_storage():
    full = OperationalError("insert", {}, sqlite3.OperationalError("database or disk is full"))
    with pytest.raises(OperationalError), storage_errors("here"):
        raise full
    assert disk_full(full) is not None


@pytest.mark.parametrize("password", ["S3cret", "S3cr/et", "S3cr@et", "S3%40cret", "S3 cret"])
def test_passwords_are_not_told(password):
    url = f"nosuch://me:{password}@host/db?sslpassword=S3cret&b=2"
    with pytest.raises(InputError) as error:
        open_storage(url)
    said = "--storage nosuch://me:***@host/db?sslpassword=***&b=2: unknown kind of storage"
    assert str(error.value).startswith(said)
    if " " not in password:  # As messages of a database do not say where an address ends.
        with pytest.raises(InputError) as error, storage_errors("here"):
            raise optuna.exceptions.StorageInternalError(f"no answer of {url}; password=S3cret")
        assert "no answer of nosuch://me:***@host" in str(error.value)
        assert "S3" not in str(error.value)


def test_nothing_is_made_where_something_is_only_looked_for(tmp_path):
    for url in (default_url(tmp_path / "a"), str(tmp_path / "b" / "study.log")):
        with pytest.raises(InputError, match="no such file; nothing was tuned there yet"):
            open_storage(url, make=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["", "journal://", "sqlite:///"])
def test_a_path_that_is_not_utf_8_is_refused(kind, tmp_path):
    path = tmp_path / "n\udcff" / "study"
    with pytest.raises(InputError, match=r"n\\xff/study: the path is not UTF-8; rename"):
        open_storage(f"{kind}{path}")
    assert not list(tmp_path.iterdir())


KILLED = """
import os, sys, optuna
from local.tuning.storage import open_storage
storage = open_storage(sys.argv[1])
study = optuna.create_study(study_name="one", storage=storage)
os.SYSTEM = lambda *_: os.kill(os.getpid(), 9)
study.ask()
"""


@pytest.mark.parametrize("system", ["unlink", "fsync"])
@pytest.mark.parametrize("url", ["folder/a.log", "journal://folder/b [1].log", "c.log"])
def test_the_lock_of_a_killed_process_is_released(tmp_path, monkeypatch, url, system):
    """Killed as it writes, and as it releases the lock; the path is given as a user would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "JOURNAL_GRACE_S", 1)
    path = tmp_path / url.removeprefix("journal://")
    code = KILLED.replace("SYSTEM", system)
    search = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", code, url], env={"PYTHONPATH": search})
    assert done.returncode == -signal.SIGKILL
    (left,) = (one for one in path.parent.iterdir() if one != path)
    before = time.monotonic()
    if system == "unlink":
        assert left.name.endswith(".rename")
        open_storage(url)
        assert left.is_symlink()  # another process may just be at it
        os.utime(left, (0, 0), follow_symlinks=False)
    study = optuna.load_study(study_name="one", storage=open_storage(url))
    study.ask()
    assert time.monotonic() - before < 20
    assert [one for one in path.parent.iterdir() if one != path] == []
