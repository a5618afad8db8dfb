"""A study on a real PostgreSQL server: two tuners, and a server that is killed in the middle."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from local.tuning.storage import open_storage
from local.tuning.study import OWNER, TRIED_AGAIN
from tests.conftest import fails_without
from tests.fork_server import Forked
from tests.local.tuning.postgres_server import Server, program_folder, running_server

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PROGRAMS = program_folder()
SPACE = {
    "opt.lr": {"kind": "float", "low": 0.0001, "high": 0.01},
    "net.n_RNN_cell": {"kind": "categorical", "choices": [8, 16]},
}
N_TRIALS, WAIT_S = 8, 120
# Written in a URL, and as the server takes it.
PASSWORDS = ("S3cr/et@x", "S3cr%2Fet%40x", "S3cr")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    if PROGRAMS is None:
        missing = "no PostgreSQL server here: Debian's package is postgresql (.ci/packages)"
        assert not fails_without("postgresql"), missing
        pytest.skip(missing)
    if "CI" not in os.environ:
        pytest.importorskip("pg8000", reason="pg8000 is of the extra [postgresql]")
    with running_server(PROGRAMS) as one:
        yield one


@pytest.fixture
def start(server, tmp_path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a tuner on the study of the server; its output goes to a pipe."""
    (tmp_path / "script.json").write_text(json.dumps({"every": "held"}))
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({"optuna": {"training": SPACE}}))
    started: list[subprocess.Popen[str]] = []

    def begin(n_trials: int = N_TRIALS, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, HERE / "fake_tuner.py", "--conf_file", "confs/mini.yaml"]
        command += ["--space", tmp_path / "space.yaml", "--log_dir", tmp_path, "--no_pruning"]
        command += ["--storage", server.url, "--n_trials", n_trials]
        # Of another server, which must not be meant.
        outside = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        search = os.pathsep.join((str(ROOT), str(HERE), outside.get("PYTHONPATH", "")))
        variables = {**outside, "PYTHONPATH": search, "CUDA_VISIBLE_DEVICES": "", **environment}
        started.append(
            Forked(
                [str(word) for word in command],
                cwd=ROOT,
                env=variables,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def logged(log_dir: Path) -> list[int]:
    """Numbers of the trials that have ended, as the tuners log them."""
    path = log_dir / "optuna-sed.log"
    text = path.read_text() if path.exists() else ""
    return [int(number) for number in re.findall(r"^\S+ \S+  trial (\d+)  ", text, re.M)]


def wait_until(reached: Callable[[], bool], tuners: list[subprocess.Popen[str]]) -> None:
    end = time.monotonic() + WAIT_S
    while not reached():
        assert time.monotonic() < end, "the tuners do not get on"
        assert all(tuner.poll() is None for tuner in tuners), tuners[0].communicate()
        time.sleep(0.05)


def wait_for_both(log_dir: Path, tuners: list[subprocess.Popen[str]]) -> None:
    """Each tuner has one trial, which is held until there is a file `go`."""
    wait_until(lambda: len([*log_dir.glob("trial-*/environment.json")]) == 2, tuners)


def trials_of(server: Server) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="tuning_train", storage=open_storage(server.url)).trials


def counted(server: Server) -> list[optuna.trial.FrozenTrial]:
    """Trials that count: one that was cut off counts as its retry."""
    return [trial for trial in trials_of(server) if not trial.user_attrs.get(TRIED_AGAIN)]


def test_nothing_is_lost_or_counted_twice_as_the_server_is_killed(server, start, tmp_path):
    """Both begin at once, on a database without tables, as two processes of torchrun."""
    both = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    tuners = [start(**both, RANK=rank, LOCAL_RANK=rank) for rank in "01"]
    wait_for_both(tmp_path, tuners)
    (tmp_path / "go").touch()
    wait_until(lambda: len(logged(tmp_path)) >= 3, tuners)
    server.kill()
    time.sleep(1.5)  # Trials go on, and end.
    server.start()
    told = [tuner.communicate(timeout=WAIT_S)[0] for tuner in tuners]
    assert [tuner.returncode for tuner in tuners] == [0, 0], told
    for rank, text in enumerate(told):
        assert f"jobs of process {rank + 1} of 2: 1 core\n" in text
        assert "the server of the study does not answer (" in text
        assert "); trying again for up to 15 min\n" in text
        assert re.search(r"the server of the study answers again, after \d+ s\n", text)
        assert not any(password in text for password in PASSWORDS)
        assert "postgresql+pg8000://tuner:***@127.0.0.1" in text
    trials = counted(server)
    # If both begin their last at the same moment, there is one more.
    assert len(trials) in (N_TRIALS, N_TRIALS + 1)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert len({trial.user_attrs[OWNER] for trial in trials}) == 2
    assert len({json.dumps(trial.params) for trial in trials}) == len(trials)
    assert sorted(logged(tmp_path)) == [trial.number for trial in trials_of(server)]
    for path in tmp_path.rglob("*"):
        text = path.read_text(errors="replace") if path.is_file() else ""
        assert not any(password in text for password in PASSWORDS), path
    for path in tmp_path.glob("trial-*/environment.json"):
        seen = json.loads(path.read_text())  # Each trial is a training of one process.
        assert seen["RANK"] is None and seen["WORLD_SIZE"] is None and seen["MASTER_ADDR"] is None
    ends = [f"study tuning_train: {len(trials)} complete" in text for text in told]
    assert True in ends  # The last of them, or both if they end together, tells all results.
    assert all(
        end or "; another process runs the rest" in t for t, end in zip(told, ends, strict=True)
    )
    best = max(trials, key=lambda trial: trial.value)
    heading = (tmp_path / "best.yaml").read_text().splitlines()[0]
    assert heading.startswith(f"# trial {best.number} of the study tuning_train: ")
    rows = (tmp_path / "report" / "trials.tsv").read_text().splitlines()[1:]
    assert [int(row.split("\t")[0]) for row in rows] == [t.number for t in trials_of(server)]


def test_a_server_that_stays_away_ends_the_command_and_the_same_one_resumes(
    server, start, tmp_path
):
    """One waits until it gives up, another until Ctrl-C."""
    wanted = len(counted(server)) + 4
    tuner, other = start(wanted, FAKE_PATIENCE_S="0.5"), start(wanted)
    wait_for_both(tmp_path, [tuner, other])
    server.kill()
    (tmp_path / "go").touch()
    told = tuner.communicate(timeout=WAIT_S)[0]
    assert tuner.returncode == 2
    assert re.search(
        r"error: --storage postgresql\+pg8000://tuner:\*\*\*@127\.0\.0\.1:\d+/postgres: the server "
        r"has not answered for .* min \(.+\); what the study has is stored, so when the server "
        r"answers again, run the same command again to resume\n",
        told,
    )
    assert other.stdout is not None
    while "does not answer" not in other.stdout.readline():
        assert other.poll() is None
    other.send_signal(signal.SIGINT)
    assert other.wait(timeout=WAIT_S) == 130
    server.start()
    assert start(wanted).wait(timeout=WAIT_S) == 0
    trials = counted(server)
    assert len(trials) in (wanted, wanted + 1)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
