"""What a training needs so that a kill changes none of its results."""

from __future__ import annotations

import copy
import os
import signal
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping

from local.training.callbacks import EarlyStop
from local.training.checkpoint_files import AtomicCheckpoints


@pytest.mark.parametrize(
    ("wait_count", "stopped_epoch", "ended"),
    [(0, 0, False), (2, 0, False), (3, 0, True), (5, 0, True), (1, 7, True)],
)
def test_a_training_that_had_ended_early_is_not_gone_on_with(wait_count, stopped_epoch, ended):
    callback = EarlyStop("val/obj_metric", mode="max", patience=3)
    state = {**callback.state_dict(), "wait_count": wait_count, "stopped_epoch": stopped_epoch}
    callback.load_state_dict(state)
    trainer = SimpleNamespace(should_stop=False)
    callback.on_train_start(trainer, None)
    assert trainer.should_stop is ended


@pytest.mark.parametrize("mode", ["min", "max"])
def test_checkpoints_of_earlier_versions_have_the_state_of_early_stopping(mode):
    settings = {"monitor": "val/obj_metric", "mode": mode, "patience": 3}
    assert EarlyStop(**settings).state_key == EarlyStopping(**settings).state_key


@pytest.mark.parametrize("name", ["last.ckpt", "epoch=1-step=2.ckpt", "Größe 1.ckpt"])
def test_a_checkpoint_is_whole_or_the_old_one(tmp_path, monkeypatch, name):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    path, files = tmp_path / "checkpoints" / name, AtomicCheckpoints()
    files.save_checkpoint({"epoch": 1, "weights": torch.ones(1000)}, path)
    before = path.read_bytes()
    child = os.fork()
    if child == 0:
        os.replace = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
        files.save_checkpoint({"epoch": 2, "weights": torch.zeros(1000)}, path)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert path.read_bytes() == before and not list(temporary.iterdir())
    assert files.load_checkpoint(path, weights_only=True)["epoch"] == 1
    with pytest.raises(TypeError, match="storage_options"):
        files.save_checkpoint({}, path, storage_options={"a": 1})
    # The same content gives the same bytes, whatever the temporary name was.
    files.save_checkpoint({"epoch": 1, "weights": torch.ones(1000)}, path)
    assert path.read_bytes() == before


def test_equal_checkpoints_are_equal_files(tmp_path):
    """After a resumption values are equal that were one object before, and the other way round."""
    name, score, rows = "".join(["best", " ", "ö"]), torch.tensor(0.5), (1, [2, 3])
    weights = torch.arange(6.0)
    module = torch.nn.BatchNorm1d(3)
    shared = {"path": name, name: score, "best": score, "a": rows, "b": rows, "c": {"a": rows}}
    apart = {
        "path": "best ö",
        "".join(["best ", "ö"]): score.clone(),
        "best": score.clone(),
        "a": (1, [2, 3]),
        "b": (1, [2, 3]),
        "".join(["", "c"]): {"".join(["", "a"]): (1, [2, 3])},
    }
    files, written = AtomicCheckpoints(), []
    for number, tree in enumerate((shared, apart)):
        state = OrderedDict(copy.deepcopy(module.state_dict()) if number else module.state_dict())
        vars(state).update(_metadata=module.state_dict()._metadata)
        path = tmp_path / f"{number}.ckpt"
        files.save_checkpoint({**tree, "weights": weights, "state_dict": state}, path)
        written.append(path.read_bytes())
        found = files.load_checkpoint(path, weights_only=True)
        assert found["best"] == score and found["a"] == rows and found[name] == score
        assert torch.equal(found["weights"], weights)
        assert found["state_dict"]._metadata == module.state_dict()._metadata
        other = torch.nn.BatchNorm1d(3)
        other.load_state_dict(found["state_dict"])
    assert written[0] == written[1]
    kept = {**shared, "best": torch.tensor(0.25)}
    files.save_checkpoint({**kept, "weights": weights, "state_dict": state}, path)
    assert path.read_bytes() != written[0]
