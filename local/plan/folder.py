"""The folder of a plan: what of each stage is done, and with what it was computed.

    PLAN_FOLDER/
      digests.json                  digests of files, with their sizes and times
      STAGE/KEY/                    a stage, for each key that it has run with
        config.yaml, log.txt        its configuration, and what it printed
        begun.json                  what it computes with
        done.json                   written last: the digests of its files
        time.json                   seconds that it took (`local.plan.stage_time`)

A stage whose key has changed is written to another folder, so results of before stay.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import yaml

from desed_task.atomic_files import sha256_of, write_json_atomic, write_text_atomic
from desed_task.errors import InputError
from local.checkpoints.run_claims import (
    RunInUseError,
    check_log_dir,
    hold_run,
    holder_of,
    numbered_runs,
)
from local.config import RecipeConfig
from local.plan.reading import PlannedStage, RecipePlan, config_with
from local.plan.schema import TrainStage
from local.plan.stage_time import begin_time, end_killed_time
from local.plan.stages.commands import CONFIG_FILE, StageCommand, command_of
from local.plan.stages.keys import (
    DIGITS,
    changes_between,
    ingredients_of,
    key_of,
    trained_with,
)
from local.plan.stages.products import (
    CHECKPOINT_ENDING,
    FileDigests,
    products_of,
    stored_names,
    stored_paths,
    tested,
)
from local.plan.stages.reuse import copy_training, trained_run

BEGUN_FILE, DONE_FILE, LOG_FILE = "begun.json", "done.json", "log.txt"
_RUNNING_FILE = ".running"
# How long the processes of a plan that was killed are waited for.
_LEFT_OVER_S, _PAUSE_S = 60.0, 0.1
_MOST_REASONS = 3


class StageState(NamedTuple):
    """A stage whose inputs are done.

    Attributes:
        folder: where it is written.
        config: its configuration.
        ingredients: what it computes with.
        outputs: file -> digest of what it has written; None if it is not done.
        begun: whether it was started before and has not ended.
        reason: why it runs though it was done before; "" otherwise.
        lost: whether it was done with these values, and its files are gone or have changed since.
        trained: run folder of the same training, whose test was another one; None if there is none.
    """

    folder: Path
    config: RecipeConfig
    ingredients: Mapping[str, Any]
    outputs: dict[str, str] | None
    begun: bool
    reason: str
    lost: bool = False
    trained: Path | None = None


class PlanFolder:
    """The folder of a plan.

    Args:
        path: the folder; need not exist.
        plan: the plan.
    """

    def __init__(self, path: Path, plan: RecipePlan) -> None:
        self.path = path
        self.plan = plan
        self.digests = FileDigests(path / "digests.json")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder: no other plan runs in it until the block ends.

        Raises:
            InputError: another one does, or the folder cannot be written to.
        """
        check_log_dir(self.path)
        try:
            with hold_run(self.path):
                yield
        except RunInUseError:
            holder = holder_of(self.path) or "another process"
            raise InputError(
                f"{self.path}: {holder} runs a plan in this folder; wait until it ends, or give "
                "another --log_dir"
            ) from None

    def state(self, stage: PlannedStage, done: Mapping[str, StageState]) -> StageState:
        """How far a stage has come.

        Args:
            stage: the stage.
            done: the stages that it names.
        """
        inputs = {name: done[name].outputs or {} for name in stage.inputs}
        labels = stage.spec.pseudo_labels if isinstance(stage.spec, TrainStage) else None
        ingredients = ingredients_of(stage, stage.config, inputs, self.digests)
        folder = self.path / stage.name / key_of(ingredients)[:DIGITS]
        from_stage = None if labels is None else _labels_of(done[labels])
        config = config_with(self.plan, stage, from_stage)
        outputs, lost = self._outputs(stage, folder, config)
        if lost:
            return StageState(folder, config, ingredients, None, False, lost, lost=True)
        begun = outputs is None and (folder / BEGUN_FILE).is_file()
        reason = "" if outputs is not None or begun else self._reason(folder, ingredients)
        run = None
        if outputs is None and stage.spec.kind == "train" and not numbered_runs(folder):
            run = self._same_training(folder, ingredients, config)
        if run is not None and reason:
            reason += f" (only its test, of the training in {run})"
        return StageState(folder, config, ingredients, outputs, begun, reason, trained=run)

    def claim(self, state: StageState) -> IO[str]:
        """The locked file of a stage that is to run; what it has lost files of is kept aside.

        Raises:
            InputError: processes of an earlier plan still write it.
        """
        if state.lost:
            _move_aside(state.folder)
        return claim_stage(state.folder)

    def begin(
        self, stage: PlannedStage, state: StageState, done: Mapping[str, StageState]
    ) -> StageCommand:
        """Write what a stage computes with, and say how."""
        folders = {name: done[name].folder for name in stage.inputs}
        checkpoints = {
            name: next(
                Path(one) for one in done[name].outputs or {} if one.endswith(CHECKPOINT_ENDING)
            )
            for name in stage.inputs
            if any(one.endswith(CHECKPOINT_ENDING) for one in done[name].outputs or {})
        }
        folder = state.folder
        if stage.spec.kind == "test":
            for run in numbered_runs(folder):  # A test begins again.
                shutil.rmtree(run)
        if state.trained is not None:
            copy_training(state.trained, folder)
        text = yaml.safe_dump(state.config.dump(), sort_keys=False, allow_unicode=True)
        write_text_atomic(folder / CONFIG_FILE, text)
        write_json_atomic(folder / BEGUN_FILE, state.ingredients)
        begin_time(folder)
        return command_of(stage, folder, folders, checkpoints)

    def ended(self, stage: PlannedStage, state: StageState) -> StageState | None:
        """Record a test that ended when the plan was killed before it could; None for others.

        Other commands notice themselves that nothing is left to do.
        """
        if stage.spec.kind != "test" or not state.begun or not tested(state.folder):
            return None
        end_killed_time(state.folder)
        return self.finish(stage, state)

    def finish(self, stage: PlannedStage, state: StageState) -> StageState:
        """Record what a stage has written.

        Raises:
            InputError: it has not written what it should have.
        """
        files = products_of(stage, state.folder, state.config)
        outputs = self.digests.all_of(files)
        absent = [str(path) for path in files if str(path) not in outputs]
        if absent:
            raise InputError(f"has ended without writing {', '.join(absent)}")
        self.digests.save()
        content = {"key": key_of(state.ingredients), **stored_names(outputs, state.folder)}
        write_json_atomic(state.folder / DONE_FILE, content)
        return state._replace(outputs=outputs, begun=False, lost=False)

    def _outputs(
        self, stage: PlannedStage, folder: Path, config: RecipeConfig
    ) -> tuple[dict[str, str] | None, str]:
        """What a stage has written, if it is done, and what of it is no longer as it was."""
        stored = stored_paths(_read(folder / DONE_FILE), folder)
        if stored is None:
            return None, ""
        try:
            files = products_of(stage, folder, config)
            there = self.digests.all_of(files)
        except InputError as error:
            return None, str(error)
        found = {os.path.abspath(path): digest for path, digest in there.items()}
        for path, digest in stored.items():
            now = found.get(os.path.abspath(path))
            if now != digest:
                return None, f"{path} {'is gone' if now is None else 'has changed since'}"
        return stored, ""

    def _same_training(
        self, folder: Path, ingredients: Mapping[str, Any], config: RecipeConfig
    ) -> Path | None:
        """The run of a training that is done with other values, which only its test takes."""
        wanted = key_of(trained_with(ingredients, config))
        for done in sorted(folder.parent.glob(f"{'?' * DIGITS}/{DONE_FILE}")):
            run = trained_run(done.parent)
            before = trained_with(_read(done.with_name(BEGUN_FILE)), config)
            if run is None or key_of(before) != wanted:
                continue
            files = {
                Path(path): digest
                for path, digest in (stored_paths(_read(done), done.parent) or {}).items()
                if path.endswith(CHECKPOINT_ENDING)
            }
            there = self.digests.all_of(dict.fromkeys(files, sha256_of))
            if files and there == {str(path): digest for path, digest in files.items()}:
                return run
        return None

    def _reason(self, folder: Path, ingredients: Mapping[str, Any]) -> str:
        """Why a stage runs that was done with other values."""
        others = folder.parent.glob(f"{'?' * DIGITS}/{DONE_FILE}")
        newest = max(others, key=lambda path: path.stat().st_mtime_ns, default=None)
        if newest is None:
            return ""
        found = changes_between(_read(newest.with_name(BEGUN_FILE)), ingredients)
        more = f" and {len(found) - _MOST_REASONS} more" if len(found) > _MOST_REASONS else ""
        return "; ".join(found[:_MOST_REASONS]) + more


def _labels_of(state: StageState) -> Path | None:
    return next((Path(path).parent for path in state.outputs or {}), None)


def _move_aside(folder: Path) -> None:
    """Keep what a stage has written under another name, as it is written once more."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.before-{number}")).exists():
        number += 1
    folder.rename(aside)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def claim_stage(folder: Path, wait: Callable[[float], None] = time.sleep) -> IO[str]:
    """A locked file for the processes of a stage, when those of a killed plan have ended.

    Raises:
        InputError: they do not end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / _RUNNING_FILE).open("a", encoding="utf-8")
    end = time.monotonic() + _LEFT_OVER_S
    while True:
        try:
            # Inherited by all processes of the stage, and released by the last one.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                file.close()
                raise InputError(
                    f"{folder}: a process of an earlier plan still writes here; end it, then run "
                    "the same command again"
                ) from None
            wait(_PAUSE_S)
        except OSError:
            return file  # a file system without locks
        else:
            return file
