"""The Dockerfile: its steps run as a script in a clean folder, without a container engine.

What is real: every COPY and RUN, in order, with bash, the arguments and the variables of the file,
and pip, in a new environment. What is not: apt-get is only recorded, and packages that pip would
download are those that the tests' own environment has.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] != "#"]
# A path from the root of the container, but not a part of another path or of an address.
ABSOLUTE = re.compile(r"(?<![\w.:/$}\\-])/(?!dev/null)(?=[a-z])")


class Step(NamedTuple):
    word: str
    rest: str


def steps() -> list[Step]:
    """The instructions, continued lines joined."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [Step(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def left_out(folder: str, names: list[str]) -> list[str]:
    """What .dockerignore keeps out of a folder of the checkout."""
    place = Path(folder).relative_to(ROOT)
    found = []
    for name in names:
        path = (place / name).as_posix()
        for pattern in (line.rstrip("/") for line in IGNORED):
            deep = pattern.startswith("**/") and fnmatch.fnmatch(name, pattern[3:])
            if deep or fnmatch.fnmatch(path, pattern):
                found.append(name)
    return found


@pytest.fixture
def container(tmp_path):
    """An empty root, and a `PATH` with a new Python, whose packages are those installed here."""
    root, venv = tmp_path / "root", tmp_path / "venv"
    root.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(venv), "platbase": str(venv)}))
    # As plain folders: the start files of packages there would bring the checkout along.
    (site / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
    log, fakes = tmp_path / "apt.log", tmp_path / "fakes"
    fakes.mkdir()
    program(fakes / "apt-get", f'echo "$*" >> {log}')
    program(fakes / "pip", f'echo "pip $*"; exec {venv}/bin/python -m pip "$@"')
    path = f"{fakes}:{venv}/bin:/usr/bin:/bin"
    return Container(root, venv, {"PATH": path}, log)


def program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


class Container:
    def __init__(self, root: Path, venv: Path, environment: dict[str, str], log: Path) -> None:
        self.root, self.venv, self.log, self.place = root, venv, log, root
        # pip finds what is installed and looks nowhere else.
        offline = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null"}
        offline["PIP_NO_BUILD_ISOLATION"] = "false"  # how pip is told to do without isolation
        self.environment = {**environment, **offline, "HOME": str(root)}

    def mapped(self, text: str) -> str:
        return ABSOLUTE.sub(f"{self.root}/", text)

    def execute(self, step: Step, arguments: dict[str, str]) -> str:
        if step.word == "RUN":
            return self.run(step.rest)
        if step.word == "WORKDIR":
            self.place = Path(self.mapped(step.rest))
            self.place.mkdir(parents=True, exist_ok=True)
        elif step.word == "ENV":
            for pair in shlex.split(step.rest):
                name, value = pair.split("=", 1)
                self.environment[name] = self.mapped(value)
                Path(self.mapped(value)).mkdir(exist_ok=True) if value[0] == "/" else None
        elif step.word == "ARG":
            name, value = step.rest.split("=", 1)
            self.environment[name] = arguments.get(name, value)
        elif step.word == "COPY":
            *sources, target = step.rest.split()
            for source in sources:
                copy_into(ROOT / source, self.place / target)
        else:
            assert step.word in ("FROM", "CMD"), step
        return ""

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", self.mapped(command)],
            cwd=self.place,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout


def copy_into(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=left_out, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


INDEX = "https://download.pytorch.org/whl/cpu"


@pytest.mark.skipif(sys.platform == "win32", reason="the steps are those of Linux")
@pytest.mark.parametrize(
    ("arguments", "index"), [({}, [INDEX]), ({"TORCH_INDEX": ""}, [])], ids=["cpu", "cuda"]
)
def test_torch_is_of_the_index_that_is_asked_for(container, arguments, index):
    """Up to that step, whose pip only tells what it is asked."""
    program(Path(container.environment["PATH"].split(":")[0]) / "pip", 'echo "pip $*"')
    told = (container.execute(step, arguments).splitlines() for step in steps())
    first = next(line for lines in told for line in lines if line.startswith("pip "))
    assert re.search(r" torch>=[\d.,<]+$", first)
    assert re.findall(r"--index-url (\S+)", first) == index


@pytest.mark.skipif(sys.platform == "win32", reason="the steps are those of Linux")
def test_the_steps_run_in_a_clean_folder(container):
    told = "".join(container.execute(step, {}) for step in steps())
    _, second = [line for line in told.splitlines() if line.startswith("pip ")]
    assert second == "pip install --no-cache-dir --editable .[export]"
    installed = container.log.read_text()
    assert re.search(r"^install .*\bffmpeg\b", installed, re.M) and "gcc" not in installed
    recipe = container.root / "recipe"
    for name in ("predict.py", "confs/pretrained.yaml", "local/data/truth.py", "HELP.md"):
        assert (recipe / name).is_file()
    assert not any((recipe / name).exists() for name in (".git", "tests", ".ci", "data"))
    # As a user would, in the folder that is mounted.
    assert container.place == container.root / "work"
    where = container.run("python -c 'import desed_task; print(desed_task.__file__)'")
    assert Path(where.strip()).is_relative_to(recipe)
    assert "--checkpoint" in container.run("desed-predict --help")


def test_there_is_no_path_that_the_test_would_not_map():
    """Such as the list of packages of this machine, which a step removes."""
    text = " ".join(step.rest for step in steps() if step.word == "RUN")
    mapped = ABSOLUTE.sub("ROOT/", text)
    assert "ROOT/var/lib/apt/lists" in mapped
    left = re.findall(r"(?:^|[\s=\"'])/(\S+)", mapped)
    assert left == ["^"]  # an expression of sed


def test_large_files_of_a_user_stay_outside():
    lines = (ROOT / ".gitignore").read_text().splitlines()
    own = {line.strip("/") for line in lines if line and line[0] != "#"}
    kept_out = {line.removeprefix("**/").strip("/") for line in IGNORED}
    assert own - kept_out == set()


def test_the_linter_has_no_remark():
    program = Path(sys.executable).with_name("hadolint")
    if not program.exists():
        if os.environ.get("CI"):
            pytest.fail("hadolint is not installed; `make setup` installs it")
        pytest.skip("hadolint is not installed; `make setup` installs it")
    done = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
