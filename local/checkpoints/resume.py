"""Find the run to resume, and check that its training can be resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from desed_task.checkpoints.published import is_published
from desed_task.checkpoints.run_folders import LAST_CHECKPOINT
from desed_task.checkpoints.safe_load import load_safely
from desed_task.errors import InputError
from local.checkpoints.changes import (
    ChangedValues,
    Kind,
    Progress,
    compare,
    depends_on_progress,
    rule_of,
    same_training,
)
from local.checkpoints.restore import KEPT_CLIPS, config_of_checkpoint
from local.checkpoints.revision import REVISION, changes_since, revision_of
from local.checkpoints.run_claims import (
    holder_of,
    numbered_runs,
    refuse_if_held,
    stored_config,
)
from local.checkpoints.tasks.compared import chosen_on
from local.config import TASK_SECTION, RecipeConfig
from local.data.digests import (
    DATA_KEY,
    DataDigests,
    data_changes,
    response_changes,
    weights_changes,
)
from local.schema.encoders import BEATS
from local.scoring import results
from local.task.task import Task

# Keys of checkpoints and run.yaml: threads of the training, and the precision that was asked for
# where the CPU computed with another one.
THREADS_KEY = "threads"
ASKED_KEY = "asked_precision"
FAST_KEY = "fast_dev_run"
FROM_WEIGHTS = "start a new training from its weights with --init_from_checkpoint {path}"
_UNKNOWN_DATA = (
    "an earlier version began this run, which did not store what its data was; whether that has "
    "changed since is not known"
)


class ResumePoint(NamedTuple):
    """What `--resume_from_checkpoint auto` found; nothing for a new training."""

    finished: Path | None = None
    checkpoint: Path | None = None


def find_resumable(
    log_dir: Path, config: RecipeConfig, *, fast_dev_run: bool = False
) -> ResumePoint:
    """Find the run for `--resume_from_checkpoint auto`.

    The newest run of the same training counts, whose configuration differs only in values that
    compute nothing (`local.checkpoints.changes`). Without one, it is the newest that can be resumed
    with the other values, which no process runs. Runs of `--test_from_checkpoint` and
    `--eval_from_checkpoint` have no checkpoint of their own. A training under earlier rules is
    skipped with a message.

    Raises:
        RunInUseError: another process runs this training.
    """
    earlier: list[Path] = []
    others: list[Path] = []
    for folder in numbered_runs(log_dir):
        refuse_if_held(folder, config)
        last = folder / "checkpoints" / LAST_CHECKPOINT
        if not last.is_file():
            continue
        if _stored_revision(folder) < REVISION:
            earlier.append(folder)
            continue
        stored = _asked_config(folder, config)
        if stored is None or was_fast_dev_run(folder) != fast_dev_run:
            continue
        if same_training(stored, config):
            return ResumePoint(folder) if is_finished(folder) else ResumePoint(checkpoint=last)
        if depends_on_progress(stored.dump(), config.dump()) and not holder_of(folder):
            others.append(folder)
    if earlier:
        more = f" and {len(earlier) - 1} more" if len(earlier) > 1 else ""
        print(
            f"{earlier[0]}{more}: trained under earlier rules (docs/method.md lists what has "
            "changed), so left alone and not resumed; a new training starts"
        )
    return ResumePoint(checkpoint=_first_resumable(others, config))


def _first_resumable(folders: Sequence[Path], config: RecipeConfig) -> Path | None:
    """The checkpoint of the first run that can be resumed with this configuration, if any."""
    told = ""
    for folder in folders:
        last = folder / "checkpoints" / LAST_CHECKPOINT
        stored = _asked_config(folder, config)
        assert stored is not None
        try:
            progress = Progress.of(load_safely(last))
        except InputError as error:
            told = told or str(error)
            continue
        refused = compare(stored.dump(), config.dump(), progress).refused
        if not refused:
            return last
        told = told or f"{folder} cannot be resumed with these values: {'; '.join(refused)}"
    if told:
        print(f"{told}; a new training starts")
    return None


def _asked_config(folder: Path, config: RecipeConfig) -> RecipeConfig | None:
    """The configuration of a run; with its precision as asked for, if its CPU replaced that."""
    stored = stored_config(folder)
    asked = config.training.precision
    if stored is None or next(iter(_records(folder)), {}).get(ASKED_KEY) != str(asked):
        return stored
    training = stored.training.model_copy(update={"precision": asked})
    return stored.model_copy(update={"training": training})


def was_fast_dev_run(folder: Path) -> bool:
    """Whether any session of a run was a --fast_dev_run."""
    return any(
        bool(one.get(FAST_KEY)) or "--fast_dev_run" in str(one.get("command", "")).split()
        for one in _records(folder)
    )


def asked_precision(checkpoint: Mapping[str, Any]) -> str | None:
    """The precision that a checkpoint's training was asked to compute with; None if unknown."""
    if ASKED_KEY in checkpoint:
        return str(checkpoint[ASKED_KEY])
    hyper = checkpoint.get("hyper_parameters")
    training = hyper.get("training") if isinstance(hyper, dict) else None
    precision = training.get("precision") if isinstance(training, dict) else None
    return None if precision is None else str(precision)


