"""Stage two for decoders, from the command line to a test of best.yaml."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import yaml

from desed_task.errors import InputError
from desed_task.postprocess.calibration import Calibration
from local import run
from local.classes_dict import DESED_CLASSES
from local.config import check_config, load_config
from local.tuning.decoders.stage import DecoderTuning, tune_decoder
from local.tuning.median_stage import tune_medians
from local.tuning.search_space import DEFAULT_FILE, Dimension, Space
from local.tuning.training_stage import TuningPlan
from local.tuning.tune import tune
from optuna_pretrained import parse_args

pytestmark = pytest.mark.usefixtures("undrawn", "few_resamples")

CPU = torch.device("cpu")
MEDIANS = Space(
    tuple(Dimension(f"net.median_filter.{c}", "int", 1, 9, 4) for c in ("Speech", "car"))
)
LABELS = ("Speech", "Dog", "Cat")
BOXES = Space(
    (
        *(
            Dimension(f"decoder.step_filter_s.{c}", "categorical", choices=(0.3, 0.6))
            for c in LABELS
        ),
        *(Dimension(f"decoder.merge_abs.{c}", "categorical", choices=(None, 0.1)) for c in LABELS),
        *(Dimension(f"decoder.merge_rel.{c}", "categorical", choices=(None, 2.0)) for c in LABELS),
    )
)


@pytest.fixture
def plan(extracted, tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    # A low threshold, as one epoch teaches little.
    config = load_config(extracted, ["energy.enabled=false", "predict.threshold=0.02"])
    return TuningPlan(config, BOXES, tmp_path, url, "tuning_boxes", 3)


@pytest.mark.parametrize("swept", [True, False])
def test_best_yaml_gives_in_a_test_what_the_tuner_said(swept, plan, checkpoint, capsys):
    asked = DecoderTuning(
        "boxes", MEDIANS, swept=swept, threshold_metric="intersection", n_folds=2, n_resamples=100,
        calibration="temperature",
    )  # fmt: skip
    best = tune_decoder(plan, checkpoint, (), asked, CPU)
    said = capsys.readouterr().out
    folder = plan.log_dir / "report_boxes"
    content = json.loads((folder / "comparison.json").read_text())
    rows = {(row["decoder"], row["tuned"]): row for row in content["rows"]}
    ways = ("held-out", "cross-fitted", "oracle")
    assert set(rows) == {
        ("checkpoint's own", ""),
        *((kind, way) for kind in ("median", "boxes") for way in ways),
    }
    oracles = [row["oracle"] for row in content["rows"]]
    assert oracles == [False, False, False, True, False, False, True]
    assert len(rows["boxes", "cross-fitted"]["fits"]) == content["folds"] == 2
    assert {one["metric"] for one in content["differences"]} >= {"psds1", "collar_f1"}
    assert "oracle: tuned on the clips that are scored; not a result to report" in said
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    table = (folder / "comparison.tsv").read_text().splitlines()
    assert table[0].split("\t") == ["decoder", "tuned", "metric", "value", "low", "high"]
    assert "candidate" in (folder / "candidates.tsv").read_text()
    if not swept:
        assert (folder / "trials.tsv").is_file()
        return  # What follows does not depend on how the candidates were found.
    # best.yaml names every DESED class, and a test of it gives the same figures.
    tree = yaml.safe_load(best.read_text())
    assert set(DESED_CLASSES) <= set(tree["decoder"]["step_filter_s"])
    assert tree["tuned"]["network"] == "teacher" and tree["tuned"]["objective"] == "held_out"
    assert Calibration.from_plain(tree["tuned"]["calibration"]).kind == "temperature"
    config = load_config(best)
    tested = run.test(config, str(checkpoint), run.RunOptions(str(plan.log_dir / "test")))
    metrics = json.loads((tested / "results.json").read_text())["metrics"]
    told = rows["boxes", "held-out"]["values"]
    for name, full in {
        "psds1": "psds1/sed_scores_eval",
        "psds2": "psds2/sed_scores_eval",
        "collar_f1": "collar_f1_macro_thres05/sed_scores_eval",
        "intersection_f1": "intersection_f1_macro_thres05/sed_scores_eval",
        "collar_f1_tuned": "collar_f1_macro_tuned/desed_task",
        "intersection_f1_tuned": "intersection_f1_macro_tuned/desed_task",
        "mpauc": "segment_mpauc/sed_scores_eval",
    }.items():
        assert metrics[f"test/teacher/{full}"] == pytest.approx(told[name], abs=1e-9), name
    # What does not change segments: their figures are the checkpoint's own.
    own = rows["checkpoint's own", ""]["values"]
    assert told["mpauc"] == own["mpauc"]
    # Another checkpoint, if only by a byte, has no tuned thresholds.
    other = plan.log_dir / "other.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    torch.save(content | {"note": 1}, other)
    tested = run.test(config, str(other), run.RunOptions(str(plan.log_dir / "other")))
    metrics = json.loads((tested / "results.json").read_text())["metrics"]
    assert not any("tuned" in name for name in metrics)


def test_a_search_without_steps_has_no_cross_fitting(plan, checkpoint, capsys):
    endless = Space((Dimension("decoder.threshold.Speech", "float", 0.01, 0.9),))
    plan = replace(plan, space=endless, study_name="tuning_threshold_boxes", n_trials=2)
    given = {"Dog": 0.3, "car": 0.4}
    tree = plan.config.dump()
    tree["predict"]["threshold"] = given
    plan = replace(plan, config=check_config(tree, ""))
    asked = DecoderTuning("threshold_boxes", MEDIANS, False, None, None, 0)
    best = tune_decoder(plan, checkpoint, (), asked, CPU)
    said = capsys.readouterr().out
    assert "not cross-fitted: decoder.threshold.Speech: has no step" in said
    content = json.loads((plan.log_dir / "report_threshold_boxes/comparison.json").read_text())
    rows = [(row["decoder"], row["tuned"]) for row in content["rows"]]
    assert rows[-1] == ("threshold_boxes", "held-out")
    assert [row for row in rows if row[0] == "threshold_boxes"] == rows[-1:]
    # Thresholds of predict.py that were not tuned are not called so.
    config = load_config(best)
    assert config.predict.threshold == given and config.tuned.threshold_metric == ""
    tested = run.test(config, str(checkpoint), run.RunOptions(str(plan.log_dir / "test")))
    metrics = json.loads((tested / "results.json").read_text())["metrics"]
    assert not any("tuned" in name for name in metrics)
    told = content["rows"][-1]["values"]["psds1"]
    assert metrics["test/teacher/psds1/sed_scores_eval"] == pytest.approx(told, abs=1e-9)


def test_what_is_tuned_on_dev_test_is_called_an_oracle(plan, checkpoint, capsys):
    plan = replace(plan, objective="test")
    asked = DecoderTuning("boxes", MEDIANS, True, "intersection", 0, 0)
    best = tune_decoder(plan, checkpoint, (), asked, CPU)
    assert "PSDS1 on test (oracle): " in best.read_text().splitlines()[0]
    assert "cross-fitted" not in capsys.readouterr().out
    tested = run.test(
        load_config(best), str(checkpoint), run.RunOptions(str(plan.log_dir / "test"))
    )
    content = json.loads((tested / "results.json").read_text())
    assert content["tuned_on"] == "test"
    assert "oracle: the decoder was tuned on the test set" in capsys.readouterr().out
    metrics = content["metrics"]
    assert "test/teacher/collar_f1_macro_tuned_oracle/desed_task" in metrics
    assert "test/teacher/collar_f1_macro_tuned/desed_task" not in metrics
    # What is tuned begins from the values of the configuration.
    told = r"tuned\.objective test: the values of this configuration"
    with pytest.raises(InputError, match=told):
        tune_decoder(replace(plan, config=load_config(best)), checkpoint, (), asked, CPU)
    again = replace(plan, config=load_config(best), objective="held_out", space=MEDIANS)
    with pytest.raises(InputError, match=told):
        tune_medians(again, checkpoint, (), swept=True, device=CPU)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--decoder", "boxes"], "--decoder boxes: belongs to stage two"),
        (["--folds", "5"], "--folds 5: belongs to stage two"),
        (["--calibrate", "isotonic"], "--calibrate isotonic: belongs to stage two"),
        (["--test_from_checkpoint", "x.ckpt", "--folds", "1"], "--folds 1: give 2 or more, or 0"),
        (["--test_from_checkpoint", "x.ckpt", "--resamples", "7"], "--resamples 7: give 100"),
    ],
)
def test_flags_that_do_not_fit(flags, told, extracted, tmp_path):
    args = parse_args(["--conf_file", str(extracted), "--log_dir", str(tmp_path / "t"), *flags])
    with pytest.raises(InputError, match=told):
        tune(args)


def test_a_table_of_the_user_is_not_replaced_by_a_calibration(extracted, checkpoint, tmp_path):
    table = tmp_path / "report_boxes" / "calibration.tsv"
    table.parent.mkdir()
    table.write_text("mine")
    words = ["--conf_file", extracted, "--space", DEFAULT_FILE, "--log_dir", str(tmp_path)]
    words += ["--test_from_checkpoint", checkpoint, "--decoder", "boxes", "--calibrate", "isotonic"]
    with pytest.raises(InputError, match=r"would be replaced(.|\n)*calibration\.tsv"):
        tune(parse_args([str(word) for word in words]))
    assert table.read_text() == "mine"


def space_file(tmp_path, lines):
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump({"optuna": {"postprocessing": lines}}))
    return path


def test_lines_belong_to_their_decoder(tmp_path):
    lines = {
        "net.median_filter.Dog": {"kind": "int", "low": 1, "high": 3},
        "decoder.threshold.*": {"kind": "categorical", "choices": [0.3]},
    }
    path = space_file(tmp_path, lines)
    paths = [one.path for one in Space.load(path, "postprocessing").dimensions]
    assert paths == ["net.median_filter.Dog"]
    found = Space.load(path, "postprocessing", "threshold_boxes").dimensions
    assert [one.path.rpartition(".")[2] for one in found] == list(DESED_CLASSES)
    # Lines of boxes are those of the recipe.
    assert Space.load(path, "postprocessing", "boxes") == Space.load(
        DEFAULT_FILE, "postprocessing", "boxes"
    )


@pytest.mark.parametrize(
    ("line", "choices", "told"),
    [
        ("decoder.step_filter_s.*", [0.3, -1.0], "step_filter_s is -1.0"),
        ("decoder.merge_rel.Dog", ["much"], "merge_rel"),
        ("decoder.kind.Dog", ["boxes"], "no such value of a decoder that can be tuned"),
        (
            "decoder.merge_abs.car",
            [0.1],
            "no events of car are scored, so no decoder matters",
        ),
        ("decoder.merge_abs.Katze", [0.1], "'Katze' is not a class"),
        ("decoder.merge_abs", [0.1], "'' is not a class"),
    ],
)
def test_values_out_of_range(line, choices, told, extracted, tmp_path):
    path = space_file(tmp_path, {line: {"kind": "categorical", "choices": choices}})
    with pytest.raises(InputError, match=told):
        Space.load(path, "postprocessing", "boxes").check(load_config(extracted), str(path))


def test_stage_one_tunes_no_decoder(tmp_path):
    path = tmp_path / "space.yaml"
    line = {"decoder.merge_abs.*": {"kind": "categorical", "choices": [0.1]}}
    path.write_text(yaml.safe_dump({"optuna": {"training": line}}))
    with pytest.raises(InputError, match="decoder is not a section that can be tuned"):
        Space.load(path, "training")
