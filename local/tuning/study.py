"""The study as the tuner sees it: which trials there are, who runs them, and what became of them.

Only the tuner of a machine talks to the storage, its workers do not. Several tuners may share one
study: each trial has an owner, `host:process`, that gives a sign of life every `HEARTBEAT_S`
seconds. A trial without an owner that lives is failed, and tried again once.
"""

from __future__ import annotations

import datetime
import os
import platform
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from desed_task.errors import InputError
from local.tuning.search_space import Space, Value
from local.tuning.workers.messages import OutcomeKind, TrialOutcome

HEARTBEAT_S = 30.0
GRACE_S = 300.0  # without a sign of life, on another machine
MAX_ATTEMPTS = 2
OWNER, HEARTBEAT, ATTEMPT, REASON, TRIED_AGAIN = "owner", "beat", "attempt", "reason", "tried_again"
RETRY_OF, HOME, BASIS = "retry_of", "home", "basis"


class StartedTrial(NamedTuple):
    """A trial that this tuner runs."""

    number: int
    home: int  # number of its folder
    overrides: dict[str, Value]


class SharedStudy:
    """A study and what this tuner runs of it.

    Args:
        storage: holds the study, or will.
        name: of the study.
        space: that is searched.
        n_trials: of all tuners together.
        seed: of the draws; with the trial's number it makes them, so no two tuners draw alike.
        pruner: ends trials that are clearly bad.
        clock: seconds, for the age of signs of life.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        space: Space,
        *,
        n_trials: int,
        seed: int,
        pruner: BasePruner,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.storage = storage
        self.space = space
        self.n_trials = n_trials
        self.owner = f"{platform.node()}:{os.getpid()}"
        self._seed = seed
        self._clock = clock
        self._mine: dict[int, Trial] = {}
        self._seen: dict[int, tuple[Any, float]] = {}  # trial -> its last sign of life and when
        self._heartbeats, self._beaten = 0, -np.inf
        self.study = optuna.create_study(
            study_name=name,
            storage=storage,
            direction="maximize",
            load_if_exists=True,
            pruner=pruner,
        )

    def agree_on(
        self, basis: Mapping[str, Any], remedy: str, ignored: Collection[str] = ()
    ) -> None:
        """Refuse to go on with a study that was made of something else.

        Args:
            basis: plain values that all of its trials must share.
            remedy: what the user can do.
            ignored: keys that may differ.

        Raises:
            InputError: with everything that differs.
        """
        before = self.study.user_attrs.get(BASIS)
        if before is None:
            self.study.set_user_attr(BASIS, dict(basis))
            return
        differing = [
            f"{key}: {before.get(key)!r} in the study, {basis.get(key)!r} here"
            for key in sorted({*before, *basis}.difference(ignored))
            if before.get(key) != basis.get(key)
        ]
        if differing:
            heading = f"the study {self.study.study_name} was begun with other values; {remedy}:"
            raise InputError.collect(differing, heading)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All of them, oldest first."""
        return self.study.get_trials(deepcopy=False)

    @property
    def best(self) -> FrozenTrial | None:
        """The best that is complete."""
        done = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        return max(done, key=lambda trial: trial.value or 0.0, default=None)

    @property
    def n_ended(self) -> int:
        """Trials that have ended for good: complete, pruned, or failed and not tried again."""
        return sum(t.state.is_finished() and not t.user_attrs.get(TRIED_AGAIN) for t in self.trials)

    @property
    def running(self) -> list[int]:
        """Numbers of the trials that this tuner runs."""
        return list(self._mine)

    def wants_more(self) -> bool:
        """Whether another trial is to be begun."""
        running = sum(trial.state == TrialState.RUNNING for trial in self.trials)
        return self.n_ended + running < self.n_trials

    # ---- the trials of this tuner

    def start_trial(self) -> StartedTrial:
        """Begin a trial: one that waits to be tried again, or a new one."""
        trial = self.study.ask()
        self._mine[trial.number] = trial
        trial.set_user_attr(OWNER, self.owner)
        trial.set_user_attr(HEARTBEAT, self._heartbeats)
        # What is drawn depends on the seed, the trial and those before it, not on who draws.
        draw = np.random.SeedSequence((self._seed, trial.number)).generate_state(1)[0]
        with warnings.catch_warnings():
            # To regard what runs elsewhere is an experiment to versions before 5.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.sampler = optuna.samplers.TPESampler(
                seed=int(draw), multivariate=False, constant_liar=True
            )
        return StartedTrial(trial.number, folder_number(trial), self.space.sample(trial))

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Note a validation of a running trial; whether it goes on."""
        trial = self._mine[number]
        try:
            trial.report(value, epoch)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False  # another tuner has given it up
        return not trial.should_prune()

    def finish(self, number: int, outcome: TrialOutcome) -> bool:
        """Note how a trial ended; False if another tuner had given it up before."""
        trial = self._mine.pop(number)
        try:
            for key, value in outcome.facts.items():
                trial.set_user_attr(key, value)
            if outcome.kind == "complete":
                self.study.tell(number, outcome.value)
            elif outcome.kind == "pruned":
                trial.set_user_attr(REASON, outcome.reason)
                self.study.tell(number, state=TrialState.PRUNED)
            else:
                return self._fail(self.trials[number], outcome.kind, outcome.reason)
        except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
            return False
        return True

    def heartbeat(self) -> None:
        """Give a sign of life for the trials of this tuner, if it is time."""
        now = self._clock()
        if now - self._beaten < HEARTBEAT_S:
            return
        self._beaten = now
        self._heartbeats += 1
        for trial in self._mine.values():
            # Another tuner may have given it up, which `report` or `finish` finds.
            with suppress(optuna.exceptions.UpdateFinishedTrialError):
                trial.set_user_attr(HEARTBEAT, self._heartbeats)

    def next_heartbeat_s(self) -> float:
        """Seconds until the next sign of life."""
        return max(0.0, HEARTBEAT_S - (self._clock() - self._beaten))

    # ---- trials of tuners that are no more

    def retry_stale(self) -> list[tuple[FrozenTrial, str]]:
        """Fail the running trials that nobody runs any more, and let them be tried again.

        Returns:
            Each of them with the reason.
        """
        found = []
        for trial in self.trials:
            if trial.state == TrialState.RUNNING and trial.number not in self._mine:
                reason = self._why_stale(trial)
                if reason and self._fail(trial, "lost", reason):
                    found.append((trial, reason))
        return found

    def _why_stale(self, trial: FrozenTrial) -> str:
        """Why a running trial has no owner; "" if it has, as far as is known."""
        owner = str(trial.user_attrs.get(OWNER, ""))
        if not owner:
            began = trial.datetime_start or datetime.datetime.min
            age_s = (datetime.datetime.now() - began).total_seconds()
            return "its tuner ended as it began" if age_s > HEARTBEAT_S else ""
        host, _, process = owner.rpartition(":")
        if owner == self.owner or (host == platform.node() and not is_alive(int(process))):
            return f"its tuner (process {process}) ended"
        beat, now = trial.user_attrs.get(HEARTBEAT), self._clock()
        last, since = self._seen.get(trial.number, (None, now))
        if beat != last:
            self._seen[trial.number] = (beat, now)
        elif now - since > GRACE_S:
            return f"no sign of life from {host} for {GRACE_S:g} s"
        return ""

    def _fail(self, trial: FrozenTrial, kind: OutcomeKind, reason: str) -> bool:
        """Fail a running trial, and let it be tried again; False if another tuner was faster."""
        attempt = int(trial.user_attrs.get(ATTEMPT, 1))
        again = kind in ("stopped", "refused") or (kind == "lost" and attempt < MAX_ATTEMPTS)
        try:
            self.storage.set_trial_user_attr(trial._trial_id, REASON, reason)
            self.storage.set_trial_user_attr(trial._trial_id, TRIED_AGAIN, again)
            self.study.tell(trial.number, state=TrialState.FAIL)
        except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
            return False
        if again:
            next_attempt = attempt + (kind == "lost")
            notes = {ATTEMPT: next_attempt, RETRY_OF: trial.number, HOME: folder_number(trial)}
            self.study.enqueue_trial(trial.params, user_attrs=notes)
        return True


def folder_number(trial: Trial | FrozenTrial) -> int:
    """The number of a trial's folder: of one that is tried again, its first try's."""
    return int(trial.user_attrs.get(HOME, trial.number))


def is_alive(process: int) -> bool:
    """Whether a process of this machine runs; one that has ended but was not asked for has not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True  # no Linux
    return status.rpartition(")")[2].split()[:1] != ["Z"]
