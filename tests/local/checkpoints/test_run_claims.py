"""Processes that start together get folders of their own, and none writes another's."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local.checkpoints import run_claims
from local.checkpoints.run_claims import (
    LOCK_FILE,
    RunInUseError,
    claim_folder,
    hold_run,
    holder_of,
    new_run,
    numbered_runs,
)
from local.config import load_config

ROOT = Path(__file__).resolve().parents[3]
N_PROCESSES, N_CLAIMS = 8, 5


def _claim(log_dir, barrier, found):
    # As if all had looked before any of them made a folder, whatever the scheduler does.
    run_claims.numbered_runs = lambda log_dir: []
    barrier.wait()
    found.put([claim_folder(log_dir).name for _ in range(N_CLAIMS)])


def test_processes_that_start_together_claim_folders_of_their_own(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, found = context.Barrier(N_PROCESSES), context.Queue()
    log_dir = tmp_path / "exp" / "Läufe 1"
    arguments = (log_dir, barrier, found)
    processes = [context.Process(target=_claim, args=arguments) for _ in range(N_PROCESSES)]
    for process in processes:
        process.start()
    names = [name for _ in processes for name in found.get(timeout=300)]
    for process in processes:
        process.join()
    numbers = range(N_PROCESSES * N_CLAIMS)
    assert sorted(names) == sorted(f"version_{number}" for number in numbers)


def test_a_claim_is_above_all_others_and_passes_what_is_in_its_way(tmp_path):
    for name in ("version_3", "version_10", "version_x", "version_²", "version_"):
        (tmp_path / name).mkdir()
    (tmp_path / "version_11").touch()
    assert claim_folder(tmp_path) == tmp_path / "version_12"
    assert [folder.name for folder in numbered_runs(tmp_path)][:3] == [
        *("version_12", "version_11", "version_10"),
    ]


HOLDER = """
import sys, time
from pathlib import Path
from local.checkpoints.run_claims import hold_run
with hold_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds `tmp_path / "version_0"` until it is killed."""
    folder = tmp_path / "version_0"
    command = [sys.executable, "-c", HOLDER, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_run_is_held_by_one_process_until_that_is_killed(holder, tmp_path):
    folder = tmp_path / "version_0"
    assert f"process {holder.pid} on " in holder_of(folder)
    message = rf"version_0: process {holder.pid} on .* writes this run; wait until it ends"
    with pytest.raises(RunInUseError, match=message), hold_run(folder):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert holder_of(folder) == ""
    with hold_run(folder):
        assert holder_of(folder) == "this process"
        with pytest.raises(RunInUseError, match="this process"), hold_run(folder):
            pass
    assert holder_of(folder) == ""


def test_the_same_configuration_does_not_start_twice_if_it_should_be_alone(
    holder, mini_conf, tmp_path
):
    config = load_config(mini_conf)
    (tmp_path / "version_0" / "config.yaml").write_text(Path(mini_conf).read_text())
    refused = r"version_0: process \d+ on .* runs this configuration; wait until it ends, or leave"
    with pytest.raises(RunInUseError, match=refused), new_run(tmp_path, config, alone=True):
        pass
    other = load_config(mini_conf, ["training.seed=7"])
    with new_run(tmp_path, other, alone=True) as folder:  # a job array over seeds
        assert folder.name == "version_1"
    with new_run(tmp_path, config, alone=False) as folder:
        assert run_claims.stored_config(folder) == config
    assert holder_of(folder) == ""


@pytest.mark.parametrize(
    ("holder", "refused"),
    [
        ({"host": "gpu7", "process": 1}, True),
        ({"host": "here", "process": 1}, True),
        ({"host": "here", "process": None}, False),  # of a process that ended
        ({}, False),
        ([], False),
    ],
)
def test_where_the_system_has_no_locks_the_named_process_counts(
    tmp_path, monkeypatch, holder, refused
):
    def no_locks(*arguments):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(run_claims.fcntl, "lockf", no_locks)
    monkeypatch.setattr(run_claims.platform, "node", lambda: "here")
    if holder and holder["process"] is None:
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        holder = {**holder, "process": ended.pid}
    (tmp_path / LOCK_FILE).write_text(json.dumps(holder))
    if not refused:
        with hold_run(tmp_path):
            assert json.loads((tmp_path / LOCK_FILE).read_text())["process"] == os.getpid()
        return
    remedy = rf"process 1 on {holder['host']} .*if it has ended, delete .*\.lock"
    with pytest.raises(RunInUseError, match=remedy), hold_run(tmp_path):
        pass


def test_a_folder_of_someone_else_is_looked_at_without_writing(tmp_path):
    assert holder_of(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


def _start(log_dir, conf, barrier, found):
    barrier.wait()
    try:
        with new_run(log_dir, load_config(conf), alone=True) as folder:
            found.put(folder.name)
            time.sleep(3)
    except RunInUseError as error:
        found.put(str(error))


def test_of_identical_jobs_that_start_together_one_runs_if_it_should_be_alone(mini_conf, tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, found = context.Barrier(3), context.Queue()
    arguments = (tmp_path, str(mini_conf), barrier, found)
    processes = [context.Process(target=_start, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    results = sorted(found.get(timeout=300) for _ in processes)
    for process in processes:
        process.join()
    assert results[-1] == "version_0"
    assert all("runs this configuration" in text for text in results[:-1])
