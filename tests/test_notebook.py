"""notebooks/quickstart.ipynb: a valid notebook without outputs, whose cells run from top to bottom.

They are executed without Jupyter, which is none of our requirements: `!command` is what IPython
makes of it, a call that sets `_exit_code`, and commands run in this process, on the small corpus.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import pytest
import yaml

from desed_task.errors import CONSOLE_COMMANDS
from local.prep.mini_corpus import make
from local.prep.mini_corpus.sets import MiniSizes
from tests.conftest import ROOT
from tests.in_process import run_main

pytestmark = pytest.mark.usefixtures("undrawn")

NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
CONTENT = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
SCRIPTS = {command: script for script, command in CONSOLE_COMMANDS.items()}


def code_cells() -> dict[str, str]:
    """Name -> code, in order."""
    return {c["id"]: "".join(c["source"]) for c in CONTENT["cells"] if c["cell_type"] == "code"}


def as_python(cell: str) -> str:
    """What IPython would run: `!command` and `%pip` as calls; {names} are those of Python."""
    lines = []
    for line in cell.replace("\\\n", " ").splitlines():
        indent, sign, rest = re.fullmatch(r"(\s*)([!%]?)(.*)", line).groups()
        call = {"!": f"_exit_code = _system(f{rest!r})", "%": f"_magic(f{rest!r})"}
        lines.append(indent + call.get(sign, rest))
    return "\n".join(lines)


class Shown:
    """Pictures and sounds that cells display, and commands that they run."""

    def __init__(self) -> None:
        self.pictures: list[Path] = []
        self.sounds: list[Any] = []
        self.commands: list[str] = []
        self.magics: list[str] = []

    def system(self, command: str) -> int:
        self.commands.append(command)
        program, *words = shlex.split(command)
        done = run_main(SCRIPTS[program], *words, cwd=Path.cwd())
        print(done.stdout, done.stderr)
        return done.returncode

    def display(self, shown: tuple[str, Any]) -> None:
        kind, content = shown
        (self.pictures if kind == "picture" else self.sounds).append(content)

    def module(self) -> ModuleType:
        """What cells import as IPython.display."""
        module = ModuleType("IPython.display")
        module.display = self.display
        module.Image = lambda path: ("picture", Path(path).resolve(strict=True))
        module.Audio = lambda data, rate: ("sound", (data, rate))
        return module


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    shown = Shown()
    # Not IPython itself, of which matplotlib would ask more.
    monkeypatch.setitem(sys.modules, "IPython.display", shown.module())
    monkeypatch.setenv("PATH", os.environ["PATH"])  # which the first cells change
    monkeypatch.chdir(Path.cwd())
    return shown


@pytest.fixture
def execute(shown: Shown) -> Callable[[str, dict[str, Any]], None]:
    def run(cell: str, names: dict[str, Any]) -> None:
        names.setdefault("_system", shown.system)
        names.setdefault("_magic", shown.magics.append)
        exec(compile(as_python(cell), "cell", "exec"), names)

    return run


def test_the_file_is_a_notebook_without_outputs():
    """What the schema of version 4.5 asks of it (nbformat is none of our requirements)."""
    assert (CONTENT["nbformat"], CONTENT["nbformat_minor"]) == (4, 5)
    assert set(CONTENT) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert CONTENT["metadata"]["kernelspec"]["name"] == "python3"
    names = [cell["id"] for cell in CONTENT["cells"]]
    assert len(set(names)) == len(names)
    for cell in CONTENT["cells"]:
        wanted = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            wanted |= {"execution_count", "outputs"}
            assert (cell["execution_count"], cell["outputs"]) == (None, [])
        else:
            assert cell["cell_type"] == "markdown"
        assert set(cell) == wanted
        assert re.fullmatch(r"[\w-]{1,64}", cell["id"])
        assert all(isinstance(line, str) for line in cell["source"])
        assert all(line.endswith("\n") for line in cell["source"][:-1])


def test_every_command_is_checked_and_cells_stay_python():
    """A notebook goes on after a failed `!command`, unless the next line looks at its status."""
    for name, cell in code_cells().items():
        ast.parse(as_python(cell))
        lines = cell.replace("\\\n", " ").splitlines()
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            assert not line.startswith("!") or following.startswith("assert _exit_code == 0"), name


def test_every_cell_runs_on_the_small_corpus(
    extracted, mini_root, small_tree, tmp_path, monkeypatch, capsys, shown, execute
):
    monkeypatch.setattr(make, "MiniSizes", MiniSizes.small)
    for name in ("data", "embeddings"):
        shutil.copytree(mini_root / name, tmp_path / name)
    (tmp_path / "confs").mkdir()
    (tmp_path / "confs" / "mini.yaml").write_text(yaml.safe_dump(small_tree("mini.yaml")))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    told = {}
    with plt.rc_context({"backend": "agg"}):
        for name, cell in code_cells().items():
            execute(cell, names)
            told[name] = capsys.readouterr().out
        assert len(plt.gcf().axes) == 2
        plt.close("all")
    assert [command.split()[0] for command in shown.commands] == [
        *("desed-generate", "desed-extract", "desed-train", "desed-predict"),
    ]
    assert shown.magics == []  # what is installed is not installed again
    assert [path.parent.name for path in shown.pictures] == ["plots", "student", "quickstart"]
    for path in shown.pictures:
        assert path.is_relative_to(tmp_path) and path.read_bytes().startswith(b"\x89PNG")
    ((sound, rate),) = shown.sounds
    assert rate == 16000 and max(sound.shape) == 160000
    assert re.search(r"^psds1/sed_scores_eval +0\.\d{3}$", told["results"], re.M)
    events = names["found"].events
    assert len(told["detect"].splitlines()) == len(events)
    assert len(names["curves"].Scalars("train/student/loss")) >= 2
    # The command finds what Python finds.
    table = (tmp_path / "predictions" / "quickstart" / f"{names['CLIP'].stem}.tsv").read_text()
    assert len(table.splitlines()) == 1 + len(events)


def test_a_command_that_fails_ends_the_notebook(shown, execute, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match="the command failed"):
        execute(code_cells()["train"], {})
    assert shown.commands


@pytest.mark.parametrize("folder", ["notebooks", "docs/images"])
def test_in_a_checkout_everything_is_written_where_git_ignores_it(folder, execute, monkeypatch):
    monkeypatch.chdir(ROOT / folder)
    execute(code_cells()["install"], {"REPOSITORY": ""})
    assert Path.cwd() == ROOT


def test_elsewhere_it_installs_what_it_is_told(shown, execute, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "desed_recipe" else found(name)
    )
    monkeypatch.chdir(tmp_path)
    cells = code_cells()
    with pytest.raises(RuntimeError, match="set REPOSITORY to the address"):
        execute(f"{cells['repository']}\n{cells['install']}", {})
    execute(cells["install"], {"REPOSITORY": "https://example.org/recipe.git"})
    assert shown.magics == ['pip install --quiet "desed-task @ git+https://example.org/recipe.git"']
    assert Path.cwd() == tmp_path


def test_commands_with_names_of_python_are_filled_in():
    names: dict[str, Any] = {"CLIP": Path("a b.wav"), "_system": lambda line: print(line) or 3}
    exec(as_python("!desed-predict {CLIP} \\\n  --x"), names)
    assert names["_exit_code"] == 3
    assert not hasattr(builtins, "_exit_code")
