"""Small files of detectors of AudioSet's classes, in the published layout."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from desed_task.audioset.classes import STRONG_SIZE
from desed_task.encoders.random_weights import write_random_encoder


def small_state(folder: Path, name: str = "atst_frame", *, seed: int = 1) -> dict[str, Tensor]:
    """The tensors of one; each of its scores says something else."""
    path = folder / f"{name}-{seed}.pt"
    if not path.is_file():
        write_random_encoder(path, name, seed=seed, width=64, n_blocks=2, n_classes=STRONG_SIZE)
    state: dict[str, Tensor] = torch.load(path, weights_only=True)
    return state


def with_gru(
    state: dict[str, Tensor],
    *,
    level: str = "",
    hidden: int = 8,
    layers: int = 2,
    both: bool = True,
) -> dict[str, Tensor]:
    """The tensors with a GRU between encoder and heads."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        width = state["strong_head.weight"].shape[1]
        gru = nn.GRU(width, hidden, layers, batch_first=True, bidirectional=both)
        n_out = hidden * (2 if both else 1)
        heads = {
            f"{head}.weight": torch.randn(STRONG_SIZE, n_out)
            for head in ("strong_head", "weak_head")
        }
    named = {f"seq_model.{level}{name}": value for name, value in gru.state_dict().items()}
    return {**state, **named, **heads}


def saved_detector(folder: Path, name: str = "atst_frame", *, seed: int = 1) -> Path:
    """The file of one."""
    small_state(folder, name, seed=seed)
    return folder / f"{name}-{seed}.pt"
