"""Stage one: run training trials on all GPUs, one process per job."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import optuna
from optuna.pruners import BasePruner, NopPruner, PercentilePruner
from sqlalchemy.exc import SQLAlchemyError

from desed_task.errors import InputError, agree, count_of
from desed_task.parallel import Progress, progress_of, write_line
from desed_task.postprocess.decoders import MEDIAN
from local.checkpoints.changes import task_of_result
from local.checkpoints.revision import REVISION
from local.cli.redaction import redact_address
from local.config import RecipeConfig, check_config
from local.schema.encoders import BEATS
from local.tuning.search.lines import DECODER_SECTION, TUNED_SECTIONS
from local.tuning.search_space import Space, replace_values
from local.tuning.storage import open_storage, storage_errors
from local.tuning.study import OBJECTIVE_FLAG, SharedStudy
from local.tuning.study_log import StudyLog
from local.tuning.workers.device_slots import DeviceSlot
from local.tuning.workers.messages import Objective, TrialJob, TrialOutcome, ValidationProgress
from local.tuning.workers.pool import TRAIN_TARGET, Worker, WorkerPool

MAX_FAILURES = 10  # in a row
# trials in the worst quarter at their epoch are pruned
KEPT_PERCENTILE = 75.0
SETTLING_S = 0.5  # pause while a trial has no owner
STARTUP_TRIALS = 5  # complete trials before any is pruned
MACHINE_KEYS = {"training.num_workers", "training.enable_progress_bar"}
# Attribute of a study: what its trials have in common.
RULES = "training rules"
# Follows from the embeddings, which may not be here.
EMBEDDING_SIZE = "net.embedding_size"


@dataclass(frozen=True)
class TuningPlan:
    """The plan of a study.

    Attributes:
        config: configuration that the trials modify.
        space: the search space.
        log_dir: folder of trials and results.
        storage: URL of the storage.
        study_name: name of the study in the storage.
        n_trials: number of trials of the whole study, over all machines.
        timeout_s: seconds after which no trial is started; None for no limit.
        objective: data that a trial's value is computed on.
        fast_dev_run: whether only a few batches are trained.
        pruning: whether clearly bad trials are pruned.
        keep: number of best trials whose checkpoints are kept.
        subject: SHA-256 of the tuned checkpoint in stage two.
    """

    config: RecipeConfig
    space: Space
    log_dir: Path
    storage: str
    study_name: str
    n_trials: int
    timeout_s: float | None = None
    objective: Objective = "held_out"
    fast_dev_run: bool = False
    pruning: bool = True
    keep: int = 3
    subject: str = ""

    @property
    def basis(self) -> dict[str, Any]:
        """Return the values that all trials of a study must share, by name."""
        tree, tuned = self.config.dump(), self.space.describe()
        # Studies of median filters, also those from before there were other decoders, have no such.
        decoders = (DECODER_SECTION,) if self.config.decoder.kind != MEDIAN else ()
        fixed = {
            f"{section}.{key}": value
            for section in (*TUNED_SECTIONS, *decoders)
            for key, value in tree[section].items()
        }
        drawn = {path: f"drawn from {bounds}" for path, bounds in tuned.items()}
        flags = {OBJECTIVE_FLAG: self.objective, "--fast_dev_run": self.fast_dev_run}
        flags["checkpoint"] = self.subject
        kept = {key: value for key, value in fixed.items() if key not in MACHINE_KEYS}
        of_task = task_of_result(tree)
        return {**kept, **of_task, **drawn, **flags, **self._encoders, RULES: REVISION}

    @property
    def _encoders(self) -> dict[str, Any]:
        """Encoders of the embeddings; nothing for BEATs, as in earlier studies."""
        choices = [(one.name, one.n_blocks) for one in self.config.pretrained.encoders]
        return {} if choices == [(BEATS, None)] else {"pretrained.model": dict(choices)}

    @property
    def pruner(self) -> BasePruner:
        """Return the pruner, which acts after a third of the epochs."""
        if not self.pruning:
            return NopPruner()
        warmup = self.config.training.n_epochs // 3
        return PercentilePruner(KEPT_PERCENTILE, STARTUP_TRIALS, n_warmup_steps=warmup)


def open_study(plan: TuningPlan, *, make: bool = True) -> SharedStudy:
    """Open the study of a plan.

    Args:
        plan: gives storage and name.
        make: whether to create a missing study.

    Raises:
        InputError: if the storage is unusable, or the study is missing or was begun with other
            values.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(plan.storage, make=make)
    if not make and plan.study_name not in {s.study_name for s in storage.get_all_studies()}:
        raise InputError(
            f"--storage {redact_address(plan.storage)}: has no study {plan.study_name}; give the "
            "flags that it was tuned with"
        )
    study = SharedStudy(
        storage,
        plan.study_name,
        plan.space,
        n_trials=plan.n_trials,
        seed=plan.config.training.seed,
        pruner=plan.pruner,
    )
    # Results under older rules may be read, but not mixed with new trials.
    ignored = (EMBEDDING_SIZE, *(() if make else (RULES,)))
    remedy = "use those, or give another --study_name and --log_dir"
    study.agree_on(plan.basis, remedy, ignored)
    return study


def open_study_log(plan: TuningPlan) -> StudyLog:
    """Open the log of an existing study, for a report.

    Raises:
        InputError: as `open_study`.
    """
    with storage_errors(f"--storage {redact_address(plan.storage)}"):
        study = open_study(plan, make=False)
    return StudyLog(plan.log_dir, study, plan.space, plan.config, plan.keep)


