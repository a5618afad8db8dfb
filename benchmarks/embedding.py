"""BEATs, and the extraction of embeddings from files to files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.groups import Bench
from benchmarks.made_data import CLIP_S, RATE, make_clips
from benchmarks.measuring import Row
from desed_task.nnet.beats import SMALL, Beats, BeatsConfig, load_beats, write_random_beats
from local.embedder import Embedder
from local.embeddings import Extractor


def rows(bench: Bench) -> Iterator[Row]:
    """BEATs from memory in both precisions, then from wav files to an HDF5 file."""
    path = bench.folder / "beats.pt"
    write_random_beats(path, seed=0, config=SMALL if bench.sizes.small_beats else BeatsConfig())
    beats = load_beats(path, bench.device)
    n_clips = bench.sizes.beats_clips
    waveform = 0.1 * torch.randn(n_clips, int(CLIP_S * RATE), device=bench.device)
    macs = n_clips * macs_of(beats, waveform[:1])
    for precision in ("32", "bf16"):

        def embed(half: bool = precision == "bf16") -> None:
            with (
                torch.inference_mode(),
                torch.autocast(bench.device.type, torch.bfloat16, enabled=half),
            ):
                beats(waveform)

        name = f"BEATs, {precision}"
        yield bench.machine.row("beats", name, f"{n_clips} clips", embed, bench.repeats, macs=macs)
    folder = bench.folder / "extraction"
    folder.mkdir()
    n_clips = bench.sizes.extracted_clips
    clips = make_clips(folder, n_clips)
    wavs = [folder / f"{clip_id}.wav" for clip_id in clips.clip_ids]
    precision = "bf16" if bench.precision == "bf16" else "32"
    embedder = Embedder(beats, bench.device, CLIP_S, None, precision)
    extractor = Extractor(embedder, {}, folder / "beats", progress=False)

    def extract() -> None:
        extractor.path("all").unlink(missing_ok=True)
        with redirect_stdout(StringIO()):
            faults = extractor.extract("all", wavs)
        assert not faults, faults

    yield bench.machine.row(
        "beats",
        f"extraction, {precision}",
        f"{n_clips} clips",
        extract,
        min(bench.repeats, 2),
        macs=macs / bench.sizes.beats_clips * n_clips,
    )


def macs_of(beats: Beats, waveform: torch.Tensor) -> float:
    """Multiply-accumulates for a clip, as PyTorch counts floating point operations."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        beats(waveform)
    return counter.get_total_flops() / 2
