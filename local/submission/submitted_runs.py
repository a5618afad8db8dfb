"""Find the runs of a submission: evaluation, training and dev-test of each checkpoint.

An evaluation's folder names its checkpoint by path and SHA-256, or the checkpoints whose scores are
averaged. Training and test are searched in the checkpoint's run folder and in further folders given
by the user; their SHA-256 must be the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from desed_task.atomic_files import sha256_of
from desed_task.errors import InputError, command_name, count_of
from desed_task.file_names import looked_up_from
from desed_task.published_classes import CLASSES
from local.config import RecipeConfig, check_config, load_config
from local.schema.yaml_files import read_yaml
from local.scoring import results
from local.scoring.score_files import EVALUATION_FILE
from local.scoring.tested import ENSEMBLE
from local.training.macs import Macs


@dataclass(frozen=True)
class SubmittedTraining:
    """A training whose checkpoint was evaluated, alone or with others.

    Attributes:
        folder: run folder of the training.
        checkpoint: the file.
        sha256: SHA-256 of the checkpoint.
        seed: seed of the training.
        sessions: how often the training was started; it was resumed if more than once.
        config: configuration that the checkpoint is used with.
    """

    folder: Path
    checkpoint: Path
    sha256: str
    seed: int
    sessions: int
    config: RecipeConfig


@dataclass(frozen=True)
class SubmittedRun:
    """A checkpoint of a system, or several whose scores are averaged, with test and evaluation.

    Attributes:
        folder: run folder of the evaluation.
        trainings: of each checkpoint, in the order of the evaluation.
        test: run folder of the dev-test.
        sha256: what identifies the checkpoints (`TestedFiles.sha256`).
        network: size and cost of the networks together.
        config: configuration of the evaluation.
        clips: evaluated clip -> its length in seconds.
        results: content of the test's results.json.
    """

    folder: Path
    trainings: tuple[SubmittedTraining, ...]
    test: Path
    sha256: str
    network: Macs
    config: RecipeConfig
    clips: dict[str, float]
    results: dict[str, Any]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the trainings."""
        return tuple(one.seed for one in self.trainings)

    @property
    def energy(self) -> dict[str, tuple[Path, ...]]:
        """Paths of codecarbon's tables of each of STAGES: of all trainings, one of the others."""
        trained = tuple(one.folder for one in self.trainings)
        folders = zip(results.ENERGY_STAGES, (trained, (self.test,), (self.folder,)), strict=True)
        return {
            stage: tuple(results.emissions_file(folder, stage) for folder in of_stage)
            for stage, of_stage in folders
        }


def find_run(folder: Path, others: Sequence[Path]) -> SubmittedRun:
    """Find the training and the test of an evaluation.

    Args:
        folder: run folder of the evaluation.
        others: further run folders that may be of its training or test.

    Raises:
        InputError: naming everything that is missing.
    """
    record = _last(stage_records(folder), "predict")
    if record is None or not (folder / EVALUATION_FILE).is_file():
        raise InputError(
            f"{folder}: contains no finished evaluation; give a run folder of "
            f"{command_name('train_pretrained.py')} --eval_from_checkpoint CKPT"
        )
    sha256, evaluated = _identity(record, folder)
    # LOG_DIR/version_N/checkpoints/NAME.ckpt
    homes = [Path(one["path"]).parent.parent for one in evaluated]
    places = [place for place in (*homes, folder, *others) if (place / "run.yaml").is_file()]
    trained = [
        next(filter(partial(_trained, sha256=one["sha256"]), places), None) for one in evaluated
    ]
    test = next(filter(partial(_tested, sha256=sha256), places), None)
    problems = [
        f"{folder}: no training of its checkpoint {one['path']} found; give its run folder with "
        "--also"
        for one, training in zip(evaluated, trained, strict=True)
        if training is None
    ]
    if test is None:
        which = " and ".join(one["path"] for one in evaluated)
        remedy = (
            f"run one with {command_name('train_pretrained.py')} --test_from_checkpoint and give "
            "its run folder with --also"
        )
        problems.append(
            f"{folder}: no dev-test of its checkpoint {which} found; {remedy}"
            if len(evaluated) == 1
            else f"{folder}: no dev-test of the mean of its checkpoints {which} found; {remedy}"
        )
    if problems or test is None:
        raise InputError.collect(problems)
    config = load_config(folder / "config.yaml")
    _check_task(config, folder)
    return SubmittedRun(
        folder,
        tuple(
            _training(one, training, config)
            for one, training in zip(evaluated, trained, strict=True)
            if training is not None
        ),
        test,
        sha256,
        network=Macs(**record["network"]),
        config=config,
        clips=_read_json(folder / EVALUATION_FILE)["clips"],
        results=_read_json(test / results.RESULTS_FILE),
    )


