"""Trials in this process: what they are worth, stopped and gone on with."""

from __future__ import annotations

import pytest

from local.config import load_config
from local.tuning.median_stage import search_lengths
from local.tuning.workers.messages import TrialOutcome


def test_the_best_of_all_trials_is_found(make_plan):
    plan = make_plan(n_trials=5)
    log = search_lengths(plan, lambda config: TrialOutcome("complete", -config.opt.lr))
    trials = log.shared_study.trials
    assert len(trials) == 5
    assert log.shared_study.best.value == max(trial.value for trial in trials)
    assert load_config(plan.log_dir / "best.yaml").opt.lr == -log.shared_study.best.value
    assert len((plan.log_dir / "optuna-sed.log").read_text().splitlines()) == 5


def test_checkpoints_of_stage_one_in_the_same_folder_are_left_alone(make_plan):
    plan = make_plan(n_trials=5, keep=1)
    kept = [plan.log_dir / f"trial-{n}" / "checkpoints" / "last.ckpt" for n in range(5)]
    for path in kept:
        path.parent.mkdir(parents=True)
        path.touch()
    search_lengths(plan, lambda config: TrialOutcome("complete", config.opt.lr))
    assert all(path.is_file() for path in kept)


def test_stopped_it_runs_the_same_trial_again(make_plan):
    plan, seen = make_plan(n_trials=3), []

    def stopped(config) -> TrialOutcome:
        seen.append(config.opt.lr)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return TrialOutcome("complete", 0.5)

    with pytest.raises(KeyboardInterrupt):
        search_lengths(plan, stopped)
    log = search_lengths(plan, stopped)
    assert [trial.state.name for trial in log.shared_study.trials] == [
        "COMPLETE",
        "FAIL",
        "COMPLETE",
        "COMPLETE",
    ]
    assert seen[1] == seen[2] and len(set(seen)) == 3


def test_after_the_time_no_trial_is_begun(make_plan):
    assert (
        search_lengths(
            make_plan(timeout_s=0.0), lambda config: TrialOutcome("failed")
        ).shared_study.trials
        == []
    )
