"""The processes of a command joined in a group, and how they end together.

The first process prints; what another one would print is left out there. A warning that only
another one gives is printed when all are done, and its errors are printed at once. An error that
all processes meet, such as a wrong value, is printed by the first one alone.
"""

from __future__ import annotations

import datetime
import gc
import io
import os
import platform
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
import torch.distributed as dist

# Its functions keep the group that exists when they are defined, for good: imported later, by
# DistributedDataParallel, they would keep alive what has been left. The threads of gloo would then
# meet the end of the interpreter, which ends a thread that wants to release a Python object in a
# way that C++ answers with "terminate called without an active exception".
import torch.distributed.nn

from desed_task.distributed.collectives import gathered
from desed_task.errors import InputError
from local.cli.exit_status import StoppedError, ToldElsewhereError
from local.cli.interrupts import EXIT_STOPPED
from local.processes.world import STARTED_BY, World, joined_world, slurm_variables

# Of a process whose partner has ended: the reason is told elsewhere.
EXIT_LOST_PARTNER = 75
# The first process may pack a corpus, or score a test, while the others wait.
TIMEOUT = datetime.timedelta(hours=6)
# How long processes wait for each other at the start.
_MEETING = datetime.timedelta(minutes=15)
# How long another process waits for the first one to meet the same error.
_SAME_ERROR_S, _PAUSE_S = 5.0, 0.05
# The command looks at its processes ten times a second.
_ENDED_BY_COMMAND_S = 2.0
_LOST = re.compile(
    r"Connection (closed|reset|refused)|Broken pipe|gloo[/:]|NCCL|Socket closed|failed to recv|"
    r"TCPStore",
    re.IGNORECASE,
)
_LOOP_BACK = {"linux": "lo", "darwin": "lo0"}


class Group:
    """The joined processes of a command.

    Attributes:
        world: this process among them.
    """

    def __init__(self, world: World, store: Any) -> None:
        self.world = world
        self._store = store
        self._warned: list[str] = []

    def add_up(self, key: str, amount: int = 0) -> int:
        """Add to a number that all processes share, and return it; they need not do so together."""
        total: int = self._store.add(key, amount)
        return total

    def ends(self, status: int) -> int:
        """Wait for all processes; the first one prints the others' warnings.

        Returns:
            The exit status of this process: of the first one the highest of all, else 0.
        """
        found = gathered((status, self._warned))
        if not self.world.is_first:
            return 0
        told = set(self._warned)
        for _, texts in found[1:]:
            for text in texts:
                if text not in told:
                    told.add(text)
                    warnings.warn(text, UserWarning, stacklevel=2)
        return max(of_process for of_process, _ in found)

    def failure(self, error: BaseException) -> BaseException:
        """What this process raises instead of an error, so that it is told once.

        Args:
            error: what ended the command here.
        """
        stopped = isinstance(error, KeyboardInterrupt | SystemExit | StoppedError)
        if stopped:
            return error if self.world.is_first else ToldElsewhereError(EXIT_STOPPED)
        if is_lost_partner(error):
            if self.world.starter == "command":  # which sees the reason
                return ToldElsewhereError(EXIT_LOST_PARTNER)
            return InputError(
                f"{self.world}: another process has ended, so this one ends, too; see its message, "
                "then run the same command again"
            )
        if self.world.starter == "command" and not isinstance(error, InputError):
            # If a partner has ended, whatever this process has met because of it, the command ends
            # it meanwhile.
            time.sleep(_ENDED_BY_COMMAND_S)
        if self.world.is_first:
            self._store.set("failure", str(error))
            return error
        try:
            of_first = self._failure_of_first()
        except RuntimeError:  # It keeps the store, and has ended.
            return ToldElsewhereError(2)
        if of_first == str(error):
            return ToldElsewhereError(2)
        if isinstance(error, InputError):
            return InputError(f"{self.world} on {platform.node()}: {error}")
        return error

    def _failure_of_first(self) -> str | None:
        """The error of the first process; None if it meets none within seconds."""
        end = time.monotonic() + _SAME_ERROR_S
        while not self._store.check(["failure"]):
            if time.monotonic() > end:
                return None
            time.sleep(_PAUSE_S)
        text: str = self._store.get("failure").decode()
        return text

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Let only the first process print in the block; warnings are kept for `ends`."""
        shown, out, err = warnings.showwarning, sys.stdout, sys.stderr

        def keep(message: Warning | str, *rest: Any, **more: Any) -> None:
            self._warned.append(str(message))
            if self.world.is_first:
                shown(message, *rest, **more)

        warnings.showwarning = keep
        if not self.world.is_first:
            sys.stdout, sys.stderr = _Nowhere(), _Nowhere()
        try:
            yield
        finally:
            warnings.showwarning, sys.stdout, sys.stderr = shown, out, err


class _Nowhere(io.TextIOBase):
    """A stream that forgets what is written to it."""

    def write(self, text: str) -> int:
        return len(text)


_joined: list[Group] = []


def group_here() -> Group | None:
    """The group of this process; None for a single process."""
    return _joined[-1] if _joined else None


def is_lost_partner(error: BaseException) -> bool:
    """Whether an error says that a process that this one works with has ended."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError)
        and not isinstance(error, InputError)
        and _LOST.search(str(error)) is not None
    )


@contextmanager
def joined(world: World, device: torch.device) -> Iterator[Group]:
    """Join the other processes for the block.

    Args:
        world: this process among them.
        device: of this process; tensors on a GPU are summed there.

    Raises:
        InputError: the others do not come.
    """
    if world.starter == "slurm":
        os.environ.update(slurm_variables())
        os.environ.update(
            RANK=str(world.rank),
            WORLD_SIZE=str(world.size),
            LOCAL_RANK=str(world.local_rank),
            LOCAL_WORLD_SIZE=str(world.local_size),
        )
    if world.size == world.local_size and sys.platform in _LOOP_BACK:
        # A machine's name need not lead to an address.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOP_BACK[sys.platform])
    if world.starter == "command":
        _end_with(int(os.environ[STARTED_BY]))
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    try:
        store, *_ = next(dist.rendezvous("env://", world.rank, world.size, timeout=_MEETING))
        dist.init_process_group(
            backend,
            store=dist.PrefixStore("group", store),
            rank=world.rank,
            world_size=world.size,
            timeout=TIMEOUT,
        )
    except (dist.DistError, RuntimeError) as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"{world}: cannot reach the others at {os.environ.get('MASTER_ADDR')}:"
            f"{os.environ.get('MASTER_PORT')} ({text[0]}); check that this address can be reached "
            "from every machine (GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME choose the network)"
        ) from None
    group = Group(world, dist.PrefixStore("command", store))
    _joined.append(group)
    try:
        with joined_world(world):
            yield group
    finally:
        _joined.remove(group)


def leave() -> None:
    """Leave the group, when all processes are done, and end its threads."""
    with suppress(RuntimeError):
        dist.destroy_process_group()
    # What it is released by may be part of a cycle, as Lightning's trainer is.
    gc.collect()


def _end_with(process: int) -> None:
    """End this process when the command that has started it ends, however it ends."""

    def watch() -> None:
        while os.getppid() == process:
            time.sleep(1.0)
        os._exit(EXIT_LOST_PARTNER)

    threading.Thread(target=watch, daemon=True, name="watch the command").start()


def ignore_interrupts() -> None:
    """Ignore further Ctrl-C, as terminal and command both pass it on."""
    with suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
