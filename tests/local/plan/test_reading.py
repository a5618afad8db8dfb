"""Plan files: supplied ones, and everything that is wrong with others at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from desed_task.audio.files import write_wav
from desed_task.errors import InputError
from local.config import SHIPPED
from local.plan.graph import depending_on, find_cycle, levels_of
from local.plan.reading import PLANS, flow_text, read_plan
from local.plan.stages.commands import command_of
from local.plan.stages.keys import ingredients_of, key_of
from local.plan.stages.products import FileDigests
from local.schema.overrides import apply_override

CONF = SHIPPED / "mini.yaml"
BASE = "conf_file: confs/mini.yaml\nencoders: {beats: {}}\n"


def problems_of(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        read_plan(path)
    heading, *lines = str(refused.value).splitlines()
    assert heading == f"{path} cannot be used:"
    return [line.removeprefix("  - ") for line in lines]


def test_every_plan_of_the_folder_is_supplied():
    plans = {path.name for path in SHIPPED.glob("*.yaml") if "\nstages:" in path.read_text("utf-8")}
    assert plans == set(PLANS)


@pytest.mark.parametrize("name", PLANS)
def test_all_configurations_of_supplied_plans_can_be_built(name):
    plan = read_plan(SHIPPED / name)
    kinds = [stage.spec.kind for stage in plan.stages.values()]
    trained = {name: one for name, one in plan.stages.items() if one.spec.kind == "train"}
    assert {"train", "pseudo_labels", "tune_boxes", "test", "report"} <= set(kinds)
    # Second stages are fine-tuned from first ones of their encoder; pseudo-labels have a weight.
    for stage in trained.values():
        config, first = stage.config, stage.spec.init_from
        assert config.pretrained.freezed == (first is None)
        assert (config.losses.pseudo > 0) == (stage.spec.pseudo_labels is not None)
        weights = config.losses.corpora
        labelled = {one.name for one in config.detection_task.trained_on if one.labels != "none"}
        assert set(weights) == labelled
        if first is not None:
            assert trained[first].config.pretrained.model == config.pretrained.model
            assert config.training.consistency == "ict" and config.augment.mixup_prob > 0
    (labels,) = (one for one in plan.stages.values() if one.spec.kind == "pseudo_labels")
    assert len(labels.spec.checkpoints) == len({one.spec.encoder for one in trained.values()})


def test_the_published_values_of_the_winning_recipe():
    stages = read_plan(SHIPPED / "winning.yaml").stages
    first, second = stages["atst_i2_s1"].config, stages["atst_i2_s2"].config
    beats = stages["beats_i2_s2"].config
    rows = {"maestro_real_train": 7, "strong_train": 5, "synth_train": 5, "weak_train": 9}
    parts = {part.corpora: part.rows for part in second.detection_task.batch}
    assert {one.name: n for (one, *rest), n in parts.items() if not rest}.items() >= rows.items()
    assert second.training.accumulate_batches * second.training.batch_size[0] == 56
    assert beats.training.accumulate_batches * beats.training.batch_size[0] == 108
    assert (second.opt.lr_cnn, second.opt.lr_heads, second.opt.layer_decay) == (1e-5, 1e-4, 0.5)
    assert (beats.opt.lr_cnn, beats.opt.lr_heads, beats.opt.layer_decay) == (5e-5, 5e-4, 1.0)
    assert first.losses.pseudo == 1.5 and first.training.const_max == 0.1
    assert first.augment.mixstyle_prob == 0 and stages["beats_i2_s1"].config.augment.mixstyle_prob
    assert stages["beats_i2_s1"].config.losses.corpora["synth_train"] == 0.08
    # Aliases both ways: DESED's corpora know and have MAESTRO's two labels, and are scored without.
    task = first.detection_task
    desed = [one for one in task.trained_on if one.name != "maestro_real_train"]
    assert len(desed) == 4
    for corpus in desed:
        assert {"Speech", "people talking", "cutlery and dishes"} <= set(corpus.known)
        aliases = (("Dishes", "cutlery and dishes"), ("Speech", "people talking"))
        assert corpus.aliases == (() if corpus.labels == "none" else aliases)
    for part in (*task.scored("val"), *task.scored("test")):
        if part.corpus.name in {"synth_val", "devtest", "weak_train"}:
            assert len(part.classes) == 10, part


def test_a_training_depends_on_its_device_responses_and_given_pseudo_labels(tmp_path):
    """What the configuration names by a path is compared by its content."""
    text = f"""
