"""predict.py in several processes and in shards: the files of one process, whoever writes them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from tests.desed_task.checkpoints.example_checkpoints import ours, saved, small_spec
from tests.fork_server import Forked, pid_of_rank
from tests.in_process import run_main

ROOT = Path(__file__).resolve().parents[2]
RATE = 16000
HIDDEN = (".written", ".written.jsonl", ".archive")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Recordings of odd names and lengths, with a checkpoint and the results of one process."""
    folder = tmp_path_factory.mktemp("archive")
    checkpoint = saved(ours(small_spec(use_embeddings=False)), folder / "small.ckpt")
    seconds = {
        "a/x.wav": 3,
        "b/x.wav": 41,
        "é z.wav": 1.3,
        "b/c/y.flac": 25,
        os.fsdecode(b"odd\xff\t.wav"): 4,
        "events.wav": 17,
    }
    for number, (name, length) in enumerate(seconds.items()):
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = 0.1 * np.random.default_rng(number).normal(size=int(length * RATE))
        kind = "FLAC" if name.endswith("flac") else "WAV"
        sf.write(os.fsencode(path), noise, RATE, format=kind)
    for name in ("mute 1.wav", "mute 2.wav"):
        sf.write(folder / "in" / name, np.zeros(2 * RATE), RATE)
    for name in ("bad 1.wav", "bad 2.wav"):
        (folder / "in" / name).write_text("no sound" * 9000)
    words = [
        *("in", "--checkpoint", checkpoint, "--conf_file", ROOT / "confs/mini.yaml"),
        *("--formats", "tsv,json,npz,html", "--threshold", "0.05", "--set", "predict.hop_s=0.64"),
    ]
    done = run_main("predict.py", *words, "--output_dir", "one", "--gpus", "0", cwd=folder)
    assert done.returncode == 1, done.stdout + done.stderr
    return folder, words, done


def files(folder):
    """Name -> content of all files but those of the program's own book-keeping."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in HIDDEN
    }


def start(archive, *arguments):
    folder, words, _ = archive
    return Forked(
        [sys.executable, ROOT / "predict.py", *map(str, words), *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def totals(text):
    """The rows of the classes, and the numbers of recordings and seconds."""
    lines = text[text.index("class ") :].splitlines()
    end = next(n for n, line in enumerate(lines) if " of audio in " in line)
    return [*lines[:end], lines[end].partition(" of audio")[0]]


def not_read(text):
    return sorted(text.partition("Recordings not read:\n")[2].splitlines()[:2])


def test_two_processes_write_the_files_of_one_even_if_one_was_killed(archive):
    folder, _, alone = archive
    out = folder / "two"
    process = start(archive, "--output_dir", "two", "--devices", "2")
    deadline_s = time.monotonic() + 120
    while not list(out.rglob("*.npz")) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    os.kill(pid_of_rank(process.pid, 1), signal.SIGKILL)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 137, told
    assert "error: process 2 of 2 was ended by SIGKILL" in told and "Traceback" not in told
    assert "run the same command again with --skip_existing to resume" in told
    # A killed process may leave a hidden part of a file, which the next one removes.
    before = {name: content for name, content in files(out).items() if ".tmp" not in name}
    assert before and not {"events.tsv", "index.html"} & set(before)
    assert before.items() <= files(folder / "one").items()

    process = start(archive, "--output_dir", "two", "--devices", "3")
    said, told = process.communicate(timeout=120)
    assert process.returncode == 1, told
    assert files(out) == files(folder / "one")
    # Told once, what one process tells.
    assert totals(said) == totals(alone.stdout) and "Traceback" not in told
    assert not_read(told) == not_read(alone.stderr) and len(not_read(told)) == 2
    for name in ("mute 1.wav", "mute 2.wav"):
        assert told.count(f"warning: in/{name}: is digitally silent") == 1
    bars = re.findall(r"^detecting: (\d+)/(\d+) seconds", told, re.M)
    assert 95 <= int(bars[-1][0]) <= int(bars[-1][1]) < 110  # of all processes
    assert said.count("results: two") == 1 == said.count("computing on the CPU, in 3 processes")
    assert " with 3 processes: real-time factor" in said


def test_no_process_begins_if_a_file_of_the_user_is_in_the_way(archive):
    folder, _, _ = archive
    mine = folder / "three/a/x.tsv"
    mine.parent.mkdir(parents=True)
    mine.write_text("of the user")
    process = start(archive, "--output_dir", "three", "--devices", "2")
    _, told = process.communicate(timeout=120)
    assert process.returncode == 2 and told.count("would be replaced") == 1, told
    assert list(files(folder / "three")) == ["a/x.tsv"]


def test_three_shards_at_once_make_the_files_of_one_process(archive):
    folder, words, alone = archive
    shards = [
        start(archive, "--output_dir", "shards", "--shard", "1/3", "--gpus", "0"),
        start(archive, "--output_dir", "shards", "--shard", "2/3", "--gpus", "0"),
        start(archive, "--output_dir", "shards", "--shard", "3/3", "--devices", "2"),
    ]
    ended = [process.communicate(timeout=240) for process in shards]
    told = "".join(err for _, err in ended)
    assert "Traceback" not in told
    assert sum(process.returncode == 0 for process in shards) < 3 and told.count("bad 1.wav") == 1
    for number, (said, _) in enumerate(ended, 1):
        assert f"shard {number}/3: " in said and " of 10 recordings, listed " in said
    merged = run_main("predict.py", "--merge", "--output_dir", "shards", cwd=folder)
    assert merged.returncode == 1 and "events of 8 recordings: " in merged.stdout
    pages = run_main("predict.py", "--merge", "html", "--output_dir", "shards", cwd=folder)
    assert pages.returncode == 1 and "pages of 8 recordings: shards/index.html" in pages.stdout
    assert pages.stderr == merged.stderr
    listed = merged.stderr.partition("Recordings without results:\n")[2].splitlines()
    assert sorted(listed) == not_read(alone.stderr)
    assert files(folder / "shards") == files(folder / "one")
    assert len(list((folder / "shards/.archive").glob("*.jsonl"))) == 1
    assert not list((folder / "shards/.archive").glob("*.claim"))
    # A task that is run again has nothing left to do.
    again = run_main(
        *("predict.py", *words, "--output_dir", "shards", "--skip_existing", "--gpus", "0"),
        *("--shard", "2/3"),
        cwd=folder,
    )
    assert " skipped because " in again.stdout and files(folder / "shards") == files(folder / "one")
    # Another task of a larger array has nothing to do, and needs no network for that.
    none = run_main("predict.py", *words, "--output_dir", "shards", "--shard", "12/12", cwd=folder)
    assert none.returncode == 0, none.stderr
    assert "shard 12/12: no recording, as there are more shards than recordings" in none.stdout


def test_a_shard_that_would_write_a_file_of_another_shard_is_refused(archive):
    folder, words, _ = archive
    twins = folder / "twins"
    twins.mkdir()
    for name in ("a.wav", "a.scores.wav"):
        sf.write(twins / name, np.zeros(RATE), RATE)
    for number in (1, 2):
        done = run_main(
            *("predict.py", twins, *words[1:], "--formats", "scores", "--gpus", "0"),
            *("--output_dir", "twins_out", "--shard", f"{number}/2"),
            cwd=folder,
        )
        assert done.returncode == 2, done.stdout
        assert "Rename recordings, or leave out a format:" in done.stderr
        assert "a.wav and twins/a.scores.wav would both write" in done.stderr.replace(
            f"{folder}/", ""
        )
    assert files(folder / "twins_out") == {}
