"""train_pretrained.py in two processes: one run folder, one result, killed and resumed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.fork_server import Forked, pid_of_rank
from tests.in_process import run_main

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).resolve().parents[2]
UNDRAWN = ROOT / "tests" / "undrawn_start"
# Dropout and mixup are on, so that a resumed training has to draw what an uninterrupted one does.
SETTINGS = ("training.n_epochs=3", "training.mixup=soft", "training.mixup_prob=1")


def command(conf: Path, log_dir: Path, *more: str) -> list[str]:
    sets = [f"--set={one}" for one in (*SETTINGS, "net.dropout=0.3")]
    script = "train_pretrained.py"
    return [script, "--conf_file", str(conf), "--log_dir", str(log_dir), *sets, *more]


def start(
    words: list[str], cwd: Path, kind: Any = Forked, more_paths: Sequence[str] = ()
) -> subprocess.Popen[str]:
    return kind(
        [sys.executable, str(ROOT / words[0]), *words[1:]],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *more_paths])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, running: subprocess.Popen[str]) -> None:
    for _ in range(1800):
        if path.exists():
            return
        assert running.poll() is None, running.communicate()
        time.sleep(0.1)
    raise AssertionError(f"{path} does not come")


@pytest.fixture(scope="module")
def whole(extracted: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A run in two processes, none of them forked, and what they printed."""
    folder = tmp_path_factory.mktemp("whole")
    words = command(extracted, folder / "exp", "--devices=2")
    running = start(words, folder, subprocess.Popen, [str(UNDRAWN)])
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0, out + err
    assert "terminate" not in err
    yield folder / "exp" / "version_0", out
    shutil.rmtree(folder)


def state(run: Path) -> dict[str, torch.Tensor]:
    found = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert found["processes"] == 2
    return found["state_dict"]


def test_one_run_folder_and_every_line_once(whole):
    run, out = whole
    assert [path.name for path in run.parent.iterdir() if path.is_dir()] == [run.name]
    for text in ("computing on the CPU, in 2 processes", "data: ", "best checkpoint: ", "test  "):
        assert out.count(text) == 1, out
    assert out.count("epoch 3/3") == 1
    records = yaml.safe_load((run / "run.yaml").read_text())
    assert [record["processes"] for record in records] == [2, 2]


def test_the_result_is_that_of_one_process(whole, extracted, tmp_path):
    run, _ = whole
    done = run_main(
        "train_pretrained.py",
        *("--conf_file", extracted, "--log_dir", tmp_path, "--test_from_checkpoint", run),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    name = "results.json"
    assert (tmp_path / "version_0" / name).read_bytes() == (run / name).read_bytes()


def test_one_that_is_killed_ends_the_other_and_the_same_command_resumes(whole, extracted, tmp_path):
    words = command(extracted, tmp_path, "--devices=2", "--resume_from_checkpoint=auto")
    running = start(words, tmp_path)
    wait_for(tmp_path / "version_0" / "checkpoints" / "last.ckpt", running)
    os.kill(pid_of_rank(running.pid, 1), signal.SIGKILL)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGKILL
    assert err.count("error: ") == 1, err
    assert "process 2 of 2 was ended by SIGKILL" in err
    assert "run the same command again with --resume_from_checkpoint auto to resume" in err
    assert "Traceback" not in err
    half = shutil.copytree(tmp_path, tmp_path.with_name("half"))

    running = start(words, tmp_path)
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0, out + err
    for name, value in state(whole[0]).items():
        assert torch.equal(value, state(tmp_path / "version_0")[name]), name
    # One process goes on with it too, and says what differs.
    alone = run_main(*command(extracted, half, "--resume_from_checkpoint=auto"), cwd=half)
    assert alone.returncode == 0, alone.stderr
    assert "processes: 1, where this training began with 2: dropout" in alone.stdout


def test_batches_of_each_process_are_resumed_with_as_many(whole, extracted, tmp_path):
    run, _ = whole
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["hyper_parameters"]["training"]["batch_scope"] = "process"
    torch.save(checkpoint, tmp_path / "last.ckpt")
    words = command(extracted, tmp_path, f"--resume_from_checkpoint={tmp_path / 'last.ckpt'}")
    done = run_main(*words, "--set=training.batch_scope=process", cwd=tmp_path)
    assert done.returncode == 2
    assert "began with 2 processes" in done.stderr
    assert "resume it with --devices 2" in done.stderr