class Tuner:
    """Run the trials of a plan.

    Args:
        plan: the tuning plan.
        slots: device slots of the jobs.
        target: `module:function` that runs a trial.
        who: which of several processes this is, for messages.
    """

    def __init__(
        self,
        plan: TuningPlan,
        slots: Sequence[DeviceSlot],
        target: str = TRAIN_TARGET,
        who: str = "",
    ) -> None:
        self.plan = plan
        self.slots = slots
        self._who = who
        self._origin = f"--storage {redact_address(plan.storage)}"
        with storage_errors(self._origin):
            self.shared_study = open_study(plan)
        self._check_folder()
        self.log = StudyLog(plan.log_dir, self.shared_study, plan.space, plan.config, plan.keep)
        self.workers = WorkerPool(slots, target)
        self._failures = 0
        self._bar: Progress

    def run(self) -> None:
        """Run trials until the study is complete or the time limit is reached.

        Raises:
            InputError: if no trial can be run, or the storage fails.
            KeyboardInterrupt: after Ctrl-C or SIGTERM, once all workers are stopped.
        """
        self._tell_beginning()
        # In a file the lines of the log tell enough.
        bar = progress_of("", self.plan.n_trials, unit="trial", shown=sys.stderr.isatty())
        with storage_errors(self._origin), interrupt_on_sigterm(), bar:
            self._bar = bar
            self._show()
            self.log.note_missed()
            try:
                self._loop()
            except BaseException:
                self._stop()
                raise
            finally:
                self.workers.close()

    def _check_folder(self) -> None:
        plan = self.plan
        if not self.shared_study.trials and any(plan.log_dir.glob("trial-*")):
            raise InputError(
                f"--log_dir {plan.log_dir}: contains trials of another study than {plan.study_name}"
                f" in {redact_address(plan.storage)}, which is new; give another folder"
            )

    def _tell_beginning(self) -> None:
        done, wanted = self.shared_study.n_ended, self.plan.n_trials
        print(f"study {self.plan.study_name} in {redact_address(self.plan.storage)}: ", end="")
        print(f"{done} of {count_of(wanted, 'trial')} {agree(done, 'exists', 'exist')}")
        print(f"jobs{self._who}: {', '.join(str(slot) for slot in self.slots)}", flush=True)

    def _loop(self) -> None:
        end = None if self.plan.timeout_s is None else time.monotonic() + self.plan.timeout_s
        while True:
            for trial, reason in self.shared_study.retry_stale():
                write_line(f"trial {trial.number}: {reason}", sys.stdout)
                self.log.note(trial.number)
            in_time = end is None or time.monotonic() < end
            # A trial without an owner is first, as it may be one to retry.
            settled = not self.shared_study.has_unowned
            for worker in self.workers.idle if in_time and settled else ():
                if self.shared_study.wants_more():
                    self._begin(worker)
            if not self.workers.busy:
                if not in_time or (settled and not self.shared_study.wants_more()):
                    return
                time.sleep(0.0 if settled else SETTLING_S)
                continue
            for message in self.workers.messages(self.shared_study.next_heartbeat_s()):
                self._hear(*message)
            self.shared_study.heartbeat()

    def _begin(self, worker: Worker) -> None:
        """Sample a trial and pass it to a worker, if the configuration accepts its values."""
        plan, started = self.plan, self.shared_study.start_trial()
        tree = replace_values(started.overrides, plan.config.dump())
        try:
            check_config(tree, f"trial {started.number}")
        except InputError as error:
            self._end(started.number, TrialOutcome("failed", reason=" ".join(str(error).split())))
            return
        log_dir, fast = str(plan.log_dir), plan.fast_dev_run
        worker.give(TrialJob(*started[:2], started.overrides, tree, log_dir, plan.objective, fast))

    def _hear(
        self, worker: Worker, job: TrialJob, content: ValidationProgress | TrialOutcome
    ) -> None:
        if isinstance(content, ValidationProgress):
            said = f"trial {job.number}, epoch {content.epoch + 1}: {content.value:.4f}"
            self._bar.set_postfix_str(said)
            worker.answer(self.shared_study.report(job.number, content.epoch, content.value))
            return
        self._end(job.number, content)
        if content.kind == "refused":
            raise InputError(content.reason)
        if self._failures >= MAX_FAILURES:
            raise InputError(
                f"{MAX_FAILURES} trials in a row failed, the last because of {content.reason}; "
                f"see {job.folder}/output.txt"
            )

    def _end(self, number: int, outcome: TrialOutcome) -> None:
        self._failures = self._failures + 1 if outcome.kind in ("failed", "lost") else 0
        if self.shared_study.finish(number, outcome):
            self.log.note(number)
        self._show()

    def _show(self) -> None:
        """Show the number of ended trials in the progress bar."""
        self._bar.n = min(self.shared_study.n_ended, self.plan.n_trials)
        self._bar.refresh()

    def _stop(self) -> None:
        """Stop the workers; the next command retries their trials."""
        self.workers.close()
        # Without a storage they stay open, and the next tuner sees that theirs has ended.
        with suppress(SQLAlchemyError, optuna.exceptions.OptunaError):
            for number in self.shared_study.running:
                self._end(number, TrialOutcome("stopped", reason="stopped"))


@contextmanager
def interrupt_on_sigterm() -> Iterator[None]:
    """Treat SIGTERM, with which clusters end jobs, like Ctrl-C."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
