"""optuna_pretrained.py as a command: stage one on the mini corpus, killed and gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.trial import TrialState

ROOT = Path(__file__).resolve().parents[2]
SPACE = {
    "opt.lr": {"kind": "float", "low": 0.001, "high": 0.1, "log": True},
    "net.n_RNN_cell": {"kind": "categorical", "choices": [4, 8]},
}


@pytest.fixture(scope="module")
def conf(extracted, tmp_path_factory):
    """The small configuration, with a space for its small network."""
    path = tmp_path_factory.mktemp("tuning") / "small.yaml"
    tree = yaml.safe_load(extracted.read_text())
    tree["optuna"] = {"n_trials": 6, "training": SPACE}
    tree["energy"] = {"enabled": False}
    path.write_text(yaml.safe_dump(tree))
    return path


def trials_of(log_dir: Path) -> list[optuna.trial.FrozenTrial]:
    storage = f"sqlite:///{log_dir / 'optuna-sed.db'}"
    return optuna.load_study(study_name="tuning_train", storage=storage).trials


def home(log_dir: Path, trial: optuna.trial.FrozenTrial) -> Path:
    """The folder of a trial; one that is tried again goes on in that of its first try."""
    return log_dir / f"trial-{trial.user_attrs.get('home', trial.number)}"


@pytest.fixture(scope="module")
def tuned(conf, run_script):
    """Six trials by two jobs, killed in the middle of the third and gone on with."""
    log_dir = conf.parent / "tuned"
    command = ["optuna_pretrained.py", "--confs", conf, "--log_dir", log_dir, "--n_jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.Popen(
        [sys.executable, ROOT / command[0], *map(str, command[1:])],
        cwd=conf.parent,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    end = time.monotonic() + 120
    # The third trial writes its description when all is read, right before it is trained.
    while not (log_dir / "trial-2" / "run.yaml").exists():
        assert time.monotonic() < end and killed.poll() is None
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = [trial.state for trial in trials_of(log_dir)]
    done = run_script(*command, cwd=conf.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return log_dir, before, done.stdout


def test_killed_in_the_third_of_six_trials_it_ends_with_six(tuned):
    log_dir, before, said = tuned
    running = before.count(TrialState.RUNNING)
    assert running >= 1 and len(before) in (3, 4)
    trials = trials_of(log_dir)
    ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert len(ended) == 6 and len(failed) == running and len(trials) == 6 + running
    for trial in failed:
        assert "ended" in trial.user_attrs["reason"]
        (again,) = (t for t in trials if t.user_attrs.get("retry_of") == trial.number)
        assert again.params == trial.params
    lines = (log_dir / "optuna-sed.log").read_text().splitlines()
    assert sorted(int(line.split()[3]) for line in lines) == list(range(len(trials)))
    assert "of 6 trials are there" in said and "jobs: " in said


def test_each_trial_has_a_folder_of_its_own(tuned):
    log_dir, _, _ = tuned
    best = sorted(
        (t for t in trials_of(log_dir) if t.state == TrialState.COMPLETE), key=lambda t: -t.value
    )
    for trial in best:
        folder = home(log_dir, trial)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert config["opt"]["lr"] == pytest.approx(trial.params["opt.lr"])
        assert config["net"]["n_RNN_cell"] == trial.params["net.n_RNN_cell"]
        assert list(folder.glob("events.out.tfevents.*"))
        assert "data: " in (folder / "output.txt").read_text()
    kept = {path.parent.parent.name for path in log_dir.glob("trial-*/checkpoints/epoch*.ckpt")}
    assert kept == {home(log_dir, trial).name for trial in best[:3]}


def test_the_best_configuration_trains(tuned, run_script):
    log_dir, _, _ = tuned
    done = run_script(
        "train_pretrained.py",
        *("--conf_file", log_dir / "best.yaml", "--log_dir", log_dir.parent / "best"),
        *("--set", "training.n_epochs=1"),
        cwd=log_dir.parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_report_and_more_trials_of_a_finished_study(tuned, conf, run_script):
    log_dir, _, _ = tuned
    arguments = ("--conf_file", conf, "--log_dir", log_dir)
    before = len(trials_of(log_dir))
    (log_dir / "report" / "history.png").unlink()
    done = run_script("optuna_pretrained.py", *arguments, "--report", cwd=conf.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (log_dir / "report" / "history.png").is_file()
    assert len(trials_of(log_dir)) == before
    other = run_script(
        "optuna_pretrained.py", *arguments, "--objective", "devtest", cwd=conf.parent
    )
    assert other.returncode == 2
    assert "was begun with other values" in other.stderr and "Traceback" not in other.stderr


def test_wrong_arguments_are_told_in_one_message(conf, run_script, tmp_path):
    script = "optuna_pretrained.py"
    for arguments, message in (
        (["--conf_file", tmp_path / "none.yaml"], "no such configuration file"),
        (["--conf_file", conf, "--n_jobs", "999"], "--n_jobs 999"),
        (["--conf_file", conf, "--storage", "nosuch://x"], "no such kind of storage"),
    ):
        done = run_script(script, *arguments, "--log_dir", tmp_path / "log", cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr and "Traceback" not in done.stderr