def _training(
    evaluated: dict[str, Any], folder: Path, evaluation: RecipeConfig
) -> SubmittedTraining:
    """The training of a checkpoint.

    Args:
        evaluated: what the evaluation's run.yaml says of the checkpoint.
        folder: run folder of the training.
        evaluation: configuration of the evaluation, which is that of its first checkpoint.
    """
    sessions = sum(one["stage"] == "fit" for one in stage_records(folder))
    config = evaluation
    if "encoders" in evaluated:  # of several
        tree = load_config(folder / "config.yaml").dump()
        columns = {"model": "name", "checkpoint": "file", "n_blocks": "n_blocks"}
        for key, name in columns.items() if evaluated["encoders"] else ():
            values = [one[name] for one in evaluated["encoders"]]
            tree["pretrained"][key] = values if len(values) > 1 else values[0]
        config = check_config(tree, f"{folder / 'config.yaml'}")
    return SubmittedTraining(
        folder,
        Path(evaluated["path"]),
        evaluated["sha256"],
        evaluated["seed"],
        sessions,
        config,
    )


def _check_task(config: RecipeConfig, folder: Path) -> None:
    """Refuse an evaluation of other classes than the challenge's."""
    task = config.detection_task
    if task.classes != CLASSES:
        raise InputError(
            f"{folder}: is of the task {task.name} "
            f"({count_of(len(task.classes), 'class', 'classes')}); the challenge takes systems "
            f"that detect its {len(CLASSES)} classes, in their order"
        )


def stage_records(folder: Path) -> list[dict[str, Any]]:
    """Read run.yaml, the sequence of commands in a run folder.

    Raises:
        InputError: `folder` is not a run folder.
    """
    path = folder / "run.yaml"
    if not path.is_file():
        where = looked_up_from(folder)
        raise InputError(
            f"{folder}: is not a run folder (no run.yaml){where}; give LOG_DIR/version_N"
        )
    records = read_yaml(path)
    if not isinstance(records, list) or not all("stage" in one for one in records):
        raise InputError(f"{path}: does not list the commands of the run; repeat the run")
    return records


def _last(records: Sequence[dict[str, Any]], stage: str) -> dict[str, Any] | None:
    return next((one for one in reversed(records) if one["stage"] == stage), None)


def _identity(record: dict[str, Any], folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """SHA-256 of what was evaluated; and path, SHA-256 and seed of each checkpoint."""
    if ENSEMBLE in record:
        return record[ENSEMBLE]["sha256"], record[ENSEMBLE]["checkpoints"]
    identity = record.get("checkpoint")
    if identity is None:
        raise InputError(
            f"{folder}: run.yaml, written by an older version, does not name the checkpoint; "
            "evaluate it again"
        )
    return str(identity["sha256"]), [{**identity, "seed": record["seed"]}]


def _tested(folder: Path, sha256: str) -> bool:
    """Whether a run folder has results of the checkpoint."""
    record = _last(stage_records(folder), "test")
    named = {} if record is None else record.get(ENSEMBLE) or record.get("checkpoint", {})
    return named.get("sha256") == sha256 and (folder / results.RESULTS_FILE).is_file()


def _trained(folder: Path, sha256: str) -> bool:
    """Whether the checkpoint comes from the training in a run folder."""
    if _last(stage_records(folder), "fit") is None:
        return False
    own = (folder / "checkpoints").glob("*.ckpt")
    return _tested(folder, sha256) or any(sha256_of(path) == sha256 for path in own)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); repeat the run") from None
    return content
