"""The benchmark at small sizes: complete, plausible, comparable; wrong input is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.groups import GROUPS
from benchmarks.measuring import Machine, Row

ROOT = Path(__file__).parents[2]
WHOLES = {
    "step": {"features", "student forward", "backward", "whole step", "inference"},
    "loading": {"item: wav and HDF5", "batch: packed, mapped", "item: packed, cpu memory"},
    "beats": {"BEATs, 32", "BEATs, bf16", "extraction, 32"},
    "scoring": {
        "decoding at one threshold",
        "PSDS1, exact",
        "PSDS1, sed_scores_eval",
        "collar F1",
        "validation, both networks",
        "dev-test, both networks",
    },
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Output and JSON of a quick run of everything."""
    path = tmp_path_factory.mktemp("benchmarks") / "found" / "now.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--quick"),
            *("--repeats", "1", "--threads", "1", "--output", str(path)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout, path


def test_every_group_is_measured(measured):
    told, path = measured
    content = json.loads(path.read_text())
    assert content["skipped"] == {}
    assert content["threads"] == 1
    for group in GROUPS:
        names = {row["name"] for row in content["rows"] if row["group"] == group}
        assert WHOLES[group] <= names
        for name in names:
            assert name in told
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_times_and_shares_are_possible(measured):
    content = json.loads(measured[1].read_text())
    assert all(1e8 < rate < 1e16 for rate in content["gemm_flop_per_s"])
    rows = {row["name"]: row for row in content["rows"]}
    for row in rows.values():
        assert row["median_s"] > 0
        if row["share"] is not None:
            # Caches may serve small sizes faster than memory, and other units than float32's work.
            assert 0 < row["share"] < 5
            assert row["bound"] == ("GEMM" if row["macs"] else "memory")
    # 1.04 GMACs a clip; four passes of five clips.
    assert rows["whole step"]["macs"] == pytest.approx(4 * 5 * 1.04e9, rel=0.01)
    parts = sum(rows[name]["median_s"] for name in ("student forward", "backward"))
    assert rows["whole step"]["median_s"] > 0.3 * parts


def row(name: str, seconds: float) -> Row:
    return Row("step", name, "1 clip", (seconds, 3 * seconds, 2 * seconds))


def test_two_runs_are_compared(tmp_path):
    before, now = [row("a", 1.0), row("b", 0.5)], [row("a", 0.25), row("c", 1.0)]
    machine = Machine(torch.device("cpu"))
    report.write(tmp_path / "before.json", report.document(before, machine, {}))
    lines = report.table(now, report.read(tmp_path / "before.json")).splitlines()
    assert lines[0].split()[-1] == "before/now"
    assert lines[1].split()[-1] == "4.00"
    assert lines[2].split()[-1] != "4.00"
    assert "500 ms" in lines[1] and "100%" in lines[1]


def test_a_repeated_measurement_ends():
    calls = []
    times = Machine(torch.device("cpu")).time(lambda: calls.append(1), 4)
    assert len(times) == 4 and len(calls) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "cannot be read"), ("{}", "no result of this benchmark"), ("[", "no result of")],
)
def test_what_cannot_be_compared_is_named(text, message, tmp_path, capsys):
    path = tmp_path / "other.json"
    if text is not None:
        path.write_text(text)
    assert command.main(["--quick", "--compare", str(path)]) == 2
    told = capsys.readouterr().err
    assert message in told and str(path) in told


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(capsys):
    assert command.main(["--quick", "--device", "cuda"]) == 2
    assert "--device cuda: PyTorch finds no GPU" in capsys.readouterr().err
