"""Checkpoints load without running anything from them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from desed_task.errors import InputError
from local.checkpoints import (
    config_of_checkpoint,
    load_checkpoint,
    load_networks,
    without_counters,
)
from local.config import load_config

MINI = Path(__file__).resolve().parents[2] / "confs" / "mini.yaml"


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_pickle_that_asks_for_more_is_refused_and_nothing_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "evil": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(InputError, match=r"evil.ckpt: not a checkpoint that can be loaded safely"):
        load_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04cut off"])
def test_a_broken_file_is_named(content, tmp_path):
    path = tmp_path / "broken.ckpt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken.ckpt"):
        load_checkpoint(path)


def test_absent_and_foreign_files(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "absent.ckpt")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="holds no state_dict"):
        load_checkpoint(tmp_path / "other.ckpt")


def test_counters_are_dropped():
    state = {
        "a.weight": torch.zeros(1),
        "a.total_ops": torch.zeros(1),
        "total_params": torch.ones(1),
    }
    assert list(without_counters(state)) == ["a.weight"]


def test_the_networks_of_the_file_the_paths_of_here_and_overrides_above_both():
    stored = load_config(
        MINI, ["net.n_RNN_cell=17", "data.test_tsv=there.tsv", "scaler.savepath=there.ckpt"]
    ).dump()
    here = load_config(
        MINI, ["data.test_tsv=here.tsv", "net.n_RNN_cell=99", "scaler.savepath=here.ckpt"]
    )
    config = config_of_checkpoint(
        {"hyper_parameters": stored}, here, ["net.dropout=0.4"], "best.ckpt"
    )
    assert (config.net.n_RNN_cell, config.data.test_tsv) == (17, "here.tsv")
    assert config.scaler.savepath == "here.ckpt"
    assert config.net.dropout == 0.4


def test_a_file_without_hyperparameters_is_refused():
    with pytest.raises(InputError, match="holds no hyper_parameters"):
        config_of_checkpoint({}, load_config(MINI), [], "x.ckpt")


def test_every_tensor_that_does_not_fit_is_named():
    module = torch.nn.Linear(2, 3)
    state = {"weight": torch.zeros(3, 4), "more": torch.zeros(1)}
    with pytest.raises(InputError) as error:
        load_networks(module, state, "x.ckpt")
    text = str(error.value)
    assert "bias: missing" in text and "more: not in the network" in text
    assert "weight: shape (3, 4) in the checkpoint, (3, 2) in the network" in text
