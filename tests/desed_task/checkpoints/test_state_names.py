"""Tensors under other names, and weights that were stored alone."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from desed_task.checkpoints.published import PUBLISHED_SPEC
from desed_task.checkpoints.safe_load import load_safely
from desed_task.checkpoints.spec import DetectorSpec, load_detector
from desed_task.errors import InputError
from tests.desed_task.checkpoints.example_checkpoints import ours, saved, small_spec, tensors

ROLES = ("sed_student", "sed_teacher")


def wrapped(name: str, how: str) -> str:
    """A tensor's name in a module that is wrapped as a whole, or whose parts are."""
    role, dot, rest = name.partition(".")
    return {
        "parallel": f"module.{name}",
        "compiled": f"_orig_mod.{name}",
        "compiled parts": f"{role}{dot}_orig_mod.{rest}",
        "both": f"module._orig_mod.{role}.module.{rest}",
    }[how]


@pytest.mark.parametrize("how", ["parallel", "compiled", "compiled parts", "both"])
def test_names_that_wrappers_prefix_are_read(tmp_path: Path, how: str) -> None:
    content = ours(small_spec())
    expected = load_detector(saved(content, tmp_path / "plain.ckpt"))
    content["state_dict"] = {wrapped(n, how): v for n, v in content["state_dict"].items()}
    found = load_detector(saved(content, tmp_path / "wrapped.ckpt"))
    assert found.spec == expected.spec
    for role, network in expected.networks.items():
        for name, value in network.state_dict().items():
            assert torch.equal(value, found.networks[role].state_dict()[name])


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    content = ours(small_spec())
    content["state_dict"]["module.sed_student.dense.bias"] = torch.zeros(27)
    with pytest.raises(InputError, match=r"contains sed_student.dense.bias twice, once as module"):
        load_safely(saved(content, tmp_path / "a.ckpt"))


@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model"])
def test_weights_alone_are_a_detector_as_published(tmp_path: Path, key: str | None) -> None:
    spec = DetectorSpec.from_dict(PUBLISHED_SPEC, "")
    state = tensors(spec)
    path = saved(state if key is None else {key: state, "epoch": 3}, tmp_path / "a.ckpt")
    with pytest.warns(UserWarning, match=r"a.ckpt: contains weights only; .* taken as published"):
        found = load_detector(path)
    assert found.spec == spec
    assert torch.equal(
        found.networks["teacher"].state_dict()["dense.bias"], state["sed_teacher.dense.bias"]
    )


def test_one_network_alone_becomes_student_and_teacher(tmp_path: Path) -> None:
    spec = DetectorSpec.from_dict(PUBLISHED_SPEC, "")
    teacher = {
        f"module.{name.removeprefix('sed_teacher.')}": value
        for name, value in tensors(spec).items()
        if name.startswith("sed_teacher.")
    }
    averaged = {"n_averaged": torch.tensor(3), **teacher}
    with pytest.warns(UserWarning, match=r"weights of one network, which become both"):
        found = load_detector(saved(averaged, tmp_path / "a.ckpt"))
    for network in found.networks.values():
        assert torch.equal(network.state_dict()["dense.bias"], teacher["module.dense.bias"])


@pytest.mark.parametrize(("role", "other"), [ROLES, ROLES[::-1]])
def test_a_role_that_is_missing_is_the_other_one(tmp_path: Path, role: str, other: str) -> None:
    content = ours(small_spec())
    state = {n: v for n, v in content["state_dict"].items() if not n.startswith(other)}
    with pytest.warns(UserWarning, match=f"contains the weights of {role} alone, which become"):
        loaded = load_safely(saved({**content, "state_dict": state}, tmp_path / "a.ckpt"))
    assert torch.equal(loaded["state_dict"][f"{other}.dense.bias"], state[f"{role}.dense.bias"])


def test_weights_of_another_network_alone_are_refused_with_a_remedy(tmp_path: Path) -> None:
    path = saved(tensors(small_spec()), tmp_path / "a.ckpt")
    with (
        pytest.warns(UserWarning, match="contains weights only"),
        pytest.raises(InputError, match=r"not the published one; give a checkpoint of train_pre"),
    ):
        load_detector(path)


def test_a_front_end_that_was_not_stored_follows_from_the_settings(tmp_path: Path) -> None:
    content = ours(small_spec())
    expected = load_detector(saved(content, tmp_path / "plain.ckpt"))
    state = {n: v for n, v in content["state_dict"].items() if not n.startswith("mel_spec.")}
    found = load_detector(saved({**content, "state_dict": state}, tmp_path / "a.ckpt"))
    sound = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found.front_end(sound), expected.front_end(sound))


def test_nobody_is_advised_to_load_what_may_run_code(tmp_path: Path, monkeypatch) -> None:
    """What torch says of a name that it does not know."""

    def refuse(*_: object, **__: object) -> None:
        raise pickle.UnpicklingError(
            "Weights only load failed. Re-running `torch.load` with `weights_only` set to `False` "
            "will likely succeed, but it can result in arbitrary code execution."
        )

    path = saved(ours(small_spec()), tmp_path / "a.ckpt")
    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(InputError) as refused:
        load_safely(path)
    text = str(refused.value)
    assert "(it contains more than tensors and plain values)" in text
    assert "weights_only" not in text and "Weights only" not in text
