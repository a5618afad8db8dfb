"""`--gpus`: 0 is the CPU, GPUs count from 1, and what is not there is a clear error."""

from __future__ import annotations

import pytest
import torch

from desed_task.errors import InputError
from local.cli.devices import choose_device


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
