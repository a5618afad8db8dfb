"""The real command: killed and run again, with a broken clip, with wrong input."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile as sf
import torch

from desed_task.dataio.embeddings import FINISHED, EmbeddingReader
from desed_task.encoders.beats.model import SMALL_CONFIG, load_beats, write_random_beats
from tests.fork_server import Forked
from tests.fork_server import run as run_forked

ROOT = Path(__file__).parents[2]
RATE = 16000
CLIP_S = 5
N_CLIPS = 200
TINY = replace(SMALL_CONFIG, encoder_layers=1, encoder_embed_dim=64)


def command(work: Path, *arguments: str) -> list[str]:
    script = [sys.executable, str(ROOT / "extract_embeddings.py")]
    settings = [
        f"pretrained.beats_checkpoint={work / 'beats.pt'}",
        f"pretrained.extracted_embeddings_dir={work / 'embeddings'}",
        f"data.audio_max_len={CLIP_S}",
        f"data.weak_folder={work / 'weak'}",
        f"data.test_folder={work / 'test'}",
    ]
    flags = [flag for setting in settings for flag in ("--set", setting)]
    return [*script, "--conf_file", str(ROOT / "confs" / "mini.yaml"), *flags, *arguments]


def run(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return run_forked(command(work, *arguments), text=True, env=environment)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder of 200 clips (of three sounds), one of two clips, and weights."""
    write_random_beats(tmp_path / "beats.pt", seed=3, config=TINY)
    sounds = [0.1 * np.random.default_rng(seed).normal(size=CLIP_S * RATE) for seed in range(3)]
    for folder, n_clips in (("weak", N_CLIPS), ("test", 2)):
        (tmp_path / folder).mkdir()
        for number in range(n_clips):
            sf.write(tmp_path / folder / f"clip{number:03d}.wav", sounds[number % 3], RATE)
    return tmp_path


def finished_clips(part: Path) -> int:
    try:
        with h5py.File(part, "r", locking=False) as file:
            return int(file[FINISHED][:].sum())
    except (OSError, KeyError):
        return 0


def kill_when_some_clips_are_done(work: Path, arguments: Sequence[str]) -> int:
    part = work / "embeddings" / "beats" / "weak_train.hdf5.part"
    with Forked(command(work, *arguments), stderr=subprocess.DEVNULL) as process:
        while not finished_clips(part):
            assert process.poll() is None, "ended before it could be killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    return finished_clips(part)


def test_killed_and_run_again(work: Path) -> None:
    arguments = ("--only", "weak_val", "--batch_size", "1", "--use_gpu", "0")
    n_done = kill_when_some_clips_are_done(work, arguments)
    assert 0 < n_done < N_CLIPS
    folder = work / "embeddings" / "beats"
    assert [found.name for found in folder.iterdir()] == ["weak_train.hdf5.part"]

    again = run(work, *arguments)
    assert again.returncode == 0, again.stderr
    assert f"weak_train: resuming, {n_done} of {N_CLIPS} clips are done" in again.stdout
    assert sorted(found.name for found in folder.iterdir()) == ["weak_train.hdf5", "weak_val.hdf5"]
    reader = EmbeddingReader(folder / "weak_val.hdf5")
    assert reader.clip_ids == tuple(f"clip{number:03d}" for number in range(N_CLIPS))
    beats = load_beats(work / "beats.pt")
    for number in range(3):
        samples, _ = sf.read(work / "weak" / f"clip{number:03d}.wav", dtype="float32")
        with torch.inference_mode():
            frame = beats.embed(torch.from_numpy(samples)[None]).frame[0].numpy()
        for clip in range(number, N_CLIPS, 3):
            np.testing.assert_allclose(reader.frame(f"clip{clip:03d}"), frame, atol=1e-4)


def test_a_broken_clip_is_named_and_the_others_go_on(work: Path) -> None:
    broken = work / "test" / "clip001.wav"
    broken.write_bytes(broken.read_bytes()[:100])
    for wav in sorted((work / "weak").iterdir())[4:]:
        wav.unlink()
    found = run(work, "--only", "devtest", "weak_train")
    assert found.returncode == 1
    assert str(broken) in found.stderr
    assert "Traceback" not in found.stderr
    assert "devtest: not finished, 1 of 2 clips cannot be read" in found.stdout
    folder = work / "embeddings" / "beats"
    assert sorted(found.name for found in folder.iterdir()) == [
        "devtest.hdf5.part",
        "weak_train.hdf5",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pretrained_model", "absent.pt"), "absent.pt: no such file of BEATs weights"),
        (("--use_gpu",), "--use_gpu: PyTorch finds no GPU"),
        (("--only", "devtset"), "--only devtset: no such set"),
        (("--only", "synth_train", "--set", "data.synth_folder=/absent"), "/absent: no such"),
        (("--set", "data.fsx=1"), "data.fsx: unknown key"),
    ],
)
def test_wrong_input(
    arguments: Sequence[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import extract_embeddings

    (tmp_path / "test").mkdir()
    sf.write(tmp_path / "test" / "a.wav", np.zeros(RATE), RATE)
    write_random_beats(tmp_path / "beats.pt", seed=0, config=TINY)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    default = () if "--only" in arguments else ("--only", "devtest")
    assert extract_embeddings.main(command(tmp_path, *default, *arguments)[2:]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
