"""Which process of how many this is, as torchrun, SLURM or the command itself has started it.

Nothing here imports PyTorch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple

from desed_task.errors import InputError

Starter = Literal["user", "command", "torchrun", "slurm"]
# Set by a command for the processes that it starts: its own process.
STARTED_BY = "DESED_STARTED_BY"
_STANDARD = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Of the interactive step of `salloc`, in which the user types commands.
_INTERACTIVE_STEP = "4294967290"
# Of `srun --pty bash`, a shell in the first step of its job. That of `salloc` is in none.
_SHELLS = frozenset(("bash", "sh", "dash", "zsh", "fish", "ksh", "csh", "tcsh"))
# What launchers tell their processes: torchrun, SLURM of a step and its tasks, MPI below srun.
_OF_A_PARTNER = re.compile(
    r"((LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)|(GROUP_|ROLE_)\w+|NODE_RANK|MASTER_(ADDR|PORT)|"
    r"TORCHELASTIC_\w+|DESED_STARTED_BY|SLURM_(STEP\w*|PROCID|LOCALID|NODEID|NTASKS\w*|NPROCS|"
    r"TASKS_PER_NODE|TASK_PID|GTIDS)|PMI\w*|OMPI_\w+)$"
)


class World(NamedTuple):
    """The processes that work together, and this one among them.

    Attributes:
        rank: this process, from 0.
        size: number of processes on all machines.
        local_rank: this process among those of its machine, from 0.
        local_size: number of processes on its machine.
        starter: what started them: the user (a single process), the command itself (`--devices`),
            torchrun or a launcher that sets the same variables, or SLURM (srun).
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    starter: Starter = "user"

    @property
    def several(self) -> bool:
        """Whether there is more than one process."""
        return self.size > 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that prints and writes what all have in common."""
        return self.rank == 0

    @property
    def is_first_here(self) -> bool:
        """Whether this process is the first one of its machine."""
        return self.local_rank == 0

    def __str__(self) -> str:
        """`process 2 of 4`, counted from 1 as users do."""
        return f"process {self.rank + 1} of {self.size}"


# The world of this process once it has joined the others, which sets variables of its own.
_joined: list[World] = []


@contextmanager
def joined_world(world: World) -> Iterator[None]:
    """Let `world_here` return this world while the block runs."""
    _joined.append(world)
    try:
        yield
    finally:
        _joined.remove(world)


def world_here(environment: Mapping[str, str] = os.environ) -> World:
    """This process among those that were started with it; the user's single one without variables.

    Args:
        environment: its variables.

    Raises:
        InputError: a variable is not a number, or some of them are missing.
    """
    if environment is os.environ and _joined:
        return _joined[-1]
    set_ = [name for name in _STANDARD if environment.get(name)]
    if {"RANK", "WORLD_SIZE"} <= set(set_):
        if missing := [name for name in _STANDARD if name not in set_]:
            raise InputError(
                f"the environment has RANK={environment['RANK']} and WORLD_SIZE="
                f"{environment['WORLD_SIZE']}, but not {', '.join(missing)}; start several "
                "processes with torchrun, srun or --devices, or unset RANK and WORLD_SIZE"
            )
        numbers = (_number(environment, name) for name in _STANDARD[:4])
        rank, size, local_rank, local_size = numbers
        for name, number, of_name, of in (
            ("RANK", rank, "WORLD_SIZE", size),
            ("LOCAL_RANK", local_rank, "LOCAL_WORLD_SIZE", local_size),
        ):
            if number >= of:
                raise InputError(
                    f"{name}={number}: with {of_name}={of}, processes count from 0 to {of - 1}; "
                    "start them with torchrun, srun or --devices, or unset RANK and WORLD_SIZE"
                )
        own = STARTED_BY in environment
        return World(rank, size, local_rank, local_size, "command" if own else "torchrun")
    if _in_slurm_step(environment):
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
        rank, size, local_rank = (_number(environment, name) for name in names)
        if size > 1:
            local_size = _tasks_of_node(environment)
            return World(rank, size, local_rank, local_size, "slurm")
    return World()


def environment_alone(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that is to work on its own, though this one has partners.

    Args:
        environment: of this process; what tells one process from its partners is left out.
    """
    return {name: value for name, value in environment.items() if not _OF_A_PARTNER.match(name)}


def slurm_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Address and port at which the processes of a SLURM step meet, unless the user has set them.

    The first node of the step, and a port that follows from job and step.
    """
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST", "127.0.0.1")
    job, step = (int(environment.get(f"SLURM_{n}_ID", "0") or 0) for n in ("JOB", "STEP"))
    found = {
        "MASTER_ADDR": first_node(nodes),
        "MASTER_PORT": str(20000 + (31 * job + step) % 40000),
    }
    return {name: environment.get(name) or value for name, value in found.items()}


def first_node(nodes: str) -> str:
    """The first host of SLURM's list: `gpu03` of `gpu[03-05,08],login`."""
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", nodes).partition(",")[0]


def told_of_slurm(environment: Mapping[str, str] = os.environ) -> str | None:
    """A line if SLURM has allotted several tasks of which this command uses one, without srun."""
    tasks = environment.get("SLURM_NTASKS", "1")
    if tasks in ("", "1") or _in_slurm_step(environment):
        return None
    return (
        f"SLURM has allotted {tasks} tasks, but this command is not started with srun, so it "
        "computes in one process; start it with srun to use all"
    )


def _in_slurm_step(environment: Mapping[str, str]) -> bool:
    """Whether srun has started this process, and not a shell in which the user types."""
    step = environment.get("SLURM_STEP_ID", "")
    # What srun starts from within such a shell is a later step, with the same variables.
    in_shell = step == "0" and (
        environment.get("SLURM_JOB_NAME") in _SHELLS or "SLURM_PTY_PORT" in environment
    )
    return step.isdigit() and step != _INTERACTIVE_STEP and not in_shell


def _tasks_of_node(environment: Mapping[str, str]) -> int:
    """Tasks on this node, from a list for all nodes of the step such as `2(x3),1`."""
    text = environment.get("SLURM_STEP_TASKS_PER_NODE", "1")
    counts: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if found is None:
            raise InputError(f"SLURM_STEP_TASKS_PER_NODE={text}: is not a list of task counts")
        counts += [int(found[1])] * int(found[2] or 1)
    node = _number(environment, "SLURM_NODEID") if len(counts) > 1 else 0
    return counts[min(node, len(counts) - 1)]


def _number(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name, "")
    if not value.isdecimal():
        raise InputError(f"{name}={value}: is not a number; unset it, or set it as torchrun does")
    return int(value)
