"""Twenty steps on given batches, whose rows the processes share: FOLDER --devices N --set ....

Each process writes what it ends with: gradients of the first step, weights of both networks.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from desed_task.batch import SedBatch
from desed_task.distributed.collectives import n_processes, process_rank, summed
from desed_task.nnet.synced_norm import sync_batch_norms
from local.cli import arguments
from local.cli.threads import add_threads
from local.config import load_config
from local.processes.launch import run_in_processes
from local.processes.strategy import process_arguments
from local.sed_trainer_pretrained import SEDTask4

ROOT = Path(__file__).resolve().parents[3]
N_STEPS, N_BATCHES, N_ROWS = 20, 4, 6
# Of two seconds.
CLIP, N_SAMPLES, N_FRAMES, N_TOKENS = "data.audio_max_len=2", 32000, 31, 99
UNLABELLED = 4  # number of the published task's corpus without labels


def make_batch(seed: int) -> SedBatch:
    """Six rows of unequal loudness; of a source, some of three processes have none."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.tensor([0, 1, 2, 3, 3, 4])
    target = (torch.rand(N_ROWS, 27, N_FRAMES, generator=generator) < 0.05).float()
    target[source == UNLABELLED] = 0
    loudness = torch.logspace(-3, 0, N_ROWS).unsqueeze(1)
    return SedBatch(
        loudness * torch.randn(N_ROWS, N_SAMPLES, generator=generator),
        target,
        torch.rand(N_ROWS, 27, generator=generator) < 0.8,
        source,
        torch.randn(N_ROWS, 128, N_TOKENS, generator=generator),
        tuple(map(str, range(N_ROWS))),
    )


def own_rows(batch: SedBatch) -> SedBatch:
    rows = slice(process_rank(), None, n_processes())
    return SedBatch(*(part[rows] for part in batch.tensors), batch.clip_id[rows])


class Batches(pl.LightningDataModule):
    loaded: ClassVar[dict[str, Any]] = {}

    def train_dataloader(self) -> DataLoader[SedBatch]:
        batches = [own_rows(make_batch(seed)) for seed in range(N_BATCHES)]
        return DataLoader(batches, batch_size=None)


class Gradients(pl.Callback):
    def __init__(self) -> None:
        self.of_first_step: dict[str, torch.Tensor] = {}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any
    ) -> None:
        if not self.of_first_step:
            found = pl_module.sed_student.named_parameters()
            self.of_first_step = {name: weight.grad.clone() for name, weight in found}


def normalised(rank: int, size: int) -> dict[str, torch.Tensor]:
    """Batch norm of every `size`-th row of an image, forward and backward, in float64."""
    generator = torch.Generator().manual_seed(3)
    shape = (7, 4, 5, 3)
    image = 3 + torch.randn(shape, generator=generator, dtype=torch.float64)
    above = torch.randn(shape, generator=generator, dtype=torch.float64)
    own = image[rank::size].requires_grad_()
    norm = nn.BatchNorm2d(4, eps=1e-3, momentum=0.99).double()
    if size > 1:
        sync_batch_norms(norm)
    found = norm(own)
    found.backward(above[rank::size])
    assert own.grad is not None and norm.weight.grad is not None and norm.bias.grad is not None
    return {
        "image": found.detach(),
        "of_image": own.grad,
        "of_weight": summed(norm.weight.grad),
        "of_bias": summed(norm.bias.grad),
        **norm.state_dict(),
    }


def train(args: argparse.Namespace) -> int:
    config = load_config("mini", [CLIP, *args.overrides])
    pl.seed_everything(1, verbose=False)
    module, gradients = SEDTask4(config), Gradients()
    of_processes, plugins = process_arguments("cpu")
    trainer = pl.Trainer(
        **of_processes,
        accelerator="cpu",
        devices=1,
        plugins=plugins,
        callbacks=[gradients],
        max_epochs=N_STEPS // N_BATCHES,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, Batches())
    assert trainer.global_step == N_STEPS
    found = {
        "gradients": gradients.of_first_step,
        "student": module.sed_student.state_dict(),
        "teacher": module.sed_teacher.state_dict(),
        "loss": float(trainer.callback_metrics["train/student/loss"]),
        "norm": normalised(process_rank(), n_processes()),
    }
    torch.save(found, Path(args.folder) / f"{process_rank()}.pt")
    return 0


def alone(folder: Path, *flags: str) -> dict[str, Any]:
    """What this process ends with, without others."""
    folder.mkdir()
    train(parser().parse_args([str(folder), *flags]))
    return torch.load(folder / "0.pt", weights_only=True)


def run(folder: Path, *flags: str, starter: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """What each process ends with."""
    from tests.fork_server import run as run_forked  # of the test, not of this program

    folder.mkdir()
    start = partial(subprocess.run, capture_output=True, check=False) if starter else run_forked
    done = start(
        [*(starter or (sys.executable,)), __file__, str(folder), *flags],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "terminate" not in done.stderr, done.stderr
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("*.pt"))]


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser()
    found.add_argument("folder")
    arguments.add_gpus(found)
    arguments.add_overrides(found)
    add_threads(found)
    return found


if __name__ == "__main__":
    sys.exit(run_in_processes(train, parser().parse_args(), __file__))
