"""Lightning's distributed data parallel training in the processes of a command."""

from __future__ import annotations

import inspect
import os
import threading
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments import ClusterEnvironment
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from pytorch_lightning.strategies import DDPStrategy
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from desed_task.distributed.collectives import wait_for_all
from desed_task.nnet.synced_norm import sync_batch_norms
from local.processes.world import World, world_here


class CommandEnvironment(ClusterEnvironment):
    """Tells Lightning of the processes, which exist already and have joined their group.

    Args:
        world: this process among them.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning starts no process."""
        return True

    @property
    def main_address(self) -> str:
        """Where the processes have met."""
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        """The port there."""
        return int(os.environ.get("MASTER_PORT", "0"))

    @staticmethod
    def detect() -> bool:
        """Lightning is given this environment."""
        return False

    def world_size(self) -> int:
        """Number of processes."""
        return self._world.size

    def set_world_size(self, size: int) -> None:
        """The number is known."""

    def global_rank(self) -> int:
        """This process, from 0."""
        return self._world.rank

    def set_global_rank(self, rank: int) -> None:
        """The rank is known."""

    def local_rank(self) -> int:
        """This process among those of its machine."""
        return self._world.local_rank

    def node_rank(self) -> int:
        """0 for all: only Lightning's own launcher needs it."""
        return 0


class ProcessStrategy(DDPStrategy):
    """DDP in which each process is given its own device alone.

    The batch norm's running statistics are those of all processes, so they need not be broadcast.

    Args:
        world: this process among them.

    Attributes:
        stopping: whether SIGTERM has come.
    """

    stopping = False

    def __init__(self, world: World) -> None:
        # Under the name that this version of PyTorch has.
        known = inspect.signature(DistributedDataParallel).parameters
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        super().__init__(gradient_as_bucket_view=True, **{buffers: False})
        self._world = world

    @property
    def root_device(self) -> torch.device:
        """The device of this process."""
        assert self.parallel_devices is not None
        return self.parallel_devices[0]

    @property
    def num_processes(self) -> int:
        """Processes on this machine."""
        return self._world.local_size

    def _setup_model(self, model: nn.Module) -> DistributedDataParallel:
        # On the stream of the passes: Lightning's own stream would make each of them wait.
        ids = self.determine_ddp_device_ids()
        return DistributedDataParallel(module=model, device_ids=ids, **self._ddp_kwargs)

    def barrier(self, *_args: Any, **_more: Any) -> None:
        """Wait for all processes."""
        wait_for_all()


class SyncedNorms(TorchSyncBatchNorm):
    """Batch norm statistics over all processes.

    Args:
        on_gpu: whether the training computes on GPUs.
    """

    def __init__(self, *, on_gpu: bool) -> None:
        super().__init__()
        self._on_gpu = on_gpu

    def apply(self, model: nn.Module) -> nn.Module:
        """Before a training."""
        if self._on_gpu:
            return super().apply(model)
        sync_batch_norms(model)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """After it."""
        if self._on_gpu:
            return super().revert(model)
        sync_batch_norms(model, synced=False)
        return model


def process_arguments(accelerator: str) -> tuple[dict[str, Any], list[Any]]:
    """Arguments and plugins of Lightning's trainer; none for a single process.

    Args:
        accelerator: type of the device, as in `Device`.
    """
    world = world_here()
    if not world.several:
        return {}, []
    plugins = [CommandEnvironment(world), SyncedNorms(on_gpu=accelerator == "gpu")]
    return {"strategy": ProcessStrategy(world)}, plugins


# How long another process lets the first one end at SIGTERM, and say so.
_FIRST_ENDS_S = 5.0


def end_after_first(trainer: pl.Trainer) -> None:
    """Let SIGTERM end processes that train together within a batch; the first one says so.

    Lightning would broadcast from within the signal's handler, amid whatever processes send each
    other at this moment, after which they wait for each other in vain. To notice, it would
    broadcast before each batch, too, and wait for the GPU's answer.

    Args:
        trainer: of this process; one on its own is left as it is.
    """
    if trainer.world_size == 1:
        return
    signals = trainer._signal_connector

    def stop() -> None:
        signals.received_sigterm = True

    def note(_signal: int, _frame: FrameType | None) -> None:
        trainer.strategy.stopping = True  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            stop()
            return
        # Without a partner, the first one could not tell this end from a fault.
        timer = threading.Timer(_FIRST_ENDS_S, stop)
        timer.daemon = True
        timer.start()

    signals._sigterm_notifier_fn = note  # type: ignore[method-assign, assignment]
    loop = trainer.fit_loop.epoch_loop
    loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def is_stopping(trainer: pl.Trainer) -> bool:
    """Whether SIGTERM has come to this process."""
    return trainer.received_sigterm or getattr(trainer.strategy, "stopping", False)
