"""What is imported asks nobody, tells nobody and leaves nothing in the user's home folder."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from desed_task.errors import CONSOLE_COMMANDS
from tests.conftest import ROOT
from tests.test_packaging import listed

# Ends the process, as the caller could take an exception for a network that is down.
GUARD = """
import os, sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind"):
        address = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        host = address[0] if isinstance(address, tuple) else address
        if isinstance(address, tuple) or event == "socket.getaddrinfo":
            if host not in ("127.0.0.1", "::1", "localhost"):
                os.write(2, f"network: {event} {arguments!r}".encode())
                os._exit(99)
sys.addaudithook(watch)
"""
EVERY_MODULE = """
import importlib, pkgutil
import desed_task, local
names = [
    module.name
    for top in (desed_task, local)
    for module in pkgutil.walk_packages(top.__path__, f"{top.__name__}.")
]
for name in names:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as absent:
        if absent.name not in ("av", "sed_scores_eval"):
            raise
assert len(names) > 200
assert "pytorch_lightning" in sys.modules and "codecarbon" in sys.modules
# Loggers are imported where a configuration asks for them.
assert not {"wandb", "mlflow"} & set(sys.modules)
"""
COMMAND = """
import runpy
from local.training import result_writers
result_writers.ROLLS_PER_CORPUS = 1
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# The list of fonts, which takes seconds to make.
CACHES = {".cache/matplotlib", ".matplotlib", "Library/Caches/matplotlib"}


@pytest.fixture
def home(tmp_path):
    """An empty home folder."""
    folder = tmp_path / "a new hôme"
    folder.mkdir()
    return folder


def python(home: Path, code: str, *arguments: object, cwd: Path = ROOT, **more: str):
    """Run code in a fresh process that knows no folder of the user's but `home`."""
    kept = ("PATH", "LANG", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
    outside = {name: os.environ[name] for name in kept if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**outside, "HOME": str(home), "PYTHONPATH": str(ROOT), **more},
    )


def left_in(home: Path) -> set[str]:
    """What was written there, caches of fonts apart."""
    files = {path.relative_to(home) for path in home.rglob("*") if path.is_file()}
    return {path.as_posix() for path in files if path.parent.as_posix() not in CACHES}


def test_importing_every_module_tells_nobody(home):
    done = python(home, GUARD + EVERY_MODULE)
    assert done.returncode == 0, done.stderr
    assert left_in(home) == set()


def test_a_training_tells_nobody(home, extracted, tmp_path):
    """Lightning, its loggers, codecarbon, which measures, matplotlib and the workers."""
    done = python(
        home,
        GUARD + COMMAND,
        *(ROOT / "train_pretrained.py", "--conf_file", extracted, "--log_dir", tmp_path / "exp"),
        *("--fast_dev_run", "--set", "training.num_workers=1"),
        cwd=extracted.parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kWh (codecarbon's estimate)" in done.stdout
    assert left_in(home) == set()


VERIFY = """
import onnx, torch
from pathlib import Path
from desed_task.inference import verified_onnx
both = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy"]
graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", "x", "y")], "g", both[:1], both[1:])
model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
model.ir_version = 10
onnx.save(model, sys.argv[1])
found = verified_onnx._run(Path(sys.argv[1]), {"ones": {"x": torch.ones(2)}})
assert found["ones"][0].tolist() == [-1, -1]
assert "local" not in sys.modules
"""


def test_the_verification_of_an_export_tells_nobody(home, tmp_path):
    """With the library alone; with the recipe it is turned off before."""
    done = python(home, GUARD + VERIFY, tmp_path / "a.onnx")
    assert done.returncode == 0, done.stderr
    assert left_in(home) == set()


def test_who_wants_it_can_have_it(home):
    code = "import os, local; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert python(home, code).stdout == "1\n"
    assert python(home, code, ORT_DISABLE_TELEMETRY="0").stdout == "0\n"


# --- packages that shadow the standard library ---


def closure(requirements: list[str]) -> set[str]:
    """Names of the installed packages that these requirements bring, with those."""
    found: set[str] = set()
    waiting = [(Requirement(line), "") for line in requirements]
    while waiting:
        wanted, extra = waiting.pop()
        applies = wanted.marker is None or wanted.marker.evaluate({"extra": extra})
        if not applies or (wanted.name in found and not wanted.extras):
            continue
        try:
            asked = distribution(wanted.name).requires or []
        except PackageNotFoundError:
            continue
        found.add(wanted.name)
        waiting += [(Requirement(line), name) for line in asked for name in wanted.extras or {""}]
    return found


def shadowing(names: set[str]) -> set[str]:
    """Modules of these packages that the standard library has, too."""
    tops = {
        file.parts[0].removesuffix(".py")
        for name in names
        for file in distribution(name).files or ()
        if file.suffix == ".py"
    }
    return tops & sys.stdlib_module_names


def test_nothing_that_the_recipe_needs_shadows_the_standard_library():
    """Else it would where packages come first, as in a folder named in PYTHONPATH."""
    own = [line.split('"')[1] for line in listed("dependencies") if line.startswith('"')]
    names = closure(own)
    assert {"torch", "scipy", "codecarbon"} < names and "sed_scores_eval" not in names
    assert shadowing(names) == set()


@pytest.fixture
def shadowed(tmp_path) -> Path:
    """A folder as `pip install --target` fills it, with a pathlib that cannot be imported."""
    folder = tmp_path / "target"
    folder.mkdir()
    (folder / "pathlib.py").write_text("from collections import Sequence\n")
    return folder


ORDER = """
import {first}
import pathlib, sysconfig
assert pathlib.__file__.startswith(sysconfig.get_path("stdlib")), pathlib.__file__
"""
# A spawned process runs the script again, but not as the main one.
SPAWNING = """
if __name__ == "__main__":
    import desed_task
import multiprocessing, pathlib
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(abs, [-3]))
"""


def shadowed_python(home: Path, folder: Path, *arguments: object):
    """Run Python with that folder in PYTHONPATH, before those of the packages.

    Without the start files of the environment, of which some import pathlib before us.
    """
    paths = os.pathsep.join([str(folder), str(ROOT), *(p for p in sys.path if "site-" in p)])
    return subprocess.run(
        [sys.executable, "-S", *map(str, arguments)],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": paths},
        cwd=home,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("first", ["desed_task", "local.config", "desed_recipe, local"])
def test_a_pathlib_before_the_standard_library_is_passed_over(home, shadowed, first):
    done = shadowed_python(home, shadowed, "-c", ORDER.format(first=first))
    assert (done.returncode, done.stderr) == (0, "")


def test_spawned_processes_pass_it_over_too(home, shadowed, tmp_path):
    script = tmp_path / "spawning.py"
    script.write_text(SPAWNING)
    done = shadowed_python(home, shadowed, script)
    assert (done.returncode, done.stdout) == (0, "[3]\n"), done.stderr


@pytest.mark.parametrize("script", sorted(CONSOLE_COMMANDS))
def test_every_script_passes_it_over(home, shadowed, script):
    done = shadowed_python(home, shadowed, ROOT / script, "--help")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_path_is_left_alone_where_nothing_shadows(home):
    code = "import sys; before = list(sys.path); import local; assert sys.path == before"
    done = python(home, code)
    assert (done.returncode, done.stderr) == (0, "")
