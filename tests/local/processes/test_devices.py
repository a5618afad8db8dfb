"""The device of each of several processes, on machines with any number of GPUs."""

from __future__ import annotations

import argparse
from typing import Any

import pytest
import torch

from desed_task.errors import InputError
from local.cli.arguments import add_gpus, device_words
from local.processes import devices
from local.processes.devices import device_of, processes_here, torch_device_of
from local.processes.world import World


@pytest.fixture
def machine(monkeypatch):
    """Makes PyTorch see a number of GPUs."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def see(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return see


def given(**flags: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"gpus": None, "devices": None, "num_nodes": None, **flags})


def member(rank: int, size: int, starter: str = "torchrun") -> World:
    """A process of a single machine."""
    return World(rank, size, rank, size, starter)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "words"),
    [("2", "2"), ("all", "all"), (" all ", "all"), ("1,3", "1,3"), ("3, 01", "3,1"), ("007", "7")],
)
def test_words_for_devices(text, words):
    assert device_words(text) == words


@pytest.mark.parametrize(
    "text", ["0", "", "-1", "1,", "1,1", "01,1", "1,0", "two", "1.5", "ALL", "1;2"]
)
def test_other_words_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="give the number of devices, all, or"):
        device_words(text)


def test_gpus_and_devices_exclude_each_other(capsys):
    parser = argparse.ArgumentParser()
    add_gpus(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--gpus", "1", "--devices", "2"])
    assert "not allowed with argument" in capsys.readouterr().err


# ---- how many processes a command starts


@pytest.mark.parametrize(
    ("words", "count", "expected"),
    [
        (None, 0, 1),
        ("all", 0, 1),
        ("3", 0, 3),
        (None, 4, 1),
        ("all", 4, 4),
        ("2", 4, 2),
        ("2,4", 4, 2),
    ],
)
def test_processes_of_a_machine(machine, words, count, expected):
    machine(count)
    assert processes_here(given(devices=words)) == expected


def test_processes_on_the_cpu_of_a_machine_with_gpus(machine):
    machine(4)
    assert processes_here(given(devices="3", gpus="0")) == 3
    assert processes_here(argparse.Namespace(use_gpu=False, devices="3")) == 3
    assert processes_here(argparse.Namespace(use_gpu=None, devices="3")) == 3


@pytest.mark.parametrize(
    ("flags", "count", "message"),
    [
        ({"devices": "1,2"}, 0, "--devices 1,2: PyTorch finds no GPU on this machine, so there is"),
        ({"devices": "1,2", "gpus": "0"}, 4, "--devices 1,2: PyTorch finds no GPU"),
        ({"devices": "5"}, 4, "--devices 5: this machine has 4 GPUs; give the number of devices"),
        ({"devices": "1,3"}, 1, "--devices 1,3: this machine has 1 GPU; give"),
        (
            {"devices": "2", "gpus": "mps"},
            0,
            "--gpus mps: a Mac's GPU takes one process; leave out",
        ),
        ({"devices": "2", "use_gpu": "mps"}, 0, "--use_gpu mps: a Mac's GPU takes one process"),
        ({"devices": "2", "gpus": "2"}, 4, "--gpus 2: names one GPU for several processes; leave"),
        ({"devices": "2", "use_gpu": True}, 0, "--use_gpu: PyTorch finds no GPU on this machine"),
    ],
)
def test_devices_that_do_not_exist_are_refused(machine, flags, count, message):
    machine(count)
    with pytest.raises(InputError, match=message):
        processes_here(given(**flags))


def test_hidden_gpus_are_told(machine, monkeypatch):
    machine(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with pytest.raises(InputError, match="this machine has 2 GPUs, as CUDA_VISIBLE_DEVICES=4,7;"):
        processes_here(given(devices="3"))


# ---- the device of each


@pytest.mark.parametrize("starter", ["command", "torchrun", "slurm"])
@pytest.mark.parametrize(
    ("words", "count", "size", "expected"),
    [
        (None, 3, 3, [0, 1, 2]),
        (None, 4, 3, [0, 1, 2]),
        ("all", 3, 3, [0, 1, 2]),
        ("2", 4, 2, [0, 1]),
        ("4,2", 4, 2, [3, 1]),
    ],
)
def test_each_process_has_a_gpu(machine, words, count, size, expected, starter):
    machine(count)
    found = [device_of(given(devices=words), member(rank, size, starter)) for rank in range(size)]
    assert [one.torch_device.index for one in found] == expected
    assert {one.accelerator for one in found} == {"gpu"} and {one.notice for one in found} == {""}


def test_a_process_of_another_machine_counts_from_the_first_gpu(machine):
    machine(2)
    assert device_of(given(), World(3, 4, 1, 2, "torchrun")).devices == [1]


def test_slurm_may_show_each_task_its_own_gpu(machine):
    machine(1)
    assert [device_of(given(), member(r, 2, "slurm")).devices for r in range(2)] == [[0], [0]]
    with pytest.raises(InputError, match="1 GPU: torchrun or SLURM has started 2 processes on"):
        device_of(given(), member(0, 2))


@pytest.mark.parametrize(
    ("words", "count", "size", "message"),
    [
        (
            None,
            2,
            3,
            "2 GPUs: torchrun or SLURM has started 3 processes on this machine; start one",
        ),
        ("1,2", 4, 3, "--devices 1,2: torchrun or SLURM has started 3 processes"),
        ("all", 4, 3, "--devices all: torchrun or SLURM has started 3 processes"),
        ("2", 0, 3, "--devices 2: torchrun or SLURM has started 3 processes"),
        ("1,2", 0, 2, "--devices 1,2: PyTorch finds no GPU"),
    ],
)
def test_processes_and_gpus_must_be_as_many(machine, words, count, size, message):
    machine(count)
    with pytest.raises(InputError, match=message):
        device_of(given(devices=words), member(0, size))


@pytest.mark.parametrize(("count", "flags"), [(0, {}), (4, {"gpus": "0"}), (0, {"devices": "3"})])
def test_processes_on_the_cpu_say_how_many(machine, count, flags):
    machine(count)
    found = device_of(given(**flags), member(1, 3))
    assert (found.accelerator, found.torch_device.type) == ("cpu", "cpu")
    assert found.notice == "computing on the CPU, in 3 processes"


def test_a_single_process_takes_the_device_of_its_flag(machine):
    machine(4)
    assert device_of(given(gpus="3"), World()).devices == [2]
    assert device_of(given(gpus="0"), World()).accelerator == "cpu"


def test_the_device_in_terms_of_pytorch(machine, monkeypatch, capsys):
    machine(2)
    args = argparse.Namespace(use_gpu=None, devices=None)
    monkeypatch.setattr(devices, "world_here", lambda: member(1, 2))
    assert torch_device_of(args) == torch.device("cuda", 1)
    assert capsys.readouterr().out == ""
    machine(0)
    assert torch_device_of(args) == torch.device("cpu")
    assert capsys.readouterr().out == "computing on the CPU, in 2 processes\n"
    monkeypatch.setattr(devices, "world_here", World)
    assert torch_device_of(argparse.Namespace(use_gpu=False, devices=None)).type == "cpu"


def test_far_more_processes_than_cores_are_refused(machine, monkeypatch):
    machine(0)
    monkeypatch.setattr(devices, "available_cores", lambda: 3)
    assert processes_here(given(devices="12")) == 12
    with pytest.raises(InputError, match=r"--devices 13: .* usable cores \(3\)"):
        processes_here(given(devices="13"))


@pytest.mark.parametrize(
    ("num_nodes", "fits"), [(None, True), (1, False), (2, True), (5, True), (6, False)]
)
def test_num_nodes_that_contradict_what_was_started_are_refused(machine, num_nodes, fits):
    machine(0)
    world = World(0, 8, 0, 4, "torchrun")  # the other machines may have fewer
    args = given(num_nodes=num_nodes)
    if fits:
        assert device_of(args, world).accelerator == "cpu"
        return
    with pytest.raises(InputError, match=f"--num_nodes {num_nodes}: torchrun or SLURM has started"):
        device_of(args, world)
