"""Run a command in as many processes as it asks for: `--devices`, torchrun or SLURM.

`torch.distributed.elastic`, which torchrun is made of, starts the processes of `--devices` and ends
them together. Each of them runs the command once more.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from desed_task.errors import CONSOLE_COMMANDS, InputError
from desed_task.parallel import available_cores
from local.cli.exit_status import resuming_hint, run_command
from local.cli.interrupts import EXIT_STOPPED, leaving_at_once
from local.processes.world import STARTED_BY, World, told_of_slurm, world_here

Action = Callable[[argparse.Namespace], int]


def run_in_processes(
    action: Action, args: argparse.Namespace, script: str, argv: Sequence[str] | None = None
) -> int:
    """Run a command as `run_command` does, in the processes that its arguments or torchrun ask for.

    Args:
        action: the command; in each process it sees the same arguments.
        args: its arguments; `gpus` or `use_gpu`, `devices` and `num_nodes` choose devices.
        script: the file of the command.
        argv: the words that they were parsed from; None for those of this process.
    """
    try:
        world = world_here()
    except InputError as error:
        return run_command(_raising(error), args, computes=False)
    if world.several:
        return _run_member(action, args, world)
    if args.devices is not None or args.num_nodes is not None:
        words = sys.argv[1:] if argv is None else list(argv)
        command = [str(_as_started(script)), *words]
        status = run_command(lambda given: _start(given, command), args, computes=False)
        if status != _ALONE:
            return status
    if line := told_of_slurm():
        print(line)
    return run_command(action, args)


# What `_start` returns if one process does.
_ALONE = -1


def _raising(error: InputError) -> Action:
    def action(_args: argparse.Namespace) -> int:
        raise error

    return action


def _run_member(action: Action, args: argparse.Namespace, world: World) -> int:
    """Run a command in one of several processes; one that fails ends at once, as its partners
    cannot be waited for.
    """
    try:
        status = run_command(lambda given: _as_member(action, given, world), args)
    except Exception:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        status = 1
    if status:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)
    return status


def _as_member(action: Action, args: argparse.Namespace, world: World) -> int:
    """Run a command in one of several processes."""
    with leaving_at_once():
        from local.processes import group as groups
        from local.processes.devices import device_of

    with groups.joined(world, device_of(args, world).torch_device) as group:
        try:
            with group.quiet():
                status = action(args)
            status = group.ends(status)
        except BaseException as error:
            groups.ignore_interrupts()
            failure = group.failure(error)
            if failure is error:
                raise
            raise failure from None
    groups.leave()
    return status


def _as_started(script: str) -> Path:
    """The script as the user has named it, which messages repeat."""
    started = Path(sys.argv[0])
    return started if started.name in CONSOLE_COMMANDS else Path(script)


def _start(args: argparse.Namespace, command: Sequence[str]) -> int:
    """Start the command again in several processes, and wait for their end.

    Returns:
        The exit status of the command; `_ALONE` if a single process does, which is not started.
    """
    with leaving_at_once():
        from local.processes.devices import processes_here

    number, n_nodes = processes_here(args), args.num_nodes or 1
    if number * n_nodes == 1:
        return _ALONE
    before = dict(os.environ)
    os.environ.update(_variables(args, number))
    try:
        return _run(command, number, n_nodes, args)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _variables(args: argparse.Namespace, number: int) -> dict[str, str]:
    """Variables of the processes, which share the cores of the machine."""
    found = {STARTED_BY: str(os.getpid())}
    given = any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))
    if args.threads is None and not given:
        found["OMP_NUM_THREADS"] = str(max(1, available_cores() // number))
    return found


def _run(command: Sequence[str], number: int, n_nodes: int, args: argparse.Namespace) -> int:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # It tells users about its own workings; what ended a process is told below.
    log = logging.getLogger("torch.distributed.elastic")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    place = _meeting_place(n_nodes)
    try:
        # Empty folders, which it would leave behind.
        with tempfile.TemporaryDirectory(prefix="desed_") as folder:
            config = LaunchConfig(
                min_nodes=n_nodes,
                max_nodes=n_nodes,
                nproc_per_node=number,
                run_id=uuid.uuid4().hex if n_nodes == 1 else "desed",
                max_restarts=0,
                **_signals(LaunchConfig),
                logs_specs=DefaultLogsSpecs(log_dir=folder),
                **place,
            )
            elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as error:
        return _status_of(error.failures, number * n_nodes, args)
    except SignalException as error:
        return EXIT_STOPPED if error.sigval == signal.SIGINT else 128 + int(error.sigval)
    return 0


def _signals(config: Callable[..., Any]) -> dict[str, str]:
    """The signals that end the processes: not those that are ignored here, as below `nohup`.

    Args:
        config: the class that takes them, if this version of PyTorch knows how.
    """
    if "signals_to_handle" not in inspect.signature(config).parameters:
        return {}
    handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    names = [one.name for one in handled if signal.getsignal(one) is not signal.SIG_IGN]
    return {"signals_to_handle": ",".join(names)}


def _meeting_place(n_nodes: int) -> dict[str, Any]:
    """Where the processes meet.

    Raises:
        InputError: several machines, without variables that say where.
    """
    if n_nodes == 1:
        return {
            "rdzv_backend": "c10d",
            "rdzv_endpoint": "127.0.0.1:0",
            # The name of this machine need not lead to an address.
            "local_addr": "127.0.0.1",
        }
    names = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    if missing := [name for name in names if not os.environ.get(name)]:
        raise InputError(
            f"--num_nodes {n_nodes}: {', '.join(missing)} not set; start the command on each "
            "machine with MASTER_ADDR (name of the first one), MASTER_PORT (a free port there) and "
            "NODE_RANK (0, 1, ...), or with torchrun (docs/scaling.md)"
        )
    if not os.environ["NODE_RANK"].isdecimal() or int(os.environ["NODE_RANK"]) >= n_nodes:
        raise InputError(
            f"NODE_RANK={os.environ['NODE_RANK']}: --num_nodes {n_nodes} has machines 0 to "
            f"{n_nodes - 1}; give each its own"
        )
    return {
        "rdzv_backend": "static",
        "rdzv_endpoint": f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}",
        "rdzv_configs": {"rank": int(os.environ["NODE_RANK"]), "timeout": 900},
    }


def _status_of(failures: Mapping[int, Any], size: int, args: argparse.Namespace) -> int:
    """The exit status of a command whose processes have failed; tells what ended them if they could
    not.
    """
    from local.processes.group import EXIT_LOST_PARTNER

    own = {rank: one for rank, one in failures.items() if one.exitcode != EXIT_LOST_PARTNER}
    first = min(own.items(), key=lambda item: item[1].timestamp, default=None)
    if first is None:
        told = "the processes have lost their connections to each other"
        if (args.num_nodes or 1) > 1:
            told = "a process on another machine has ended"
        print(f"error: {told}; {resuming_hint(args)}", file=sys.stderr)
        return 1
    rank, failure = first
    status: int = failure.exitcode
    others = "the other one" if size == 2 else f"the other {size - 1}"
    # Only the first process says that it is stopped.
    silent = status == EXIT_STOPPED and rank > 0 and 0 not in own
    if status >= 0 and not silent:
        return status  # it has said why
    told = f"process {rank + 1} of {size} was stopped, so {others} ended, too"
    if status < 0:
        name = signal.Signals(-status).name
        memory = " (perhaps for lack of memory)" if name == "SIGKILL" else ""
        told = f"process {rank + 1} of {size} was ended by {name}{memory}, so {others} ended, too"
    print(f"error: {told}; {resuming_hint(args)}", file=sys.stderr)
    return status if status > 0 else 128 - status
