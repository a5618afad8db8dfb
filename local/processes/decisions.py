"""What the first process finds out for all: folders listed once, and errors told once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from desed_task.errors import InputError
from local.processes.world import world_here

Found = TypeVar("Found")


def decided_by_first(
    action: Callable[[], Found], told: Callable[[Found], Any] = lambda found: found
) -> Found:
    """What an action of the first process returns, in all processes.

    Collective call: every process must reach it.

    Args:
        action: called in the first process only.
        told: what the others get of its result; it is pickled.

    Raises:
        InputError: the action has raised it; in all processes, so that none waits in vain.
    """
    if not world_here().several:  # which may not have imported PyTorch yet
        return action()
    from desed_task.distributed.collectives import process_rank, told_by_first

    if process_rank():
        nothing: Any = (None, None)
        found, fault = told_by_first(nothing)
        if fault is not None:
            raise InputError(fault)
        return found
    try:
        found = action()
    except InputError as error:
        told_by_first((None, str(error)))
        raise
    told_by_first((told(found), None))
    return found
