"""Whether a training step fits the memory, told before the training starts, and what to change."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from desed_task.distributed.collectives import gathered, n_processes
from desed_task.errors import InputError, count_of
from local.config import RecipeConfig
from local.data.loading.memory_placement import GB, free_memory
from local.training.finetuning.probe import ROWS, ROWS_ON_GPU, ProbedStep, noise_batch, probe_step


class StepCost(NamedTuple):
    """Memory and time of an optimizer step.

    Attributes:
        n_rows: rows of a batch in this process.
        n_batches: batches of a step.
        weights: bytes of all networks.
        gradients: bytes of the gradients.
        moments: bytes of the optimizer's two moments.
        restored: bytes of them that are there already, as the training is resumed.
        kept: bytes that the forward pass of a batch keeps, as configured.
        kept_checkpointing: the same with `pretrained.gradient_checkpointing`.
        seconds: of the forward and backward passes of all batches.
        was_first: whether these are from a first run, in which kernels are prepared.
    """

    n_rows: int
    n_batches: int
    weights: int
    gradients: int
    moments: int
    restored: int
    kept: int
    kept_checkpointing: int
    seconds: float
    was_first: bool

    @property
    def total(self) -> int:
        """All bytes together."""
        return self.weights + self.gradients + self.moments + self.kept

    @property
    def to_come(self) -> int:
        """Bytes beyond those that are there before the first step."""
        return self.total - self.weights - self.restored

    @property
    def there(self) -> str:
        """What is there before the first step."""
        return "the weights and moments" if self.restored else "the weights"

    def line(self, device: str, free: int) -> str:
        """What is printed before a training.

        Args:
            device: where it computes.
            free: bytes that are free there beside what is there before the first step.
        """
        n_batches = count_of(self.n_batches, "batch", "batches")
        batches = "" if self.n_batches == 1 else f" in {n_batches}"
        rows = "the first run of a few rows" if self.was_first else "a few rows"
        return (
            f"optimizer step: about {self.total / GB:.2f} GB (weights {self.weights / GB:.2f}, "
            f"gradients and moments {(self.gradients + self.moments) / GB:.2f}, activations of "
            f"{count_of(self.n_rows, 'row')} {self.kept / GB:.2f}) and {self.seconds:.3g} s"
            f"{batches} on {device}, estimated from {rows}; free beside {self.there}: "
            f"{free / GB:.1f} GB"
        )


def rows_of_process(config: RecipeConfig) -> int:
    """The most rows of a batch that a process has."""
    rows = sum(part.rows for part in config.detection_task.batch)
    return -(-rows // n_processes()) if config.training.batch_scope == "total" else rows


def step_cost(
    probed: ProbedStep, config: RecipeConfig, module: torch.nn.Module, restored: int = 0
) -> StepCost:
    """The cost of an optimizer step, from that of a few rows.

    Args:
        probed: of a few rows.
        config: rows and batches of a step.
        module: with all networks.
        restored: bytes of the optimizer's moments that are there already.
    """
    rows = rows_of_process(config)
    n_batches = config.training.accumulate_batches
    weights = sum(value.nbytes for value in (*module.parameters(), *module.buffers()))
    trained = sum(value.nbytes for value in module.parameters() if value.requires_grad)
    share = rows / probed.n_rows
    return StepCost(
        rows,
        n_batches,
        weights,
        trained,
        2 * trained,
        min(restored, 2 * trained),
        round(share * probed.kept),
        round(share * probed.kept_checkpointing),
        share * n_batches * probed.seconds,
        probed.was_first,
    )


def remedies(config: RecipeConfig, cost: StepCost | None = None) -> str:
    """What to change so that a step takes less memory, the most effective first.

    Args:
        config: of the training.
        cost: of its step, for the figure that gradient checkpointing would give.
    """
    found, pretrained, training = [], config.pretrained, config.training
    if not (pretrained.freezed or pretrained.gradient_checkpointing):
        saved = f" (activations of about {cost.kept_checkpointing / GB:.2f} GB)" if cost else ""
        found.append(f"pretrained.gradient_checkpointing: true{saved}")
    n_batches = 2 * training.accumulate_batches
    found.append(
        f"smaller training.batch_size with more training.accumulate_batches (half the rows, "
        f"{count_of(n_batches, 'batch', 'batches')})"
    )
    if str(training.precision) in ("32", "32-true", "tf32"):
        found.append("training.precision: bf16")
    if config.runs_encoders:
        found.append("fewer blocks with pretrained.n_blocks")
    return ", ".join(found[:-1]) + (", or " if len(found) > 1 else "") + found[-1]


@contextmanager
def explaining_memory(config: RecipeConfig) -> Iterator[None]:
    """Turn a GPU's error that memory does not suffice into one with what to change.

    Raises:
        InputError: in its place.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        what = " ".join(str(error).split())
        raise InputError(
            f"out of memory: {what}; to train in less, set {remedies(config)}"
        ) from error


class StepCostReport(Callback):
    """Prints memory and time of an optimizer step before a training whose step runs encoders.

    It is measured on the module itself, which stays as it was. Where the memory is not enough, a
    warning says what to change. Being an estimate, it ends no training.
    """

    def __init__(self, config: RecipeConfig) -> None:
        self.config = config

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure and print; every process takes part."""
        config, device = self.config, pl_module.device
        probed = self._probed(trainer, pl_module)
        of_all = gathered(probed is not None)
        if not trainer.is_global_zero:
            return
        if probed is None or not all(of_all):
            warnings.warn(
                f"memory and time of a step are not known, as a single row is too much for {device}"
                f"; if the training does too, set {remedies(config)}",
                UserWarning,
                stacklevel=2,
            )
            return
        cost = step_cost(probed, config, pl_module, _moments(trainer))
        free = _free_on(device)
        print(cost.line(str(device), free))
        if cost.to_come > free:
            warnings.warn(
                f"the step needs about {cost.to_come / GB:.2f} GB beside {cost.there}, and "
                f"{free / GB:.2f} GB are free on {device}; set {remedies(config, cost)}",
                UserWarning,
                stacklevel=2,
            )

    def _probed(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> ProbedStep | None:
        """What a step on some rows takes, on fewer where memory is short; None if one is too many.

        Fewer than a batch has, as it may fit where more would not.
        """
        config, device = self.config, pl_module.device
        n_rows = min(ROWS_ON_GPU if device.type == "cuda" else ROWS, rows_of_process(config))
        while n_rows:
            with suppress(torch.cuda.OutOfMemoryError):
                return probe_step(
                    pl_module,
                    pl_module.losses_of,
                    noise_batch(config, device, n_rows),
                    pl_module.draws,
                    None if config.pretrained.freezed else pl_module.encoder_student,
                    trainer.precision_plugin.forward_context,
                )
            torch.cuda.empty_cache()
            n_rows //= 2
        return None


def _moments(trainer: pl.Trainer) -> int:
    """Bytes of the optimizer's state, which a resumed training has before its first step."""
    states = (state for optimizer in trainer.optimizers for state in optimizer.state.values())
    return sum(
        value.nbytes for state in states for value in state.values() if torch.is_tensor(value)
    )


def _free_on(device: torch.device) -> int:
    """Bytes that a process can still use there, on a machine whose processes share the memory."""
    if device.type != "cuda":
        return free_memory() // n_processes()
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused
