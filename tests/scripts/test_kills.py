"""Commands that are killed whenever they are about to change a file end like others."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kill_compare import contents, differences
from local.config import load_config
from tests.fork_server import run as run_forked
from tests.undrawn import VARIABLE

ROOT = Path(__file__).resolve().parents[2]
# All moments take an hour: PYTHONPATH=. python tests/kill_points.py WORK '{"train": {}}'.
PLAN: dict[str, dict[str, Any]] = {
    "prepare": {"chain": ["rename maestro_real_train.tsv", "opened .validation_dur"]},
    "extract": {"chain": ["hdf5 ", "rename maestro_real_dev.hdf", "link"]},
    "pack": {"most": 2},
    "train": {"chain": ["rename last.ckpt", "opened emissions_baseline_test"]},
}


@pytest.fixture(scope="module")
def results(
    mini_root: Path, extracted: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Name -> what was found, by one process that has everything imported and draws nothing."""
    work = tmp_path_factory.mktemp("kills")
    inputs = work / "inputs"
    inputs.mkdir()
    (inputs / "data").symlink_to(mini_root / "data" / "mini")
    (inputs / "embeddings").symlink_to(load_config(extracted).pretrained.extracted_embeddings_dir)
    (inputs / ".embeddings").touch()  # `make_inputs` need not extract them
    done = run_forked(
        [sys.executable, "tests/kill_points.py", str(work), json.dumps(PLAN)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: "1"},
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", PLAN)
def test_killed_and_started_again_it_writes_the_same(results: dict[str, Any], name: str) -> None:
    found = results[name]
    assert found["faults"] == []
    assert found["kills"] == len(PLAN[name].get("chain", ())) or PLAN[name]["most"]
    assert found["moments"] > found["kills"]


def test_differences_are_seen(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, text in ((one, "a"), (other, "b")):
        folder.mkdir()
        (folder / "same.tsv").write_text("x")
        (folder / "unlike.tsv").write_text(text)
    (one / "absent.tsv").touch()
    (other / ".left.tmp12345.tsv").touch()
    (other / "empty").mkdir()
    found = differences(contents(one), contents(other))
    assert [line.partition(":")[0] for line in found] == [
        *(".left.tmp12345.tsv", "absent.tsv", "empty", "unlike.tsv"),
    ]
    assert [line.partition(": ")[2].split(":")[0] for line in found] == [
        *("left over", "missing", "left over", "1 value differs"),
    ]
