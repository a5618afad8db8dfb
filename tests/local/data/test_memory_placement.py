"""Where sets are kept: the first place with room, or the one that was asked for."""

from __future__ import annotations

import pytest
import torch

from desed_task.errors import InputError
from local.data.loading import memory_placement
from local.data.loading.memory_placement import (
    GPU_MARGIN,
    RAM_MARGIN,
    choose_placement,
    free_memory,
)

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
SIZE = 10**10


@pytest.fixture
def machine(monkeypatch):
    def make(gpu=0, ram=0):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (gpu, 10 * gpu))
        monkeypatch.setattr(memory_placement, "free_memory", lambda: ram)

    return make


@pytest.mark.parametrize(
    ("gpu", "ram", "device", "expected"),
    [
        (SIZE + GPU_MARGIN, 0, GPU, GPU),
        (SIZE + GPU_MARGIN - 1, SIZE + RAM_MARGIN, GPU, CPU),
        (SIZE, SIZE + RAM_MARGIN - 1, GPU, None),
        (10 * SIZE, SIZE + RAM_MARGIN, CPU, CPU),
        (10 * SIZE, 0, CPU, None),
    ],
)
def test_auto_takes_the_first_with_room(machine, gpu, ram, device, expected):
    machine(gpu, ram)
    placement = choose_placement("auto", SIZE, device)
    assert placement.device == expected
    assert placement.message.startswith("10.00 GB ") and "\n" not in placement.message


def test_each_process_keeps_its_own_in_memory(machine):
    machine(ram=2 * (SIZE + RAM_MARGIN))
    assert choose_placement("auto", SIZE, CPU, 2).device == CPU
    assert choose_placement("auto", SIZE, CPU, 3).device is None
    with pytest.raises(InputError, match=r"ram|memory .*does not fit; set it to auto or disk"):
        choose_placement("ram", SIZE, CPU, 3)


def test_what_was_asked_for_is_taken_without_a_margin(machine):
    machine(gpu=SIZE, ram=SIZE)
    assert choose_placement("gpu", SIZE, GPU).device == GPU
    assert choose_placement("ram", SIZE, GPU).device == CPU
    assert choose_placement("disk", SIZE, GPU).device is None
    for wanted in ("gpu", "ram"):
        with pytest.raises(InputError, match=r"does not fit; set it to auto or disk"):
            choose_placement(wanted, SIZE + 1, GPU)
    with pytest.raises(InputError, match=r"gpu, but the run computes on the CPU"):
        choose_placement("gpu", SIZE, CPU)


def test_on_a_mac_sets_are_kept_in_memory(machine):
    mps = torch.device("mps")
    machine(ram=SIZE + RAM_MARGIN)
    assert choose_placement("auto", SIZE, mps).device == CPU
    with pytest.raises(InputError, match=r"gpu, but sets stay only on GPUs with CUDA"):
        choose_placement("gpu", SIZE, mps)


def test_a_container_s_limit_counts(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:   50 kB\n")
    monkeypatch.setattr(memory_placement, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(memory_placement, "_CGROUP", tmp_path)
    assert free_memory() == 50 * 1024
    for limit, used, expected in (("max", 7, 51200), ("30000", 7, 29993), ("30000", 40000, 0)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{used}\n")
        assert free_memory() == expected
    (tmp_path / "meminfo").unlink()
    assert free_memory() == 0
