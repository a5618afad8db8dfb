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

from local import run
from local.config import load_config
from optuna_pretrained import main
from tests.fork_server import Forked

pytestmark = pytest.mark.usefixtures("undrawn")

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
    killed = Forked(
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
        # One that was killed as it was drawn has none, or not all, of its values.
        assert trial.params.items() <= again.params.items()
    lines = (log_dir / "optuna-sed.log").read_text().splitlines()
    logged = [int(line.split()[3]) for line in lines]
    assert len(set(logged)) == len(logged)
    # One that ended as the tuner was killed is in the study, if not in the log.
    unlogged = set(range(len(trials))) - set(logged)
    assert all(before[number] == TrialState.COMPLETE for number in unlogged)
    assert "of 6 trials exist" in said and "jobs: " in said


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


def test_the_best_configuration_trains(tuned):
    log_dir, _, _ = tuned
    config = load_config(log_dir / "best.yaml")
    options = run.RunOptions(str(log_dir.parent / "best"))
    folder = run.fit(config, options, test=False)
    assert list((folder / "checkpoints").glob("epoch*.ckpt"))
    best = max(
        (t for t in trials_of(log_dir) if t.state == TrialState.COMPLETE), key=lambda t: t.value
    )
    assert config.opt.lr == pytest.approx(best.params["opt.lr"])


def test_a_report_of_a_finished_study_and_what_is_refused(tuned, conf, tmp_path, capsys):
    log_dir, _, _ = tuned
    arguments = ["--conf_file", str(conf), "--log_dir", str(log_dir)]
    before = len(trials_of(log_dir))
    (log_dir / "report" / "history.png").unlink()
    assert main([*arguments, "--report"]) == 0
    assert (log_dir / "report" / "history.png").is_file()
    assert main(arguments) == 0
    assert len(trials_of(log_dir)) == before
    for wrong, message in (
        (["--objective", "devtest"], "was begun with other values"),
        (["--conf_file", "none.yaml"], "no such configuration file"),
        (["--n_jobs", "999"], "--n_jobs 999"),
        (["--storage", "nosuch://x"], "unknown kind of storage"),
        (["--report", "--study_name", "x"], "has no study x"),
        (["--space", str(ROOT / "confs" / "optuna.yaml")], "n_epochs_warmup = 50"),
        (["--set", "net.dropout=7"], "net.dropout"),
        (["--sweep"], "--sweep: belongs to stage two; give --test_from_checkpoint too"),
        (["--test_from_checkpoint", "none.ckpt"], "none.ckpt"),
        (["--test_from_checkpoint", "a.ckpt", "--report"], "--report: belongs to stage one"),
    ):
        capsys.readouterr()
        assert main([*arguments, *wrong]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["best.yaml", "report/trials.tsv"])
def test_files_of_the_user_stay(tmp_path, capsys, name):
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("of the user")
    for arguments in ((), ("--report",)):
        assert main(["--log_dir", str(tmp_path), "--n_trials", "1", *arguments]) == 2
        assert f"--overwrite:\n  - {mine}\n" in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]
    (tmp_path / "optuna-sed.log").touch()  # The folder of a study, of a version without records.
    assert main(["--log_dir", str(tmp_path), "--report"]) == 2
    assert "nothing was tuned there yet" in capsys.readouterr().err
