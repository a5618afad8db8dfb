"""Run folders: numbered without collisions, and written by one process at a time.

Jobs of an array start together, often on several machines that share a file system. A number is
claimed by making its folder, which fails for all but one of them. While a process writes a run, it
locks a file in the run's folder; the system releases the lock when the process ends, however it
ends. The file names the process for messages, and stands for the lock on file systems without one.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import yaml

from desed_task.atomic_files import write_text_atomic
from desed_task.errors import InputError
from desed_task.file_names import is_utf8
from local.checkpoints.changes import same_training
from local.config import RecipeConfig, check_config

PREFIX = "version_"
LOCK_FILE = ".lock"
CONFIG_FILE = "config.yaml"
# Looking at a lock takes it for a moment.
_TRIES, _PAUSE_S = 5, 0.1
# Locks of this process, which would lose one by closing the file a second time.
_HELD: set[Path] = set()


class RunInUseError(InputError):
    """Another process writes the run."""


def numbered_runs(log_dir: Path) -> list[Path]:
    """The folders LOG_DIR/version_N, newest first."""
    found = [path for path in log_dir.glob(f"{PREFIX}*") if path.name[len(PREFIX) :].isdecimal()]
    return sorted(found, key=_number, reverse=True)


def _number(folder: Path) -> int:
    return int(folder.name[len(PREFIX) :])


def claim_folder(log_dir: Path) -> Path:
    """Make LOG_DIR/version_N with the lowest number above all others; no other process gets it.

    An empty folder, which a process leaves that ends before its first file, is harmless.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    number = 1 + max(map(_number, numbered_runs(log_dir)), default=-1)
    while True:
        folder = log_dir / f"{PREFIX}{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def check_log_dir(path: Path) -> None:
    """Reject a folder that cannot be written to, without creating it.

    Raises:
        InputError: naming the folder in the way.
    """
    if not is_utf8(path):
        raise InputError(
            f"--log_dir {path}: TensorBoard writes only to folders whose names are UTF-8; rename "
            "it or give another folder"
        )
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        what = "may not be written to" if there.is_dir() else "is not a folder"
        raise InputError(f"--log_dir {path}: {there} {what}; give another folder")


@contextmanager
def new_run(log_dir: Path, config: RecipeConfig, *, alone: bool) -> Iterator[Path]:
    """A new run folder with its configuration, held until the block ends.

    Args:
        log_dir: folder of the runs; made if missing.
        config: configuration of the run.
        alone: refuse to start while another process runs this configuration in `log_dir`.

    Raises:
        RunInUseError: with `alone`, another process runs this configuration.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        with _taking_turns(log_dir, alone):
            for folder in numbered_runs(log_dir) if alone else ():
                refuse_if_held(folder, config)
            folder = held.enter_context(hold_run(claim_folder(log_dir)))
            # So that the next process sees what runs here.
            text = yaml.safe_dump(config.dump_public(), sort_keys=False)
            write_text_atomic(folder / CONFIG_FILE, text)
        yield folder


def refuse_if_held(folder: Path, config: RecipeConfig) -> None:
    """Refuse to start beside a process that runs the same configuration.

    Raises:
        RunInUseError: a process writes `folder` and trains with this configuration.
    """
    holder = holder_of(folder)
    stored = stored_config(folder) if holder else None
    if stored is not None and same_training(stored, config):
        raise RunInUseError(
            f"{folder}: {holder} runs this configuration; wait until it ends, or leave out "
            "--resume_from_checkpoint auto to start a second training beside it"
        )


def stored_config(folder: Path) -> RecipeConfig | None:
    """The configuration of a run; None if it has none that can be read."""
    try:
        tree = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        return check_config(tree, str(folder / CONFIG_FILE))
    except (OSError, InputError, UnicodeDecodeError, yaml.YAMLError):
        return None


@contextmanager
def hold_run(folder: Path) -> Iterator[Path]:
    """Hold a run folder, made if missing: no other process holds it until the block ends.

    Raises:
        RunInUseError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    own = path.resolve()
    if own in _HELD:
        raise RunInUseError(f"{folder}: this process writes this run already")
    with path.open("a+", encoding="utf-8") as file:
        if not _lock(file):
            raise RunInUseError(
                f"{folder}: {_named(_read(file)) or 'another process'} writes this run; wait until "
                f"it ends (if it has ended, delete {path}), or start another run"
            )
        _write(file, {"host": platform.node(), "process": os.getpid(), "since": _now()})
        _HELD.add(own)
        try:
            yield folder
        finally:
            _HELD.discard(own)
            with suppress(OSError):  # the folder may be gone, or the disk full
                _write(file, {})


def holder_of(folder: Path) -> str:
    """The process that holds a run folder, in words; "" if none does."""
    if (folder / LOCK_FILE).resolve() in _HELD:
        return "this process"
    try:
        with (folder / LOCK_FILE).open(encoding="utf-8") as file:
            if _lock(file, fcntl.LOCK_SH):
                return ""
            return _named(_read(file)) or "another process"
    except OSError:
        return ""


def is_alive(process: int) -> bool:
    """Whether a process of this machine is running; a zombie is not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True  # not Linux
    return status.rpartition(")")[2].split()[:1] != ["Z"]


@contextmanager
def _taking_turns(log_dir: Path, wanted: bool) -> Iterator[None]:
    """Let one process at a time look for runs and claim one, if wanted."""
    if not wanted:
        yield
        return
    with (log_dir / LOCK_FILE).open("a") as file:
        with suppress(OSError):  # some file systems have no locks
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def _lock(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    """Take the lock; False if another process has it.

    A POSIX lock, as forked workers do not inherit it and would keep it beyond their parent's end.
    """
    for last in [False] * (_TRIES - 1) + [True]:
        try:
            fcntl.lockf(file, kind | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            if not last:
                time.sleep(_PAUSE_S)
        except OSError:
            return not _runs(_read(file))
        else:
            return True
    return False


def _runs(holder: dict[str, Any]) -> bool:
    """Whether the process that a file names may be running; of another machine's it is unknown."""
    process = holder.get("process")
    if not isinstance(process, int):
        return False
    return holder.get("host") != platform.node() or (process != os.getpid() and is_alive(process))


def _read(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    try:
        found = json.load(file)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _write(file: IO[str], holder: dict[str, Any]) -> None:
    file.seek(0)
    file.truncate()
    file.write(json.dumps(holder) if holder else "")
    file.flush()


def _named(holder: dict[str, Any]) -> str:
    if "process" not in holder:
        return ""
    return f"process {holder['process']} on {holder.get('host')} (since {holder.get('since')})"


def _now() -> str:
    return datetime.datetime.now().isoformat(" ", "seconds")
