"""Gradients of the student's encoder in a process, or in two, each with every second row."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import torch
import yaml
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from local.config import RecipeConfig, check_config
from tests.fork_server import Forked
from tests.local.training.finetuning.small import make_batch, module_of

ROOT = Path(__file__).resolve().parents[4]


@contextmanager
def _frozen_norms() -> Iterator[None]:
    """Batch norms normalise by their running statistics."""
    before = nn.Module.train

    def train(self, mode: bool = True):
        before(self, mode)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm2d):
                before(part, False)
        return self

    nn.Module.train = train
    try:
        yield
    finally:
        nn.Module.train = before


class _Loss(nn.Module):
    def __init__(self, module) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch) -> torch.Tensor:
        return self.module.losses_of(batch).loss


@_frozen_norms()
def gradients_of(config: RecipeConfig, rank: int | None = None) -> dict[str, torch.Tensor]:
    """Of all rows, or of those of a process, averaged over both processes."""
    module = module_of(config)
    module.trainer = SimpleNamespace(current_epoch=0, global_rank=rank or 0)
    module.lr_schedulers = lambda: SimpleNamespace(ramp=0.5, step_num=3)
    batch, loss = make_batch(1), _Loss(module)
    if rank is not None:
        own = slice(rank, None, 2)
        tensors = (part[own] for part in batch.tensors)
        batch = type(batch)(*tensors, batch.clip_id[own])
        loss = DistributedDataParallel(loss)
    loss(batch).backward()
    named = module.encoder_student.named_parameters()
    return {name: value.grad.clone() for name, value in named}


def gradients_of_two(config: RecipeConfig, folder: Path) -> list[dict[str, torch.Tensor]]:
    """Those that each of two processes has. They are no children of this one, which may have
    computed gradients: autograd's threads do not survive a fork.
    """
    given = folder / "config.yaml"
    given.write_text(yaml.safe_dump(config.dump(), allow_unicode=True), encoding="utf-8")
    # Some package of the environment may be named `tests`, too.
    ours = f"import tests; tests.__path__ = [{str(ROOT / 'tests')!r}]"
    code = f"{ours}; import {__name__} as this; this.write_part()"
    commands = [[sys.executable, "-c", code, str(folder), str(rank)] for rank in range(2)]
    pipe = subprocess.PIPE
    started = [Forked(one, cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT) for one in commands]
    for one in started:
        told, _ = one.communicate(timeout=300)
        assert one.returncode == 0, told.decode()
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def write_part() -> None:
    """What one of the processes does; its arguments are the folder and its rank."""
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    config = check_config(yaml.safe_load((folder / "config.yaml").read_text("utf-8")), "the test")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2
    )
    torch.save(gradients_of(config, rank), folder / f"{rank}.pt")
