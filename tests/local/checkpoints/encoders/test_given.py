"""Which files of weights a command names."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest

from local.checkpoints.encoders.given import chosen_weights
from local.config import load_config
from local.predict.flags import parse_predict_args

MINI = Path(__file__).resolve().parents[4] / "confs" / "mini.yaml"
BOTH = ("pretrained.model=[beats, m2d]", "pretrained.beats_checkpoint=b.pt")
USUAL = "./pretrained_models/M2D_strong_1.pt"


def chosen(words=None, overrides=(), conf_file=None, configured=()):
    config = load_config(MINI, [*configured, *overrides])
    args = Namespace(pretrained_model=words, overrides=list(overrides), conf_file=conf_file)
    return chosen_weights(config, args)


def test_files_may_be_repeated_or_have_commas_between(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ein Ä,zwei.pt").touch()
    assert chosen(["a.pt"]) == ["a.pt"]
    assert chosen(["a.pt,b.pt", "c.pt"]) == ["a.pt", "b.pt", "c.pt"]
    assert chosen(["ein Ä,zwei.pt"]) == ["ein Ä,zwei.pt"]
    # What names no file is not taken for nothing said.
    assert chosen([","]) == [","] and chosen([""]) == [""]


def test_a_word_or_a_configuration_stands_for_the_files_of_the_configuration():
    wanted = {"beats": "b.pt", "m2d": USUAL}
    assert chosen(["beats"], configured=BOTH) == wanted
    assert chosen(conf_file="x.yaml", configured=BOTH) == wanted
    assert chosen(overrides=BOTH[:1], configured=BOTH[1:]) == wanted
    assert chosen(configured=BOTH) is None


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["pretrained.checkpoint=m.pt"], ["m.pt"]),
        (["pretrained.model=[beats, m2d]", "pretrained.checkpoint=[null, m.pt]"], ["m.pt"]),
        (["pretrained.checkpoint=null"], None),
        (["pretrained.beats_checkpoint=x.pt"], "x.pt"),
        (["predict.hop_s=2.56"], None),
    ],
)
def test_files_that_are_set_must_be_those_of_the_network(overrides, wanted):
    assert chosen(overrides=overrides) == wanted


def test_the_flag_collects_its_words():
    words = ["a.wav", "--checkpoint", "c", "--pretrained_model", "x.pt", "--pretrained_model", "y"]
    assert parse_predict_args(ArgumentParser(), words).pretrained_model == ["x.pt", "y"]
    assert parse_predict_args(ArgumentParser(), words[:3]).pretrained_model is None
