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

from desed_task.errors import InputError, command_name, count_of
from desed_task.file_names import looked_up_from
from desed_task.published_classes import CLASSES
from local.config import RecipeConfig, check_config, load_config
from local.schema.yaml_files import read_yaml
from local.scoring import results
from local.scoring.score_files import EVALUATION_FILE
from local.scoring.tested import ENSEMBLE
from local.stores.folders import sha256_once
from local.submission.earlier_trainings import TrainingOrigin, find_earlier, origins_of
from local.training.macs import Macs


@dataclass(frozen=True)
class SubmittedTraining:
    """A training whose checkpoint was evaluated, alone or with others.

    Attributes:
        folder: run folder of the training.
        checkpoint: the evaluated file, where it is now; None if it is neither in its place nor in
            the run folder.
        sha256: SHA-256 of the checkpoint.
        seed: seed of the training.
        sessions: how often the training was started; it was resumed if more than once.
        config: configuration that the checkpoint is used with.
    """

    folder: Path
    checkpoint: Path | None
    sha256: str
    seed: int
    sessions: int
    config: RecipeConfig


@dataclass(frozen=True)
class CountedTraining:
    """A training whose energy counts, once for all checkpoints of it.

    Attributes:
        folder: its run folder.
        sessions: how often it was started.
    """

    folder: Path
    sessions: int

    @property
    def table(self) -> Path:
        """Codecarbon's table."""
        return results.emissions_file(self.folder, "training")


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
        counted: trainings whose energy counts: of the checkpoints, and those they depend on.
        notes: what is not counted, one line each.
    """

    folder: Path
    trainings: tuple[SubmittedTraining, ...]
    test: Path
    sha256: str
    network: Macs
    config: RecipeConfig
    clips: dict[str, float]
    results: dict[str, Any]
    counted: tuple[CountedTraining, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the trainings."""
        return tuple(one.seed for one in self.trainings)

    @property
    def energy(self) -> dict[str, tuple[Path, ...]]:
        """Paths of codecarbon's tables of each of STAGES: of all trainings, one of the others."""
        training, test, evaluation = results.ENERGY_STAGES
        return {
            training: tuple(one.table for one in self.counted),
            test: (results.emissions_file(self.test, test),),
            evaluation: (results.emissions_file(self.folder, evaluation),),
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
    problems = _not_found(folder, evaluated, trained, test)
    if problems or test is None:
        raise InputError.collect(problems)
    config = load_config(folder / "config.yaml")
    _check_task(config, folder)
    trainings = tuple(
        _training(one, training, config)
        for one, training in zip(evaluated, trained, strict=True)
        if training is not None
    )
    counted, notes = _counted(trainings, others)
    return SubmittedRun(
        folder,
        trainings,
        test,
        sha256,
        network=Macs(**record["network"]),
        config=config,
        clips=_read_json(folder / EVALUATION_FILE)["clips"],
        results=_read_json(test / results.RESULTS_FILE),
        counted=counted,
        notes=notes,
    )


def _not_found(
    folder: Path,
    evaluated: Sequence[dict[str, Any]],
    trained: Sequence[Path | None],
    test: Path | None,
) -> list[str]:
    """Messages about trainings and the test of an evaluation that are not found."""
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
    return problems


def _counted(
    trainings: Sequence[SubmittedTraining], others: Sequence[Path]
) -> tuple[tuple[CountedTraining, ...], tuple[str, ...]]:
    """The trainings whose energy counts, each once, and notes on those that were not found."""
    own = {one.folder.resolve(): one.folder for one in trainings}
    given = [place for place in (*own.values(), *others) if (place / "run.yaml").is_file()]
    notes: list[str] = []
    found = dict(own)
    for folder in own.values():
        earlier = find_earlier(folder, _origins, given, _trained)
        found = {one.resolve(): one for one in earlier.folders} | found
        notes += earlier.notes
    counted = (CountedTraining(one, _n_sessions(one)) for one in found.values())
    return tuple(counted), tuple(dict.fromkeys(notes))


def _origins(folder: Path) -> list[TrainingOrigin]:
    return origins_of(load_config(folder / "config.yaml"), stage_records(folder))


def _n_sessions(folder: Path) -> int:
    return sum(one["stage"] == "fit" for one in stage_records(folder))


def _training(
    evaluated: dict[str, Any], folder: Path, evaluation: RecipeConfig
) -> SubmittedTraining:
    """The training of a checkpoint.

    Args:
        evaluated: what the evaluation's run.yaml says of the checkpoint.
        folder: run folder of the training.
        evaluation: configuration of the evaluation, which is that of its first checkpoint.

    Raises:
        InputError: the checkpoint holds its encoder, and is nowhere.
    """
    config = evaluation
    if "encoders" in evaluated:  # of several
        tree = load_config(folder / "config.yaml").dump()
        columns = {"model": "name", "checkpoint": "file", "n_blocks": "n_blocks"}
        for key, name in columns.items() if evaluated["encoders"] else ():
            values = [one[name] for one in evaluated["encoders"]]
            tree["pretrained"][key] = values if len(values) > 1 else values[0]
        config = check_config(tree, f"{folder / 'config.yaml'}")
    path, sha256 = Path(evaluated["path"]), str(evaluated["sha256"])
    places = (path, *sorted((folder / "checkpoints").glob("*.ckpt")))
    there = (one for one in places if one.is_file() and sha256_once(one) == sha256)
    checkpoint = next(there, None)
    if checkpoint is None and config.net.use_embeddings and config.pretrained.e2e:
        now = f"has {sha256_once(path)[:12]}... now" if path.is_file() else "is not there"
        raise InputError(
            f"{path}: was evaluated with SHA-256 {sha256[:12]}... and {now}, and "
            f"{folder / 'checkpoints'} has no such file either; put it back, as the parameters of "
            "the encoder in it count"
        )
    return SubmittedTraining(
        folder, checkpoint, sha256, evaluated["seed"], _n_sessions(folder), config
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
    return _tested(folder, sha256) or any(sha256_once(path) == sha256 for path in own)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); repeat the run") from None
    return content
