"""Several processes compute what one computes: gradients, statistics, the teacher."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("shared_steps.py")
# Masks are drawn for each row; dropout and the pairs of mixup depend on the process.
SETTINGS = (
    *("net.dropout=0", "net.dropstep_scope=clip", "training.mixup=null"),
    *("net.specaugm_t_p=0.2", "net.specaugm_f_p=0.2", "training.batch_size=[1,1,1,2,1]"),
    *("training.const_max=70", "training.n_epochs_warmup=4", "training.gradient_clip=5"),
)
# Batch norm takes away again what they add, so their gradients are rounding errors alone; running
# means contain them.
NO_GRADIENT = tuple(f"cnn.cnn.conv{i}.bias" for i in range(7))
# Adam amplifies the rounding of float32 in the student, which the teacher averages.
TOLERANCE, STUDENT = 1e-5, 1e-4


def flags(*more: str) -> list[str]:
    return [f"--set={one}" for one in (*SETTINGS, *more)]


@pytest.fixture(scope="module")
def steps():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def alone(steps, tmp_path_factory):
    return steps["alone"](tmp_path_factory.mktemp("alone") / "one", *flags())


def assert_alike(
    one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float
) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if name not in NO_GRADIENT and "running_mean" not in name:
            scale = max(1.0, float(value.abs().max()))
            assert float((value - other[name]).abs().max()) <= tolerance * scale, name


def assert_same_networks(parts: list[dict]) -> None:
    """All processes have the same to the bit, without having told each other."""
    for part in parts[1:]:
        for network in ("student", "teacher"):
            for name, value in parts[0][network].items():
                assert torch.equal(value, part[network][name]), name


def test_twenty_steps_of_three_processes_are_those_of_one(steps, alone, tmp_path):
    parts = steps["run"](tmp_path / "p", "--devices=3", *flags())
    assert len(parts) == 3
    first = parts[0]
    assert_alike(alone["gradients"], first["gradients"], TOLERANCE)
    assert_alike(alone["teacher"], first["teacher"], TOLERANCE)
    assert_alike(alone["student"], first["student"], STUDENT)
    assert first["loss"] == pytest.approx(alone["loss"], abs=TOLERANCE)
    assert_same_networks(parts)
    # Batch norm as PyTorch's modules compute it.
    for name, whole in alone["norm"].items():
        for rank, part in enumerate(parts):
            expected = whole[rank::3] if "image" in name else whole
            torch.testing.assert_close(part["norm"][name], expected, rtol=0, atol=1e-12)


def test_with_dropout_and_mixup_processes_of_torchrun_still_have_one_network(steps, tmp_path):
    given = flags("net.dropout=0.5", "training.mixup=soft", "training.mixup_prob=1")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    parts = steps["run"](tmp_path / "p", *given, starter=(sys.executable, *torchrun))
    assert len(parts) == 2
    assert_same_networks(parts)
