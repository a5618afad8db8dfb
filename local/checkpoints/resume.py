"""Find the run to resume, and check that its training can be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from desed_task.checkpoints.published import is_published
from desed_task.checkpoints.safe_load import load_safely
from desed_task.errors import InputError
from local.checkpoints.restore import KEPT_CLIPS, config_of_checkpoint
from local.checkpoints.revision import REVISION, changes_since, revision_of
from local.checkpoints.run_claims import numbered_runs, refuse_if_held, stored_config
from local.config import RecipeConfig
from local.corpora import SYNTHETIC_VALIDATION, TEST, TRAINING
from local.data.digests import DATA_KEY, DataDigests, data_changes
from local.scoring import results

LAST_CHECKPOINT = "last.ckpt"
# Corpora that weights and the choice of the best checkpoint depend on.
TRAINED_ON = (*TRAINING, SYNTHETIC_VALIDATION)
# Keys of checkpoints and run.yaml: threads of the training, and the precision that was asked for
# where the CPU computed with another one.
THREADS_KEY = "threads"
ASKED_KEY = "asked_precision"
_UNKNOWN_DATA = (
    "an earlier version began this run, which did not store what its data was; whether that has "
    "changed since is not known"
)


def find_resumable(log_dir: Path, config: RecipeConfig) -> tuple[Path | None, Path | None]:
    """Find the run for `--resume_from_checkpoint auto`.

    Only the newest training with the same configuration counts; runs of `--test_from_checkpoint`
    and `--eval_from_checkpoint` have no checkpoint of their own. A training under earlier rules is
    skipped with a message.

    Returns:
        (finished run folder, None), (None, checkpoint to resume from) or (None, None).

    Raises:
        RunInUseError: another process runs this configuration.
    """
    earlier: list[Path] = []
    for folder in numbered_runs(log_dir):
        refuse_if_held(folder, config)
        last = folder / "checkpoints" / LAST_CHECKPOINT
        if not last.is_file():
            continue
        if _stored_revision(folder) < REVISION:
            earlier.append(folder)
        elif _is_run_of(folder, config):
            return (folder, None) if _is_finished(folder, config) else (None, last)
    if earlier:
        others = f" and {len(earlier) - 1} more" if len(earlier) > 1 else ""
        print(
            f"{earlier[0]}{others}: trained under earlier rules (docs/method.md lists what has "
            "changed), so left alone and not resumed; a new training starts"
        )
    return None, None


def _is_run_of(folder: Path, config: RecipeConfig) -> bool:
    """Whether a run has this configuration, but for a precision that its CPU replaced."""
    stored = stored_config(folder)
    if stored is None or stored == config:
        return stored is not None
    if next(iter(_records(folder)), {}).get(ASKED_KEY) != str(config.training.precision):
        return False
    asked = {"precision": config.training.precision}
    return config == stored.model_copy(
        update={"training": stored.training.model_copy(update=asked)}
    )


def asked_precision(checkpoint: Mapping[str, Any]) -> str | None:
    """The precision that a checkpoint's training was asked to compute with; None if unknown."""
    if ASKED_KEY in checkpoint:
        return str(checkpoint[ASKED_KEY])
    hyper = checkpoint.get("hyper_parameters")
    training = hyper.get("training") if isinstance(hyper, dict) else None
    precision = training.get("precision") if isinstance(training, dict) else None
    return None if precision is None else str(precision)


def _is_finished(folder: Path, config: RecipeConfig) -> bool:
    """Whether a training was tested to the end; the energy of the test is written last."""
    energy = results.emissions_file(folder, "test")
    measured = not config.energy.enabled or (energy.is_file() and energy.stat().st_size > 0)
    return (folder / results.RESULTS_FILE).is_file() and measured


def find_begun(log_dir: Path, config: RecipeConfig) -> Path | None:
    """The newest training of this configuration that ended before its first checkpoint.

    Without this, each kill in the first epoch would leave a run folder without results.
    """
    for folder in numbered_runs(log_dir):
        has_checkpoint = (folder / "checkpoints" / LAST_CHECKPOINT).exists()
        if not has_checkpoint and _is_training(folder) and stored_config(folder) == config:
            return folder
    return None


