"""Time BEATs on data in memory, and the extraction of embeddings from files to files."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.bench import Bench, Row, Work
from desed_task.encoders.beats.model import load_beats
from desed_task.encoders.macs import encoder_macs
from desed_task.encoders.weights_file import ENCODER_RATE
from local.cli.precision import usable_precision
from local.extraction.embedder import Precision
from local.extraction.extractor import Extractor
from local.schema.encoders import EncoderChoice

_CORPUS = "unlabeled_train"
PRECISIONS: tuple[Precision, ...] = ("32", "bf16")


def run(bench: Bench) -> None:
    """Add rows of BEATs on one batch and of the whole extraction."""
    on_gpu = bench.device.type == "cuda"
    for precision in PRECISIONS:
        _, slow = usable_precision(precision, bench.device.type, what="precision")
        if slow:
            # Hundreds of times slower without units for it: minutes for a clip.
            for part in ("beats", "extraction"):
                if bench.wants(f"{part}/{precision}"):
                    bench.keep(Row(f"{part}/{precision}", skipped=slow))
            continue
        if bench.wants(f"beats/{precision}"):
            with bench.skipping(f"beats/{precision}"):
                _run_beats(bench, precision, 32 if on_gpu else 2)
        if bench.wants(f"extraction/{precision}"):
            with bench.skipping(f"extraction/{precision}"):
                _run_extraction(bench, precision, 2048 if on_gpu else 8)


def _run_beats(bench: Bench, precision: Precision, n_clips: int) -> None:
    beats = load_beats(bench.made.beats, bench.device)
    clip_s = bench.config.data.audio_max_len
    n_samples = round(clip_s * ENCODER_RATE)
    waveform = 0.1 * torch.randn(n_clips, n_samples, device=bench.device)
    macs = n_clips * encoder_macs(beats, n_samples)

    def embed() -> None:
        half = precision == "bf16"
        with (
            torch.inference_mode(),
            torch.autocast(bench.device.type, torch.bfloat16, enabled=half),
        ):
            beats(waveform)

    bench.time(f"beats/{precision}", Work(n_clips, macs), embed)


def _run_extraction(bench: Bench, precision: Precision, n_clips: int) -> None:
    clip_s = bench.config.data.audio_max_len
    loaded = bench.data.loaded[_CORPUS]
    wavs = {clip_id: loaded.files[clip_id] for clip_id in loaded.clip_ids[:n_clips]}
    extractor = Extractor.open(
        EncoderChoice("beats", str(bench.made.beats), None),
        bench.folder / "extracted",
        clip_s=clip_s,
        device=bench.device,
        precision=precision,
        progress=False,
    )
    macs = len(wavs) * encoder_macs(extractor.embedder.encoder, round(clip_s * ENCODER_RATE))

    def fresh() -> None:
        extractor.path(_CORPUS).unlink(missing_ok=True)

    def extract(_: Path | None) -> None:
        extractor.extract(_CORPUS, wavs)

    bench.time(f"extraction/{precision}", Work(len(wavs), macs), extract, fresh)
