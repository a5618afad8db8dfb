"""The real command in several processes: one file, the same bytes, whatever is killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile as sf

from desed_task.dataio.embeddings import FINISHED
from desed_task.encoders.beats.model import SMALL_CONFIG, write_random_beats
from tests.fork_server import Forked, pid_of_rank
from tests.in_process import run_main

ROOT = Path(__file__).parents[2]
RATE, CLIP_S, N_CLIPS = 16000, 2.5, 400
# Deep enough that there is time to kill it.
SMALL = replace(SMALL_CONFIG, encoder_layers=4, encoder_embed_dim=128)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 clips (of 5 sounds), a set of one longer clip and a short one, and weights."""
    work = tmp_path_factory.mktemp("dätä")
    write_random_beats(work / "beats.pt", seed=3, config=SMALL)
    for folder in ("weak", "test"):
        (work / folder).mkdir()
    for number in range(6):
        n_samples = int(CLIP_S * RATE * (3 if number == 5 else 1))
        sound = 0.1 * np.random.default_rng(number).normal(size=n_samples)
        sf.write(work / f"{number}.wav", sound, RATE)
    for number in range(N_CLIPS):
        os.link(work / f"{number % 5}.wav", work / "weak" / f"clïp{number:03d}.wav")
    os.link(work / "5.wav", work / "test" / "long.wav")
    os.link(work / "0.wav", work / "test" / "short.wav")
    return work


def words(data: Path, out: Path, *arguments: str) -> list[str]:
    settings = {
        "pretrained.beats_checkpoint": data / "beats.pt",
        "data.audio_max_len": CLIP_S,
        "data.weak_folder": data / "weak",
        "data.test_folder": data / "test",
        "predict.hop_s": CLIP_S / 2,
    }
    flags = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    conf = str(ROOT / "confs" / "mini.yaml")
    plain = ["--conf_file", conf, "--output_dir", str(out), "--use_gpu", "0", "--batch_size", "2"]
    return [*plain, *flags, *arguments]


def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    return Forked(
        [sys.executable, str(ROOT / "extract_embeddings.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process writes."""
    out = tmp_path_factory.mktemp("alone")
    done = run_main(
        "extract_embeddings.py", *words(data, out, "--only", "weak_val,devtest"), cwd=out
    )
    assert done.returncode == 0, done.stderr
    return out / "beats"


def check_same(found: Path, expected: Path, names: Sequence[str]) -> None:
    assert sorted(path.name for path in found.iterdir()) == sorted(names)
    for name in names:
        with h5py.File(found / name) as one, h5py.File(expected / name) as other:
            assert list(one) == list(other) and dict(one.attrs) == dict(other.attrs)
            for member in other:
                np.testing.assert_array_equal(one[member][:], other[member][:])
        assert (found / name).read_bytes() == (expected / name).read_bytes()


def finished(folder: Path, pattern: str = "*.part*") -> int:
    """Rows that unfinished files have finished, none of them twice."""
    total = np.zeros(N_CLIPS, dtype=int)
    for part in folder.glob(pattern):
        try:
            with h5py.File(part, "r", locking=False) as file:
                total += file[FINISHED][:]
        except (OSError, KeyError):
            continue  # being created
    assert total.max() <= 1
    return int(total.sum())


def wait_until(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not happened():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def test_killed_with_3_processes_then_1_and_finished_by_2(
    data: Path, alone: Path, tmp_path: Path
) -> None:
    given = words(data, tmp_path, "--only", "weak_train")
    folder = tmp_path / "beats"
    with start(*given, "--devices", "3") as process:
        wait_until(lambda: finished(folder, "*.part.[23]"), process)
        os.kill(pid_of_rank(process.pid, 1), signal.SIGKILL)
        _, error = process.communicate()
    assert process.returncode == 137
    assert re.search(r"error: process 2 of 3 was ended by SIGKILL .*, so the other 2 ended", error)
    n_done = finished(folder)
    names = ["weak_train.hdf5.part", "weak_train.hdf5.part.2", "weak_train.hdf5.part.3"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert 64 <= n_done < N_CLIPS

    with start(*given) as process:
        wait_until(lambda: not (folder / names[2]).exists(), process)
        wait_until(lambda: finished(folder) > n_done, process)
        process.kill()
        output, _ = process.communicate()
    assert [path.name for path in folder.iterdir()] == names[:1]
    n_done, before = finished(folder), n_done
    assert before < n_done < N_CLIPS

    with start(*given, "--devices", "2") as process:
        output, error = process.communicate()
    assert process.returncode == 0, error
    assert f"weak_train: resuming, {n_done} of {N_CLIPS} clips are done" in output
    assert re.search(rf"weak_train: {N_CLIPS}/{N_CLIPS} clips \(100 %\)", error)
    check_same(folder, alone, ["weak_train.hdf5"])


def test_faults_of_all_processes_are_told_once_and_small_sets_are_divided(
    data: Path, alone: Path, tmp_path: Path
) -> None:
    """Started by SLURM: two tasks on one machine, a set of one batch, and its repetition."""
    for name in ("weak", "test"):
        (tmp_path / name).mkdir()
    shutil.copy2(data / "beats.pt", tmp_path)
    for number in range(16):
        name = f"clïp{number:03d}.wav"
        shutil.copy2(data / "weak" / name, tmp_path / "weak" / name)
    broken = [tmp_path / "weak" / f"clïp{number:03d}.wav" for number in (1, 6, 7, 12)]
    for path in broken:
        path.write_bytes(path.read_bytes()[:100])
    for path in (data / "test").iterdir():
        shutil.copy2(path, tmp_path / "test")
    given = words(tmp_path, tmp_path, "--only", "weak_val", "devtest")

    def srun() -> list[tuple[int, str, str]]:
        step = {
            "SLURM_JOB_ID": str(os.getpid()),
            "SLURM_STEP_ID": "0",
            "SLURM_STEP_NUM_TASKS": "2",
            "SLURM_STEP_TASKS_PER_NODE": "2",
            "SLURM_STEP_NODELIST": "127.0.0.1",
        }
        tasks = [
            start(*given, **step, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank))
            for rank in range(2)
        ]
        told = [task.communicate() for task in tasks]
        return [(task.returncode, *of) for task, of in zip(tasks, told, strict=True)]

    (status, output, error), other = srun()
    assert (status, other) == (1, (0, "", "")), error
    assert [line.split(": ")[0] for line in error.splitlines() if line.startswith("  - ")] == [
        f"  - {path}" for path in broken
    ]
    assert "weak_train: not finished, 4 of 16 clips cannot be read" in output
    assert "devtest: finished, 2 clips (1 of them longer: 4 further windows)" in output
    folder = tmp_path / "beats"
    check_same_file = ["devtest.hdf5", "weak_train.hdf5.part"]
    assert sorted(path.name for path in folder.iterdir()) == check_same_file
    with h5py.File(folder / "devtest.hdf5") as one, h5py.File(alone / "devtest.hdf5") as two:
        for name in two:
            np.testing.assert_array_equal(one[name][:], two[name][:])