def continued_run(
    log_dir: Path, config: RecipeConfig, checkpoint: Path | None, *, auto: bool
) -> Path | None:
    """The folder of the run that a training continues; None if it begins a new one.

    Args:
        log_dir: where runs lie.
        config: configuration of the training.
        checkpoint: where it is resumed from; None to begin.
        auto: whether a run that ended before its first checkpoint is begun again in its folder.
    """
    if checkpoint is not None:
        inside = checkpoint.parent.name == "checkpoints"
        return checkpoint.parents[1] if inside else None
    folder = find_begun(log_dir, config) if auto else None
    if folder is not None:
        print(f"{folder} ended before its first checkpoint; its training begins again")
    return folder


def _is_training(folder: Path) -> bool:
    """Whether a run is a training under these rules, or ended before this was written."""
    if not (folder / "run.yaml").exists():
        return True
    first = next(iter(_records(folder)), {})
    return first.get("stage") == "fit" and revision_of(first) == REVISION


def check_resumable(path: Path, config: RecipeConfig) -> DataDigests | None:
    """Reject a checkpoint whose training cannot be resumed with `config`.

    Returns:
        Digests of the data that it was trained on, for `check_same_data`; None if unknown.

    Raises:
        InputError: it was trained with other values, which would change networks, batches or
            schedule during a run, or under other training rules (the message names the
            differences); or it is a published checkpoint.
    """
    checkpoint = load_safely(path)
    if is_published(checkpoint):
        raise InputError(
            f"{path}: training cannot be resumed from a checkpoint of the published code; test it "
            "with --test_from_checkpoint, or start a new training"
        )
    _check_revision(path, revision_of(checkpoint))
    stored = config_of_checkpoint(checkpoint, config, (), str(path)).dump()
    # A test takes this key from the configuration, but in training it chooses the clips.
    stored["data"][KEPT_CLIPS] = checkpoint["hyper_parameters"].get("data", {}).get(KEPT_CLIPS, [])
    here = config.dump()
    keys = {section: here[section] for section in ("training", "scaler", "opt", "feats", "net")}
    differing = [
        f"{section}.{key}: {stored[section][key]!r} in the checkpoint, {here[section][key]!r} here"
        for section, of in {**keys, "data": [KEPT_CLIPS]}.items()
        for key in of
        if stored[section][key] != here[section][key]
    ]
    if differing:
        heading = f"{path} was trained with other values; resume with the same configuration:"
        raise InputError.collect(differing, heading)
    return digests_in(checkpoint)


def check_same_data(path: Path, before: DataDigests | None, now: DataDigests) -> None:
    """Reject a checkpoint that was trained on other data; print what else is to be said.

    Args:
        path: the checkpoint.
        before: digests of its data; None if it stores none.
        now: digests of the data here.

    Raises:
        InputError: the data for training or validation is not the same.
    """
    if before is None:
        print(f"{path}: {_UNKNOWN_DATA}")
        return
    if changes := data_changes(before, now, TRAINED_ON):
        heading = (
            f"{path} was trained on other data; restore the data to resume it, or start a new "
            "training with another --log_dir or without --resume_from_checkpoint:"
        )
        raise InputError.collect(changes, heading)
    for change in data_changes(before, now, TEST):
        print(f"{path}: the test data has changed since; the test uses it as it is now: {change}")


def changes_since_training(folder: Path, now: DataDigests) -> list[str]:
    """Lines about a finished run whose data has changed since; empty if it has not."""
    before = digests_in(_last_training(folder))
    if before is None:
        return [f"{folder}: {_UNKNOWN_DATA}"]
    trained, tested = (data_changes(before, now, corpora) for corpora in (TRAINED_ON, TEST))
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
            f"{REVISION}) and cannot be resumed under these; start a new training, or check out "
            "the commit that run.yaml in its folder names. Since then:"
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
