"""The runs of a submission: an evaluation, with the training and the dev-test of its checkpoint.

An evaluation's folder names its checkpoint by path and SHA-256. Training and test are looked for
where the checkpoint lies and in further folders that the user gives; they count if they are of the
same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from desed_task.atomic_files import sha256_of
from desed_task.errors import InputError
from local.config import RecipeConfig, load_config, read_yaml
from local.scoring import results
from local.scoring.score_files import EVALUATION_FILE
from local.training.energy import ENERGY_STAGES, emissions_file
from local.training.macs import Macs


@dataclass(frozen=True)
class SubmittedRun:
    """One training of a system and all that was made of it.

    Attributes:
        folder: run folder of the evaluation.
        training: run folder of the training.
        test: run folder of the dev-test.
        checkpoint: what was evaluated; the file may have gone.
        sha256: of the checkpoint.
        seed: of the training.
        sessions: how often the training was started; it was resumed if more than once.
        network: cost of the network.
        config: as evaluated.
        clips: evaluated clip -> its length in seconds.
        results: results.json of the test.
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
        """codecarbon's table of each of STAGES."""
        folders = zip(ENERGY_STAGES, (self.training, self.test, self.folder), strict=True)
        return {stage: emissions_file(folder, stage) for stage, folder in folders}


def find_run(folder: Path, others: Sequence[Path]) -> SubmittedRun:
    """What belongs to an evaluation.

    Args:
        folder: run folder of `--eval_from_checkpoint`.
        others: run folders where its training and its test may be, too.

    Raises:
        InputError: naming all that is missing.
    """
    record = _last(stage_records(folder), "predict")
    if record is None or not (folder / EVALUATION_FILE).is_file():
        raise InputError(
            f"{folder}: holds no finished evaluation; give a run folder of "
            "train_pretrained.py --eval_from_checkpoint CKPT"
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
            f"{folder}: the training of its checkpoint {checkpoint} is not found; give its run "
            "folder with --also"
        )
    if test is None:
        problems.append(
            f"{folder}: no dev-test of its checkpoint {checkpoint} is found; make one with "
            "train_pretrained.py --test_from_checkpoint and give its run folder with --also"
        )
    if training is None or test is None:
        raise InputError.collect(problems)
    return SubmittedRun(
        folder,
        training,
        test,
        checkpoint,
        sha256,
        seed=record["seed"],
        sessions=sum(one["stage"] == "fit" for one in stage_records(training)),
        network=Macs(**record["network"]),
        config=load_config(folder / "config.yaml"),
        clips=_read_json(folder / EVALUATION_FILE)["clips"],
        results=_read_json(test / results.RESULTS_FILE),
    )


def stage_records(folder: Path) -> list[dict[str, Any]]:
    """run.yaml: what was done in a run folder, in order.

    Raises:
        InputError: `folder` is no run folder.
    """
    path = folder / "run.yaml"
    if not path.is_file():
        raise InputError(f"{folder}: is no run folder (no run.yaml); give LOG_DIR/version_N")
    records = read_yaml(path)
    if not isinstance(records, list) or not all("stage" in one for one in records):
        raise InputError(f"{path}: does not list what was done; make the run again")
    return records


def _last(records: Sequence[dict[str, Any]], stage: str) -> dict[str, Any] | None:
    return next((one for one in reversed(records) if one["stage"] == stage), None)


def _identity(record: dict[str, Any], folder: Path) -> tuple[Path, str]:
    identity = record.get("checkpoint")
    if identity is None:
        raise InputError(
            f"{folder}: run.yaml does not tell the checkpoint, as older versions wrote it; "
            "evaluate it again"
        )
    return Path(identity["path"]), str(identity["sha256"])


def _tested(folder: Path, sha256: str) -> bool:
    """Whether results of the checkpoint are in a run folder."""
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
        raise InputError(f"{path}: cannot be read as JSON ({error}); make the run again") from None
    return content
