"""Measure what a training step keeps in memory and how long it takes, on a few rows of noise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from desed_task.batch import SedBatch
from desed_task.distributed.collectives import alone
from desed_task.encoders.interface import EmbeddingModel, Encoder
from desed_task.mean_teacher import DetectionLosses
from local.config import RecipeConfig

# On a GPU, fewer rows would not keep it busy.
ROWS, ROWS_ON_GPU = 2, 8
# A second call is timed, as kernels are prepared in the first, unless that took so long.
_LONG_S = 20.0


class ProbedStep(NamedTuple):
    """What a step on some rows takes.

    Attributes:
        n_rows: number of rows.
        kept: bytes that the forward pass keeps for the backward pass, as configured.
        kept_checkpointing: the same where blocks of trained encoders are computed twice.
        seconds: of both passes, as configured.
        was_first: whether they are of the first run, in which kernels are prepared.
    """

    n_rows: int
    kept: int
    kept_checkpointing: int
    seconds: float
    was_first: bool = False


def probe_step(
    module: nn.Module,
    losses_of: Callable[[SedBatch], DetectionLosses],
    batch: SedBatch,
    draws: torch.Generator,
    encoder: EmbeddingModel | None,
    precision: Callable[[], AbstractContextManager[object]],
) -> ProbedStep:
    """Run forward and backward passes, and leave everything as it was.

    Random states, statistics of batch norms and gradients are put back, also after an error. Each
    process computes as if it were the only one, so that one that fails keeps no other waiting.

    Args:
        module: with all networks.
        losses_of: its losses of a batch.
        batch: what it is run on.
        draws: its generator, for mixup and masks.
        encoder: that of the student, if it is trained.
        precision: context of forward passes.
    """
    device = batch.waveform.device
    with alone(), _unchanged(module, draws, device):
        kept = _Kept({_place(value) for value in _tensors(module)})
        seconds = _run(module, losses_of, batch, precision, kept, encoder)
        was_first = seconds >= _LONG_S
        if not was_first:
            seconds = _run(module, losses_of, batch, precision)
        thrifty = kept.with_checkpointing(precision)
        twice = any(part.gradient_checkpointing for part in _parts_of(encoder))
    of_all = thrifty if twice else kept.total
    return ProbedStep(len(batch.clip_id), of_all, thrifty, seconds, was_first)


def noise_batch(config: RecipeConfig, device: torch.device, n_rows: int) -> SedBatch:
    """A batch of quiet noise, whose rows are of the corpora of a batch in turn."""
    data, task = config.data, config.detection_task
    corpora = [part.corpora[0] for part in task.batch if part.rows]
    chosen = [corpora[row % len(corpora)] for row in range(n_rows)]
    known = [torch.from_numpy(task.vocabulary.mask(one.known)) for one in chosen]
    generator = torch.Generator().manual_seed(0)
    n_samples = round(data.audio_max_len * data.fs)
    batch = SedBatch(
        0.1 * torch.randn(n_rows, n_samples, generator=generator),
        torch.zeros(n_rows, len(task.classes), config.grid.n_frames),
        torch.stack(known),
        torch.tensor([one.number for one in chosen]),
        torch.empty(n_rows, 0),
        tuple(map(str, range(n_rows))),
    )
    on_device = SedBatch(*(one.to(device) for one in batch.tensors), clip_id=batch.clip_id)
    pseudo = torch.zeros_like(on_device.target) if config.reads_pseudo_labels else None
    return on_device._replace(pseudo=pseudo)


@dataclass
class _Kept:
    """Bytes that a graph keeps: each storage once, without those of parameters and buffers.

    Attributes:
        others: places of storages that are there anyway.
        of_blocks: bytes that each block keeps, and those of its input. Blocks that are computed
            twice keep nothing.
        computed_twice: one such block of each encoder, with its input.
    """

    others: set[int]
    total: int = 0
    of_blocks: list[tuple[int, int]] = field(default_factory=list)
    computed_twice: list[tuple[nn.Module, tuple[Any, ...]]] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    def pack(self, value: Tensor) -> Tensor:
        """Count a tensor that is kept."""
        place = _place(value)
        if place not in self.seen and place not in self.others:
            self.seen.add(place)
            self.total += value.untyped_storage().nbytes()
        return value

    def with_checkpointing(self, precision: Callable[[], AbstractContextManager[object]]) -> int:
        """Inputs of all blocks, and the block that is computed again, in place of all blocks."""
        if not self.of_blocks:
            return self.total
        own = [kept for kept, _ in self.of_blocks]
        again = [self._of_block(*one, precision) for one in self.computed_twice]
        return self.total - sum(own) + sum(given for _, given in self.of_blocks) + max(own + again)

    def _of_block(
        self,
        block: nn.Module,
        inputs: tuple[Any, ...],
        precision: Callable[[], AbstractContextManager[object]],
    ) -> int:
        """Bytes that a block keeps while it is computed again."""
        kept = _Kept(self.others)
        with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda value: value), precision():
            block(*inputs)
        return kept.total

    @contextmanager
    def counting(self, encoder: EmbeddingModel | None) -> Iterator[None]:
        """Count what is kept in the block."""
        begun: list[int] = []

        def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            begun.append(self.total)

        def after(_: nn.Module, inputs: tuple[Tensor, ...], __: object) -> None:
            own = self.total - begun.pop()
            if torch.is_grad_enabled():
                self.of_blocks.append((own, inputs[0].nbytes))

        def keep(block: nn.Module, inputs: tuple[Any, ...]) -> None:
            if torch.is_grad_enabled() and not any(block is one for one, _ in self.computed_twice):
                self.computed_twice.append((block, tuple(map(_as_leaf, inputs))))

        handles = [
            handle
            for part in _parts_of(encoder)
            for block in part.layers
            for handle in (
                block.register_forward_pre_hook(before),
                block.register_forward_hook(after),
            )
        ]
        # Blocks of an encoder are alike.
        handles += [
            part.layers[0].register_forward_pre_hook(keep)
            for part in _parts_of(encoder)
            if part.gradient_checkpointing
        ]
        try:
            with torch.autograd.graph.saved_tensors_hooks(self.pack, lambda value: value):
                yield
        finally:
            for handle in handles:
                handle.remove()


def _run(
    module: nn.Module,
    losses_of: Callable[[SedBatch], DetectionLosses],
    batch: SedBatch,
    precision: Callable[[], AbstractContextManager[object]],
    kept: _Kept | None = None,
    encoder: EmbeddingModel | None = None,
) -> float:
    """Both passes; returns their seconds."""
    trained = [value for value in module.parameters() if value.requires_grad]
    _wait_for(batch.waveform.device)
    begun = time.perf_counter()
    if kept is None:
        with precision():
            loss = losses_of(batch).loss
    else:
        with kept.counting(encoder), precision():
            loss = losses_of(batch).loss
    # Not into `grad`, which belongs to the training.
    torch.autograd.grad(loss, trained, allow_unused=True)
    _wait_for(batch.waveform.device)
    return time.perf_counter() - begun


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _unchanged(module: nn.Module, draws: torch.Generator, device: torch.device) -> Iterator[None]:
    """Put back the random states and all buffers."""
    drawn = draws.get_state()
    buffers = [(value, value.clone()) for value in module.buffers()]
    on_mac = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        draws.set_state(drawn)
        if on_mac is not None:
            torch.mps.set_rng_state(on_mac)
        with torch.no_grad():
            for value, before in buffers:
                value.copy_(before)


def _parts_of(encoder: EmbeddingModel | None) -> tuple[Encoder, ...]:
    return () if encoder is None else encoder.parts


def _as_leaf(value: Any) -> Any:
    """A tensor without the graph that it is of."""
    if not isinstance(value, Tensor):
        return value
    return value.detach().requires_grad_(value.requires_grad)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _place(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()
