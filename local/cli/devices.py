"""Device selection: `--gpus` (0: the CPU, GPUs are counted from 1) and `--use_gpu`."""

from __future__ import annotations

from typing import NamedTuple

import torch

from desed_task.errors import InputError
from local.cli.arguments import GPUS_REMEDY


class Device(NamedTuple):
    """Device arguments of Lightning's trainer."""

    accelerator: str  # "cpu" or "gpu"
    devices: int | list[int]
    notice: str  # a line for the user; "" for none

    @property
    def torch_device(self) -> torch.device:
        """The first of the devices in PyTorch's terms."""
        if isinstance(self.devices, int):
            return torch.device("cpu")
        return torch.device("cuda", self.devices[0])


CPU = Device("cpu", 1, "")


def choose_device(gpus: str | None) -> Device:
    """The device that `--gpus` asks for.

    Args:
        gpus: None for the first GPU, or the CPU without one; "0" for the CPU; "N" for GPU N.

    Raises:
        InputError: the GPU does not exist, or the text is not a number.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus is None:
        if count:
            return Device("gpu", [0], "")
        return CPU._replace(notice="no GPU found: computing on the CPU")
    if not gpus.strip().isdecimal():
        raise InputError(f"--gpus {gpus}: {GPUS_REMEDY}")
    number = int(gpus)
    if number > count:
        there = f"this machine has {count}" if count else "PyTorch finds none on this machine"
        raise InputError(f"--gpus {gpus}: there is no such GPU ({there}); --gpus 0 uses the CPU")
    return Device("gpu", [number - 1], "") if number else CPU


def choose_torch_device(use_gpu: bool | None) -> torch.device:
    """The first GPU or the CPU.

    Args:
        use_gpu: None for a GPU if there is one.

    Raises:
        InputError: a GPU was requested and there is none.
    """
    there = torch.cuda.is_available()
    if use_gpu and not there:
        raise InputError(
            "--use_gpu: PyTorch finds no GPU on this machine; leave it out to compute on the CPU"
        )
    if use_gpu is None and not there:
        print("no GPU found: computing on the CPU")
    return torch.device("cuda" if there and use_gpu is not False else "cpu")
