"""Keys of stages: what changes them, what does not, and whose test alone runs again."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.plan.folder import BEGUN_FILE, PlanFolder
from local.plan.reading import RecipePlan, read_plan
from local.plan.stages.keys import changes_between, ingredients_of, key_of, trained_with
from local.plan.stages.products import FileDigests

PLAN = """
conf_file: confs/pretrained.yaml
encoders: {beats: {}}
stages:
  files: {kind: embeddings, encoder: beats}
  a: {kind: train, encoder: beats}
  b: {kind: train, encoder: beats, init_from: a}
  labels: {kind: pseudo_labels, checkpoints: a}
  tuned: {kind: tune_boxes, checkpoints: a}
  tested: {kind: test, checkpoints: a, set: {decoder.kind: boxes}}
"""
TASK = "task.corpora.strong_train.drawn_with=[]"


def plan_in(folder: Path, *overrides: str) -> RecipePlan:
    path = folder / "plan.yaml"
    path.write_text(PLAN, encoding="utf-8")
    return read_plan(path, overrides)


def changed(folder: Path, before: tuple[str, ...], now: tuple[str, ...]) -> set[str]:
    """Stages whose keys change with other overrides; of trainings also "NAME itself"."""
    digests = FileDigests(folder / "digests.json")
    inputs = {"a": {"best.ckpt": "0"}}
    keys = []
    for given in (before, now):
        keys.append({})
        for name, stage in plan_in(folder, *given).stages.items():
            found = ingredients_of(stage, stage.config, inputs, digests)
            keys[-1][name] = key_of(found)
            if stage.spec.kind == "train":
                keys[-1][f"{name} itself"] = key_of(trained_with(found, stage.config))
    return {name for name, key in keys[0].items() if keys[1][name] != key}


ALL_TESTS = {"a", "b", "tuned", "tested"}


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        # Names, titles, paths and spelling compute nothing.
        ((TASK,), (TASK, "task.name=other", "task.corpora.weak_train.title=Weak"), set()),
        ((TASK,), (TASK, "task.corpora.weak_train.licence=x"), set()),
        ((), ("training.num_workers=1", "pretrained.extracted_embeddings_dir=x"), set()),
        (("opt.lr=0.0005",), ("opt.lr= 5.0e-4",), set()),
        # What only tests compute with: trainings themselves stay as they are.
        ((), ("training.n_test_thresholds=60",), ALL_TESTS),
        ((), ("predict.hop_s=2.56",), ALL_TESTS | {"files", "labels"}),
        # What trainings compute with.
        ((), (TASK,), {"a", "b", "a itself", "b itself", "labels", "tuned", "tested"}),
    ],
)
def test_what_changes_keys(tmp_path, before, now, expected):
    assert changed(tmp_path, before, now) == expected


def test_a_test_of_other_clips_is_no_other_training(tmp_path):
    stages = plan_in(tmp_path, "task.corpora.weak_train.hop_s=1").stages
    config = stages["a"].config
    names = ["clips of devtest", "labels of devtest", "clips of weak_train", "losses.pseudo"]
    devtest = next(one.name for one in config.detection_task.scored_corpora("test"))
    names = [name.replace("devtest", devtest) for name in names]
    assert list(trained_with(dict.fromkeys(names, 0), config)) == names[2:]


def test_windows_that_are_trained_on_are_the_trainings(tmp_path):
    long = ("task.corpora.weak_train.long=windows",)
    found = changed(tmp_path, long, (*long, "predict.hop_s=2.56"))
    assert {"a itself", "b itself"} <= found


def test_results_of_a_training_do_not_change_what_takes_its_weights(tmp_path):
    stages, digests = plan_in(tmp_path).stages, FileDigests(tmp_path / "digests.json")
    for name in ("b", "labels", "tuned", "tested"):
        stage = stages[name]
        one, other, third = (
            key_of(ingredients_of(stage, stage.config, {"a": of}, digests))
            for of in (
                {"v/best.ckpt": "0", "v/results.json": "1"},
                {"v/best.ckpt": "0"},
                {"v/best.ckpt": "2"},
            )
        )
        assert one == other != third


def test_tables_choose_the_clips_of_embeddings(tmp_path):
    table = tmp_path / "weak.tsv"
    table.write_text("filename\tevent_labels\na.wav\tSpeech\n", encoding="utf-8")
    stage = plan_in(tmp_path, f"data.weak_tsv={table}").stages["files"]
    found = ingredients_of(stage, stage.config, {}, FileDigests(tmp_path / "digests.json"))
    table.write_text("filename\tevent_labels\n", encoding="utf-8")
    now = ingredients_of(stage, stage.config, {}, FileDigests(tmp_path / "digests.json"))
    assert changes_between(found, now) == ["labels of weak_train has changed"]


def test_values_of_the_task_are_named(tmp_path):
    digests = FileDigests(tmp_path / "digests.json")
    one, other = (
        ingredients_of(stage, stage.config, {}, digests)
        for given in ((TASK,), (TASK, "task.corpora.weak_train.consistency=false"))
        for stage in [plan_in(tmp_path, *given).stages["a"]]
    )
    assert changes_between(one, other) == ["task.corpora.weak_train.consistency is false, was true"]


def finish(folder: PlanFolder, name: str):
    """Write what a training writes, as if it had run."""
    stage = folder.plan.stages[name]
    state = folder.state(stage, {})
    folder.claim(state).close()
    folder.begin(stage, state, {})
    run = state.folder / "version_0"
    for file in ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "run.yaml", "results.json"):
        (run / file).parent.mkdir(parents=True, exist_ok=True)
        (run / file).write_text(file, encoding="utf-8")
    for file in ("metrics_test/x", "codecarbon/emissions_baseline_test.csv", "error_report/a"):
        (run / file).parent.mkdir(exist_ok=True)
        (run / file).write_text(file, encoding="utf-8")
    return folder.finish(stage, state)


def test_of_a_training_whose_test_has_changed_only_that_runs_again(tmp_path):
    before = finish(PlanFolder(tmp_path / "plan", plan_in(tmp_path)), "a")
    folder = PlanFolder(tmp_path / "plan", plan_in(tmp_path, "training.n_test_thresholds=60"))
    stage = folder.plan.stages["a"]
    state = folder.state(stage, {})
    run = before.folder / "version_0"
    assert state.trained == run and state.folder != before.folder
    assert state.reason == (
        "training.n_test_thresholds is 60, was the default (only its test, of the training in "
        f"{run})"
    )
    folder.claim(state).close()
    folder.begin(stage, state, {})
    files = {path.name for path in state.folder.rglob("*") if path.is_file()}
    assert files == {
        "best.ckpt",
        "last.ckpt",
        "run.yaml",
        "config.yaml",
        BEGUN_FILE,
        "time.json",
        ".running",
    }
    # Killed and started again: it has its own run now.
    again = folder.state(stage, {})
    assert again.begun and again.trained is None
    # With other values of the training, or a changed checkpoint, it is trained.
    other = PlanFolder(tmp_path / "plan", plan_in(tmp_path, "opt.lr=0.5"))
    assert other.state(other.plan.stages["a"], {}).trained is None
    (run / "checkpoints" / "best.ckpt").write_text("other", encoding="utf-8")
    third = PlanFolder(tmp_path / "plan", plan_in(tmp_path, "training.n_test_thresholds=70"))
    assert third.state(third.plan.stages["a"], {}).trained is None
