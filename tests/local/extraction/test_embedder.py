"""Batches on their way through readers and network: order, faults, and both kinds of pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from desed_task.encoders.beats.model import SMALL_CONFIG, load_beats, write_random_beats
from local.cli import precision as cli_precision
from local.cli.precision import Rates
from local.extraction.embedder import (
    EmbeddedBatch,
    Embedder,
    NamedFiles,
    Precision,
    settled_precision,
)
from local.extraction.extractor import Extractor
from local.schema.encoders import EncoderChoice

RATE = 16000
TINY = replace(SMALL_CONFIG, encoder_layers=1, encoder_embed_dim=32, embed_dim=16, conv_pos=8)


def chosen(weights: Path) -> EncoderChoice:
    return EncoderChoice("beats", str(weights), None)


@pytest.fixture
def wavs(tmp_path: Path) -> dict[str, Path]:
    """11 clips of which the 3rd and the whole last batch (of 4) are broken."""
    # The files' names say nothing: clips are known by the names given.
    paths = {f"{number:02d}": tmp_path / f"file{number}.wav" for number in range(11)}
    for number, path in enumerate(paths.values()):
        if number in (2, 8, 9, 10):
            path.write_bytes(b"no RIFF")
        else:
            sf.write(path, 0.1 * np.random.default_rng(number).normal(size=RATE), RATE)
    return paths


@pytest.fixture
def embedder(tmp_path: Path) -> Embedder:
    write_random_beats(tmp_path / "beats_mini.pt", seed=1, config=TINY)
    return Embedder(load_beats(tmp_path / "beats_mini.pt"), torch.device("cpu"), 1.0, 4)


def in_batches(wavs: dict[str, Path]) -> list[NamedFiles]:
    named = list(wavs.items())
    return [named[:4], named[4:8], named[8:]]


def check(batches: list[EmbeddedBatch], wavs: dict[str, Path]) -> None:
    assert [batch.clip_ids for batch in batches] == [
        ["00", "01", "03"],
        ["04", "05", "06", "07"],
        [],
    ]
    assert [len(batch.faults) for batch in batches] == [1, 0, 3]
    assert str(wavs["02"]) in batches[0].faults[0]
    assert [tuple(batch.frame.shape) for batch in batches] == [(3, 32, 48), (4, 32, 48), (0, 32, 1)]


def test_clips_keep_their_order_and_faults_their_place(
    embedder: Embedder, wavs: dict[str, Path]
) -> None:
    check(list(embedder.stream(in_batches(wavs))), wavs)


def test_the_gpu_pipeline_gives_the_same(embedder: Embedder, wavs: dict[str, Path]) -> None:
    """On the CPU, so that the hand-over is tested wherever the tests run."""
    batches = list(embedder._on_gpu(in_batches(wavs)))
    check(batches, wavs)
    for batch, other in zip(batches, embedder.stream(in_batches(wavs)), strict=True):
        torch.testing.assert_close(batch.frame, other.frame)
        torch.testing.assert_close(batch.global_, other.global_)


def test_a_stream_that_is_left_early_ends_its_threads(
    embedder: Embedder, wavs: dict[str, Path]
) -> None:
    n_threads = torch.get_num_threads()
    stream = embedder.stream(in_batches(wavs))
    assert next(stream).clip_ids == ["00", "01", "03"]
    stream.close()
    assert torch.get_num_threads() == n_threads


def test_bf16_is_near_and_known_by_its_identity(
    embedder: Embedder, wavs: dict[str, Path], tmp_path: Path
) -> None:
    half = replace(embedder, precision="bf16")
    check(list(half.stream(in_batches(wavs))), wavs)
    for rough, exact in zip(
        half.stream(in_batches(wavs)), embedder.stream(in_batches(wavs)), strict=True
    ):
        assert rough.frame.dtype == rough.global_.dtype == torch.float32
        if len(exact.clip_ids):
            error = (rough.frame - exact.frame).square().mean() / exact.frame.square().mean()
            assert 1e-10 < error < 4e-4
    opened = [
        Extractor.open(
            *(chosen(tmp_path / "beats_mini.pt"), tmp_path),
            clip_s=1.0,
            device=torch.device("cpu"),
            precision=precision,
        )
        for precision in ("32", "bf16")
    ]
    assert opened[1].identity == {**opened[0].identity, "precision": "bf16"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same(embedder: Embedder, wavs: dict[str, Path]) -> None:
    on_gpu = replace(embedder, encoder=embedder.encoder.to("cuda"), device=torch.device("cuda"))
    batches = list(on_gpu.stream(in_batches(wavs)))
    check(batches, wavs)
    embedder.encoder.to("cpu")
    for batch, other in zip(batches, embedder.stream(in_batches(wavs)), strict=True):
        torch.testing.assert_close(batch.frame, other.frame, rtol=0, atol=1e-3)


def test_a_cpu_that_is_slower_in_bf16_extracts_in_float32_what_is_not_begun(
    wavs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    beats, cpu, folder = tmp_path / "beats_mini.pt", torch.device("cpu"), tmp_path / "out" / "beats"
    write_random_beats(beats, seed=1, config=TINY)

    def settled(asked: Precision = "bf16", device: torch.device = cpu) -> Precision:
        return settled_precision(asked, device, folder, beats)

    monkeypatch.setattr(cli_precision, "measure_rates", lambda: Rates(92.0, 180.0))
    assert (settled(), settled("32")) == ("bf16", "32")
    assert not capsys.readouterr().out
    monkeypatch.setattr(cli_precision, "measure_rates", lambda: Rates(92.0, 0.3))
    assert (settled(), settled("32")) == ("32", "32")
    assert settled(device=torch.device("cuda")) == "bf16"
    (line,) = capsys.readouterr().out.splitlines()
    assert line == (
        "--precision bf16: on this CPU bfloat16 is slower than float32 (0.3 against 92 GFLOP/s); "
        "computing in float32"
    )
    readable = {name: wavs[name] for name in ("00", "01")}
    precisions: tuple[Precision, ...] = ("32", "bf16")
    for precision in precisions:
        extractor = Extractor.open(
            *(chosen(beats), folder.parent),
            clip_s=1.0,
            device=cpu,
            precision=precision,
            progress=False,
        )
        assert not extractor.extract(f"set_{precision}", readable)
        capsys.readouterr()
        assert settled() == precision
        assert (", as it began with it" in capsys.readouterr().out) == (precision == "bf16")
    # Embeddings of other weights are computed anew anyway, and other files are none of ours.
    (folder / "broken.hdf5").write_text("nothing")
    write_random_beats(beats, seed=9, config=TINY)
    assert settled() == "32"
