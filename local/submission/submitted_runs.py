"""Find the runs of a submission: evaluation, training and dev-test of each checkpoint.

An evaluation's folder names its checkpoint by path and SHA-256. Training and test are searched in
the checkpoint's run folder and in further folders given by the user; their SHA-256 must be the
same.
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
from local.config import RecipeConfig, load_config
from local.schema.yaml_files import read_yaml
from local.scoring import results
from local.scoring.score_files import EVALUATION_FILE
from local.training.macs import Macs


@dataclass(frozen=True)
class SubmittedRun:
    """One training of a system, with its test and evaluation.

    Attributes:
        folder: run folder of the evaluation.
        training: run folder of the training.
        test: run folder of the dev-test.
        checkpoint: the evaluated checkpoint; the file may be missing.
        sha256: SHA-256 of the checkpoint.
        seed: seed of the training.
        sessions: how often the training was started; it was resumed if more than once.
        network: size and cost of the network.
        config: configuration of the evaluation.
        clips: evaluated clip -> its length in seconds.
        results: content of the test's results.json.
    """

    folder: Path
    training: Path
    test: Path
    checkpoint: Path
    sha256: str
    seed: int
    sessions: int
    network: Macs
    config: RecipeConfig
    clips: dict[str, float]
    results: dict[str, Any]

    @property
    def energy(self) -> dict[str, Path]:
        """Path of codecarbon's table of each of STAGES."""
        folders = zip(results.ENERGY_STAGES, (self.training, self.test, self.folder), strict=True)
        return {stage: results.emissions_file(folder, stage) for stage, folder in folders}


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
    checkpoint, sha256 = _identity(record, folder)
    # LOG_DIR/version_N/checkpoints/NAME.ckpt
    places = [checkpoint.parent.parent, folder, *others]
    places = [place for place in places if (place / "run.yaml").is_file()]
    training = next(filter(partial(_trained, sha256=sha256), places), None)
    test = next(filter(partial(_tested, sha256=sha256), places), None)
    problems = []
    if training is None:
        problems.append(
            f"{folder}: no training of its checkpoint {checkpoint} found; give its run "
            "folder with --also"
        )
    if test is None:
        problems.append(
            f"{folder}: no dev-test of its checkpoint {checkpoint} found; run one with "
            f"{command_name('train_pretrained.py')} --test_from_checkpoint and give its run folder "
            "with --also"
        )
    if training is None or test is None:
        raise InputError.collect(problems)
    config = load_config(folder / "config.yaml")
    _check_task(config, folder)
    return SubmittedRun(
        folder,
        training,
        test,
        checkpoint,
        sha256,
        seed=record["seed"],
        sessions=sum(one["stage"] == "fit" for one in stage_records(training)),
        network=Macs(**record["network"]),
        config=config,
        clips=_read_json(folder / EVALUATION_FILE)["clips"],
        results=_read_json(test / results.RESULTS_FILE),
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


def _identity(record: dict[str, Any], folder: Path) -> tuple[Path, str]:
    identity = record.get("checkpoint")
    if identity is None:
        raise InputError(
            f"{folder}: run.yaml, written by an older version, does not name the checkpoint; "
            "evaluate it again"
        )
    return Path(identity["path"]), str(identity["sha256"])


def _tested(folder: Path, sha256: str) -> bool:
    """Whether a run folder has results of the checkpoint."""
    record = _last(stage_records(folder), "test")
    tested = record is not None and record.get("checkpoint", {}).get("sha256") == sha256
    return tested and (folder / results.RESULTS_FILE).is_file()


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
