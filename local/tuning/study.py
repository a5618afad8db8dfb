"""Share an Optuna study between tuners: owners, heartbeats and retries of trials.

Only a machine's tuner accesses the storage, not its workers. Several tuners may share one study:
each trial has an owner, `host:process`, that sends a heartbeat every `HEARTBEAT_S` seconds. A trial
whose owner has ended is failed and retried; one whose own process has ended is retried once.

A study that is killed and resumed samples what it would have sampled without: values depend on the
number of trials before, not counting retries.
"""

from __future__ import annotations

import datetime
import os
import platform
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from desed_task.errors import InputError
from local.checkpoints.run_claims import is_alive
from local.schema.published_keys import EARLIER_OBJECTIVES
from local.tuning.search.lines import Value
from local.tuning.search_space import Space
from local.tuning.workers.messages import OutcomeKind, TrialOutcome

HEARTBEAT_S = 30.0
GRACE_S = 300.0  # without a heartbeat from another machine
STARTING_S = 10.0  # between the creation of a trial and its owner's name
MAX_ATTEMPTS = 2
OWNER, HEARTBEAT, ATTEMPT, REASON, TRIED_AGAIN = "owner", "beat", "attempt", "reason", "tried_again"
OBJECTIVE_FLAG = "--objective"
RETRY_OF, HOME, BASIS, FAILED_BY = "retry_of", "home", "basis", "failed_by"


class StartedTrial(NamedTuple):
    """A trial run by this tuner."""

    number: int
    home: int  # the number of its folder
    overrides: dict[str, Value]


