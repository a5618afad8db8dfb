"""Many trials at a time: each on its own GPU, whatever becomes of its neighbours."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from desed_task.errors import InputError
from local.checkpoints.run_claims import is_alive
from local.config import check_config, load_config
from local.task.reading import default_description
from local.tuning.search_space import Dimension, Space
from local.tuning.study import ATTEMPT, BASIS, OWNER, REASON, RETRY_OF, TRIED_AGAIN
from local.tuning.training_stage import Tuner, TuningPlan, open_study, open_study_log
from local.tuning.workers.device_slots import choose_slots
from tests.local.tuning.fake_training import TARGET

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CPU = {"CUDA_VISIBLE_DEVICES": ""}


def tune(plan: TuningPlan, n_jobs: int = 1, outside: dict[str, str] = CPU) -> Tuner:
    one = Tuner(plan, choose_slots(n_jobs, 1, outside=outside), TARGET)
    one.run()
    return one


def environment(plan: TuningPlan, number: int) -> dict[str, object]:
    return json.loads((plan.log_dir / f"trial-{number}" / "environment.json").read_text())


def states(one: Tuner) -> list[str]:
    return [trial.state.name.lower() for trial in one.shared_study.trials]


def test_four_jobs_land_on_four_cards_at_once(make_plan, monkeypatch):
    # From outside, cards 4 to 7 were given; a worker sees one of them.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    plan = make_plan({"together": 4, "every": "together"}, n_trials=6)
    one = tune(plan, 4, dict(os.environ))
    assert states(one) == ["complete"] * 6
    found = [environment(plan, number) for number in range(6)]
    assert sorted(trial["CUDA_VISIBLE_DEVICES"] for trial in found[:4]) == ["4", "5", "6", "7"]
    assert len({trial["process"] for trial in found}) == 4  # one process a job, no new ones
    assert all(int(str(trial["OMP_NUM_THREADS"])) >= 1 for trial in found)
    assert not any(is_alive(int(str(trial["process"]))) for trial in found)


def test_what_breaks_is_recorded_and_the_study_goes_on(make_plan):
    script = {"0": "out of memory", "1": "die", "3": "leave", "5": "worthless"}
    plan = make_plan(script, n_trials=6)
    one = tune(plan)
    trials = one.shared_study.trials
    # The two whose process died are tried again, with the same values; nothing else is.
    assert (
        states(one) == ["fail", "fail", "complete", "fail", "complete", "fail"] + ["complete"] * 2
    )
    reasons = [str(trial.user_attrs.get(REASON, "")) for trial in trials]
    assert reasons[0] == (
        "out of memory: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has no more."
    )
    assert reasons[1].startswith("its process was terminated by SIGKILL (killed by the system")
    assert reasons[3] == "its process ended with status 3"
    assert reasons[5] == "the objective is nan"
    assert [
        trial.user_attrs.get(TRIED_AGAIN) for trial in trials if trial.state == TrialState.FAIL
    ] == [
        False,
        True,
        True,
        False,
    ]
    for lost, again in ((1, 2), (3, 4)):
        assert trials[again].user_attrs[RETRY_OF] == lost
        assert trials[again].params == trials[lost].params
    log = (plan.log_dir / "optuna-sed.log").read_text().splitlines()
    assert len(log) == 8
    assert "trial 0  failed  -  no best yet" in log[0] and "out of memory" in log[0]
    assert "will be retried" in log[1] and "retry of trial 1" in log[2]
    assert f"best {trials[2].value:.6f} (trial 2)" in log[2]
    assert "RuntimeError: CUDA" in (plan.log_dir / "trial-0" / "output.txt").read_text()
    assert (plan.log_dir / "trial-1" / "output.txt").read_text() == "1 plays die\n2 plays \n"


def test_a_trial_that_dies_twice_is_given_up(make_plan):
    one = tune(make_plan({"0": "die", "1": "die"}, n_trials=2))
    assert states(one) == ["fail", "fail", "complete"]
    assert one.shared_study.trials[1].user_attrs[ATTEMPT] == 2
    assert one.shared_study.trials[1].user_attrs[TRIED_AGAIN] is False
    assert one.shared_study.n_ended == 2


def test_a_study_in_which_everything_fails_ends(make_plan):
    with pytest.raises(InputError, match=r"10 trials in a row failed.*out of memory") as error:
        tune(make_plan({"every": "out of memory"}, n_trials=50))
    assert "trial-9" in str(error.value)


def test_what_no_trial_could_do_ends_the_command_and_costs_no_trial(make_plan):
    plan = make_plan({"0": "refuse"}, n_trials=2)
    with pytest.raises(InputError, match="no such folder of clips"):
        tune(plan)
    one = tune(plan)
    assert states(one) == ["fail", "complete", "complete"]
    assert one.shared_study.trials[1].params == one.shared_study.trials[0].params


@pytest.mark.parametrize("signal", ["interrupt", "terminate"])
def test_stopped_it_leaves_nothing_running_and_goes_on(make_plan, signal):
    plan = make_plan({"1": signal}, n_trials=3)
    with pytest.raises(KeyboardInterrupt):
        tune(plan)
    assert not is_alive(int(str(environment(plan, 1)["process"])))
    one = tune(plan)
    assert states(one) == ["complete", "fail", "complete", "complete"]
    stopped, again = one.shared_study.trials[1:3]
    assert stopped.user_attrs[REASON] == "stopped"
    assert again.params == stopped.params
    assert again.user_attrs[ATTEMPT] == 1  # stopping is no fault of the trial
    # Enough of them: nothing more is begun.
    assert len(tune(plan).shared_study.trials) == 4


def test_clearly_bad_trials_are_pruned_unless_told_otherwise(make_plan, tmp_path):
    changes = ["n_epochs=6", "epoch_decay=3", "validation_interval=1"]
    overrides = [f"training.{change}" for change in changes]
    config = load_config(ROOT / "confs" / "mini.yaml", overrides)
    script = {"5": "bad", "6": "bad"}
    for pruning in (True, False):
        folder = tmp_path / str(pruning)
        plan = make_plan(script, log_dir=folder, n_trials=7, pruning=pruning, config=config)
        one = tune(plan)
        ended = "pruned" if pruning else "complete"
        assert states(one) == ["complete"] * 5 + [ended] * 2
        log = (folder / "optuna-sed.log").read_text().splitlines()
        # A third of the epochs is waited for.
        assert ("bad in epoch 2" in log[5]) == pruning
        assert ("pruned  -  best" in log[5]) == pruning
        assert set(one.shared_study.trials[0].intermediate_values) == {0, 1, 2, 3}


def test_after_the_time_no_trial_is_begun(make_plan):
    one = tune(make_plan(timeout_s=0.0))
    assert one.shared_study.trials == []


def test_values_that_do_not_go_together_fail_their_trial_alone(make_plan):
    """Each by itself is taken: a warm-up of 24 epochs, and a decay from the 10th on."""
    space = Space(
        (
            Dimension("opt.lr", "float", 1e-4, 1e-2),
            Dimension("training.n_epochs_warmup", "categorical", choices=(24,)),
            Dimension("training.epoch_decay", "categorical", choices=(10,)),
        )
    )
    one = tune(make_plan(space=space, n_trials=1))
    assert states(one) == ["fail"]
    assert (
        "n_epochs_warmup (24) is more than epoch_decay"
        in one.shared_study.trials[0].user_attrs[REASON]
    )


def test_checkpoints_of_the_best_few_stay(make_plan):
    plan = make_plan(n_trials=5, keep=2)
    one = tune(plan, 2)
    ranked = sorted(one.shared_study.trials, key=lambda trial: -trial.value)
    kept = {path.parent.parent.name for path in plan.log_dir.glob("trial-*/checkpoints/*")}
    assert kept == {f"trial-{trial.number}" for trial in ranked[:2]}
    assert not list(plan.log_dir.glob("trial-*/checkpoints/last.ckpt"))
    assert len(list(plan.log_dir.glob("trial-*/output.txt"))) == 5
    best = load_config(plan.log_dir / "best.yaml")
    assert best.opt.lr == float(f"{ranked[0].params['opt.lr']:.10g}")
    assert best.net.n_RNN_cell == ranked[0].params["net.n_RNN_cell"]
    assert best.training == plan.config.training


def test_the_draws_depend_on_seed_and_trial_alone(make_plan, tmp_path):
    drawn = [
        [t.params for t in tune(make_plan(log_dir=tmp_path / name, n_trials=3)).shared_study.trials]
        for name in ("one", "two")
    ]
    assert drawn[0] == drawn[1]
    assert len({json.dumps(params) for params in drawn[0]}) == 3


def test_a_study_of_something_else_is_not_gone_on_with(make_plan):
    plan = make_plan(n_trials=1)
    tune(plan)
    other = Space((Dimension("opt.lr", "float", 1e-4, 5e-2), *plan.space.dimensions[1:]))
    with pytest.raises(InputError) as error:
        tune(make_plan(space=other, objective="test"))
    text = str(error.value)
    assert "the study tuning_train was begun with other values; use those, or give" in text
    assert "--objective: 'held_out' in the study, 'test' here" in text
    assert "opt.lr: \"drawn from ['float', 0.0001, 0.01" in text
    with pytest.raises(InputError, match=r"contains trials of another study than other in sqlite"):
        tune(make_plan(study_name="other"))


def test_a_study_of_an_earlier_version_on_the_test_set_goes_on(make_plan):
    plan = make_plan(objective="test")
    study = open_study(plan).study
    # As the published task has it, of which nothing is told beyond the sections of then.
    assert not [key for key in study.user_attrs[BASIS] if key.startswith("task.")]
    study.set_user_attr(BASIS, {**study.user_attrs[BASIS], "--objective": "devtest"})
    open_study(plan)
    with pytest.raises(InputError, match="--objective: 'test' in the study, 'held_out' here"):
        open_study(make_plan())


def test_a_study_of_another_task_is_another_one_and_goes_on(make_plan):
    tree = load_config(ROOT / "confs" / "mini.yaml").dump()
    tree["task"] = copy.deepcopy(default_description())
    same = make_plan(config=check_config(tree, ""))
    assert same.basis == make_plan().basis
    tree["task"]["corpora"]["synth_train"]["consistency"] = False
    other = make_plan(config=check_config(tree, ""))
    open_study(other)
    open_study(other)  # from what the storage has made of it
    with pytest.raises(InputError, match=r"task.classes: .'Alarm_bell_ringing', .* None here"):
        open_study(make_plan())


def test_two_processes_share_a_journal(make_plan, tmp_path):
    """As two machines do: each has a folder of its own, and the shared one the journal."""
    journal = tmp_path / "shared" / "study.log"
    plan = make_plan({"together": 2, "every": "together"}, storage=str(journal))
    command = [sys.executable, str(HERE / "one_tuner.py"), str(plan.log_dir), str(journal)]
    search = os.pathsep.join((str(ROOT), str(HERE)))
    variables = {**os.environ, **CPU, "PYTHONPATH": search}
    both = [subprocess.Popen(command, cwd=ROOT, env=variables) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    one = Tuner(make_plan(storage=f"journal://{journal}", n_trials=8), [], TARGET)
    assert one.shared_study.n_ended >= 8
    assert {t.state for t in one.shared_study.trials} == {TrialState.COMPLETE}
    owners = [t.user_attrs[OWNER] for t in one.shared_study.trials]
    assert len(set(owners)) == 2
    assert len({json.dumps(t.params) for t in one.shared_study.trials}) == len(owners)


def test_a_study_that_is_not_there_is_not_reported(make_plan):
    plan = make_plan(n_trials=1)
    with pytest.raises(InputError, match="nothing was tuned there yet"):
        open_study_log(plan)
    tune(plan)
    assert open_study_log(plan).shared_study.n_ended == 1
    with pytest.raises(InputError, match="has no study other; give the flags that it was tuned"):
        open_study_log(replace(plan, study_name="other"))
