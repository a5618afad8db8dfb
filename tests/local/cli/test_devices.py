"""`--gpus`: 0 is the CPU, GPUs count from 1, mps is a Mac's, what is not there a clear error."""

from __future__ import annotations

import pytest
import torch

from desed_task.errors import InputError
from local.cli.arguments import gpu_number, use_gpu
from local.cli.devices import choose_device, choose_torch_device


@pytest.fixture
def gpus(monkeypatch):
    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


def test_the_default_is_the_first_gpu(gpus):
    gpus(4)
    assert choose_device(None) == ("gpu", [0], "")


def test_without_a_gpu_the_default_is_the_cpu_and_says_so(gpus):
    gpus(0)
    assert choose_device(None) == ("cpu", 1, "no GPU found: computing on the CPU")


def test_zero_is_the_cpu_and_gpus_count_from_one(gpus):
    gpus(4)
    assert choose_device("0") == ("cpu", 1, "")
    assert choose_device("3") == ("gpu", [2], "")


@pytest.mark.parametrize(("count", "text"), [(0, "PyTorch finds none"), (2, "this machine has 2")])
def test_a_gpu_that_is_not_there(gpus, count, text):
    gpus(count)
    with pytest.raises(InputError, match=rf"--gpus 3: there is no such GPU \({text}.*--gpus 0"):
        choose_device("3")


@pytest.mark.parametrize("value", ["all", "-1", "1,2", ""])
def test_something_that_is_no_number(gpus, value):
    gpus(1)
    with pytest.raises(InputError, match="give 0 for the CPU"):
        choose_device(value)


@pytest.fixture
def mac(gpus, monkeypatch):
    """A Mac, or another machine, as PyTorch sees it; none of us has one."""

    def pretend(*, built: bool, available: bool) -> None:
        gpus(0)
        monkeypatch.setattr(torch.backends.mps, "is_built", lambda: built)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: available)

    return pretend


def test_the_gpu_of_a_mac_is_taken_if_asked_for(mac, capsys):
    mac(built=True, available=True)
    chosen = choose_device(gpu_number("mps"))
    assert (chosen.accelerator, chosen.devices) == ("mps", 1)
    assert "has not been tried" in chosen.notice
    assert chosen.torch_device == torch.device("mps")
    assert choose_torch_device(use_gpu("mps")) == torch.device("mps")
    assert "has not been tried" in capsys.readouterr().out


def test_unasked_a_mac_computes_on_its_cpu_and_says_what_it_has(mac, capsys):
    mac(built=True, available=True)
    chosen = choose_device(None)
    assert chosen.torch_device == torch.device("cpu")
    assert chosen.notice.startswith("computing on the CPU; --gpus mps uses this Mac's GPU")
    assert choose_torch_device(None) == torch.device("cpu")
    assert "--use_gpu mps uses this Mac's GPU" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("built", "why"),
    [(True, "needs Apple silicon and macOS 14"), (False, "mps is the GPU of Macs with Apple")],
)
def test_the_gpu_of_a_mac_that_is_not_there(mac, built, why):
    mac(built=built, available=False)
    with pytest.raises(InputError, match=f"--gpus mps: .*{why}.*; --gpus 0 uses the CPU"):
        choose_device("mps")
    with pytest.raises(InputError, match=f"--use_gpu mps: .*{why}.*; --use_gpu 0 uses the CPU"):
        choose_torch_device("mps")
    assert choose_device(None).notice == "no GPU found: computing on the CPU"
