"""The devices of a command's processes: `--devices`, beside `--gpus` or `--use_gpu`."""

from __future__ import annotations

import argparse
import os

import torch

from desed_task.errors import InputError, count_of
from desed_task.parallel import available_cores
from local.cli.arguments import ALL_DEVICES, DEVICES_REMEDY, MPS
from local.cli.devices import CPU, Device, choose_device, choose_torch_device, count_gpus
from local.processes.world import World, world_here

# On a CPU: so many may be tried anywhere, and so many of them wait for each core.
_MOST_PROCESSES, _MOST_PER_CORE = 8, 4


def device_of(args: argparse.Namespace, world: World | None = None) -> Device:
    """The device of this process.

    Args:
        args: arguments of the command: `gpus` or `use_gpu`, and `devices`.
        world: this process among the command's; None to look.

    Raises:
        InputError: there is no such device, or processes and devices do not fit together.
    """
    world = world_here() if world is None else world
    if not world.several:
        return choose_device(getattr(args, "gpus", None))
    _check_nodes(getattr(args, "num_nodes", None), world)
    count = _usable_gpus(args)
    if not count:
        _check_number(args.devices, world)
        how = f"computing on the CPU, in {count_of(world.size, 'process', 'processes')}"
        return CPU._replace(notice=how)
    if count == 1 and world.starter == "slurm":  # which shows each task its own GPU only
        return Device("gpu", [0], "")
    here = world.local_size
    unasked = list(range(min(count, here)))
    chosen = unasked if args.devices is None else chosen_gpus(args.devices, count)
    if len(chosen) != here:
        asked = f"--devices {args.devices}" if args.devices else f"{count_of(count, 'GPU')}"
        raise InputError(
            f"{asked}: torchrun or SLURM has started {count_of(here, 'process', 'processes')} on "
            "this machine; start one per GPU, and leave out --devices"
        )
    return Device("gpu", [chosen[world.local_rank]], "")


def _check_nodes(num_nodes: int | None, world: World) -> None:
    """Check that `--num_nodes`, if given, is what has been started.

    Raises:
        InputError: it is not.
    """
    if num_nodes is None or world.starter == "command":
        return
    most = world.size - world.local_size + 1  # machines, with at least a process on each other one
    least = 1 if world.size == world.local_size else 2
    if not least <= num_nodes <= most:
        raise InputError(
            f"--num_nodes {num_nodes}: torchrun or SLURM has started {world.size} processes, of "
            f"which {world.local_size} are on this machine; leave out --num_nodes"
        )


def _check_number(devices: str | None, world: World) -> None:
    """Check that `--devices`, if given, is the number of processes on the CPU of this machine.

    Raises:
        InputError: it is not.
    """
    if devices in (None, ALL_DEVICES) or processes_on_cpu(devices) == world.local_size:
        return
    number = count_of(world.local_size, "process", "processes")
    raise InputError(
        f"--devices {devices}: torchrun or SLURM has started {number} on this machine; leave out "
        "--devices"
    )


def torch_device_of(args: argparse.Namespace) -> torch.device:
    """The device of this process in PyTorch's terms, for a command with `--use_gpu`.

    Raises:
        InputError: as `device_of`.
    """
    world = world_here()
    if not world.several:
        return choose_torch_device(args.use_gpu)
    device = device_of(args, world)
    if device.notice:
        print(device.notice)
    return device.torch_device


def processes_here(args: argparse.Namespace) -> int:
    """Number of processes that a command starts on this machine.

    Raises:
        InputError: `--devices` names GPUs that do not exist, or far more processes than cores.
    """
    count = _usable_gpus(args)
    if count:
        return len(chosen_gpus(args.devices, count))
    number, cores = processes_on_cpu(args.devices), available_cores()
    if number > max(_MOST_PROCESSES, cores * _MOST_PER_CORE):
        raise InputError(
            f"--devices {args.devices}: there is no GPU, and these are far more processes than "
            f"this machine has usable cores ({cores}); give at most as many"
        )
    return number


def processes_on_cpu(devices: str | None) -> int:
    """Number of processes that `--devices` asks for on a machine without a GPU.

    Args:
        devices: the flag's value; None without it.

    Raises:
        InputError: a list of GPUs.
    """
    if devices in (None, ALL_DEVICES):
        return 1
    if "," in devices:
        raise InputError(
            f"--devices {devices}: PyTorch finds no GPU on this machine, so there is nothing "
            "to choose from; give the number of processes on the CPU, such as --devices 2"
        )
    return int(devices)


def _usable_gpus(args: argparse.Namespace) -> int:
    """Number of GPUs that the processes may use; 0 for the CPU.

    Raises:
        InputError: for flags that name one device for several processes.
    """
    for name in ("gpus", "use_gpu"):
        given = getattr(args, name, None)
        if given == MPS:
            raise InputError(f"--{name} {MPS}: a Mac's GPU takes one process; leave out --devices")
        if name == "gpus" and given not in (None, "0"):
            raise InputError(
                f"--gpus {given}: names one GPU for several processes; leave it out, or choose "
                "GPUs with --devices"
            )
        if given is False or given == "0":
            return 0
    count = count_gpus()
    if getattr(args, "use_gpu", None) and not count:
        choose_torch_device(True)  # refuses
    return count


def chosen_gpus(devices: str | None, count: int) -> list[int]:
    """GPUs that `--devices` names, counted from 0; the first one without it.

    Args:
        devices: the flag's value; None without it.
        count: number of GPUs of this machine that can be used.

    Raises:
        InputError: one of them does not exist.
    """
    if devices is None:
        return [0]
    if devices == ALL_DEVICES:
        return list(range(count))
    parts = [int(part) for part in devices.split(",")]
    chosen = [part - 1 for part in parts] if len(parts) > 1 else list(range(parts[0]))
    if max(chosen) >= count:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        limited = f", as CUDA_VISIBLE_DEVICES={visible}" if visible else ""
        raise InputError(
            f"--devices {devices}: this machine has {count_of(count, 'GPU')}{limited}; "
            f"{DEVICES_REMEDY}"
        )
    return chosen
