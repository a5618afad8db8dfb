"""A checkpoint knows its configuration, and a run folder its checkpoint."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
import torch
import yaml

from desed_task.errors import InputError
from local.checkpoints.given import settle_arguments
from local.checkpoints.stored_config import config_with_checkpoint, trained_config
from local.config import SHIPPED, load_config
from tests.desed_task.checkpoints.example_checkpoints import ours, published, saved, small_spec

HERE = "pretrained.yaml"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder, with a configuration of the user in confs/pretrained.yaml."""
    (tmp_path / "confs").mkdir()
    tree = yaml.safe_load((SHIPPED / HERE).read_text())
    tree["predict"] = {"hop_s": 2.56}
    for key, value in tree["data"].items():
        if isinstance(value, str):
            tree["data"][key] = value.replace("../../data", "own")
    (tmp_path / "confs" / HERE).write_text(yaml.safe_dump(tree))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checkpoint(folder, **sections):
    """A checkpoint trained with confs/mini.yaml and other values."""
    tree = load_config(SHIPPED / "mini.yaml").dump()
    for name, values in sections.items():
        tree[name] = {**tree[name], **values}
    content = ours(small_spec(use_embeddings=False), hyper_parameters=tree)
    return str(saved(content, folder / "best.ckpt"))


def test_the_configuration_is_that_of_the_training(folder, capsys):
    path = checkpoint(folder, predict={"hop_s": 1.28}, training={"seed": 7})
    config = config_with_checkpoint(path, ["predict.threshold=0.3"])
    assert (config.predict.hop_s, config.predict.threshold, config.training.seed) == (1.28, 0.3, 7)
    assert config.data.weak_folder.startswith("./data/mini/")
    assert capsys.readouterr().out == ""  # Where the data is does not matter.
    config_with_checkpoint(path, [], "test")
    assert f"configuration: that of {path}; --conf_file gives" in capsys.readouterr().out


def test_where_only_the_supplied_configurations_data_is_there_that_is_used(folder, capsys):
    """As of a checkpoint that was trained on another machine."""
    path = checkpoint(folder)
    test = Path("own/dcase/dataset/audio/validation/validation_16k")
    test.mkdir(parents=True)
    (test / "a.wav").touch()
    config = config_with_checkpoint(path, ["training.num_workers=3"], "test")
    assert config.predict.hop_s == 2.56 and config.training.num_workers == 3
    assert config.data.weak_folder.startswith("own/")
    told = capsys.readouterr().out
    assert f"confs/pretrained.yaml, as the data of {path} is not here" in told
    # Its own data comes first where both are there.
    mini = Path("data/mini/dcase/dataset/metadata/validation/validation.tsv")
    mini.parent.mkdir(parents=True)
    mini.touch()
    assert config_with_checkpoint(path, [], "test").data.weak_folder.startswith("./data/mini/")


def test_a_published_checkpoint_takes_the_supplied_configuration(folder, capsys):
    path = str(saved(published(small_spec()), folder / "epoch=259.ckpt"))
    assert config_with_checkpoint(path, []).predict.hop_s == 2.56
    config_with_checkpoint(path, [], "predict")
    told = capsys.readouterr().out
    assert told == f"configuration: confs/pretrained.yaml, as {path} contains none of this recipe\n"


def test_without_a_configuration_here_the_supplied_one_is_found(folder):
    (folder / "confs" / HERE).unlink()
    path = str(saved(published(small_spec()), folder / "epoch=259.ckpt"))
    assert config_with_checkpoint(path, []) == load_config(SHIPPED / HERE)


def test_what_older_checkpoints_lack_is_as_supplied(folder):
    path = checkpoint(folder)
    content = torch.load(path, weights_only=True)
    del content["hyper_parameters"]["predict"], content["hyper_parameters"]["data"]["packed_dir"]
    content["hyper_parameters"]["net"]["new_in_a_later_version"] = 1
    saved(content, Path(path))
    with pytest.warns(UserWarning, match="ignoring unknown hyperparameters net.new_in"):
        assert config_with_checkpoint(path, []).predict.hop_s == 2.56


def test_a_training_is_resumed_with_exactly_its_values(folder, capsys):
    path = checkpoint(folder, training={"seed": 7})
    assert trained_config(path, []) == load_config(SHIPPED / "mini.yaml", ["training.seed=7"])
    assert "configuration: that of" in capsys.readouterr().out
    assert trained_config(path, ["training.seed=8"]).training.seed == 8


def arguments(conf_file=None, overrides=(), **given):
    return Namespace(conf_file=conf_file, overrides=list(overrides), **given)


def test_folders_among_the_arguments_become_checkpoints(folder, capsys):
    run = folder / "exp" / "Größe" / "version_0"
    (run / "checkpoints").mkdir(parents=True)
    for name in ("epoch=1.ckpt", "last.ckpt"):
        (run / "checkpoints" / name).write_bytes(b"PK\x03\x04")
    args = arguments(
        checkpoint=run,
        checkpoint_info=None,
        test_from_checkpoint=str(run / "checkpoints/epoch=1.ckpt"),
        resume_from_checkpoint=run,
    )
    assert settle_arguments(args) is None
    best, last = (str(run / "checkpoints" / name) for name in ("epoch=1.ckpt", "last.ckpt"))
    assert (args.checkpoint, args.checkpoint_info) == (best, None)
    assert (args.test_from_checkpoint, args.resume_from_checkpoint) == (best, last)
    assert capsys.readouterr().out == f"checkpoint: {best}\ncheckpoint: {last}\n"


def test_a_configuration_that_is_named_or_needed_is_loaded(folder):
    (folder / "a.ckpt").write_bytes(b"PK\x03\x04")
    named = settle_arguments(arguments("mini", ["opt.lr=0.5"], checkpoint="a.ckpt"))
    assert named.opt.lr == 0.5 and named.data.weak_folder.startswith("./data/mini/")
    for resumed in (None, "auto"):
        config = settle_arguments(arguments(resume_from_checkpoint=resumed))
        assert config.predict.hop_s == 2.56


def test_wrong_arguments_are_told_before_the_checkpoint_is_read(folder):
    (folder / "a.ckpt").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=r"--set opt: write it as section.key=value"):
        settle_arguments(arguments(overrides=["opt"], checkpoint="a.ckpt"))
    with pytest.raises(InputError, match=r"b.ckpt: no such checkpoint \(looked up from"):
        settle_arguments(arguments(checkpoint="b.ckpt"))
    with pytest.raises(InputError, match=r"a folder without a checkpoint"):
        settle_arguments(arguments(test_from_checkpoint="confs"))