def is_finished(folder: Path) -> bool:
    """Whether a training was tested to the end; the energy of the test is written last."""
    stored = stored_config(folder)
    energy = results.emissions_file(folder, "test")
    measured = energy.is_file() and energy.stat().st_size > 0
    unmeasured = stored is not None and not stored.energy.enabled
    return (folder / results.RESULTS_FILE).is_file() and (measured or unmeasured)


def find_begun(log_dir: Path, config: RecipeConfig, *, fast_dev_run: bool = False) -> Path | None:
    """The newest run of this training that ended before its first checkpoint.

    Without this, each kill in the first epoch would leave a run folder without results.
    """
    for folder in numbered_runs(log_dir):
        if (folder / "checkpoints" / LAST_CHECKPOINT).exists() or not _is_training(folder):
            continue
        if (folder / "run.yaml").exists() and was_fast_dev_run(folder) != fast_dev_run:
            continue
        stored = stored_config(folder)
        if stored is not None and same_training(stored, config):
            return folder
    return None


def _is_training(folder: Path) -> bool:
    """Whether a run is a training under these rules, or ended before this was written."""
    if not (folder / "run.yaml").exists():
        return True
    first = next(iter(_records(folder)), {})
    return first.get("stage") == "fit" and revision_of(first) == REVISION


class Resumption(NamedTuple):
    """A checkpoint whose training can be resumed.

    Attributes:
        content: of the file.
        digests: those of the data that it was trained on; None if it stores none.
        changes: changed values of the configuration, all accepted.
    """

    content: dict[str, Any]
    digests: DataDigests | None
    changes: ChangedValues

    def record(self, path: Path) -> dict[str, Any]:
        """What run.yaml keeps of it."""
        epoch, changed = self.content.get("epoch"), list(self.changes.accepted)
        return {"checkpoint": str(path), "epoch": epoch, "changed": changed}


def check_resumable(path: Path, config: RecipeConfig, *, fast_dev_run: bool = False) -> Resumption:
    """Reject a checkpoint whose training cannot be resumed with `config`.

    Raises:
        InputError: it cannot be loaded safely, or was trained by the published code, under other
            rules or with other values that changed what was computed so far; all of these values
            are in the message.
    """
    checkpoint = load_safely(path)
    if is_published(checkpoint):
        raise InputError(
            f"{path}: training cannot be resumed from a checkpoint of the published code; "
            f"{FROM_WEIGHTS.format(path=path)}"
        )
    _check_revision(path, revision_of(checkpoint))
    changes = compare(
        _stored_values(checkpoint, config, path), config.dump(), Progress.of(checkpoint)
    )
    refused = list(changes.refused)
    was_fast = bool(checkpoint.get(FAST_KEY)) or was_fast_dev_run(path.absolute().parents[1])
    if was_fast != fast_dev_run:
        flag = ("without", "with") if fast_dev_run else ("with", "without")
        refused.append(f"--fast_dev_run: {flag[0]} it in the checkpoint, {flag[1]} it here")
    if refused:
        heading = (
            f"{path} was trained with other values; resume it with these values of its own (--set "
            f"section.key=value), or {FROM_WEIGHTS.format(path=path)}:"
        )
        raise InputError.collect(refused, heading)
    return Resumption(checkpoint, digests_in(checkpoint), changes)


