"""Files that appear whole, whoever else writes at the same time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from desed_task.atomic_files import atomic_path, write_json_atomic, write_text_atomic


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
