"""Assign GPUs or CPU cores to jobs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from desed_task.errors import InputError
from desed_task.parallel import available_cores
from local.cli.threads import THREAD_VARIABLES

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"


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
            outside: environment of this process, which computes with other threads.
        """
        threads = {name: str(self.threads) for name in THREAD_VARIABLES}
        return {**outside, **threads, VISIBLE_VARIABLE: "" if self.gpu is None else self.gpu}

    def __str__(self) -> str:
        if self.gpu is None:
            return f"{self.threads} {'core' if self.threads == 1 else 'cores'}"
        return f"GPU {self.gpu}"


def choose_slots(
    n_jobs: int | None,
    jobs_per_gpu: int,
    *,
    threads: int | None = None,
    outside: Mapping[str, str] = os.environ,
    count_gpus: Callable[[], int] | None = None,
) -> list[DeviceSlot]:
    """Assign a device to each job: GPUs in turn, or an equal share of the cores.

    Args:
        n_jobs: number of jobs; None for one per GPU, or one on the CPU.
        jobs_per_gpu: number of jobs that may share a GPU.
        threads: threads of each job, as the user has chosen; None for an equal share of the cores.
        outside: environment of this process; GPUs hidden by CUDA_VISIBLE_DEVICES are not used.
        count_gpus: counts the GPUs if that variable is not set.

    Raises:
        InputError: for more jobs than GPUs or cores allow.
    """
    gpus = visible_gpus(outside, count_gpus or _count_gpus)
    cores = available_cores()
    if not gpus:
        if jobs_per_gpu > 1:
            raise InputError(f"--jobs_per_gpu {jobs_per_gpu}: there is no GPU; leave it out")
        if n_jobs is not None and n_jobs > cores:
            raise InputError(
                f"--n_jobs {n_jobs}: this machine has no GPU and {cores} usable cores; give at "
                f"most --n_jobs {cores}"
            )
        share = threads or max(1, cores // (n_jobs or 1))
        return [DeviceSlot(number, None, share) for number in range(n_jobs or 1)]
    wanted = len(gpus) * jobs_per_gpu if n_jobs is None else n_jobs
    if wanted > len(gpus) * jobs_per_gpu:
        raise InputError(
            f"--n_jobs {wanted}: {len(gpus)} GPUs are visible ({', '.join(gpus)}), for "
            f"{jobs_per_gpu} each; give at most --n_jobs {len(gpus) * jobs_per_gpu}, or let them "
            f"share with --jobs_per_gpu {-(-wanted // len(gpus))}"
        )
    share = threads or max(1, cores // wanted)
    return [DeviceSlot(number, gpus[number % len(gpus)], share) for number in range(wanted)]


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
