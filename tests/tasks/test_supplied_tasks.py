"""Each supplied task on its mini tree: make, check, extract, train, test, predict."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from desed_task.errors import InputError
from local.config import SHIPPED, load_config
from local.data.datamodule import SedDataModule
from local.error_report import write
from local.prep.mini_trees.make import MINI_TREES
from local.scoring import figures
from local.task.reading import DEFAULT_TASK, TASKS, supplied_tasks
from tests.in_process import run_main
from tests.markdown_pages import DOCS
from tests.undrawn import VARIABLE, draw_nothing

Run = Callable[..., subprocess.CompletedProcess[str]]
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
# The others are trained without embeddings, which take the longest.
WITH_EMBEDDINGS = ("urban_sed", "desed2023", "maestro_real")
# Kind of scores -> a metric of the student's test.
FIGURES = {
    "events": "test/student/psds1/sed_scores_eval",
    "segments": "test/student/segment_f1_macro_thresopt/sed_scores_eval",
    "tags": "test/student/tag_map/desed_task",
}
# Task -> clips that its test scores.
TESTED = {
    "desed2023": 3,  # and one without events, which is left out
    "desed_labelled": 3,
    "maestro_real": 2,
    "urban_sed": 3,
    "tut2017": 2,
    "real_desed": 3,
    "audioset_strong": 4,
    "fsd50k": 4,
}


# ---- of the published sizes, without data


@pytest.fixture
def vocabulary(tmp_path, monkeypatch):
    """FSD50K's list of classes, where its description looks for it."""
    folder = tmp_path / "data" / "FSD50K" / "FSD50K.ground_truth"
    folder.mkdir(parents=True)
    lines = [f'{number},"Class_{number:03d}_(of,many)",/m/{number}\n' for number in range(200)]
    (folder / "vocabulary.csv").write_text("".join(lines))
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")


def configuration(task: str) -> Path:
    return SHIPPED / ("pretrained.yaml" if task == DEFAULT_TASK else f"tasks/{task}.yaml")


@pytest.mark.parametrize("task", supplied_tasks())
def test_each_description_is_whole(task, vocabulary):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = load_config(configuration(task))
    found = config.detection_task
    assert found.name == task
    assert len(found.classes) == config.net.nclass == CLASSES[task]
    assert found.batch and found.validation and found.test and not found.unused
    assert not found.untrained_classes
    assert config.data.audio_max_len == 10
    if task != DEFAULT_TASK:
        assert all(corpus.licence and corpus.originals for corpus in found.corpora)
        # Files of embeddings are named by corpora, and tasks share a folder of them.
        others = {
            one.stem
            for other in supplied_tasks()
            if other != task
            for one in load_config(configuration(other)).detection_task.corpora
        }
        shared = {corpus.stem for corpus in found.corpora} & others
        assert not shared or task.startswith("desed")


def test_corpora_of_one_name_are_the_same_in_all_tasks(monkeypatch):
    """Their embeddings are stored once."""
    published = load_config(SHIPPED / "pretrained.yaml").detection_task
    for task in ("desed2023", "desed_labelled"):
        for corpus in load_config(configuration(task)).detection_task.corpora:
            same = published.corpus(corpus.name)
            for ours, theirs in (
                (corpus.folder, same.folder),
                (corpus.originals, same.originals),
                (corpus.table and corpus.table.path, same.table and same.table.path),
                (corpus.durations, same.durations),
            ):
                assert ours is None or Path(ours) == Path(theirs), corpus.name


