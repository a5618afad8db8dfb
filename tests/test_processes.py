"""What lets the tests run in several processes, and scripts in none of their own."""

import os
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import processes
from tests.in_process import run_main

TESTS = Path(__file__).parent


def test_the_files_that_take_longest_exist():
    assert [name for name in processes.SECONDS if not (TESTS / name).is_file()] == []


@pytest.mark.parametrize(("cores", "wanted"), [(1, 1), (2, 2), (64, 4)])
def test_there_are_as_many_processes_as_usable_cores_up_to_four(cores, wanted, monkeypatch):
    monkeypatch.setattr(processes, "available_cores", lambda: cores)
    assert processes.pytest_xdist_auto_num_workers() == wanted


def test_long_files_come_first_where_there_are_several_processes(monkeypatch):
    monkeypatch.setattr(processes, "SECONDS", {"scripts/long.py": 10, "longest.py": 20})
    names = ["tests/a.py", "tests/scripts/long.py", "tests/b.py", "tests/longest.py"]
    items = [SimpleNamespace(location=(name, 0, "")) for name in names]
    processes.pytest_collection_modifyitems(SimpleNamespace(), items)
    assert [item.location[0] for item in items] == names
    processes.pytest_collection_modifyitems(SimpleNamespace(workerinput={}), items)
    order = [item.location[0] for item in items]
    assert order == ["tests/longest.py", "tests/scripts/long.py", *names[::2]]


def test_a_folder_is_made_once_and_again_if_that_failed(made_once):
    made = []

    def make(folder):
        made.append(sorted(path.name for path in folder.iterdir()))
        (folder / "half").touch()
        if len(made) == 1:
            raise ValueError("half made")

    with pytest.raises(ValueError, match="half made"):
        made_once("of-test-processes", make)
    folder = made_once("of-test-processes", make)
    assert made_once("of-test-processes", make) == folder
    assert made == [[], []] and (folder / "half").is_file()


def test_a_script_is_called_as_a_command(tmp_path, monkeypatch):
    def main(words):
        warnings.warn(f"in {os.getcwd()}", stacklevel=1)
        print(sys.argv, words)
        raise SystemExit(2)

    monkeypatch.setitem(sys.modules, "some_script", SimpleNamespace(main=main))
    before = os.getcwd(), sys.argv
    for _ in range(2):  # warned of each time
        done = run_main("some_script.py", "--jobs", 1, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stdout == "['some_script.py', '--jobs', '1'] ['--jobs', '1']\n"
        assert f"in {tmp_path}" in done.stderr
    assert (os.getcwd(), sys.argv) == before