conf_file: {CONF}
stages:
  a: {{kind: train, set: {{augment.device_prob: 0.5, augment.device_dir: {tmp_path}/d,
    net.use_embeddings: false, losses.pseudo: 1, training.pseudo_labels: {tmp_path}/p}}}}
"""
    (tmp_path / "plan.yaml").write_text(text)
    for folder in ("d", "p"):
        (tmp_path / folder).mkdir()
    responses, labels = tmp_path / "d" / "ö.wav", tmp_path / "p" / "strong_train.hdf5"
    write_wav(responses, np.ones(9, dtype=np.float32), 16000, "FLOAT")
    labels.write_bytes(b"one")
    (stage,) = read_plan(tmp_path / "plan.yaml").stages.values()
    keys = []
    for change in (
        lambda: None,
        lambda: write_wav(responses, np.ones(8, dtype=np.float32), 16000, "FLOAT"),
        lambda: labels.write_bytes(b"other"),
        lambda: labels.rename(labels.with_name("weak_train.hdf5")),
    ):
        change()
        digests = FileDigests(tmp_path / "digests.json")
        keys.append(key_of(ingredients_of(stage, stage.config, {}, digests)))
    assert len(set(keys)) == 4


def test_all_problems_are_told_at_once(tmp_path):
    text = f"""{BASE}
settings: {{unused: {{opt.lr: 1}}, bad: {{training.n_epochs: -1, net.dropuot: 0}}}}
stages:
  a: {{kind: train, encoder: beat, init_form: b}}
  b: {{kind: train, encoder: beats, settings: [bad, absent], init_from: c}}
  c: {{kind: pseudo_labels, checkpoints: [gone, gone]}}
  d: {{kind: tset, checkpoints: [b]}}
  e: {{kind: report, runs: []}}
  "x/y": {{kind: generate}}
  f: {{kind: test, checkpoints: [b], encoder: beats, boxes: b}}
  g: {{kind: train, set: {{lr: 3}}}}
