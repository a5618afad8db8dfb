"""The recipe without a checkout: a source archive, the wheel made from it, and its commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from desed_task.errors import CONSOLE_COMMANDS
from tests.conftest import ROOT, plain_text

PYPROJECT = (ROOT / "pyproject.toml").read_text()
# What a checkout holds; not what else lies in the folder.
SOURCES = ("desed_recipe", "desed_task", "local", "confs", "docs", "tests", *CONSOLE_COMMANDS)
FILES = ("pyproject.toml", "MANIFEST.in", "README.md", "HELP.md", "LICENSE")
BUILD = "import sys; from setuptools import build_meta; print(build_meta.{}(sys.argv[1]))"


@pytest.fixture(scope="session")
def wheel(made_once) -> Path:
    """A folder with the wheel that is built from the source archive."""

    def make(folder: Path) -> None:
        checkout = folder / "checkout"
        for name in (*SOURCES, *FILES):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            checkout.mkdir(exist_ok=True)
            copy(ROOT / name, checkout / name)
        # What an earlier version left there must not come along.
        stale = checkout / "build" / "lib" / "local"
        stale.mkdir(parents=True)
        (stale / "old.py").write_text("")
        python("-c", BUILD.format("build_sdist"), str(folder), cwd=checkout)
        with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
            archive.extractall(folder / "archive", filter="data")
        source = next((folder / "archive").iterdir())
        python("-c", BUILD.format("build_wheel"), str(folder), cwd=source)
        python("-c", BUILD.format("build_wheel"), str(folder / "direct"), cwd=checkout)

    return made_once("wheel", make)


@pytest.fixture(scope="session")
def installed(wheel, made_once) -> Path:
    """A folder like site-packages in which the wheel is installed."""

    def make(folder: Path) -> None:
        found = str(next(wheel.glob("*.whl")))
        options = ("--target", str(folder), "--no-deps", "--no-index", "--quiet")
        python("-m", "pip", "install", *options, found, cwd=wheel)

    return made_once("installed", make)


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A user's folder, with packages and modules of the same names as ours."""
    for name in ("local", "confs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not ours')")
    (tmp_path / "predict.py").write_text("raise RuntimeError('not ours')")
    return tmp_path


def python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python without what the tests' own environment adds to its path."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env={**outside, **environment}, capture_output=True
    )
    told = plain_text(done.stdout), plain_text(done.stderr)
    assert environment or done.returncode == 0, told
    return subprocess.CompletedProcess(arguments, done.returncode, *told)


@pytest.fixture
def command(installed, elsewhere):
    """Runs an installed console command in the user's folder."""

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        # A package `local` that another wheel has put beside ours.
        path = f"{elsewhere}{os.pathsep}{installed}"
        script = str(installed / "bin" / name)
        return python(script, *arguments, cwd=elsewhere, PYTHONPATH=path)

    return run


def listed(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_a_wheel_holds_everything_and_no_package_local(wheel):
    names = listed(next(wheel.glob("*.whl")))
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"desed_recipe", "desed_task"}
    wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / "desed_task").rglob("*.py")}
    wanted.add("desed_task/audioset/classes.json")
    recipe = [*(ROOT / "local").rglob("*.py"), *(ROOT / "confs").rglob("*.yaml")]
    recipe += (ROOT / "local/predict/pages/assets").iterdir()
    recipe += [ROOT / script for script in CONSOLE_COMMANDS]
    wanted |= {f"desed_recipe/{path.relative_to(ROOT).as_posix()}" for path in recipe}
    wanted.add("desed_recipe/__init__.py")
    assert {name for name in names if ".dist-info/" not in name} == wanted


def test_a_source_archive_makes_the_same_wheel(wheel):
    assert listed(next(wheel.glob("*.whl"))) == listed(next((wheel / "direct").glob("*.whl")))


def test_every_script_has_its_command():
    declared = dict(re.findall(r'^(desed-\w+) = "desed_recipe:(\w+)"$', PYPROJECT, re.M))
    assert set(declared) == set(CONSOLE_COMMANDS.values())
    assert set(CONSOLE_COMMANDS) == {path.name for path in ROOT.glob("*.py")}
    import desed_recipe

    for script, name in CONSOLE_COMMANDS.items():
        assert getattr(desed_recipe, declared[name]).args == (script.removesuffix(".py"),)


@pytest.mark.parametrize("name", CONSOLE_COMMANDS.values())
def test_commands_help_under_their_own_names(command, name):
    done = command(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {name} ")
    assert not [script for script in CONSOLE_COMMANDS if script in done.stdout]


def test_a_command_works_from_anywhere(command, installed, elsewhere):
    done = command("desed-extract", "--conf_file", "mini", "--only", "devtest")
    assert done.returncode == 2, done.stderr
    there = installed / "desed_recipe" / "confs" / "mini.yaml"
    assert done.stdout == f"using {there} (there is no mini in {elsewhere})\n"
    assert f": no such folder (looked up from {elsewhere}); " in done.stderr
    done = command("desed-submit", "a")
    assert done.stderr.startswith("error: a: no such folder (looked up from ")


def test_without_a_checkout_remedies_name_console_commands(installed, elsewhere):
    program = (
        "import desed_recipe; from pathlib import Path; "
        "from local.submission.metadata_form import read_form; read_form(Path('none.yaml'))"
    )
    done = python("-c", program, cwd=elsewhere, PYTHONPATH=str(installed))
    assert "desed-submit --write_metadata writes one" in done.stderr
    assert "make_submission.py" not in done.stderr


def test_processes_of_a_command_find_the_recipe(installed, elsewhere):
    """A worker of the tuner, and a process that is spawned, both from the user's folder."""
    program = f"""
import desed_recipe, multiprocessing
from local.config import find_shipped
from local.tuning.workers.device_slots import DeviceSlot
from local.tuning.workers.messages import TrialJob
from local.tuning.workers.pool import Worker
if __name__ == "__main__":
    worker = Worker(DeviceSlot(0, None, 1), "local.prep.layout:nothing")
    worker.give(TrialJob(0, 0, {{}}, {{}}, {str(elsewhere)!r}))
    print(worker.next_message().reason)
    worker.close()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(find_shipped, ("mini",)))
"""
    script = elsewhere / "program.py"
    script.write_text(program)
    done = python(str(script), cwd=elsewhere, PYTHONPATH=str(installed))
    assert done.returncode == 0, done.stderr
    assert "module 'local.prep.layout' has no attribute 'nothing'" in done.stdout
    there = installed / "desed_recipe"
    assert done.stdout.splitlines()[-1] == str(there / "confs" / "mini.yaml")