class SharedStudy:
    """A study and the trials that this tuner runs.

    Args:
        storage: storage that contains or will contain the study.
        name: name of the study.
        space: the search space.
        n_trials: number of trials of all tuners together.
        seed: seed of the sampler, combined with the trial's number so that tuners differ.
        pruner: prunes trials that are clearly bad.
        clock: time in seconds, for the age of heartbeats.
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
        self._seen: dict[
            int, tuple[Any, float]
        ] = {}  # trial -> its last heartbeat and when it was seen
        self._heartbeats, self._beaten = 0, -np.inf
        self._outages = 0
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
        """Refuse to resume a study that was begun with other values.

        Args:
            basis: plain values that all trials must share.
            remedy: advice for the message.
            ignored: keys whose values may differ.

        Raises:
            InputError: with all differences.
        """
        before = self.study.user_attrs.get(BASIS)
        if before is None:
            self.study.set_user_attr(BASIS, dict(basis))
            return
        told = before.get(OBJECTIVE_FLAG)
        if told in EARLIER_OBJECTIVES:
            before = {**before, OBJECTIVE_FLAG: EARLIER_OBJECTIVES[told]}
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
        """All trials, oldest first."""
        return self.study.get_trials(deepcopy=False)

    @property
    def best(self) -> FrozenTrial | None:
        """The best complete trial."""
        done = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        return max(done, key=lambda trial: trial.value or 0.0, default=None)

    @property
    def n_ended(self) -> int:
        """Number of trials that have ended: complete, pruned, or failed and not retried."""
        return sum(t.state.is_finished() and not t.user_attrs.get(TRIED_AGAIN) for t in self.trials)

    @property
    def is_going_on(self) -> bool:
        """Whether a trial is running, of whatever tuner."""
        return any(trial.state == TrialState.RUNNING for trial in self.trials)

    @property
    def running(self) -> list[int]:
        """Numbers of this tuner's running trials."""
        return list(self._mine)

    @property
    def has_unowned(self) -> bool:
        """Whether a running trial has no owner: it is just being started, or its tuner ended."""
        states = [t for t in self.trials if t.state == TrialState.RUNNING]
        return any(OWNER not in trial.user_attrs for trial in states)

    def wants_more(self) -> bool:
        """Whether another trial is needed."""
        running = sum(trial.state == TrialState.RUNNING for trial in self.trials)
        return self.n_ended + running < self.n_trials

    # ---- the trials of this tuner

    def start_trial(self) -> StartedTrial:
        """Start a trial: a waiting retry or a new one."""
        trial = self.study.ask()
        self._mine[trial.number] = trial
        trial.set_user_attr(OWNER, self.owner)
        trial.set_user_attr(HEARTBEAT, self._heartbeats)
        # Draws depend on the seed, the trial and earlier trials, not on the tuner or on retries.
        draw = np.random.SeedSequence((self._seed, self._place(trial))).generate_state(1)[0]
        with warnings.catch_warnings():
            # Considering running trials (constant liar) is experimental before version 5.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.sampler = optuna.samplers.TPESampler(
                seed=int(draw), multivariate=False, constant_liar=True
            )
        return StartedTrial(trial.number, folder_number(trial), self.space.sample(trial))

    def _place(self, trial: Trial) -> int:
        """The number of a trial, or of the first attempt of a retry, not counting retries."""
        home = folder_number(trial)
        return sum(t.number < home and RETRY_OF not in t.user_attrs for t in self.trials)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Record a validation of a running trial; return whether it continues."""
        trial = self._mine[number]
        try:
            trial.report(value, epoch)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False  # another tuner has failed it
        return not trial.should_prune()

    def finish(self, number: int, outcome: TrialOutcome) -> bool:
        """Record how a trial ended; return False if another tuner had failed it before."""
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
        """Send the heartbeats of this tuner's trials, if due."""
        now = self._clock()
        if now - self._beaten < HEARTBEAT_S:
            return
        self._beaten = now
        self._heartbeats += 1
        for trial in self._mine.values():
            # Another tuner may have failed it, which `report` or `finish` detects.
            with suppress(optuna.exceptions.UpdateFinishedTrialError):
                trial.set_user_attr(HEARTBEAT, self._heartbeats)

    def next_heartbeat_s(self) -> float:
        """Seconds until the next heartbeat."""
        return max(0.0, HEARTBEAT_S - (self._clock() - self._beaten))

    # ---- trials of tuners that have ended

    def retry_stale(self) -> list[tuple[FrozenTrial, str]]:
        """Fail running trials whose owner has ended, and enqueue retries.

        They do not count as attempts, as the trials are not to blame.

        Returns:
            Each of these trials with the reason.
        """
        found = []
        self._enqueue_lost_retries()
        trials = self.trials
        if (outages := getattr(self.storage, "n_outages", 0)) != self._outages:
            # While the server was away, nobody could send a heartbeat.
            self._outages = outages
            self._seen.clear()
        for trial in trials:
            if trial.state == TrialState.RUNNING and trial.number not in self._mine:
                reason = self._why_stale(trial)
                if reason and self._fail(trial, "stopped", reason):
                    found.append((trial, reason))
        return found

    def _why_stale(self, trial: FrozenTrial) -> str:
        """Explain why a running trial has lost its owner; "" if it has not, as far as known."""
        owner = str(trial.user_attrs.get(OWNER, ""))
        if not owner:
            began = trial.datetime_start or datetime.datetime.min
            age_s = (datetime.datetime.now() - began).total_seconds()
            return "its tuner ended while starting it" if age_s > STARTING_S else ""
        host, _, process = owner.rpartition(":")
        if self._has_ended(owner):
            return f"its tuner (process {process}) ended"
        beat, now = trial.user_attrs.get(HEARTBEAT), self._clock()
        last, since = self._seen.get(trial.number, (None, now))
        if beat != last:
            self._seen[trial.number] = (beat, now)
        elif now - since > GRACE_S:
            return f"no heartbeat from {host} for {GRACE_S:g} s"
        return ""

    def _has_ended(self, owner: str) -> bool:
        """Whether an earlier tuner of this machine has ended; of another one's it is not known."""
        host, _, process = owner.rpartition(":")
        here = host == platform.node()
        return owner == self.owner or (here and not is_alive(int(process)))

    def _enqueue_lost_retries(self) -> None:
        """Enqueue retries of trials whose tuner ended between failing and enqueuing them."""
        trials = self.trials
        retried = {trial.user_attrs.get(RETRY_OF) for trial in trials}
        for trial in trials:
            failed_by = trial.user_attrs.get(FAILED_BY)
            if trial.state != TrialState.FAIL or not trial.user_attrs.get(TRIED_AGAIN):
                continue
            if failed_by and trial.number not in retried and self._has_ended(failed_by):
                self._enqueue(trial, int(trial.user_attrs.get(ATTEMPT, 1)))

    def _enqueue(self, trial: FrozenTrial, attempt: int) -> None:
        """Enqueue a retry with the same values; all are sampled again if some are missing."""
        paths = {dimension.path for dimension in self.space.dimensions}
        params = trial.params if paths <= trial.params.keys() else {}
        notes = {ATTEMPT: attempt, RETRY_OF: trial.number, HOME: folder_number(trial)}
        self.study.enqueue_trial(params, user_attrs=notes)

    def _fail(self, trial: FrozenTrial, kind: OutcomeKind, reason: str) -> bool:
        """Fail a running trial and enqueue a retry; return False if another tuner was faster."""
        attempt = int(trial.user_attrs.get(ATTEMPT, 1))
        again = kind in ("stopped", "refused") or (kind == "lost" and attempt < MAX_ATTEMPTS)
        try:
            self.storage.set_trial_user_attr(trial._trial_id, REASON, reason)
            self.storage.set_trial_user_attr(trial._trial_id, TRIED_AGAIN, again)
            self.storage.set_trial_user_attr(trial._trial_id, FAILED_BY, self.owner)
            self.study.tell(trial.number, state=TrialState.FAIL)
        except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
            return False
        if again:
            self._enqueue(trial, attempt + (kind == "lost"))
        return True


def folder_number(trial: Trial | FrozenTrial) -> int:
    """The number of a trial's folder, which is that of the first attempt for a retry."""
    return int(trial.user_attrs.get(HOME, trial.number))
