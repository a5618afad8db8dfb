"""Time every encoder at its published size, with random weights, on clips in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from benchmarks.bench import Bench, Row, Work
from benchmarks.embedding import PRECISIONS
from desed_task.encoders.beats.encoder import BeatsConfig
from desed_task.encoders.beats.model import SMALL_CONFIG, Beats
from desed_task.encoders.interface import Encoder
from desed_task.encoders.macs import encoder_macs
from desed_task.encoders.vit.asit import Asit
from desed_task.encoders.vit.atst_frame import AtstFrame
from desed_task.encoders.vit.blocks import BlockSizes
from desed_task.encoders.vit.fpasst import FramePasst
from desed_task.encoders.vit.m2d import M2d
from local.cli.precision import usable_precision
from local.extraction.embedder import Precision

PART = "encoder"
# All four have the sizes of a ViT-B.
PUBLISHED = BlockSizes(768, 3072, 12)
SMALL = BlockSizes(64, 128, 2)
_VITS = {one.name: one for one in (AtstFrame, FramePasst, Asit, M2d)}
ENCODERS = (Beats.name, *_VITS)


def run(bench: Bench) -> None:
    """Add rows of each encoder on one batch: the front end and all blocks."""
    for name in ENCODERS:
        rows = {precision: f"{PART}/{name}/{precision}" for precision in PRECISIONS}
        if not bench.wants(*rows.values()):
            continue
        encoder = None
        for precision, row in rows.items():
            _, slow = usable_precision(precision, bench.device.type, what="precision")
            if slow and bench.wants(row):
                # Hundreds of times slower without units for it: minutes for a clip.
                bench.keep(Row(row, skipped=slow))
            elif bench.wants(row):
                with bench.skipping(row):
                    encoder = encoder or made_up(name, small=bench.options.quick)
                    _run(bench, row, encoder.to(bench.device), precision)


def made_up(name: str, *, small: bool = False) -> Encoder:
    """An encoder with random weights, at its published size unless it should be small."""
    if name == Beats.name:
        encoder: Encoder = Beats(SMALL_CONFIG if small else BeatsConfig())
    else:
        encoder = _VITS[name](SMALL if small else PUBLISHED)
    return encoder.requires_grad_(False).eval()


def _run(bench: Bench, row: str, encoder: Encoder, precision: Precision) -> None:
    n_clips = 32 if bench.device.type == "cuda" else 2
    n_samples = round(bench.config.data.audio_max_len * encoder.sample_rate)
    waveform = 0.1 * torch.randn(n_clips, n_samples, device=bench.device)
    work = Work(n_clips, n_clips * encoder_macs(encoder, n_samples))

    def embed() -> None:
        half = precision == "bf16"
        with (
            torch.inference_mode(),
            torch.autocast(bench.device.type, torch.bfloat16, enabled=half),
        ):
            encoder(waveform)

    bench.time(row, work, embed)


def encoder_lines(rows: Iterable[Mapping[str, Any]], clip_s: float) -> list[str]:
    """One line per encoder and precision: seconds of audio per second, share of the GEMM rate.

    Args:
        rows: of a result.
        clip_s: length of a clip.
    """
    lines = []
    for row in rows:
        if row["name"].startswith(f"{PART}/") and not row["skipped"]:
            rate = row["clips"] * clip_s / row["seconds"]
            lines.append(
                f"{row['name']}: {rate:.4g} s of audio per second, {100 * row['share']:.0f} % of "
                "the float32 GEMM rate"
            )
    return lines