def _stored_values(
    checkpoint: Mapping[str, Any], config: RecipeConfig, path: Path
) -> dict[str, Any]:
    """The configuration of a training, from its checkpoint.

    `config_of_checkpoint` is for tests, for which it takes paths and settings of the machine from
    the configuration here.
    """
    values = config_of_checkpoint(checkpoint, config, (), str(path)).dump()
    values["data"][KEPT_CLIPS] = []  # of a checkpoint from before the key
    values["pretrained"].update(model=BEATS, n_blocks=None)  # the same
    hyper = checkpoint["hyper_parameters"]
    # A test takes the section of the configuration; what was trained is in the checkpoint.
    trained = hyper.get("pretrained") or {}
    values["pretrained"].update(
        e2e=bool(trained.get("e2e", False)), freezed=bool(trained.get("freezed", True))
    )
    # Those of a test are the configuration's, as its corpora may lie elsewhere.
    values[TASK_SECTION] = hyper.get(TASK_SECTION) or {}
    stored = hyper.get("training", {})
    values["training"]["batch_size"] = stored.get("batch_size", values["training"]["batch_size"])
    for section, keys in values.items():
        if section == TASK_SECTION:
            continue
        there = hyper.get(section, {})
        for key in keys:
            if key in there and rule_of(f"{section}.{key}").kind is not Kind.FIXED:
                keys[key] = there[key]
    return values


def check_same_data(path: Path, before: DataDigests | None, now: DataDigests, task: Task) -> None:
    """Reject a checkpoint that was trained on other data; print what else is to be said.

    Args:
        path: the checkpoint.
        before: digests of its data; None if it stores none.
        now: digests of the data here.
        task: says which corpora are trained on, validated and tested.

    Raises:
        InputError: the data for training or validation is not the same.
    """
    if before is None:
        print(f"{path}: {_UNKNOWN_DATA}")
        return
    changes = [
        *weights_changes(before, now),
        *data_changes(before, now, chosen_on(task)),
        *response_changes(before, now),
    ]
    if changes:
        heading = (
            f"{path} was trained on other data; restore the data to resume it, or "
            f"{FROM_WEIGHTS.format(path=path)}:"
        )
        raise InputError.collect(changes, heading)
    for change in data_changes(before, now, task.scored_corpora("test")):
        print(f"{path}: the test data has changed since; the test uses it as it is now: {change}")


def changes_since_training(folder: Path, now: DataDigests, task: Task) -> list[str]:
    """Lines about a finished run whose data has changed since; empty if it has not.

    Args:
        folder: of the run.
        now: digests of the data here.
        task: of the run.
    """
    before = digests_in(_last_training(folder))
    if before is None:
        return [f"{folder}: {_UNKNOWN_DATA}"]
    trained, tested = (
        data_changes(before, now, corpora)
        for corpora in (chosen_on(task), task.scored_corpora("test"))
    )
    trained = weights_changes(before, now) + trained + response_changes(before, now)
    lines = [f"{folder}: the data has changed since: {line}" for line in (*trained, *tested)]
    if trained:
        lines.append(
            "for a training on the data as it is now, give another --log_dir or leave out "
            "--resume_from_checkpoint"
        )
    if tested:
        lines.append(
            "for a test on the data as it is now, give its checkpoint to --test_from_checkpoint"
        )
    return lines


def data_of_training(folder: Path) -> DataDigests:
    """Digests of the data of a run's last session of training; empty if unknown."""
    return digests_in(_last_training(folder)) or {}


def digests_in(stored: Mapping[str, Any]) -> DataDigests | None:
    """The digests of data in a checkpoint or a record of a run; None if there are none."""
    found = stored.get(DATA_KEY)
    return found if isinstance(found, dict) else None


def _check_revision(path: Path, revision: int) -> None:
    if revision > REVISION:
        raise InputError(
            f"{path}: was trained under newer rules (training revision {revision}, here "
            f"{REVISION}); update this code to resume it"
        )
    if revision < REVISION:
        heading = (
            f"{path} was trained under earlier rules (training revision {revision}, now "
            f"{REVISION}) and cannot be resumed under these; {FROM_WEIGHTS.format(path=path)}, or "
            "check out the commit that run.yaml in its folder names. Since then:"
        )
        raise InputError.collect(changes_since(revision), heading)


def resume_hint(last: Path) -> str:
    """Instructions after a training was stopped."""
    return f"resume with --resume_from_checkpoint {last}" if last.is_file() else "start again"


def _stored_revision(folder: Path) -> int:
    """The training revision that a run began with, from its run.yaml."""
    return revision_of(next(iter(_records(folder)), {}))


def _last_training(folder: Path) -> dict[str, Any]:
    """The record of the last session of a training."""
    records = [one for one in _records(folder) if one.get("stage") == "fit"]
    return records[-1] if records else {}


def _records(folder: Path) -> list[dict[str, Any]]:
    """The records of run.yaml; none if it cannot be read."""
    try:
        stages = yaml.safe_load((folder / "run.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []
    stages = stages if isinstance(stages, list) else []
    return [one if isinstance(one, dict) else {} for one in stages]
