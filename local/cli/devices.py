"""Device selection: `--gpus` (0: the CPU, GPUs are counted from 1, mps) and `--use_gpu`."""

from __future__ import annotations

from typing import NamedTuple

import torch

from desed_task.errors import InputError
from local.cli.arguments import GPUS_REMEDY, MPS


class Device(NamedTuple):
    """Device arguments of Lightning's trainer, for one process."""

    accelerator: str  # "cpu", "gpu" or "mps"
    devices: int | list[int]
    notice: str  # a line for the user; "" for none

    @property
    def torch_device(self) -> torch.device:
        """The first of the devices in PyTorch's terms."""
        if isinstance(self.devices, int):
            return torch.device(self.accelerator)
        return torch.device("cuda", self.devices[0])


CPU = Device("cpu", 1, "")
UNTRIED = "computing on this Mac's GPU (mps), on which the recipe has not been tried; check results"
ON_A_MAC = "computing on the CPU; {flag} mps uses this Mac's GPU, which has not been tried"


def count_gpus() -> int:
    """Number of GPUs that PyTorch can use; a Mac's does not count."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def choose_device(gpus: str | None) -> Device:
    """The device that `--gpus` asks for.

    Args:
        gpus: None for the first GPU, or the CPU without one; "0" for the CPU; "N" for GPU N; "mps"
            for the GPU of a Mac, which is never taken unasked.

    Raises:
        InputError: the GPU does not exist, or the text is not a number.
    """
    count = count_gpus()
    if gpus is None:
        return Device("gpu", [0], "") if count else CPU._replace(notice=_on_cpu("--gpus"))
    if gpus.strip() == MPS:
        _check_mps("--gpus")
        return Device(MPS, 1, UNTRIED)
    if not gpus.strip().isdecimal():
        raise InputError(f"--gpus {gpus}: {GPUS_REMEDY}")
    number = int(gpus)
    if number > count:
        there = f"this machine has {count}" if count else "PyTorch finds none on this machine"
        raise InputError(f"--gpus {gpus}: there is no such GPU ({there}); --gpus 0 uses the CPU")
    return Device("gpu", [number - 1], "") if number else CPU


def choose_torch_device(use_gpu: bool | str | None) -> torch.device:
    """The first GPU, the CPU, or the GPU of a Mac.

    Args:
        use_gpu: None for a GPU if there is one; "mps" for that of a Mac.

    Raises:
        InputError: a GPU was requested and there is none.
    """
    if use_gpu == MPS:
        _check_mps("--use_gpu")
        print(UNTRIED)
        return torch.device(MPS)
    there = torch.cuda.is_available()
    if use_gpu and not there:
        raise InputError(
            "--use_gpu: PyTorch finds no GPU on this machine; leave it out to compute on the CPU"
        )
    if use_gpu is None and not there:
        print(_on_cpu("--use_gpu"))
    return torch.device("cuda" if there and use_gpu is not False else "cpu")


def _on_cpu(flag: str) -> str:
    """A line for the user of a machine without a GPU for CUDA, who has asked for none."""
    if torch.backends.mps.is_available():
        return ON_A_MAC.format(flag=flag)
    return "no GPU found: computing on the CPU"


def _check_mps(flag: str) -> None:
    if torch.backends.mps.is_available():
        return
    if torch.backends.mps.is_built():
        fault = "PyTorch cannot use the GPU of this Mac; it needs Apple silicon and macOS 14"
    else:
        fault = "mps is the GPU of Macs with Apple silicon, and this PyTorch is not one for them"
    raise InputError(f"{flag} mps: {fault}; {flag} 0 uses the CPU")
