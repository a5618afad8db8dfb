"""Files that appear whole, whoever else writes at the same time."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from desed_task.atomic_files import (
    atomic_folder,
    atomic_path,
    write_json_atomic,
    write_text_atomic,
)


def test_a_file_appears_whole_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.tsv"
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert not path.exists() and temporary.suffix == ".tsv" and temporary.name[0] == "."
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    write_text_atomic(path, "old")
    with pytest.raises(TypeError, match="NoneType"), atomic_path(path) as temporary:
        temporary.write_bytes(b"half" + None)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json_atomic(tmp_path / "a.json", float("nan"))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def mask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("mask")
def test_threads_leave_the_umask_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Asking for it sets it, to nothing at first: another thread's file would be anybody's.
    asked: list[int] = []
    monkeypatch.setattr(os, "umask", asked.append)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: write_text_atomic(tmp_path / f"{i}.txt", "x"), range(100)))
    monkeypatch.undo()
    assert not asked
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


@pytest.mark.parametrize(
    "name", ["x" * 251 + ".tsv", "é" * 125 + ".wav", "a." + "s" * 253, "." * 255, "n\udcff.json"]
)
def test_a_name_may_be_as_long_as_names_may_be(tmp_path: Path, name: str) -> None:
    write_text_atomic(tmp_path / name, "whole")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(name, "whole")]


# ---- processes that are killed


def killed_at(folder: Path, operation: str, action: Callable[[], object]) -> None:
    """Do `action` in a process that is killed when it first calls a function of `os`."""
    child = os.fork()
    if child == 0:
        setattr(os, operation, lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL))
        try:
            action()
        finally:
            os._exit(0)  # not reached, if the operation was
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


@pytest.mark.parametrize("name", ["a.tsv", "no_suffix", "Geräusch 1.44k.wav", ".hidden"])
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, name: str) -> None:
    kept = [tmp_path / other for other in (".a.tsv", ".a.1234abcd.tsv", ".tmp12345", "a.tmp12345")]
    for path in kept:
        path.write_text("the user's")
    path = tmp_path / name
    killed_at(tmp_path, "replace", lambda: write_text_atomic(path, "half"))
    assert not path.exists() and len(list(tmp_path.iterdir())) == len(kept) + 1
    # Any file of the folder, in any process: this one has not written there yet.
    write_text_atomic(tmp_path / "other.txt", "x")
    assert sorted(tmp_path.iterdir()) == sorted([*kept, tmp_path / "other.txt"])
    write_text_atomic(path, "whole")
    assert path.read_text() == "whole"


def test_the_file_of_a_running_process_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import sys; from desed_task.atomic_files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as path:\n"
        "    print(path, flush=True); input(); path.write_text('late')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.txt")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as running:
        temporary = Path(running.stdout.readline().strip())
        write_text_atomic(tmp_path / "b.txt", "x")
        assert temporary.exists()
        running.communicate("\n")
    assert (tmp_path / "a.txt").read_text() == "late" and running.returncode == 0


def test_no_locks_no_removal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    killed_at(tmp_path, "replace", lambda: write_text_atomic(tmp_path / "a.txt", "half"))
    monkeypatch.setattr("fcntl.flock", refuse)
    write_text_atomic(tmp_path / "b.txt", "x")  # whether it is in use cannot be known
    assert len(list(tmp_path.iterdir())) == 2


def write_folder(path: Path, text: str) -> None:
    with atomic_folder(path) as place:
        (place / "a.txt").write_text(text)


@pytest.mark.parametrize("n_renames", [0, 1])
def test_a_folder_is_old_or_new_whenever_its_writer_is_killed(
    tmp_path: Path, n_renames: int
) -> None:
    path = tmp_path / "system"
    write_folder(path, "old")
    real = os.rename

    def replace() -> None:
        calls: list[object] = []

        def rename(*args: Any, **kwargs: Any) -> None:
            calls.append(args)
            if len(calls) > n_renames:
                os.kill(os.getpid(), signal.SIGKILL)
            real(*args, **kwargs)

        os.rename = rename
        write_folder(path, "new")

    killed_at(tmp_path, "unlink", replace)
    if n_renames == 0:
        assert (path / "a.txt").read_text() == "old"
    with pytest.raises(ValueError, match="stop"), atomic_folder(path):
        raise ValueError("stop")
    # Between the two renames neither was there; the next call restores the old one.
    assert (path / "a.txt").read_text() == "old" and list(tmp_path.iterdir()) == [path]
    write_folder(path, "new")
    assert (path / "a.txt").read_text() == "new" and list(tmp_path.iterdir()) == [path]
