"""A storage whose server does not answer for a while: what is repeated, and for how long."""

from __future__ import annotations

import pytest
from optuna import create_study
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.pruners import NopPruner
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError, ProgrammingError

from desed_task.errors import InputError
from local.tuning import storage as module
from local.tuning import study as study_module
from local.tuning.search_space import Dimension, Space
from local.tuning.storage import PatientStorage, ServerGoneError, storage_errors
from local.tuning.study import HEARTBEAT, RETRY_OF, SharedStudy
from local.tuning.workers.messages import TrialOutcome

SPACE = Space((Dimension("opt.lr", "float", 1e-4, 1e-2),))
LOST = InterfaceError("x", {}, Exception("network error; password=S3cret"))


class LossyStorage(InMemoryStorage):
    """Loses connections: `failing` is method -> errors still to come; `late`: after the work."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: dict[str, list[BaseException]] = {}
        self.late = False

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name.startswith("_") or name not in super().__getattribute__("__dict__").get(
            "failing", ()
        ):
            return found

        def fail(*args, **kwargs):
            errors = self.failing[name]
            if not errors:
                return found(*args, **kwargs)
            error = errors.pop(0)
            if self.late:
                found(*args, **kwargs)
            raise error

        return fail


class Clock:
    def __init__(self) -> None:
        self.now, self.pauses = 0.0, []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def lossy():
    return LossyStorage()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def patient(lossy, clock):
    return PatientStorage(lossy, clock, clock.sleep)


@pytest.fixture
def shared(patient, clock):
    settings = {"n_trials": 3, "seed": 1, "pruner": NopPruner(), "clock": clock}
    return SharedStudy(patient, "s", SPACE, **settings)


def wrapped(error: BaseException) -> StorageInternalError:
    """As Optuna raises what a database says."""
    try:
        raise StorageInternalError("An exception is raised during the commit.") from error
    except StorageInternalError as one:
        return one


@pytest.mark.parametrize(
    "error",
    [
        LOST,
        OperationalError("x", {}, Exception("Connection refused")),
        ProgrammingError("x", {}, Exception({"S": "FATAL", "C": "57P03"})),
        DatabaseError("x", {}, Exception("server closed"), connection_invalidated=True),
        ConnectionResetError(104, "Connection reset by peer"),
    ],
)
@pytest.mark.parametrize("as_optuna", [False, True])
def test_lost_connections_are_waited_for(patient, lossy, clock, capsys, error, as_optuna):
    study = create_study(study_name="s", storage=patient)
    one = wrapped(error) if as_optuna else error
    lossy.failing["get_all_trials"] = [one] * 7
    assert study.get_trials() == []
    assert clock.pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0] and patient.n_outages == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("the server of the study does not answer (")
    assert first.endswith("); trying again for up to 15 min") and "S3cret" not in first
    assert last == "the server of the study answers again, after 16 s"


@pytest.mark.parametrize(
    "error",
    [
        wrapped(ProgrammingError("x", {}, Exception("relation does not exist"))),
        wrapped(OperationalError("x", {}, Exception("database or disk is full"))),
        wrapped(ProgrammingError("x", {"v": 40001}, Exception("no such column"))),
        KeyError("no such trial"),
        ValueError("wrong"),
    ],
)
def test_other_errors_are_not(patient, lossy, clock, error):
    study = create_study(study_name="s", storage=patient)
    lossy.failing["get_all_trials"] = [error]
    with pytest.raises(type(error)):
        study.get_trials()
    assert clock.pauses == [] and patient.n_outages == 0


def test_after_too_long_it_gives_up_at_once_each_time(patient, lossy, clock, monkeypatch):
    study = create_study(study_name="s", storage=patient)
    lossy.failing["get_all_trials"] = [LOST] * 1000
    with pytest.raises(InputError) as told, storage_errors("--storage here"):
        study.get_trials()
    assert str(told.value).startswith("--storage here: the server has not answered for 15 min (net")
    assert "run the same command again to resume" in str(told.value)
    assert "S3cret" not in str(told.value)
    assert module.PATIENCE_S <= clock.now < module.PATIENCE_S + 6
    waited = clock.now
    with pytest.raises(ServerGoneError):
        study.get_trials()
    assert clock.now == waited
    lossy.failing.clear()
    assert study.get_trials() == []
    lossy.failing["get_all_trials"] = [LOST]
    assert study.get_trials() == [] and patient.n_outages == 2  # it is waited for again


def test_ctrl_c_while_waiting_leaves_nothing_to_wait_for(lossy, capsys):
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    patient = PatientStorage(lossy, Clock(), interrupt)
    study = create_study(study_name="s", storage=patient)
    lossy.failing["get_all_trials"] = [LOST] * 2
    with pytest.raises(KeyboardInterrupt):
        study.get_trials()
    with pytest.raises(ServerGoneError):
        study.get_trials()
    assert study.get_trials() == []
    assert "answers again" not in capsys.readouterr().out


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    "name",
    ["set_trial_state_values", "set_trial_user_attr", "set_trial_param", "create_new_trial"],
)
def test_a_write_counts_once_whether_it_was_done_before_the_loss_or_not(
    shared, lossy, monkeypatch, name, late
):
    """Each write of a study, lost before and after it was done; the third trial is retried."""
    monkeypatch.setattr(study_module, "STARTING_S", -1.0)
    lossy.late = late
    outcomes = {0: TrialOutcome("complete", 0.5), 2: TrialOutcome("lost", reason="killed")}
    n_begun = 0
    while shared.wants_more():
        lossy.failing[name] = [LOST]
        shared.retry_stale()  # of one that was begun, and nobody knows by whom
        number = shared.start_trial().number
        lossy.failing[name] = [LOST]
        assert shared.finish(number, outcomes.get(n_begun, TrialOutcome("complete", 0.1)))
        n_begun += 1
        shared.retry_stale()
    ended = [t for t in shared.trials if not t.user_attrs.get(study_module.TRIED_AGAIN)]
    ended = [t for t in ended if t.state != TrialState.WAITING]  # no longer needed
    assert len(ended) == 3 and {t.state for t in ended} == {TrialState.COMPLETE}
    assert shared.best.value == 0.5
    retried = [t.user_attrs[RETRY_OF] for t in shared.trials if RETRY_OF in t.user_attrs]
    assert len(retried) == len(set(retried)) >= 1


def test_the_end_of_another_is_not_taken_for_ones_own(patient, lossy):
    study = create_study(study_name="s", storage=patient)
    trial = study.ask()
    lossy.set_trial_state_values(trial._trial_id, TrialState.FAIL)  # by another tuner
    lossy.failing["set_trial_state_values"] = [LOST]
    with pytest.raises(UpdateFinishedTrialError):
        patient.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [0.5])


def test_nobody_is_given_up_for_what_the_server_was_away(shared, patient, lossy, clock):
    other = SharedStudy(patient, "s", SPACE, n_trials=3, seed=1, pruner=NopPruner(), clock=clock)
    other.owner = "elsewhere:1"
    other.start_trial()
    assert shared.retry_stale() == []
    lossy.failing["get_all_trials"] = [LOST] * 80  # 6 minutes, in which nobody can send a heartbeat
    assert shared.retry_stale() == []
    assert clock.now > study_module.GRACE_S
    other.heartbeat()
    assert shared.trials[0].user_attrs[HEARTBEAT] == 1
    assert shared.retry_stale() == []
    clock.now += study_module.GRACE_S + 1
    assert [trial.number for trial, _ in shared.retry_stale()] == [0]