@pytest.mark.parametrize("task", supplied_tasks())
def test_a_configuration_is_trained_on_another_task_by_its_name(task, vocabulary):
    """Whose numbers by class and corpus are those of the task."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = load_config(SHIPPED / "mini.yaml", [f"task={task}"])
    assert config.detection_task.name == task
    assert config.net.nclass == len(config.net.median_filter) == CLASSES[task]
    assert config.net.n_RNN_cell == 64  # of confs/mini.yaml


def test_classes_of_a_file_need_the_corpus():
    with pytest.raises(InputError, match=r"vocabulary\.csv: no such file.*get the corpus it bel"):
        load_config(TASKS / "fsd50k.yaml", ["task.root=/nowhere"])


@pytest.mark.parametrize("task", supplied_tasks())
def test_docs_list_each_task(task):
    page = DOCS["tasks"]
    (table,) = (one for one in page.tables() if one.head[:2] == ("task", "classes"))
    (row,) = (row for row in table.rows if row[0] == f"`{task}`")
    assert row[1].startswith(str(CLASSES[task]))
    assert all(row)


# ---- trained on mini trees


def tiny(path: Path, **sections: dict[str, Any]) -> Path:
    """The configuration of a mini tree with a tiny network and one epoch, beside it."""
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    tree["training"].update(
        n_epochs=1,
        n_epochs_warmup=1,
        epoch_decay=1,
        validation_interval=1,
        batch_size_val=8,
        n_test_thresholds=3,
        enable_progress_bar=False,
        mixup="soft",
    )
    tree["net"].update(nb_filters=[4, 4, 4, 8], n_RNN_cell=8)
    tree["energy"] = {"enabled": False}
    for name, values in sections.items():
        tree.setdefault(name, {}).update(values)
    path = path.with_name("tiny.yaml")
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    return path


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    return told


def trained(task: str, folder: Path, run: Run) -> tuple[Path, Path]:
    """Every step up to the test: the configuration, and the run folder."""
    tree = folder / "data" / f"mini_{task}"
    made = ("--mini", "--task", task, "--basedir", tree, "--jobs", 1)
    succeeded(run(GENERATE, *made, cwd=folder))
    uses_embeddings = task in WITH_EMBEDDINGS
    conf = tiny(tree / f"{task}.yaml", net={"use_embeddings": uses_embeddings})
    given = ("--conf_file", conf)
    if uses_embeddings:
        succeeded(run(EXTRACT, *given, cwd=folder))
    checked = succeeded(run(GENERATE, "--check", *given, cwd=folder))
    assert re.search(r"^training can start: 0 errors", checked, re.M), checked
    told = succeeded(run(TRAIN, *given, "--gpus", 0, "--log_dir", folder / "exp", cwd=folder))
    for licence in {corpus.licence for corpus in load_config(conf).detection_task.used}:
        assert f"licence: {licence}" in told
    (found,) = (folder / "exp").glob("version_*")
    return conf, found


def check_scores(task: str, conf: Path, run_folder: Path) -> None:
    """The test scored the clips of its corpora in every way that the description names."""
    parts = load_config(conf).detection_task.test
    results = json.loads((run_folder / "results.json").read_text(encoding="utf-8"))
    for part in parts:
        assert 0 <= results["metrics"][FIGURES[part.kind]] <= 1
        assert results["clips"][part.corpus.name] == TESTED[task]
    # Neither kind is computed where the description does not ask for it.
    asked = {FIGURES[part.kind] for part in parts}
    assert {*FIGURES.values()} & {*results["metrics"]} == asked


def check_events(conf: Path, run_folder: Path, run: Run, folder: Path) -> None:
    """Events of a recording of the test, at its own rate, are of the task's classes."""
    task = load_config(conf).detection_task
    recording = sorted(Path(task.scored_corpora("test")[0].originals).rglob("*.wav"))[0]
    out = ("--output_dir", folder / "out", "--threshold", 0.01, "--gpus", 0)
    succeeded(run(PREDICT, recording, "--checkpoint", run_folder, *out, cwd=folder))
    with (folder / "out" / f"{recording.stem}.tsv").open(encoding="utf-8") as file:
        labels = {row["event_label"] for row in csv.DictReader(file, delimiter="\t")}
    assert labels and labels <= {*task.classes}


@pytest.fixture
def undrawn(request, monkeypatch):
    """Pictures are empty files, as drawing takes most of the time; not for the most classes."""
    if request.node.callspec.params["task"] != "audioset_strong":
        draw_nothing(monkeypatch.setattr)
        for module in (figures, write):
            monkeypatch.setattr(module, "save_figure", lambda _, path: path.write_bytes(b"PNG"))


@pytest.mark.parametrize("task", [task for task in MINI_TREES if task != "urban_sed"])
def test_trained_in_one_process(task, tmp_path, undrawn):
    folder = tmp_path / "ä b"
    folder.mkdir()
    conf, run_folder = trained(task, folder, run_main)
    check_scores(task, conf, run_folder)
    check_events(conf, run_folder, run_main, folder)


def test_trained_through_the_scripts(tmp_path, run_script, monkeypatch):
    monkeypatch.setenv(VARIABLE, "1")
    conf, run_folder = trained("urban_sed", tmp_path, run_script)
    check_scores("urban_sed", conf, run_folder)
    check_events(conf, run_folder, run_script, tmp_path)
    before = json.loads((run_folder / "results.json").read_text())["metrics"]
    given = ("--test_from_checkpoint", run_folder, "--conf_file", conf, "--gpus", 0)
    succeeded(run_main(TRAIN, *given, "--log_dir", tmp_path / "test", cwd=tmp_path))
    (again,) = (tmp_path / "test").rglob("results.json")
    assert json.loads(again.read_text())["metrics"] == before


# ---- what the trees are read as


@pytest.mark.parametrize(("fold", "tested"), [(1, "a001 a003"), (4, "a012")])
def test_a_fold_is_tested_on_its_recordings(streets, fold, tested):
    data = loaded(streets, f"task.fold={fold}")
    (test,) = data.scored("test")
    (validation,) = data.scored("val")
    names = {clip_id.removeprefix("street/") for clip_id in test.clip_ids}
    assert names == {*tested.split()}
    train = data.part(data.task.trained_on[0], "train")
    parts = [{*part.clip_ids} for part in (train, validation, test)]
    assert all(parts) and sum(map(len, parts)) == len(set.union(*parts)) == 6


def loaded(conf: Path, *overrides: str) -> SedDataModule:
    data = SedDataModule(load_config(conf, ["net.use_embeddings=false", *overrides]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.check("fit")
    return data


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    from local.prep.mini_trees.make import make_mini_tree

    return make_mini_tree("tut2017", tmp_path_factory.mktemp("streets") / "x", progress=False)
