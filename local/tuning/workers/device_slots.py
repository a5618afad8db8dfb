"""Assign GPUs or CPU cores to jobs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from desed_task.errors import InputError, agree, count_of
from desed_task.parallel import available_cores
from local.cli.threads import THREAD_VARIABLES
from local.processes.world import World, environment_alone

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
ALONE = World()


@dataclass(frozen=True)
class DeviceSlot:
    """The device of one job.

    Attributes:
        number: from 0.
        gpu: its name in CUDA_VISIBLE_DEVICES; None for the CPU.
        threads: number of threads of a process.
    """

    number: int
    gpu: str | None
    threads: int

    def environment(self, outside: Mapping[str, str]) -> dict[str, str]:
        """Environment variables that bind a process to this device before it imports torch.

        Args:
            outside: environment of this process, which computes with other threads, and may be
                one of several that torchrun or SLURM has started.
        """
        threads = {name: str(self.threads) for name in THREAD_VARIABLES}
        gpu = "" if self.gpu is None else self.gpu
        return {**environment_alone(outside), **threads, VISIBLE_VARIABLE: gpu}

    def __str__(self) -> str:
        if self.gpu is None:
            return f"{self.threads} {'core' if self.threads == 1 else 'cores'}"
        return f"GPU {self.gpu}"


def choose_slots(
    n_jobs: int | None,
    jobs_per_gpu: int,
    *,
    devices: str | None = None,
    world: World = ALONE,
    threads: int | None = None,
    outside: Mapping[str, str] = os.environ,
    count_gpus: Callable[[], int] | None = None,
) -> list[DeviceSlot]:
    """Assign a device to each job: GPUs in turn, or an equal share of the cores.

    Args:
        n_jobs: number of jobs of this process; None for one per GPU, or one on the CPU.
        jobs_per_gpu: number of jobs that may share a GPU.
        devices: `--devices`: GPUs of this machine, or number of jobs on its CPU; None for all GPUs.
        world: this process among those that torchrun or SLURM has started, which share the devices
            of their machine.
        threads: threads of each job, as the user has chosen; None for an equal share of the cores.
        outside: environment of this process; GPUs hidden by CUDA_VISIBLE_DEVICES are not used.
        count_gpus: counts the GPUs if that variable is not set.

    Raises:
        InputError: for devices that do not exist, and more jobs or processes than there are.
    """
    gpus = visible_gpus(outside, count_gpus or _count_gpus)
    cores = _cores_of_process(world, outside)
    if not gpus:
        if jobs_per_gpu > 1:
            raise InputError(f"--jobs_per_gpu {jobs_per_gpu}: there is no GPU; leave it out")
        wanted = _jobs_on_cpu(n_jobs, devices, world, cores)
        return [DeviceSlot(n, None, threads or max(1, cores // wanted)) for n in range(wanted)]
    gpus = _gpus_of_process(gpus, devices, world, outside)
    most = len(gpus) * jobs_per_gpu
    wanted = most if n_jobs is None else n_jobs
    if wanted > most:
        raise InputError(
            f"--n_jobs {wanted}: {count_of(len(gpus), 'GPU is', 'GPUs are')} visible "
            f"({', '.join(gpus)}), for {jobs_per_gpu} each; give at most --n_jobs {most}, or let "
            f"them share with --jobs_per_gpu {-(-wanted // len(gpus))}"
        )
    share = threads or max(1, cores // wanted)
    return [DeviceSlot(number, gpus[number % len(gpus)], share) for number in range(wanted)]


def _jobs_on_cpu(n_jobs: int | None, devices: str | None, world: World, cores: int) -> int:
    """Number of jobs of this process on a machine without a GPU."""
    if devices is None:
        most, flag = cores, "--n_jobs"
    else:
        most, flag = _processes_on_cpu(devices), "--devices"
        if most > cores * world.local_size:
            _refuse_for_cores(flag, most, cores * world.local_size)
        if most < world.local_size:
            _refuse_processes(f"--devices {devices}", world)
        most = len(range(world.local_rank, most, world.local_size))
    if n_jobs is None:
        return 1 if devices is None else most
    if n_jobs > most and devices is not None:
        raise InputError(
            f"--n_jobs {n_jobs}: --devices {devices} leaves this process "
            f"{count_of(most, 'trial')} at a time; leave one of the flags out"
        )
    if n_jobs > most:
        _refuse_for_cores(flag, n_jobs, most)
    return n_jobs


def _refuse_for_cores(flag: str, wanted: int, cores: int) -> NoReturn:
    raise InputError(
        f"{flag} {wanted}: this machine has no GPU and {cores} usable "
        f"{agree(cores, 'core', 'cores')}; give at most {flag} {cores}"
    )


def _refuse_processes(what: str, world: World) -> NoReturn:
    raise InputError(
        f"{what}: torchrun or SLURM has started "
        f"{count_of(world.local_size, 'process', 'processes')} on this machine; start at most one "
        "per device"
    )


def _gpus_of_process(
    gpus: list[str], devices: str | None, world: World, outside: Mapping[str, str]
) -> list[str]:
    """GPUs of this process: those that are chosen, dealt to the processes of its machine."""
    if world.several and _has_own_gpus(len(gpus), world, outside):
        return gpus
    if devices is not None:
        from local.processes.devices import chosen_gpus  # imports torch

        gpus = [gpus[number] for number in chosen_gpus(devices, len(gpus))]
    if not world.several:
        return gpus
    if len(gpus) < world.local_size:
        asked = f"--devices {devices}" if devices else count_of(len(gpus), "GPU")
        _refuse_processes(asked, world)
    return gpus[world.local_rank :: world.local_size]


def _has_own_gpus(count: int, world: World, outside: Mapping[str, str]) -> bool:
    """Whether SLURM shows each process its own GPUs only: one, or as many as were asked for."""
    if world.starter != "slurm":
        return False
    # "2", or with the kind of the GPU "a100:2".
    per_task = outside.get("SLURM_GPUS_PER_TASK", "").rpartition(":")[2]
    return count == 1 or per_task == str(count)


def _cores_of_process(world: World, outside: Mapping[str, str]) -> int:
    """Cores of this process: its share, where several on a machine may use all."""
    cores, asked = available_cores(), outside.get("SLURM_CPUS_PER_TASK", "")
    if world.starter == "slurm" and asked.isdecimal():
        return min(cores, int(asked))
    return max(1, cores // world.local_size)


def _processes_on_cpu(devices: str) -> int:
    from local.processes.devices import processes_on_cpu  # imports torch

    return processes_on_cpu(devices)


def visible_gpus(outside: Mapping[str, str], count_gpus: Callable[[], int]) -> list[str]:
    """Usable GPUs by their names in CUDA_VISIBLE_DEVICES (numbers or UUIDs)."""
    if VISIBLE_VARIABLE not in outside:
        return [str(number) for number in range(count_gpus())]
    named = [name.strip() for name in outside[VISIBLE_VARIABLE].split(",")]
    # As in CUDA: the first invalid entry ends the list.
    last = next((i for i, name in enumerate(named) if name in ("", "-1")), len(named))
    return named[:last]


def _count_gpus() -> int:
    import torch  # takes seconds to import, needed only here

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
