"""A full disk is called one, whatever library meets it, and nothing half-written stays."""

from __future__ import annotations

import argparse
import errno
import json
import os
import pickle
import sqlite3
import subprocess
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
import sqlalchemy
import torch
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from desed_task import errors
from desed_task.atomic_files import atomic_path, write_text_atomic
from desed_task.audio.files import write_wav
from desed_task.dataio.embedding_writer import EmbeddingWriter
from desed_task.dataio.embeddings import FINISHED, FRAME, GLOBAL
from desed_task.errors import DiskFullError, InputError, disk_full
from local.cli.exit_status import run_command
from local.scoring.figures import save_figure

NOISE = np.random.default_rng(0).normal(size=(100_000, 1))


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """A file system of one megabyte, which only root can make."""
    place = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    done = None
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        done = subprocess.run(command, capture_output=True, check=False)
    if done is None or done.returncode:
        pytest.skip("cannot mount a small file system here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def disk(small_disk):
    """The same with 20 kB left."""
    space = os.statvfs(small_disk)
    filling = small_disk / "filling"
    filling.write_bytes(bytes(space.f_bavail * space.f_bsize - 20_480))
    yield small_disk
    for path in small_disk.iterdir():
        path.unlink()


def picture(path):
    figure = Figure()
    figure.subplots().imshow(NOISE.reshape(250, 400))
    save_figure(figure, path)


def by_name(save):
    """What saves to a path, atomically."""

    def write(path):
        with atomic_path(path) as temporary:
            save(temporary)

    return write


def by_file(save):
    """What saves to an open file, atomically."""

    def write(path):
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            save(file)

    return write


WRITERS = {
    "text": lambda path: write_text_atomic(path, "x" * 100_000),
    "wav": lambda path: write_wav(path, NOISE, 16000, "PCM_16"),
    "floats": lambda path: write_wav(path, NOISE, 16000, "FLOAT"),
    "torch": by_name(lambda path: torch.save(torch.tensor(NOISE), path)),
    "torch, open": by_file(lambda file: torch.save(torch.tensor(NOISE), file)),
    "torch, old": by_name(
        lambda path: torch.save(torch.tensor(NOISE), path, _use_new_zipfile_serialization=False)
    ),
    "npy": by_file(lambda file: np.save(file, NOISE)),
    "npz": by_name(lambda path: np.savez(path.with_suffix(path.suffix), a=NOISE)),
    "picture": picture,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_writer_tells_of_it_in_one_line(kind, disk, capsys):
    path = disk / f"größe.{'npz' if kind == 'npz' else 'x'}"

    def write(args):
        WRITERS[kind](path)
        return 0

    assert run_command(write, argparse.Namespace()) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path}: the disk is full (No space left on device): 0.0 MB of ")
    assert said.endswith(
        f" MB are free on {disk}; free some space, then run the same command again to resume\n"
    )
    assert said.count("\n") == 1
    assert [one.name for one in disk.iterdir()] == ["filling"]


def test_libraries_that_write_by_themselves(disk, capsys):
    def database(args):
        engine = sqlalchemy.create_engine(f"sqlite:///{disk / 'a.db'}")
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("create table t (x blob)"))
            connection.execute(sqlalchemy.text("insert into t values (zeroblob(100000))"))

    def events(args):
        with SummaryWriter(str(disk), max_queue=1, flush_secs=1) as writer:
            for step in range(1000):
                writer.add_scalar("x" * 100, step, step)

    for action in (database, events):
        args = argparse.Namespace(log_dir=str(disk), resume_from_checkpoint=None)
        assert run_command(action, args) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and f"error: {disk}" in said
        assert "the disk is full" in said and f"free on {disk}" in said
        assert "again with --resume_from_checkpoint auto to resume" in said


def test_embeddings_that_do_not_fit_stop_the_command(disk, capsys):
    def write(args):
        names = [str(number) for number in range(20)]
        identity = {"encoder": "x"}
        with EmbeddingWriter(
            disk / "a.hdf5", names, n_features=100, n_tokens=100, identity=identity
        ) as writer:
            for name in names:
                frame = np.ones((1, 100, 100), np.float32)
                writer.put([name], frame, np.ones((1, 100), np.float32))
        return 0

    assert run_command(write, argparse.Namespace(output_dir=disk)) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {disk}/") and said.count("\n") == 1
    assert "the disk is full" in said


