"""Weights and waveforms that ../shared/parity/encoders was made with, by the rule in its README."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray


def weight(key: str, shape: list[int]) -> NDArray[np.float32]:
    """A tensor of a made-up file; it follows from its name."""
    if "relative_attention_bias" in key:  # one table for all layers
        key = f"{key[: key.index('layers.')]}layers.0.self_attn.relative_attention_bias.weight"
    uniform = np.random.RandomState(zlib.crc32(key.encode())).random_sample(tuple(shape))
    centre, spread = _distribution(key, shape)
    uniform -= 0.5
    uniform *= spread * np.sqrt(12)
    uniform += centre
    return uniform.astype(np.float32)


def _distribution(key: str, shape: list[int]) -> tuple[float, float]:
    """Mean and standard deviation."""
    small = any(part in key for part in ("patch_embed", "attn.proj", "mlp.fc2"))
    if "relative_attention_bias" in key:
        return 0, 1
    if key.endswith("grep_a"):
        return 1, 0.2
    if key.endswith(("original0", "weight_g")):
        return 2, 0.1
    if "norm" in key:
        return float(key.endswith("weight")), 0.1
    if key.endswith(("_embed", "_token")):
        return 0, 0.05
    if len(shape) == 1:
        return 0, 0.01 if small else 0.1
    sharp = 1.4 if any(part in key for part in ("qkv", "q_proj", "k_proj")) else 1.0
    gain = 0.1 if small else 2.0 if "conv_in" in key else sharp
    return 0, gain / np.sqrt(np.prod(shape[1:]))


def wave(kind: str, seconds: float, seed: int) -> NDArray[np.int16]:
    """A clip at 16 kHz."""
    n = round(16000 * seconds)
    t = np.arange(n) / 16000
    r = np.random.RandomState(seed)
    x = 0.001 * (2 * r.random_sample(n) - 1)
    if kind == "chirps":
        for _ in range(4):
            f0, f1 = 100 + 7400 * r.random_sample(2)
            level = 0.05 + 0.15 * r.random_sample()
            x += level * np.sin(2 * np.pi * (f0 * t + (f1 - f0) * t**2 / (2 * seconds)))
    elif kind == "bursts":
        levels = 10 ** (-3 * r.random_sample(int(4 * seconds) + 1))
        levels *= r.random_sample(len(levels)) < 0.6
        x = (2 * r.random_sample(n) - 1) * np.repeat(levels, 4000)[:n]
    elif kind == "quiet":
        x = 0.1 * x + 0.002 + 0.003 * np.sin(2 * np.pi * 440 * t) * (t % 1 < 0.5)
        x[::7919] += 0.02
        x[: n // 4] = 0
    return np.round(32767 * np.clip(x, -1, 1)).astype(np.int16)
