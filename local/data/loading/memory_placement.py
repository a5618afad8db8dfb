"""Choose where to keep packed sets during a run: GPU, memory or disk."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import torch

from desed_task.errors import InputError

GB = 1e9
# Memory reserved on the GPU for network, activations and optimizer (the published batch of 60 takes
# most of it in float32), and in RAM for everything else.
GPU_MARGIN = int(12 * GB)
RAM_MARGIN = int(4 * GB)

_CGROUP = Path("/sys/fs/cgroup")
_MEMORY = Path("/proc/meminfo")


class Placement(NamedTuple):
    """Where packed sets are kept.

    Attributes:
        device: device of the data; None for the disk.
        message: a line for the user.
    """

    device: torch.device | None
    message: str


def choose_placement(
    resident: Literal["auto", "gpu", "ram", "disk"],
    n_bytes: int,
    device: torch.device,
    n_processes: int = 1,
) -> Placement:
    """Choose where to keep packed sets of a given size.

    Args:
        resident: the configured place; auto uses the first of GPU, memory and disk with room.
        n_bytes: size of the sets.
        device: device that the run computes on.
        n_processes: processes on this machine that each hold a copy.

    Raises:
        InputError: the sets do not fit where `resident` requires them.
    """
    size = f"{n_bytes / GB:.2f} GB"
    free_gpu = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    free_ram = free_memory() // n_processes
    gpu = Placement(device, f"{size} on the GPU ({free_gpu / GB:.1f} GB free)")
    ram = Placement(torch.device("cpu"), f"{size} in memory ({free_ram / GB:.1f} GB free)")
    disk = Placement(None, f"{size} read from the disk")
    if resident == "gpu":
        if device.type != "cuda":
            told = "sets stay only on GPUs with CUDA"
            if device.type == "cpu":
                told = "the run computes on the CPU"
            raise InputError(f"data.resident: gpu, but {told}; set it to auto")
        return _if_it_fits(gpu, n_bytes, free_gpu)
    if resident == "ram":
        return _if_it_fits(ram, n_bytes, free_ram)
    if resident == "disk":
        return disk
    if n_bytes + GPU_MARGIN <= free_gpu:
        return gpu
    if n_bytes + RAM_MARGIN <= free_ram:
        return ram
    message = (
        f"{disk.message}, as they fit neither the GPU ({free_gpu / GB:.1f} GB free) nor the memory"
    )
    return Placement(None, f"{message} ({free_ram / GB:.1f} GB free)")


def free_memory() -> int:
    """Bytes available for new arrays, within the container's limit."""
    found = [_available(_MEMORY)]
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        if limit != "max":
            found.append(max(int(limit) - used, 0))
    except (OSError, ValueError):
        pass  # no known limit
    return min(found)


def _available(path: Path) -> int:
    """MemAvailable of /proc/meminfo; 0 if it is not available."""
    try:
        for line in path.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _if_it_fits(placement: Placement, needed: int, free: int) -> Placement:
    if needed > free:
        raise InputError(
            f"data.resident: {placement.message}: does not fit; set it to auto or disk"
        )
    return placement
