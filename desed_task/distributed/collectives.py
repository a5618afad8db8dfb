"""Sums and messages over the processes of a command (`torch.distributed`); no-ops in a single one.

Every process must make the same calls in the same order. Tensors are summed on the device that they
are on, without waiting for it; Python objects travel over the CPU's group.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Value = TypeVar("Value")
_alone: ContextVar[bool] = ContextVar("_alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Let the block compute as a single process does, so that it waits for no other one.

    For what may fail in one process only, such as a measurement that runs out of memory.
    """
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def n_processes() -> int:
    """Number of processes that work together; 1 for one on its own."""
    return dist.get_world_size() if _together() else 1


def process_rank() -> int:
    """Number of this process among them, from 0."""
    return dist.get_rank() if _together() else 0


def summed(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes, written into it; no gradient flows through."""
    if _together():
        dist.all_reduce(x)
    return x


def tensors_of_all(x: Tensor) -> Tensor:
    """A tensor of every process, of one shape, as (process, ...); no gradient flows through."""
    if not _together():
        return x.unsqueeze(0)
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.stack(parts)


def gathered(value: Value) -> list[Value]:
    """The values of all processes, by rank, in every process; they are pickled."""
    if not _together():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def gathered_by_first(value: Value) -> list[Value]:
    """The values of all processes, by rank, in the first process; an empty list in the others."""
    if not _together():
        return [value]
    first = dist.get_rank() == 0
    values: list[Any] = [None] * dist.get_world_size() if first else []
    dist.gather_object(value, values if first else None)
    return values


def given_by_first(values: list[Value] | None) -> Value:
    """The value that the first process has for this one; they are pickled.

    Args:
        values: of all processes, by rank, in the first one; None in the others.
    """
    if not _together():
        assert values is not None
        return values[0]
    own: list[Any] = [None]
    dist.scatter_object_list(own, values)
    found: Value = own[0]
    return found


def told_by_first(value: Value) -> Value:
    """The value of the first process, in every process; it is pickled."""
    if not _together():
        return value
    values: list[Any] = [value]
    dist.broadcast_object_list(values)
    found: Value = values[0]
    return found


def wait_for_all() -> None:
    """Wait until every process is here."""
    # Objects travel over the CPU's group, whereas a barrier would need the device of each process.
    gathered(None)


def _together() -> bool:
    if _alone.get():
        return False
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
