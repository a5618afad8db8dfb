"""Small files of random weights for tests, in published layouts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from desed_task.encoders.beats.model import SMALL_CONFIG, write_random_beats
from desed_task.encoders.vit.atst_frame import AtstFrame

TINY_BEATS = replace(SMALL_CONFIG, encoder_layers=2, encoder_embed_dim=32, embed_dim=16, conv_pos=8)
ATST_WIDTH = 64


def write_tiny_beats(path: Path, seed: int = 1) -> Path:
    """A BEATs of 32 features and 2 layers."""
    write_random_beats(path, seed=seed, config=TINY_BEATS)
    return path


def write_tiny_atst(path: Path, seed: int = 2) -> Path:
    """An ATST-Frame of 64 features and 2 blocks."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AtstFrame(ATST_WIDTH, 128, 2, 250)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({f"model.atst.{name}": value for name, value in model.state_dict().items()}, path)
    return path
