"""Small folders of recordings, with what labels a test gives them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile as sf

RATE = 16000


def record(path: Path, seconds: float = 2.0, *, seed: int | None = None, rate: int = RATE) -> None:
    """A recording of noise; of the same noise for the same seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(str(path).encode()) if seed is None else seed
    samples = 0.1 * np.random.default_rng(seed).normal(size=round(seconds * rate))
    sf.write(path, samples, rate, subtype="PCM_16")


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """Text files by their paths below a folder."""
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def tracks(clips: list[str], below: str = "", ending: str = ".txt") -> dict[str, str]:
    """Label tracks of Audacity: a dog in each recording, a cat in every second one."""
    texts = {}
    for number, clip in enumerate(clips):
        lines = ["0.100000\t0.700000\tdog"]
        lines += ["1.000000\t1.400000\tcat"] if number % 2 else []
        texts[f"{below}{clip}{ending}"] = "\n".join(lines) + "\n"
    return texts
