"""Which of flags, `--set`, tuned values and the configuration counts for events."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from desed_task.atomic_files import sha256_of
from desed_task.errors import InputError
from desed_task.inference.tuned_values import PostProcessing
from desed_task.postprocess.calibration import Calibration, IsotonicCurve
from desed_task.postprocess.decoders import DecoderSettings
from desed_task.postprocess.event_rules import EventRules
from local.cli.arguments import command_parser, parse_merged_classes
from local.config import load_config
from local.predict.decoding.choice import chosen_decoding
from local.predict.decoding.settings import unread_line
from local.predict.flags import DECODERS, check_values, parse_predict_args

PER_CLASS = ("threshold", "low_threshold", "min_duration_s", "merge_gap_s")
CONF = str(Path(__file__).resolve().parents[4] / "confs" / "mini.yaml")


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "prüf.ckpt"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def best(tmp_path, checkpoint):
    """A tuned file of the teacher: boxes, thresholds, a calibration."""
    tree = load_config(CONF).dump()
    tree["decoder"] |= {"kind": "boxes", "merge_rel": 1.5}
    tree["predict"]["threshold"] = {"Dog": 0.3, "Speech": 0.4}
    labels = {"Dog": 60}
    calibration = Calibration("isotonic", {}, IsotonicCurve((0.1,), (0.2,)), labels)
    tree["tuned"] = {
        "checkpoint_sha256": sha256_of(checkpoint),
        "network": "teacher",
        "calibration": calibration.to_plain(),
    }
    path = tmp_path / "best.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def chosen(checkpoint, *flags, conf=CONF):
    argv = ["a.wav", "--checkpoint", str(checkpoint), "--conf_file", conf, *map(str, flags)]
    args = parse_predict_args(command_parser(""), argv)
    check_values(args)
    return chosen_decoding(args, load_config(conf, args.overrides))


def test_without_flags_nothing_is_chosen(checkpoint):
    found = chosen(checkpoint)
    assert (found.role, found.threshold, found.tuned) == ("student", 0.5, None)
    assert found.rules == EventRules() and found.rules.given == {}
    assert found.decoder == {} and found.calibrated is None


def test_flags_come_before_the_configuration(checkpoint):
    sets = [
        *("--set", "predict.min_duration_s={Dog: 0.1}", "--set", "predict.merge_gap_s=0.5"),
        *("--set", "predict.low_threshold=0.3"),
        *("--set", "predict.merged_classes={Tür: [Cat, door opens/closes]}"),
    ]
    below = chosen(checkpoint, *sets).rules
    assert below.given == {
        "low_threshold": 0.3,
        "min_duration_s": {"Dog": 0.1},
        "merge_gap_s": 0.5,
        "merged_classes": {"Tür": ["Cat", "door opens/closes"]},
    }
    flags = ("--min_duration", "0.2", "--merge_gap", "Cat=1,door opens/closes=2")
    above = chosen(checkpoint, *sets, *flags, "--merge_classes", "pets=Dog+Cat").rules
    assert above.given == {
        "low_threshold": 0.3,
        "min_duration_s": 0.2,
        "merge_gap_s": {"Cat": 1, "door opens/closes": 2},
        "merged_classes": {"pets": ["Dog", "Cat"]},
    }


def test_tuned_values_come_before_the_configuration(checkpoint, best):
    found = chosen(checkpoint, "--tuned", best)
    assert found.tuned is not None and found.tuned.decoder["merge_rel"] == 1.5
    assert (found.role, found.threshold) == ("teacher", {"Dog": 0.3, "Speech": 0.4})
    assert found.tuned.calibration.labels == ("Dog",)
    assert chosen(checkpoint, "--tuned", best, "--model", "student").role == "student"
    assert chosen(checkpoint, "--tuned", best, "--threshold", "0.7").threshold == 0.7
    one = chosen(checkpoint, "--tuned", best, "--threshold", "Dog=0.6,Cat=0.2").threshold
    assert one == {"Dog": 0.6, "Cat": 0.2, "Speech": 0.4}
    sets = ("--set", "predict.threshold=0.1")
    assert chosen(checkpoint, "--tuned", best, *sets).threshold == 0.1
    over = chosen(checkpoint, "--tuned", best, *sets, "--threshold", "Dog=0.6").threshold
    assert (over["Dog"], over["Speech"], len(over)) == (0.6, 0.1, 27)
    assert chosen(checkpoint, *sets, "--threshold", "Dog=0.6").threshold == {"Dog": 0.6}
    sets = ("--set", "decoder.merge_rel=3", "--set", "decoder.kind=boxes")
    other = chosen(checkpoint, "--tuned", best, *sets, "--decoder", "median")
    assert other.decoder == {"merge_rel": 3, "kind": "median"}
    for word, value in (("score", False), ("calibrated", True)):
        assert chosen(checkpoint, "--confidence", word).calibrated is value


def test_tuned_values_given_as_a_configuration_are_named(checkpoint, best, capsys):
    found = chosen(checkpoint, conf=str(best))
    assert found.tuned is None and found.decoder == {}
    told = capsys.readouterr().out
    assert f"calibration are not used; --tuned {best} uses what was tuned for a checkpoint" in told


def test_the_decoder_of_a_configuration_is_told(checkpoint, best, tmp_path, capsys):
    tree = load_config(CONF).dump()
    tree["decoder"] |= {"kind": "boxes", "merge_rel": 3.0}
    path = tmp_path / "bôxes.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    found = chosen(checkpoint, "--set", "decoder.merge_abs=0.2", conf=str(path)).decoder
    assert (found["kind"], found["merge_rel"], found["merge_abs"]) == ("boxes", 3.0, 0.2)
    told = capsys.readouterr().out
    assert "bôxes.yaml: events are decoded by boxes, as this configuration says" in told
    assert chosen(checkpoint, "--tuned", best, conf=str(path)).decoder == {}
    assert chosen(checkpoint, "--decoder", "median", conf=str(path)).decoder["kind"] == "median"


def test_tuned_files_that_cannot_be_used(checkpoint, best, tmp_path):
    with pytest.raises(InputError, match=r"--tuned .*none.yaml: no such file"):
        chosen(checkpoint, "--tuned", tmp_path / "none.yaml")
    with pytest.raises(InputError, match="contains nothing that was tuned for a checkpoint"):
        chosen(checkpoint, "--tuned", CONF)
    other = tmp_path / "other.ckpt"
    other.write_bytes(b"other weights")
    with pytest.raises(InputError, match=r"best.yaml: tuned for another checkpoint"):
        chosen(other, "--tuned", best)
    tree = yaml.safe_load(best.read_text("utf-8"))
    tree["tuned"]["calibration"]["pooled"]["probability"] = [1.2]
    best.write_text(yaml.safe_dump(tree), encoding="utf-8")
    with pytest.raises(
        InputError,
        match=r"tuned.calibration: pooled: probability: .*numbers from 0 to 1; tune again",
    ):
        chosen(checkpoint, "--tuned", best)


@pytest.mark.parametrize(
    ("texts", "merged"),
    [
        (["alarm=A+B"], {"alarm": ("A", "B")}),
        (
            ["any door = door opens/closes + B , x=C"],
            {"any door": ("door opens/closes", "B"), "x": ("C",)},
        ),
        (["a=A", "b=B"], {"a": ("A",), "b": ("B",)}),
        (
            ["a=Beep, bleep+Bell,new b = Buzz+Bee, wasp, etc."],
            {"a": ("Beep, bleep", "Bell"), "new b": ("Buzz", "Bee, wasp, etc.")},
        ),
        (["a="], {"a": ()}),
        ([], {}),
    ],
)
def test_merged_classes_of_the_command_line(texts, merged):
    assert parse_merged_classes(texts) == merged


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--merge_classes", "A+B"), "--merge_classes A.B: 'A.B' is not a new name and classes"),
        (("--merge_classes", "a=A", "--merge_classes", "a=B"), "names 'a' twice"),
        (("--merge_gap", "long"), "--merge_gap long: 'long' is not a number"),
        (("--min_duration", "Dog=0.1,Dog=0.2"), "--min_duration .*: names 'Dog' twice"),
        (("--low_threshold", "Dog="), "--low_threshold Dog=: '' is not a number"),
    ],
)
def test_values_that_cannot_be_read(checkpoint, flags, message):
    with pytest.raises(InputError, match=message):
        chosen(checkpoint, *flags)


def test_the_flag_knows_every_decoder():
    from desed_task.postprocess.decoders import KINDS

    assert DECODERS == KINDS


def test_a_configuration_may_name_classes_of_every_detector():
    """AudioSet's and mapped ones, as pages export them; merged ones may have their names."""
    names = ["Accelerating, revving, vroom", "Dog", "dog_bark", "people walking"]
    members = ["Alarm clock", "Beep, bleep"]
    overrides = [f"predict.{key}={json.dumps(dict.fromkeys(names, 0.25))}" for key in PER_CLASS]
    merged = json.dumps({"Alarm_bell_ringing": members, "Krach": ["Dog"]})
    config = load_config(CONF, [*overrides, f"predict.merged_classes={merged}"]).predict
    assert all(list(getattr(config, key)) == names for key in PER_CLASS)
    assert config.merged_classes["Alarm_bell_ringing"] == tuple(members)
    # One of AudioSet's names for classes of the recipe, as before.
    own = load_config(CONF, ["predict.merged_classes={Alarm: [Alarm_bell_ringing, Blender]}"])
    assert own.predict.merged_classes["Alarm"] == ("Alarm_bell_ringing", "Blender")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("predict.threshold={Beep: 0.3}", "names unknown classes: Beep"),
        ("predict.merged_classes={x: [Beep]}", "x: unknown label 'Beep'; similar: .*Beep, bleep"),
        ("predict.merged_classes={Cat: [Bark, Cat]}", "unknown label 'Cat'"),
        ("predict.min_duration_s=-1", "min_duration_s"),
        ("predict.merge_gap_s={Dgo: 1}", "names unknown classes: Dgo"),
        ("predict.low_threshold=1.5", "low_threshold"),
        ("predict.merged_classes={Dog: [Cat]}", "'Dog' is the name of a class"),
        ("predict.merged_classes={x: []}", "x is made of no class"),
        ("tuned.calibration={kind: x}", "tuned.calibration"),
        ("tuned.network=both", "tuned.network"),
    ],
)
def test_keys_that_cannot_be_meant(override, message):
    with pytest.raises(InputError, match=message):
        load_config(CONF, [override])