@pytest.mark.parametrize("number", [1, 2])
def test_embeddings_that_did_not_fit_are_never_taken_for_finished(number, disk, capfd):
    """A disk that fills for a while, as another program writes and removes its files."""
    names = [f"{number:03d}" for number in range(100)]

    def open_writer():
        of_all = {"n_features": 20, "n_tokens": 20, "identity": {}}
        return EmbeddingWriter(disk / "a.hdf5", names, **of_all, number=number)

    def put(writer, some):
        for name in some:
            frame = np.full((1, 20, 20), int(name) + 1.0, np.float32)
            writer.put([name], frame, frame[:, :, 0])

    (disk / "filling").write_bytes(b"")
    writer = open_writer()
    put(writer, names[:70])
    space = os.statvfs(disk)
    (disk / "filling").write_bytes(bytes(space.f_bavail * space.f_bsize))
    with pytest.raises(DiskFullError, match=r"a\.hdf5\.part.*: the disk is full"):
        put(writer, names[70:])
    (disk / "filling").write_bytes(b"")
    writer.close()
    with h5py.File(writer.part, "r") as file:
        marks = file[FINISHED][:]
        assert 64 <= marks.sum() < 75
        for row in np.flatnonzero(marks):
            assert (file[FRAME][row] == row + 1.0).all() and (file[GLOBAL][row] == row + 1.0).all()
    assert capfd.readouterr().err == ""


# ---- without a full disk


def nested(text, kind=RuntimeError, number=None):
    """An error that was raised from one of a full disk."""
    error = kind(text)
    error.__cause__ = OSError(errno.ENOSPC if number is None else number, "x")
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), "/a/b: the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/a/b"), "/a/b: the disk quota is used up"),
        (OSError(errno.ENOSPC, "x", "from", None, "to"), "to: the disk is full"),
        (OSError(errno.ENOSPC, "x", "/torch_1/quota"), "/torch_1/quota: the disk is full"),
        (OSError(errno.ENOSPC, "x", "/dev/shm/a"), "/dev/shm/a: the disk is full"),
        (RuntimeError("write(): fd 3 failed with No space left on device"), "the disk is full"),
        (RuntimeError("write(): fd 3 failed with Disk quota exceeded"), "the disk quota is"),
        (sqlite3.OperationalError("database or disk is full"), "the disk is full"),
        (nested("worker failed"), "the disk is full"),
        (nested("worker failed", ValueError, errno.EDQUOT), "the disk quota is used up"),
        (OSError("write failed: filename = '/a/c.h5', No space left on device"), "/a/c.h5: the d"),
    ],
)
def test_errors_of_a_full_disk(error, told, capsys):
    def fail(args):
        raise error

    args = argparse.Namespace(skip_existing=False)
    assert run_command(fail, args) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1
    assert "free some space, then run the same command again with --skip_existing" in said


@pytest.mark.parametrize(
    "error",
    [
        ValueError("wrong"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "a"),
        RuntimeError("basic_ios::clear: iostream error"),  # with room on the disk
        OSError("100 requested and 50 written"),
        RuntimeError("unable to write to file </torch_12_3>: No space left on device (28)"),
    ],
)
def test_other_errors_are_not_taken_for_one(error, tmp_path):
    assert disk_full(error, tmp_path) is None
    with pytest.raises(type(error)), atomic_path(tmp_path / "a"):
        raise error


def test_a_write_that_is_cut_short_is_one_where_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(errors, "free_bytes", lambda _: 0)
    for text in ("unexpected pos 576 vs 534", "basic_ios::clear: iostream error", "System error."):
        with pytest.raises(DiskFullError) as full, atomic_path(tmp_path / "a.pt"):
            raise RuntimeError(text)
        assert full.value.errno == errno.ENOSPC and str(tmp_path / "a.pt") in str(full.value)


def test_an_input_error_keeps_its_own_words(tmp_path):
    error = InputError("too large")
    error.__context__ = OSError(errno.ENOSPC, "x")
    with pytest.raises(InputError, match="too large"), atomic_path(tmp_path / "a"):
        raise error


def test_it_is_the_same_in_another_process():
    full = DiskFullError(errno.ENOSPC, "/a")
    again = pickle.loads(pickle.dumps(full))
    assert str(again) == str(full) and (again.errno, again.filename) == (errno.ENOSPC, "/a")


def test_a_thread_that_met_it_is_not_forgotten(capsys):
    def write():
        raise OSError(errno.ENOSPC, "No space left on device", "/events")

    def command(args):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        return 0

    before = threading.excepthook
    try:
        assert run_command(command, argparse.Namespace()) == 2
    finally:
        threading.excepthook = before
    said = capsys.readouterr().err
    assert "error: /events: the disk is full" in said and said.count("\n") == 1


def test_a_test_has_nothing_to_resume(capsys):
    def fail(args):
        raise OSError(errno.ENOSPC, "x", "/a")

    args = argparse.Namespace(resume_from_checkpoint=None, test_from_checkpoint="a.ckpt")
    assert run_command(fail, args) == 2
    assert "run the same command again to resume" in capsys.readouterr().err


def test_what_was_there_stays_whole(disk):
    path = Path(disk / "a.json")
    path.write_text(json.dumps({"a": 1}))
    with pytest.raises(DiskFullError):
        write_text_atomic(path, "x" * 100_000)
    assert json.loads(path.read_text()) == {"a": 1}