"""
    found = "\n".join(problems_of(tmp_path, text))
    for told in (
        "stages.a.init_form: unknown key (value 'b'); did you mean init_from?",
        "stages.b.init_from: c is of the kind pseudo_labels; name one of train",
        "stages.b: absent is not one of the plan's settings; known: unused, bad",
        "training.n_epochs: ",
        "net.dropuot: unknown key",
        "stages.c.checkpoints: names a stage twice",
        "stages.c.checkpoints: there is no stage gone; known: a, b, c",
        "stages.d.kind: 'tset': unknown kind; known: generate, embeddings, train",
        "stages.e.runs: ",
        "stages.x/y: a stage's name is one of its folder; use letters, digits, _, - and .",
        "stages.f.encoder: only embeddings and train take one",
        "stages.f.boxes: b is of the kind train; name one of tune_boxes",
        "stages.g: --set lr=3: write it as section.key=value",
    ):
        assert told in found


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        (
            "{a: {kind: train, init_from: b}, b: {kind: train, needs: a}}",
            "stages need each other in a circle: a -> b -> a; break it",
        ),
        ("{a: {kind: train}}", "encoders.beats: no stage uses it"),
        (
            "{a: {kind: train, encoder: beats}, b: {kind: report, runs: a, resamples: 20}}",
            "stages.b.resamples: give 100 or more, or 0 for no intervals (value 20)",
        ),
        (
            "{a: {kind: train, encoder: beats}, b: {kind: report, runs: a, set: {opt.lr: 1}}}",
            "stages.b.set: a stage of the kind report has no configuration; leave it out",
        ),
        (
            "{a: {kind: generate, settings: s}, b: {kind: train, encoder: beats}}\n"
            "settings: {s: {opt.lr: 1}}",
            "stages.a.settings: a stage of the kind generate has no configuration; leave it out",
        ),
        ("{}", "stages: "),
        (
            "{a: {kind: train, encoder: beats, set: {logging.wandb: {api_key: s3cretkey}}}}",
            "logging has a password or key, and a plan writes configurations to disk",
        ),
        (
            "{a: {kind: pseudo_labels, checkpoints: b}, b: {kind: train, encoder: beats}, "
            "c: {kind: train, pseudo_labels: a, set: {training.pseudo_labels: x}}}",
            "pseudo_labels of the stage names them; leave out training.pseudo_labels",
        ),
    ],
)
def test_problems(tmp_path, stages, told):
    assert told in "\n".join(problems_of(tmp_path, f"{BASE}stages: {stages}\n"))


def test_other_files_are_no_plans(tmp_path):
    for text in ("- a\n", "net: {dropout: 0.1}\n"):
        (tmp_path / "plan.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=r"is not a plan \(conf_file:"):
            read_plan(tmp_path / "plan.yaml")
    with pytest.raises(InputError, match=r"no such plan.*winning\.yaml, confs/mini_winning\.yaml"):
        read_plan("absent")


def test_order():
    needs = {"c": ["a", "b"], "b": ["a"], "a": [], "d": ["a"]}
    assert find_cycle(needs) == []
    assert find_cycle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    assert levels_of(needs) == (("a",), ("b", "d"), ("c",))
    assert depending_on(["b"], needs) == {"c"} and depending_on(["a"], needs) == {"b", "c", "d"}


@pytest.mark.parametrize("value", [1e-05, None, [1, 2.5], {"a b": [True]}, "ä: x", "1e-5", 0.1])
def test_values_survive_as_text_on_one_line(value):
    tree: dict = {}
    apply_override(tree, f"a.b={flow_text(value)}")
    assert tree == {"a": {"b": value}}
    assert "\n" not in flow_text(value) and yaml.safe_load(flow_text(value)) == value


def test_stages_that_do_not_fit_what_they_name_are_told_before_they_run(tmp_path):
    text = """conf_file: confs/mini.yaml
encoders: {beats: {}, atst: {model: atst_frame}}
settings: {e2e: {pretrained.e2e: true, data.packed_dir: null}}
stages:
  a: {kind: train, encoder: beats, settings: e2e}
  b: {kind: train, encoder: atst, init_from: a, settings: e2e, set: {net.n_RNN_cell: 8}}
  fits: {kind: train, encoder: beats, init_from: a, settings: e2e, set: {net.dropout: 0.3}}
  tuned: {kind: tune_boxes, checkpoints: a}
  both: {kind: tune_boxes, checkpoints: [a, b]}
  right: {kind: test, checkpoints: a, boxes: tuned}
  other: {kind: test, checkpoints: [a, b], boxes: tuned}
"""
    first, second, third, fourth = problems_of(tmp_path, text)
    assert first.startswith("stages.b.init_from: a has net.n_RNN_cell: ") and "is 8;" in first
    assert second.startswith("stages.b.init_from: a takes embeddings of beats, here they are of at")
    assert third.startswith("stages.both.checkpoints: boxes are tuned for one checkpoint, and 2 ")
    assert fourth.startswith("stages.other.boxes: what tuned tunes belongs to a, and a, b would be")


def test_tests_do_not_name_encoders_which_checkpoints_know(tmp_path):
    path = tmp_path / "plan.yaml"
    text = f"""{BASE}
stages:
  a: {{kind: train, encoder: beats}}
  b: {{kind: test, checkpoints: a, set: {{decoder.kind: boxes}}}}
"""
    path.write_text(text, encoding="utf-8")
    given = ("pretrained.checkpoint=ä.pt", "pretrained.n_blocks=1", "training.num_workers=0")
    stage = read_plan(path, given).stages["b"]
    words = command_of(stage, tmp_path, {}, {"a": tmp_path / "a.ckpt"}).arguments
    assert words[-4:] == ("--set", "decoder.kind=boxes", "--set", "training.num_workers=0")
    assert not any(word.startswith("pretrained.") for word in words)