def test_only_the_decoder_in_force_is_told(checkpoint, tmp_path, capsys):
    tree = load_config(CONF).dump()
    tree["decoder"] |= {"kind": "threshold_boxes", "threshold": 0.3}
    path = tmp_path / "boxes.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    assert chosen(checkpoint, "--decoder", "median", conf=str(path)).decoder["kind"] == "median"
    assert "decoded by" not in capsys.readouterr().out


def test_values_that_nothing_reads_are_named(checkpoint, capsys):
    """Classes, filters and front end are those of the checkpoint, whatever `--set` says."""
    filters = f"net.median_filter={[1] * 27}"
    sets = ("--set", filters, "--set", "predict.threshold=0.2", "--set", "decoder.kind=boxes")
    chosen(checkpoint, *sets)
    told = capsys.readouterr().out
    assert "as their checkpoints say: --set net.median_filter is not used" in told
    argv = ["--export", "onnx", "--checkpoint", str(checkpoint), "--decoder", "boxes", *sets]
    check_values(parse_predict_args(command_parser(""), argv))
    told = capsys.readouterr().out
    assert "without events: --decoder is not used" in told
    unused = "--set net.median_filter, --set predict.threshold, --set decoder.kind are not used"
    assert unused in told


@pytest.mark.parametrize(
    ("kind", "unread"),
    [
        ("median", "merge_rel, --set decoder.threshold are"),
        ("boxes", "threshold is"),
        ("threshold_boxes", "merge_rel is"),
    ],
)
def test_values_of_other_decoders_are_named(kind, unread):
    detector = SimpleNamespace(
        post_processing=PostProcessing(DecoderSettings(kind=kind), median_filter=(1,))
    )
    sets = ["decoder.kind=x", "decoder.merge_rel=3", "predict.hop_s=5", "decoder.threshold=0.2"]
    told = f"events are decoded by {kind}: --set decoder.{unread} not used"
    assert unread_line(detector, sets) == told
    assert unread_line(detector, sets[:1]) == ""
