"""Shared by all tests: the numbers to reproduce, and one small corpus a session.

`make test` runs whole files in as many processes as there are cores (see tests/processes.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from desed_task.errors import forget_warnings
from tests import few_resamples as resamples
from tests.fork_server import run as run_forked
from tests.local.prep.download.http_server import Server
from tests.local.prep.download.published import archives, publish
from tests.undrawn import VARIABLE, draw_nothing

pytest_plugins = ("tests.processes",)
MadeOnce = Callable[[str, Callable[[Path], None]], Path]

# One thread a process, scripts included: tests share the cores, and sums of floats depend on it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Set by `local`, too, but some tests import onnxruntime before (see tests/test_quiet_imports.py).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Jobs in the background of a shell ignore Ctrl-C, and so would the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
PARITY = ROOT.parent / "shared" / "parity"


@pytest.fixture(autouse=True)
def _each_test_is_warned() -> None:
    """A test is warned of what an earlier one was warned of, as another command would be."""
    forget_warnings()


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """Pictures are blank, here and in forked commands, as drawing takes most of the time."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        draw_nothing(monkeypatch.setattr)
        monkeypatch.setenv(VARIABLE, "1")
        yield


@pytest.fixture(scope="module")
def few_resamples() -> Iterator[None]:
    """Ten resamples at most are drawn, here and in forked commands."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        resamples.draw_few(monkeypatch.setattr)
        monkeypatch.setenv(resamples.VARIABLE, "1")
        yield


@pytest.fixture(scope="session")
def parity() -> Callable[[str], Path]:
    """Path of a file of numbers that the published baseline produced."""

    return partial(_beside_checkout, PARITY, "published numbers are")


@pytest.fixture(scope="session")
def trial() -> Callable[[str], Path]:
    """Path of a small input on which the recipe was once wrong."""

    return partial(_beside_checkout, ROOT.parent / "shared" / "trials", "trials are")


def fails_without(package: str) -> bool:
    """Whether a test fails, instead of being skipped, where a Debian package is absent: under CI,
    unless .ci/run might not install it.
    """
    not_installed = os.environ.get("NOT_INSTALLED", "").split()
    return bool(os.environ.get("CI")) and package not in not_installed


def _beside_checkout(folder: Path, what: str, name: str) -> Path:
    """A file of a folder that users do not have: without it a test fails in CI, else skips."""
    path = folder / name
    if not path.exists():
        message = f"{path}: the {what} not beside this checkout"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def run_script() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a script of the top level in a process of its own, in a folder of choice."""

    def run(
        script: str, *arguments: object, cwd: Path, timeout: float = 600, forked: bool = True
    ) -> subprocess.CompletedProcess[str]:
        start = run_forked if forked else partial(subprocess.run, capture_output=True, check=False)
        done = start(
            [sys.executable, str(ROOT / script), *map(str, arguments)],
            cwd=cwd,
            timeout=timeout,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, plain_text(done.stdout), plain_text(done.stderr)
        )

    return run


def plain_text(output: bytes) -> str:
    """What a command wrote to a pipe or file, which must be plain lines.

    Carriage returns would be lost in the decoding of text mode, in which they end lines.
    """
    text = output.decode()
    control = [line for line in text.split("\n") if "\r" in line or "\x1b" in line]
    assert not control, f"not plain lines: {control[:3]!r}"
    return text


@pytest.fixture(scope="session")
def small_tree() -> Callable[[str], dict[str, Any]]:
    """Values of a file of confs/ as a tree, batches and network small, two epochs."""

    def read(name: str) -> dict[str, Any]:
        tree = yaml.safe_load((ROOT / "confs" / name).read_text())
        tree["training"].update(
            batch_size=[2, 1, 1, 2, 2],
            batch_size_val=8,
            n_epochs_warmup=1,
            epoch_decay=1,
            n_epochs=2,
            validation_interval=1,
            num_workers=0,
        )
        n_blocks = len(tree["net"]["nb_filters"])
        tree["net"].update(nb_filters=[*[4] * (n_blocks - 1), 8], n_RNN_cell=8)
        # WAV and HDF5 files are read; tests of packed sets name a folder of their own.
        tree["data"]["packed_dir"] = None
        # Everything that draws at random is on, so that resuming has something to get wrong.
        tree["training"].update(mixup="soft", mixup_prob=0.5)
        tree["net"].update(dropout=0.1, dropstep_recurrent=0.3)
        return tree

    return read


@pytest.fixture(scope="session")
def mini_root(made_once: MadeOnce, small_tree: Callable[[str], dict[str, Any]]) -> Iterator[Path]:
    """A folder that holds the small mini corpus below `data/mini`; tests that change it copy it."""

    def make(root: Path) -> None:
        from local.prep.mini_corpus.make import make_mini_corpus
        from local.prep.mini_corpus.sets import MiniSizes

        make_mini_corpus(root / "data" / "mini", sizes=MiniSizes.small(), jobs=1, progress=False)
        tree = small_tree("mini.yaml")
        for key in ("extracted_embeddings_dir", "beats_checkpoint"):
            tree["pretrained"][key] = str(root / tree["pretrained"][key])
        for key, value in tree["data"].items():
            if isinstance(value, str) and "/" in value:
                tree["data"][key] = str(root / value)
        (root / "mini.yaml").write_text(yaml.safe_dump(tree))

    root = made_once("mini", make)
    before = state_of(root / "data")
    yield root
    assert state_of(root / "data") == before, "a test changed the corpus that all tests share"


def state_of(folder: Path) -> dict[Path, tuple[int, int]]:
    """File -> its size and when it was last changed."""
    stats = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


@pytest.fixture(scope="session")
def mini_conf(mini_root: Path) -> Path:
    """confs/mini.yaml for `mini_root`: batches and network small, two epochs."""
    return mini_root / "mini.yaml"


@pytest.fixture(scope="session")
def extracted(
    mini_root: Path,
    mini_conf: Path,
    run_script: Callable[..., subprocess.CompletedProcess[str]],
    made_once: MadeOnce,
) -> Path:
    """`mini_conf`, with the embeddings extracted by the real script."""

    def make(_: Path) -> None:
        done = run_script(
            "extract_embeddings.py", "--conf_file", mini_conf, "--eval_set", cwd=mini_root
        )
        assert done.returncode == 0, done.stdout + done.stderr

    made_once("extracted", make)
    return mini_conf


@pytest.fixture(scope="session")
def contents(mini_root: Path) -> dict[str, bytes]:
    """Name -> content of every archive that the recipe fetches, made of the small mini corpus."""
    return archives(mini_root / "data" / "mini")


@pytest.fixture
def server(contents: dict[str, bytes]) -> Iterator[Server]:
    """A loopback server that has them, and Zenodo's listings of them."""
    with Server() as server:
        publish(server, contents)
        yield server
