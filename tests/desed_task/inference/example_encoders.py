"""Small files of random weights for tests, in published layouts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from desed_task.encoders.beats.model import SMALL_CONFIG, write_random_beats
from desed_task.encoders.random_weights import write_random_encoder

TINY_BEATS = replace(SMALL_CONFIG, encoder_layers=2, encoder_embed_dim=32, embed_dim=16, conv_pos=8)


def write_tiny_beats(path: Path, seed: int = 1) -> Path:
    """A BEATs of 32 features and 2 layers."""
    write_random_beats(path, seed=seed, config=TINY_BEATS)
    return path


def write_tiny_atst(path: Path, seed: int = 2) -> Path:
    """An ATST-Frame of 64 features and 2 blocks."""
    write_random_encoder(path, "atst_frame", seed=seed, width=64)
    return path
