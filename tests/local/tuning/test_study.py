"""The shared study: who runs a trial, signs of life, and trials that nobody runs any more."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
from optuna.pruners import NopPruner
from optuna.trial import TrialState

from local.checkpoints.run_claims import is_alive
from local.tuning import study as module
from local.tuning.search_space import Dimension, Space
from local.tuning.storage import open_storage
from local.tuning.study import ATTEMPT, HEARTBEAT, OWNER, REASON, TRIED_AGAIN, SharedStudy
from local.tuning.workers.messages import TrialOutcome

SPACE = Space((Dimension("opt.lr", "float", 1e-4, 1e-2),))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def study(tmp_path, clock):
    """Handles of one study, as several tuners have them."""

    def make(
        host: str = platform.node(), process: int | None = None, n_trials: int = 3
    ) -> SharedStudy:
        storage = open_storage(str(tmp_path / "study.log"))
        one = SharedStudy(
            storage, "s", SPACE, n_trials=n_trials, seed=1, pruner=NopPruner(), clock=clock
        )
        one.owner = f"{host}:{os.getpid() if process is None else process}"
        return one

    return make


@pytest.fixture
def ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_trial_is_taken_and_ended(study):
    one = study()
    started = one.start_trial()
    assert one.running == [0] and one.best is None
    assert one.trials[0].user_attrs[OWNER] == f"{platform.node()}:{os.getpid()}"
    assert one.report(0, 1, 0.5)
    one.finish(0, TrialOutcome("complete", 0.7, facts={"val/psds": 0.4}))
    assert one.best.number == 0 and one.best.user_attrs["val/psds"] == 0.4
    assert SPACE.overrides(one.best.params) == started.overrides
    assert one.running == [] and one.n_ended == 1


def test_no_more_trials_are_begun_than_wanted(study):
    one, two = study(), study("elsewhere")
    for each in (one, two, one):
        assert each.wants_more()
        each.start_trial()
    assert not one.wants_more() and not two.wants_more()
    one.finish(0, TrialOutcome("lost", reason="killed"))
    assert two.wants_more()  # it waits to be tried again, by whoever comes first
    assert two.start_trial().overrides == pytest.approx(one.trials[0].params)
    assert two.trials[3].user_attrs[ATTEMPT] == 2
    assert not one.wants_more()


def test_trials_of_a_tuner_that_ended_on_this_machine_are_tried_again(study, ended_process):
    dead, one = study(process=ended_process), study()
    dead.start_trial()
    one.start_trial()
    found = one.retry_stale()
    assert [(trial.number, reason) for trial, reason in found] == [
        (0, f"its tuner (process {ended_process}) ended")
    ]
    failed = one.trials[0]
    assert failed.state == TrialState.FAIL
    assert failed.user_attrs[TRIED_AGAIN] and "ended" in failed.user_attrs[REASON]
    assert one.trials[1].state == TrialState.RUNNING  # its own
    again = one.start_trial()
    assert again.overrides == pytest.approx(failed.params)
    assert one.retry_stale() == []


def test_a_number_given_again_to_this_very_tuner_is_seen_through(study):
    """In containers every tuner is process 1."""
    study().start_trial()
    assert [trial.number for trial, _ in study().retry_stale()] == [0]


def test_another_machine_is_given_up_when_it_gives_no_sign_of_life(study, clock):
    other, one = study("elsewhere", 1), study()
    other.start_trial()
    assert one.retry_stale() == []
    clock.now += module.GRACE_S + 1
    other.heartbeat()
    assert one.trials[0].user_attrs[HEARTBEAT] == 1
    assert one.retry_stale() == []  # it was heard
    clock.now += module.GRACE_S - 1
    assert one.retry_stale() == []
    clock.now += 2
    ((trial, reason),) = one.retry_stale()
    assert trial.number == 0 and reason == "no heartbeat from elsewhere for 300 s"
    # The other comes back too late: the trial is no longer its own.
    assert other.finish(0, TrialOutcome("complete", 1.0)) is False
    assert one.trials[0].state == TrialState.FAIL
    assert other.running == []


def test_signs_of_life_are_given_at_intervals(study, clock):
    one = study()
    one.start_trial()
    one.heartbeat()
    assert one.next_heartbeat_s() == module.HEARTBEAT_S
    clock.now += module.HEARTBEAT_S / 2
    one.heartbeat()
    assert one.trials[0].user_attrs[HEARTBEAT] == 1
    clock.now += module.HEARTBEAT_S / 2
    assert one.next_heartbeat_s() == 0
    one.heartbeat()
    assert one.trials[0].user_attrs[HEARTBEAT] == 2


def test_a_trial_that_never_got_an_owner_is_found(study, monkeypatch):
    one = study()
    one.study.ask()
    assert one.retry_stale() == [] and one.has_unowned  # another tuner may just be at it
    monkeypatch.setattr(module, "STARTING_S", -1.0)
    ((trial, reason),) = one.retry_stale()
    assert trial.number == 0 and reason == "its tuner ended while starting it"
    assert not one.has_unowned and one.wants_more()


def test_draws_of_two_tuners_differ(study):
    one, two = study(), study("elsewhere")
    assert one.start_trial().overrides != two.start_trial().overrides


def test_whether_a_process_lives(ended_process):
    assert is_alive(os.getpid())
    assert is_alive(1)
    assert not is_alive(ended_process)
    zombie = subprocess.Popen([sys.executable, "-c", "print(1)"], stdout=subprocess.PIPE)
    zombie.stdout.read()
    if sys.platform == "linux":
        # It has ended, but nobody asked how.
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(zombie.pid)
    zombie.wait()
