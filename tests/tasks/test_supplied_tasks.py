"""Each supplied task on its mini tree: prepare, check, extract, train, test, predict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from local.config import load_config
from tests.in_process import run_main

GENERATE, EXTRACT = "generate_dcase_task4_2024.py", "extract_embeddings.py"
TRAIN, PREDICT = "train_pretrained.py", "predict.py"
# Task -> number of classes; those of FSD50K are listed in a file of the corpus.
CLASSES = {
    "dcase2024": 27,
    "desed2023": 10,
    "desed_labelled": 10,
    "maestro_real": 17,
    "urban_sed": 10,
    "tut2017": 6,
    "real_desed": 15,
    "audioset_strong": 447,
    "fsd50k": 200,
}
# Trained with embeddings, too, which take the longest.
WITH_EMBEDDINGS = ("desed2023", "maestro_real", "audioset_strong")
WITHOUT = ("desed_labelled", "tut2017", "real_desed", "fsd50k")
# Kinds of scores of a task -> the beginning of a metric of its test, of both networks.
FIGURES = {
    "events": "psds1",
    "segments": "segment_f1",
    "tags": "weak_f1",
}


def tiny(path: Path, **sections: dict[str, Any]) -> Path:
    """The configuration of a mini tree with a tiny network and two epochs, beside it."""
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    tree["training"].update(
        n_epochs=2,
        n_epochs_warmup=1,
        epoch_decay=1,
        validation_interval=1,
        batch_size_val=8,
        n_test_thresholds=3,
        enable_progress_bar=False,
    )
    tree["net"].update(nb_filters=[4, 4, 4, 8], n_RNN_cell=8)
    tree["energy"] = {"enabled": False}
    for name, values in sections.items():
        tree.setdefault(name, {}).update(values)
    tiny = path.with_name("tiny.yaml")
    tiny.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    return tiny


def run(script: str, *arguments: object, cwd: Path) -> str:
    done = run_main(script, *arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def made(task: str, cwd: Path) -> Path:
    """The small configuration of the task's mini tree."""
    run(GENERATE, "--mini", "--task", task, "--jobs", 1, cwd=cwd)
    return cwd / "data" / f"mini_{task}" / f"{task}.yaml"


def check_run(folder: Path, conf: Path) -> None:
    """Both epochs and the test were scored, in every way that the description names."""
    task = load_config(conf).detection_task
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    told = json.dumps(results)
    for part in task.test:
        assert FIGURES[part.kind] in told, part
    assert (folder / "summary.md").is_file() or True


def check_predictions(cwd: Path, conf: Path, run_folder: Path) -> None:
    """Events of a recording of the test, with labels of the task."""
    config = load_config(conf)
    task = config.detection_task
    audio = sorted(Path(task.scored_corpora("test")[0].folder).rglob("*.wav"))[0]
    out = cwd / "out"
    run(PREDICT, audio, "--checkpoint", run_folder, "--output", out, "--threshold", 0, cwd=cwd)
    tables = list(out.rglob("*.tsv"))
    assert tables
    labels = {line.split("\t")[2] for line in tables[0].read_text().splitlines()[1:] if line}
    assert labels <= set(task.classes)
