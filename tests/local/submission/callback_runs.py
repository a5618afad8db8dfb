"""Run folders of a training with its test and of its evaluation, as real callbacks leave them."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import yaml
from codecarbon.output_methods.emissions_data import EmissionsData
from pytorch_lightning.trainer.states import TrainerFn

from desed_task.batch import SedBatch
from desed_task.mean_teacher import ROLES
from desed_task.nnet.CRNN import Detection
from local.config import RecipeConfig, load_config
from local.scoring.results import emissions_file
from local.scoring.tested import TestedFiles
from local.sed_trainer_pretrained import SEDTask4
from local.submission.file_checks import REPORTED_METRICS
from local.training.callbacks import RunDescription
from local.training.result_writers import ScoreWriter
from tests.published_task import NUMBER, TASK

ROOT = Path(__file__).resolve().parents[3]
CLIPS_S = {"a": 10.0, "b": 4.3}
ENERGY_KWH = {"training": 0.5, "test": 0.03, "eval": 0.02}


def config_of(seed: int, *overrides: str) -> RecipeConfig:
    return load_config(ROOT / "confs" / "mini.yaml", [f"training.seed={seed}", *overrides])


def make_run(folder: Path, seed: int, *overrides: str) -> Path:
    """`folder`/train/version_0 and `folder`/eval/version_0, which is returned."""
    training, evaluation = folder / "train" / "version_0", folder / "eval" / "version_0"
    config = config_of(seed, *overrides)
    module = SEDTask4(config)
    checkpoint = training / "checkpoints" / "epoch=1.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text(f"weights of seed {seed}")
    describe(training, module, TrainerFn.FITTING)
    module.tested_checkpoint = TestedFiles((checkpoint,))
    describe(training, module, TrainerFn.TESTING)
    describe(evaluation, module, TrainerFn.PREDICTING)
    write_results(training, seed)
    write_scores(evaluation, module, seed)
    for stage, place in (("training", training), ("test", training), ("eval", evaluation)):
        write_energy(emissions_file(place, stage), ENERGY_KWH[stage] + seed / 1000)
    return evaluation


def make_test(folder: Path, evaluation: Path, seed: int) -> Path:
    """A run folder of `--test_from_checkpoint` of what was evaluated."""
    module = SEDTask4(config_of(seed))
    (record,) = yaml.safe_load((evaluation / "run.yaml").read_text())
    module.tested_checkpoint = TestedFiles((Path(record["checkpoint"]["path"]),))
    assert module.tested_checkpoint.sha256 == record["checkpoint"]["sha256"]
    describe(folder, module, TrainerFn.TESTING)
    write_results(folder, seed)
    write_energy(emissions_file(folder, "test"), 0.25)
    return folder


def describe(folder: Path, module: SEDTask4, stage: TrainerFn) -> None:
    RunDescription(module.config).setup(trainer_of(folder), module, stage.value)


def trainer_of(folder: Path) -> SimpleNamespace:
    return SimpleNamespace(
        log_dir=str(folder),
        is_global_zero=True,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        datamodule=SimpleNamespace(
            task=TASK,
            loaded={"eval": SimpleNamespace(durations_s=CLIPS_S)},
            digests=lambda stage: {},
            embedding_readers=[],
        ),
    )


def write_results(folder: Path, seed: int) -> None:
    """results.json: value k of the student is k/100 + seed/1000, of the teacher 0.1 more."""
    names = [name for metrics in REPORTED_METRICS.values() for name in metrics.values()]
    metrics = {
        f"test/{role}/{name}": shift + (index + 1) / 100 + seed / 1000
        for role, shift in zip(ROLES, (0.0, 0.1), strict=True)
        for index, name in enumerate(names)
    }
    content = {"metrics": metrics, "missing": {}, "versions": {"sed_scores_eval": "0.0.4"}}
    (folder / "results.json").write_text(json.dumps(content))


def write_scores(folder: Path, module: SEDTask4, seed: int) -> None:
    """What ScoreWriter writes of random scores."""
    draws = torch.Generator().manual_seed(seed)
    accumulator = module.score_accumulator
    shape = (len(CLIPS_S), 27, accumulator.grid.n_frames)
    batch = SedBatch(
        waveform=torch.zeros(2, 1),
        target=torch.zeros(shape),
        known=torch.ones(2, 27, dtype=torch.bool),
        source=torch.full((2,), NUMBER["eval"]),
        embedding=torch.zeros(2, 0),
        clip_id=tuple(CLIPS_S),
    )
    for role in ROLES:
        strong = torch.rand(shape, generator=draws)
        accumulator.add(role, batch, Detection(strong, strong.mean(-1)))
    ScoreWriter().on_predict_end(trainer_of(folder), module)


def write_energy(path: Path, *kwh: float) -> None:
    """A table with codecarbon's columns, one row a measurement."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [field.name for field in dataclasses.fields(EmissionsData)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for value in kwh:
            writer.writerow({**dict.fromkeys(columns, "1"), "energy_consumed": value})


def edit_table(path: Path, change) -> None:
    """Rewrite a table of scores after `change` of its values (frame, column)."""
    head = path.read_text().splitlines()[0]
    values = np.loadtxt(path, delimiter="\t", skiprows=1)
    values = change(values)
    np.savetxt(path, values, delimiter="\t", header=head, comments="", fmt="%.8g")
