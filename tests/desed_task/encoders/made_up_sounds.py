"""Simple sounds in noise that embeddings should tell apart."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

RATE = 16000


def made_up_sounds(rng: np.random.Generator) -> Tensor:
    """(sound, sample): pitches and levels vary, noise is always there."""
    time_s = np.arange(2 * RATE) / RATE
    pitch = rng.uniform(0.8, 1.25)
    white = rng.normal(size=len(time_s))
    sounds = [
        np.sin(2 * math.pi * 1500 * pitch * time_s),
        sum(np.sin(2 * math.pi * 180 * pitch * h * time_s) / h for h in range(1, 12)),
        rng.normal(size=len(time_s)),
        np.convolve(white, 0.95 ** np.arange(200), mode="same"),
    ]
    levels = 10 ** (rng.uniform(-26, -20, size=4) / 20)
    rows = [level * sound / np.std(sound) for level, sound in zip(levels, sounds, strict=True)]
    noise = 3e-4 * rng.normal(size=(4, len(time_s)))
    return torch.tensor(np.stack(rows) + noise, dtype=torch.float32)
