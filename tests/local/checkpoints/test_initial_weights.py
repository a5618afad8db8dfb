"""A new training from the weights of a checkpoint: which fit, and what is taken from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from desed_task.checkpoints.safe_load import load_safely
from desed_task.checkpoints.spec import DetectorSpec
from desed_task.errors import InputError
from local.checkpoints.initial_weights import (
    as_begun,
    check_origin,
    load_initial_weights,
    with_initial_weights,
)
from local.checkpoints.restore import detector_spec
from local.config import check_config, load_config
from local.sed_trainer_pretrained import SEDTask4
from tests.desed_task.checkpoints.example_checkpoints import published, tensors

MINI = Path(__file__).resolve().parents[3] / "confs" / "mini.yaml"
SMALL = ["net.nb_filters=[4, 4, 4, 8]", "net.n_RNN_cell=8"]


@pytest.fixture
def saved(tmp_path):
    """Writes a checkpoint of a small network with other weights in student and teacher."""

    def make(*overrides, **more) -> Path:
        config = load_config(MINI, [*SMALL, *overrides])
        torch.manual_seed(5)
        module = SEDTask4(config)
        for value in module.sed_teacher.state_dict().values():
            value += 1
        content = {"state_dict": module.state_dict(), "hyper_parameters": config.dump()}
        torch.save({**content, "detector": detector_spec(config).to_dict(), **more}, path)
        return path

    path = tmp_path / "größe.ckpt"
    return make


def started(path: Path, *overrides: str) -> SEDTask4:
    config = with_initial_weights(load_config(MINI, [*SMALL, *overrides]), path)
    torch.manual_seed(6)
    module = SEDTask4(config)
    load_initial_weights(module, config)
    return module


def assert_weights_of(module: SEDTask4, path: Path) -> None:
    stored = load_safely(path)["state_dict"]
    own = {n: v for n, v in module.state_dict().items() if n.startswith("sed_")}
    assert len(own) > 40
    for name, value in own.items():
        assert torch.equal(value, stored[name]), name


def test_student_from_student_and_teacher_from_teacher_whatever_regularises_them(saved, capsys):
    path = saved("training.seed=3", "feats.f_min=20.0")
    changed = ["net.dropout=0.4", "net.specaugm_t_p=0.1", "net.dropstep_scope=batch", "opt.lr=0.1"]
    module = started(path, *changed, "net.median_filter=" + str([3] * 27))
    assert_weights_of(module, path)
    assert not module.sed_teacher.dense.weight.requires_grad
    assert capsys.readouterr().out.startswith(f"initial weights: {path} (SHA-256 ")


def test_the_published_checkpoint_starts_a_training_too(tmp_path, capsys):
    config = load_config(MINI, [*SMALL, "net.n_layers_RNN=2"])
    path = tmp_path / "published.ckpt"
    torch.save(published(detector_spec(config)), path)
    with pytest.warns(UserWarning, match=r"n_layers_RNN is 2, not 1"):
        module = started(path, "net.n_layers_RNN=2")
    assert_weights_of(module, path)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("net.n_RNN_cell=16", "net.n_RNN_cell: 8 in the checkpoint, 16 here"),
        ("net.activation=relu", "net.activation: 'glu' in the checkpoint, 'relu' here"),
        ("net.aggregation_type=interpolate", "net.aggregation_type: 'pool1d' in the checkpoint"),
        ("net.use_embeddings=false", "net.use_embeddings: True in the checkpoint, False here"),
    ],
)
def test_another_network_is_refused_with_the_keys_that_differ(saved, override, line):
    with pytest.raises(InputError, match=r"has another network; give its values with --set") as no:
        with_initial_weights(load_config(MINI, [*SMALL, override, "net.dropout=0.9"]), saved())
    assert f"  - {line}" in str(no.value) and "dropout" not in str(no.value)


def test_weights_that_were_stored_alone_are_compared_by_their_shapes(saved, tmp_path):
    content = torch.load(saved(), weights_only=True)["state_dict"]
    alone = tmp_path / "alone.ckpt"
    torch.save({f"module.{name}": value for name, value in content.items()}, alone)
    module = started(alone)
    assert torch.equal(module.sed_teacher.dense.bias, content["sed_teacher.dense.bias"])
    other = load_config(MINI, ["net.nb_filters=[4, 4, 4, 8]", "net.n_RNN_cell=16"])
    with pytest.raises(InputError) as refused:
        with_initial_weights(other, alone)
    text = str(refused.value)
    assert f"{alone} does not fit the network that the configuration describes:" in text
    assert "sed_student.dense.weight: shape (27, 16) in the checkpoint, (27, 32) in the" in text
    assert "(see net.nclass, net.n_RNN_cell)" in text


DATASET = ["scaler.statistic=dataset", "scaler.normtype=standard", "scaler.dims=[2]"]


@pytest.mark.parametrize(
    ("override", "kept"), [(None, True), ("scaler.normtype=mean", False), ("feats.f_min=50", False)]
)
def test_statistics_of_the_features_are_those_of_the_weights_if_the_features_are(
    saved, capsys, override, kept
):
    shape = (1, 64, 1)
    statistics = {"scaler.shift": torch.full(shape, -3.0), "scaler.scale": torch.full(shape, 2.0)}
    config = load_config(MINI, [*SMALL, *DATASET])
    state = {**SEDTask4(config).state_dict(), **statistics}
    path = saved(*DATASET, state_dict=state)
    module = started(path, *DATASET, *([override] if override else []))
    assert module.scaler.fitted == kept
    line = capsys.readouterr().out.splitlines()[1]
    if kept:
        assert torch.equal(module.scaler.state_dict()["shift"], statistics["scaler.shift"])
        assert line == f"feature statistics: those of {path}, with which its weights were trained"
    else:
        assert line.startswith("feature statistics: of the data here, as ")


def test_a_training_knows_what_it_started_from(saved, tmp_path):
    first, config = saved(), load_config(MINI, SMALL)
    tuned = with_initial_weights(config, first)
    assert len(tuned.initial_weights.checkpoint_sha256) == 64
    check_origin(config)
    with pytest.raises(InputError, match=r"started from .*größe.ckpt \(SHA-256 .*--init_from"):
        check_origin(tuned)
    last = tmp_path / "last.ckpt"
    torch.save(
        {"state_dict": tensors(detector_spec(config)), "hyper_parameters": tuned.dump()}, last
    )
    # Resumed, it stays so, whatever the command says of it.
    assert as_begun(config, last) == tuned
    assert as_begun(tuned, saved()) == config


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"absent.ckpt: no such checkpoint"):
        with_initial_weights(load_config(MINI), tmp_path / "absent.ckpt")
    spec = DetectorSpec.from_dict(detector_spec(load_config(MINI, SMALL)).to_dict(), "")
    state = tensors(spec)
    state["sed_student.dense.bias"][0] = float("nan")
    path = tmp_path / "nan.ckpt"
    content = {"state_dict": state, "detector": spec.to_dict()}
    torch.save(
        {**content, "hyper_parameters": check_config(load_config(MINI).dump(), "").dump()}, path
    )
    with pytest.raises(InputError, match="its training had diverged"):
        with_initial_weights(load_config(MINI, SMALL), path)
