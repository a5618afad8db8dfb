"""Precision and number of threads of a training, which a resumed one shares with its beginning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from desed_task.checkpoints.safe_load import load_safely
from desed_task.distributed.collectives import n_processes, told_by_first
from desed_task.errors import InputError, count_of
from local.checkpoints.resume import ASKED_KEY, THREADS_KEY, asked_precision
from local.cli.precision import usable_precision
from local.cli.threads import ThreadChoice, resumed_threads
from local.config import RecipeConfig

_WHAT = "training.precision"
# In checkpoints and run.yaml: number of processes, if there were several.
PROCESSES_KEY = "processes"


class Computation(NamedTuple):
    """How a training computes.

    Attributes:
        config: its configuration, with the precision that is really used.
        asked: the precision that was asked for.
    """

    config: RecipeConfig
    asked: str

    def record(self) -> dict[str, Any]:
        """What run.yaml and checkpoints keep of it, with the number of threads."""
        used = str(self.config.training.precision)
        found: dict[str, Any] = {THREADS_KEY: torch.get_num_threads(), "precision": used}
        if n_processes() > 1:
            found[PROCESSES_KEY] = n_processes()
        return found if used == self.asked else {**found, ASKED_KEY: self.asked}


@contextmanager
def computation_of(
    config: RecipeConfig, device: str, threads: ThreadChoice | None, checkpoint: Path | None
) -> Iterator[Computation]:
    """Settle precision and threads of a training, and set the threads for the block.

    Args:
        config: configuration of the training.
        device: type of its device.
        threads: the command's choice; None for what is set.
        checkpoint: where it is resumed from; None for a new one.
    """
    stored = {} if checkpoint is None else load_safely(checkpoint)
    before = torch.get_num_threads()
    began_with = _processes_in(stored)
    alike = began_with == n_processes()
    number, lines = resumed_threads(threads, _threads_in(stored) if alike else None, before)
    for line in (*lines, *([] if alike or not stored else [_other_processes(config, began_with)])):
        print(line)
    torch.set_num_threads(number)
    try:
        # With its threads, as rates depend on them.
        yield told_by_first(_settled(config, device, stored))
    finally:
        torch.set_num_threads(before)


def with_usable_precision(config: RecipeConfig, device: str) -> RecipeConfig:
    """The configuration with a precision that the device computes with; says so if it differs."""
    return told_by_first(_settled(config, device, {})).config


def _settled(config: RecipeConfig, device: str, stored: dict[str, Any]) -> Computation:
    asked = config.training.precision
    began = asked_precision(stored)
    if began is not None and began != str(asked):
        return Computation(config, str(asked))  # refused where all values are compared
    if began is None:
        used, line = usable_precision(asked, device, what=_WHAT)
    else:
        # It goes on as it began, whatever this machine would do.
        used = stored["hyper_parameters"]["training"]["precision"]
        _, line = usable_precision(used, device, what=_WHAT, keep=True)
        if str(used) != str(asked):
            line = f"{_WHAT} {asked}: computing with precision {used}, as this training began"
    if line:
        print(line)
    training = config.training.model_copy(update={"precision": used})
    return Computation(config.model_copy(update={"training": training}), str(asked))


def _threads_in(stored: dict[str, Any]) -> int | None:
    """The number of threads that a checkpoint was trained with; None if it is not known."""
    number = stored.get(THREADS_KEY)
    return number if type(number) is int and number > 0 else None


def _processes_in(stored: dict[str, Any]) -> int:
    """The number of processes that a checkpoint was trained with; one if it does not say."""
    number = stored.get(PROCESSES_KEY, 1)
    return number if type(number) is int and number > 0 else 1


def _other_processes(config: RecipeConfig, began_with: int) -> str:
    """A line about a training that is resumed with another number of processes.

    Raises:
        InputError: its batches would have another size.
    """
    here = n_processes()
    if config.training.batch_scope == "process":
        raise InputError(
            f"training.batch_scope: process: this training began with "
            f"{count_of(began_with, 'process', 'processes')}, and with another number ({here}) "
            f"batches would have another size; resume it with --devices {began_with}"
        )
    return (
        f"processes: {here}, where this training began with {began_with}: dropout and the pairs of "
        "mixup differ from those of an uninterrupted training"
    )
