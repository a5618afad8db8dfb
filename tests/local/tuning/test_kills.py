"""A study whose tuner is killed at every write to its storage ends like one that is not."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.pruners import NopPruner
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from local.config import RecipeConfig
from local.tuning import median_stage
from local.tuning import study as module
from local.tuning.search_space import Dimension, Space
from local.tuning.study import ATTEMPT, RETRY_OF, TRIED_AGAIN, SharedStudy
from local.tuning.study_log import BEST_FILE, LOG_FILE, StudyLog
from local.tuning.training_stage import TuningPlan
from local.tuning.workers.messages import TrialOutcome, trial_folder

# From the eleventh on, values depend on the trials before.
N_TRIALS = 13
SPACE = Space(
    (
        Dimension("opt.lr", "float", 1e-4, 1e-2, log=True),
        Dimension("net.n_RNN_cell", "categorical", choices=(8, 16, 24)),
        Dimension("net.dropout", "float", 0.0, 0.9),
    )
)
WRITES = (
    *("create_new_study", "set_study_user_attr", "create_new_trial", "set_trial_param"),
    *("set_trial_user_attr", "set_trial_system_attr", "set_trial_state_values"),
)


class Killed(BaseException):
    """The tuner is killed."""


class DyingStorage(InMemoryStorage):
    """Kills the tuner before its `fatal`-th write, from 1."""

    fatal = 0
    n_writes = 0

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name in WRITES:
            self.n_writes += 1
            if self.n_writes == self.fatal:
                raise Killed
        return found


@pytest.fixture(scope="module")
def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def search(make_plan, tmp_path, monkeypatch, ended_process):
    """Runs the study of a storage until its tuner is killed at the `fatal`-th write, or ends."""
    monkeypatch.setattr(module, "STARTING_S", 0.0)
    monkeypatch.setattr(median_stage, "SETTLING_S", 0.0)

    def run(storage: DyingStorage, name: str, fatal: int = 0) -> TuningPlan:
        storage.fatal, storage.n_writes = fatal, 0
        plan = make_plan(
            space=SPACE, n_trials=N_TRIALS, log_dir=tmp_path / name, study_name="medians"
        )

        def open_study(plan: TuningPlan) -> SharedStudy:
            settings = {"n_trials": N_TRIALS, "seed": 1, "pruner": NopPruner()}
            study = SharedStudy(storage, "s", SPACE, **settings)
            study.owner = f"{platform.node()}:{ended_process}"
            study.agree_on({"a": 1}, "")
            return study

        def evaluate(config: RecipeConfig) -> TrialOutcome:
            return TrialOutcome("complete", config.opt.lr * config.net.n_RNN_cell)

        monkeypatch.setattr(median_stage, "open_study", open_study)
        try:
            median_stage.search_lengths(plan, evaluate)
        except Killed:
            assert fatal
        return plan

    return run


def ended(storage: DyingStorage) -> list[tuple[dict[str, Any], float | None]]:
    """Values and objective of the trials, in order of their first attempts."""
    storage.fatal = 0
    trials = [t for t in storage.get_all_trials(0) if not t.user_attrs.get(TRIED_AGAIN)]
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    return [(trial.params, trial.value) for trial in sorted(trials, key=module.folder_number)]


def settings_of(plan: TuningPlan) -> dict[str, Any]:
    return yaml.safe_load((plan.log_dir / BEST_FILE).read_text())


def logged(plan: TuningPlan) -> list[int]:
    text = (plan.log_dir / LOG_FILE).read_text()
    return [int(number) for number in re.findall(r"^\S+ \S+  trial (\d+)  ", text, re.MULTILINE)]


def test_killed_at_any_write_of_its_storage(search):
    whole = DyingStorage()
    plan = search(whole, "whole")
    expected, best, n_writes = ended(whole), settings_of(plan), whole.n_writes
    assert len(expected) == N_TRIALS and n_writes > 6 * N_TRIALS
    # The study's own, the first and the twelfth trial, whose values depend on others, with what
    # begins the next; each write to the end of the study is of a kind.
    per_trial = n_writes // N_TRIALS
    for fatal in (*range(1, per_trial + 6), *range(11 * per_trial, 12 * per_trial + 4)):
        storage = DyingStorage()
        search(storage, f"killed-{fatal}", fatal)
        plan = search(storage, f"killed-{fatal}")
        assert ended(storage) == expected, fatal
        assert settings_of(plan) == best, fatal
        assert sorted(logged(plan)) == list(range(len(storage.get_all_trials(0)))), fatal


def test_killed_again_and_again_as_it_recovers(search):
    """Each kill comes a write later than the last, so that each step of a recovery is met."""
    whole, storage = DyingStorage(), DyingStorage()
    search(whole, "whole")
    for fatal in range(1, 31):
        search(storage, "killed", fatal)
    plan = search(storage, "killed")
    assert ended(storage) == ended(whole)
    trials = storage.get_all_trials(0)
    assert len(trials) > N_TRIALS and sorted(logged(plan)) == list(range(len(trials)))
    retried = [t.user_attrs[RETRY_OF] for t in trials if RETRY_OF in t.user_attrs]
    assert len(retried) == len(set(retried))
    assert {t.user_attrs.get(ATTEMPT, 1) for t in trials} == {1}  # no trial was to blame


def test_a_trial_whose_own_process_ends_is_tried_twice_at_most(make_plan, search):
    storage = DyingStorage()
    study = SharedStudy(storage, "s", SPACE, n_trials=1, seed=1, pruner=NopPruner())
    for _ in range(2):
        study.finish(study.start_trial().number, TrialOutcome("lost", reason="out of memory"))
    assert not study.wants_more()
    first, second = study.trials
    assert second.params == first.params and not second.user_attrs[TRIED_AGAIN]


def test_checkpoints_of_trials_that_ended_as_the_tuner_was_killed(make_plan):
    plan = make_plan(space=SPACE, n_trials=4)
    study = SharedStudy(DyingStorage(), "s", SPACE, n_trials=4, seed=1, pruner=NopPruner())
    for value in (0.1, 0.4, 0.3, 0.2):
        number = study.start_trial().number
        folder: Path = trial_folder(plan.log_dir, number) / "checkpoints"
        folder.mkdir(parents=True)
        for name in ("epoch=1-step=2.ckpt", "last.ckpt"):
            (folder / name).touch()
        study.finish(number, TrialOutcome("complete", value))  # killed before it is noted
    log = StudyLog(plan.log_dir, study, SPACE, plan.config, keep=2)
    for _ in range(2):
        log.note_missed()
        kept = sorted(path.relative_to(plan.log_dir) for path in plan.log_dir.rglob("*.ckpt"))
        assert [str(path) for path in kept] == [
            f"trial-{number}/checkpoints/epoch=1-step=2.ckpt" for number in (1, 2)
        ]
        assert logged(plan) == [0, 1, 2, 3]
    assert settings_of(plan)["opt"]["lr"] == pytest.approx(study.trials[1].params["opt.lr"])
