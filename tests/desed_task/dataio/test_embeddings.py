"""Embedding files: layout, going on after a kill, reading in several processes."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import h5py
import numpy as np
import pytest

from desed_task.dataio.embedding_writer import EmbeddingWriter
from desed_task.dataio.embeddings import EmbeddingReader, read_layout
from desed_task.errors import InputError

CLIPS = tuple(f"Y{i}_10.000_20.000" for i in range(70))
IDENTITY = {"checkpoint_sha256": "ab" * 32, "clip_s": 10.0}
N_FEATURES, N_TOKENS = 6, 8


def open_writer(
    path: Path,
    clip_ids: tuple[str, ...] = CLIPS,
    identity: dict[str, str | float] = IDENTITY,
) -> EmbeddingWriter:
    return EmbeddingWriter(
        path, clip_ids, n_features=N_FEATURES, n_tokens=N_TOKENS, identity=identity
    )


def values_of(clip_id: str) -> np.ndarray:
    seed = int(clip_id[1:].split("_")[0])
    return np.random.default_rng(seed).normal(size=(N_FEATURES, N_TOKENS)).astype(np.float32)


def put(writer: EmbeddingWriter, clip_ids: list[str] | tuple[str, ...]) -> None:
    frame = np.stack([values_of(clip_id) for clip_id in clip_ids])
    writer.put(clip_ids, frame, frame.mean(axis=2))


def write(path: Path, clip_ids: tuple[str, ...] = CLIPS) -> Path:
    with open_writer(path, clip_ids) as writer:
        put(writer, clip_ids)
        writer.finish()
    return path


def check(path: Path, clip_ids: tuple[str, ...]) -> None:
    reader = EmbeddingReader(path)
    assert reader.clip_ids == clip_ids
    for clip_id in clip_ids:
        np.testing.assert_array_equal(reader.frame(clip_id), values_of(clip_id))
        np.testing.assert_allclose(reader.global_(clip_id), values_of(clip_id).mean(1), rtol=1e-5)


def test_the_layout_is_the_published_one(tmp_path: Path) -> None:
    path = write(tmp_path / "beats" / "synth_train.hdf5")
    with h5py.File(path) as file:
        assert file["frame_embeddings"].shape == (70, N_FEATURES, N_TOKENS)
        assert file["frame_embeddings"].dtype == np.float32
        assert file["frame_embeddings"].chunks == (1, N_FEATURES, N_TOKENS)
        assert file["global_embeddings"].shape == (70, N_FEATURES)
        assert file["global_embeddings"].dtype == np.float32
        assert h5py.check_string_dtype(file["filenames"].dtype).length is None
        assert file["filenames"].asstr()[3] == CLIPS[3]
        assert file.attrs["checkpoint_sha256"] == IDENTITY["checkpoint_sha256"]
    assert [found.name for found in path.parent.iterdir()] == ["synth_train.hdf5"]
    check(path, CLIPS)


def test_a_published_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "published.hdf5"
    with h5py.File(path, "w") as file:
        frame = np.stack([values_of(clip_id) for clip_id in CLIPS[:3]])
        file["frame_embeddings"] = frame
        file["global_embeddings"] = frame.mean(axis=2)
        file["filenames"] = np.array(CLIPS[:3], dtype="S20")
    check(path, CLIPS[:3])


def test_an_unfinished_file_goes_on_and_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "set.hdf5"
    with open_writer(path) as writer:
        put(writer, CLIPS[40:45])
    assert not path.exists()
    with pytest.raises(InputError, match=r"part: not finished; run extract_embeddings.py"):
        EmbeddingReader(path.with_name("set.hdf5.part"))
    with open_writer(path) as writer:
        assert writer.todo == [*CLIPS[:40], *CLIPS[45:]]
        with pytest.raises(InputError, match="65 clips are missing"):
            writer.finish()
        put(writer, writer.todo)
        writer.finish()
    check(path, CLIPS)


def test_killed_while_writing(tmp_path: Path) -> None:
    path = tmp_path / "set.hdf5"
    child = os.fork()
    if child == 0:
        writer = open_writer(path)
        put(writer, CLIPS[:64])
        put(writer, CLIPS[64:67])  # put, but not marked yet
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    with open_writer(path) as writer:
        assert writer.todo == list(CLIPS[64:])
        put(writer, writer.todo)
        writer.finish()
    check(path, CLIPS)


@pytest.mark.parametrize("operation", ["unlink", "replace"])
def test_killed_as_it_ends_it_leaves_one_file(tmp_path: Path, operation: str) -> None:
    path = tmp_path / "set.hdf5"
    with open_writer(path, CLIPS[:20]) as writer:
        put(writer, CLIPS[:9])
    with open_writer(path, CLIPS[:30]) as writer:  # the first file is kept as .old
        put(writer, CLIPS[:30])
    child = os.fork()
    if child == 0:
        writer = open_writer(path, CLIPS[:30])
        setattr(os, operation, lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL))
        writer.finish()
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    if not path.exists():  # otherwise there is nothing to do, and nothing is done
        with open_writer(path, CLIPS[:30]) as writer:
            writer.finish()
    check(path, CLIPS[:30])
    assert [found.name for found in tmp_path.iterdir()] == ["set.hdf5"]


def test_killed_while_the_file_was_laid_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It appears once it is complete, so an unreadable one is not ours and stays."""
    path, part = tmp_path / "set.hdf5", tmp_path / "set.hdf5.part"
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(os, "link", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        open_writer(path)
    os.waitpid(child, 0)
    assert not part.exists()
    check(write(path), CLIPS)
    assert list(tmp_path.iterdir()) == [path]
    for foreign in (b"\x89HDF\r\n\x1a\n", b"half a download", path.read_bytes()[:3000]):
        part.write_bytes(foreign)
        with pytest.raises(InputError, match=r"part: .*; move it away and run extract"):
            open_writer(path)
        assert part.read_bytes() == foreign


def test_other_weights_start_over(tmp_path: Path) -> None:
    path = tmp_path / "set.hdf5"
    with open_writer(path) as writer:
        put(writer, CLIPS[:5])
    with open_writer(path, identity={**IDENTITY, "checkpoint_sha256": "cd" * 32}) as writer:
        assert writer.todo == list(CLIPS)
        assert writer.adopt(writer.old, CLIPS) == 0


def test_rows_of_clips_that_stay_are_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "set.hdf5"
    with open_writer(path, CLIPS[:20]) as writer:
        put(writer, CLIPS[:9])
    later = CLIPS[5:30]
    with open_writer(path, later) as writer:
        assert writer.adopt(writer.old, writer.todo) == 4
        assert writer.todo == list(CLIPS[9:30])
        put(writer, writer.todo)
        writer.finish()
    check(path, later)
    assert [found.name for found in tmp_path.iterdir()] == ["set.hdf5"]


def test_a_changed_clip_is_forgotten(tmp_path: Path) -> None:
    with open_writer(tmp_path / "set.hdf5") as writer:
        put(writer, CLIPS)
    with open_writer(tmp_path / "set.hdf5") as writer:
        assert writer.todo == []
        writer.forget(CLIPS[2:4])
    with open_writer(tmp_path / "set.hdf5") as writer:
        assert writer.todo == list(CLIPS[2:4])


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "set.hdf5"
    open_writer(path).close()
    # In a process of its own, as HDF5 lets one process open a file twice.
    other = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print(flush=True); input()"
    command = [sys.executable, "-c", other, str(path) + ".part"]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(InputError, match="another run is writing it"):
            open_writer(path)
        process.communicate(b"\n")
    with open_writer(path) as writer:
        assert writer.todo == list(CLIPS)


@pytest.mark.parametrize("ending", [".part", ".part.old"])
@pytest.mark.parametrize("kind", ["text", "finished", "link"])
def test_files_in_the_places_of_unfinished_ones_stay(
    tmp_path: Path, ending: str, kind: str
) -> None:
    """The user's own, also one that a link leads to."""
    own = tmp_path / f"set.hdf5{ending}"
    if kind == "text":
        own.write_text("notes")
    elif kind == "finished":
        with h5py.File(write(tmp_path / "other.hdf5", CLIPS[:3]), "r+") as file:
            del file["finished"]
        (tmp_path / "other.hdf5").rename(own)
    else:
        open_writer(tmp_path / "other.hdf5").close()
        own.symlink_to("other.hdf5.part")
    before = own.read_bytes()
    with pytest.raises(InputError, match=rf"set\.hdf5\{ending}: not an .*; move it away"):
        open_writer(tmp_path / "set.hdf5")
    assert own.read_bytes() == before
    assert own.is_symlink() == (kind == "link")


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    frame = np.zeros((2, N_FEATURES, N_TOKENS), dtype=np.float32)
    frame[1, 0, 0] = np.nan
    with (
        open_writer(tmp_path / "set.hdf5") as writer,
        pytest.raises(InputError, match=f"embeddings of {CLIPS[1]} are not finite"),
    ):
        writer.put(CLIPS[:2], frame, frame.mean(axis=2))


def test_reader_errors_name_clip_file_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent.hdf5: no such .* run extract_embeddings.py"):
        EmbeddingReader(tmp_path / "absent.hdf5")
    (tmp_path / "text.hdf5").write_text("no HDF5")
    with pytest.raises(InputError, match=r"text.hdf5: not an HDF5 file; move it away and run"):
        EmbeddingReader(tmp_path / "text.hdf5")
    reader = EmbeddingReader(write(tmp_path / "set.hdf5", CLIPS[:3]))
    with pytest.raises(InputError, match=r"set.hdf5: no embeddings of clip 'x'; run extract"):
        reader.frame("x")
    assert reader.missing([CLIPS[1], "x", "y"]) == ["x", "y"]
    assert (reader.size, reader.n_tokens) == (N_FEATURES, N_TOKENS)


def test_a_reader_is_pickled_and_forked(tmp_path: Path) -> None:
    reader = EmbeddingReader(write(tmp_path / "set.hdf5", CLIPS[:3]))
    expected = reader.frame(CLIPS[1])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).frame(CLIPS[1]), expected)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(reader.frame(CLIPS[1]), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(reader.frame(CLIPS[1]), expected)


def test_a_file_written_anew_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "set.hdf5", CLIPS[:3])
    reader = EmbeddingReader(path)
    os.replace(write(tmp_path / "other.hdf5", CLIPS[3:6]), path)
    assert read_layout(path).clip_ids == CLIPS[3:6]
    with pytest.raises(InputError, match="replaced while in use"):
        reader.frame(CLIPS[1])


def test_a_file_that_appears_during_the_work_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "set.hdf5"
    with open_writer(path) as writer:
        for clip in writer.todo:
            writer.put(
                [clip],
                np.ones((1, N_FEATURES, N_TOKENS), np.float32),
                np.ones((1, N_FEATURES), np.float32),
            )
        path.write_bytes(b"of the user")
        with pytest.raises(InputError, match=r"set\.hdf5: was written by something else meanwhile"):
            writer.finish()
    assert path.read_bytes() == b"of the user"
    path.unlink()
    with open_writer(path) as writer:
        assert writer.todo == []
        writer.finish()
    assert EmbeddingReader(path).frame(CLIPS[0]).mean() == 1
