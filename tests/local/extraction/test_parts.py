"""Files of several processes become one, whatever they leave when they are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import PIPE

import h5py
import numpy as np
import pytest

from desed_task.audio.freshness import source_of, source_stamp
from desed_task.audio.windows import RowName, WindowKey
from desed_task.dataio import embedding_writer
from desed_task.dataio.embedding_sources import CHANGED, SIZE, read_sources
from desed_task.dataio.embedding_writer import EmbeddingWriter, clip_of
from desed_task.dataio.embeddings import EmbeddingReader
from desed_task.dataio.row_stores.unfinished import part_of, parts_of_others
from desed_task.errors import DiskFullError, InputError
from local.extraction.parts import merge, take_over

SHAPE = (3, 5)
IDENTITY = {"checkpoint_sha256": "ab" * 32, "clip_s": 5.0}


@pytest.fixture
def clips(tmp_path: Path) -> dict[str, Path]:
    """150 files, whose content is their name, older than what is made from them."""
    (tmp_path / "audio").mkdir()
    found = {f"clïp{number:03d}": tmp_path / "audio" / f"{number}.wav" for number in range(150)}
    for clip_id, wav in found.items():
        write(wav, clip_id)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "out put").mkdir()
    return tmp_path / "out put" / "set.hdf5"


def write(wav: Path, text: str) -> None:
    wav.write_text(text)
    os.utime(wav, (1e9, 1e9))


def windows_of(clips: Sequence[str]) -> list[WindowKey]:
    return [WindowKey(clip_id, 16000 * second) for clip_id in clips[:10] for second in (1, 2)]


def open_writer(
    path: Path, clips: dict[str, Path], number: int = 1, identity: dict[str, object] | None = None
) -> EmbeddingWriter:
    return EmbeddingWriter(
        path,
        list(clips),
        n_features=SHAPE[0],
        n_tokens=SHAPE[1],
        identity={**IDENTITY, **(identity or {})},  # type: ignore[dict-item]
        windows=windows_of(list(clips)),
        number=number,
    )


def values(row: RowName) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(str(row).encode()))
    return rng.normal(size=SHAPE).astype(np.float32)


def put(writer: EmbeddingWriter, rows: Sequence[RowName], clips: dict[str, Path]) -> None:
    for row in rows:
        wav = clips[clip_of(row)]
        writer.record(clip_of(row), source_of(wav, source_stamp(wav)))
        frame = values(row)
        writer.put([row], frame[None], frame.mean(axis=1)[None])


def killed(work: Callable[[], object]) -> None:
    """Do something in a process that dies of SIGKILL."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def check_finished(path: Path, clips: dict[str, Path]) -> None:
    """One file, with the values and the audio of every row."""
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    reader = EmbeddingReader(path)
    assert reader.clip_ids == tuple(clips)
    for row in (*clips, *windows_of(list(clips))):
        np.testing.assert_array_equal(reader.frame(row), values(row))
        np.testing.assert_array_equal(reader.global_(row), values(row).mean(axis=1))
    sources = read_sources(path, reader.clip_ids)
    assert sources == {one: source_of(wav, source_stamp(wav)) for one, wav in clips.items()}


def finish(path: Path, clips: dict[str, Path], n_processes: int = 1) -> list[RowName]:
    """What a run computes in one process that takes turns as several; it is then finished."""
    with open_writer(path, clips) as writer:
        take_over("set", writer, clips, progress=False)
        assert parts_of_others(path) == []
        todo = writer.todo
        put(writer, todo[::n_processes], clips)
        for number in range(2, n_processes + 1):
            with open_writer(path, clips, number) as other:
                assert other.todo == list(other.layout.rows)
                put(other, todo[number - 1 :: n_processes], clips)
        merge(writer, n_processes)
        writer.finish()
    return todo


def leave(path: Path, clips: dict[str, Path], rows: dict[int, Sequence[RowName]]) -> None:
    """What a run leaves whose processes have finished these rows when they are killed."""
    with open_writer(path, clips) as writer:
        put(writer, rows.get(1, ()), clips)
    for number in sorted(set(rows) - {1}):
        with open_writer(path, clips, number) as other:
            put(other, rows[number], clips)


@pytest.mark.parametrize("n_processes", [2, 11])
def test_files_of_processes_become_one(
    n_processes: int, path: Path, clips: dict[str, Path]
) -> None:
    assert len(finish(path, clips, n_processes)) == 170
    check_finished(path, clips)
    alone = path.parent.parent / "alone" / path.name
    finish(alone, clips)
    assert alone.read_bytes() == path.read_bytes()


def test_runs_of_3_1_and_2_processes_compute_each_row_once(
    path: Path, clips: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is killed before it collects what its processes have computed."""
    rng = random.Random(1)
    with open_writer(path, clips) as writer:
        rows = writer.todo
    rng.shuffle(rows)
    done: list[RowName] = []
    for n_processes in (3, 1, 2):
        with open_writer(path, clips) as writer:
            take_over("set", writer, clips, progress=False)
            assert set(writer.todo) == set(rows) - set(done)
        assert [found.name for found in path.parent.iterdir()] == ["set.hdf5.part"]
        new = rows[len(done) : len(done) + 40]
        leave(path, clips, {n + 1: new[n::n_processes] for n in range(n_processes)})
        done += new
    assert len(parts_of_others(path)) == 1
    capsys.readouterr()
    assert set(finish(path, clips)) == set(rows[120:])
    left = set(map(clip_of, rows[120:]))
    assert f"set: resuming, {150 - len(left)} of 150 clips are done" in capsys.readouterr().out
    check_finished(path, clips)


@pytest.mark.parametrize(
    ("moment", "then"),
    [("unlink", 1), ("unlink", 2), ("marks", 1), ("replace", 1), ("replace", 2), ("link", 2)],
)
def test_killed_while_it_collects(
    moment: str, then: int, path: Path, clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a file is removed, between two marks, before the last name; then as it collects again."""
    names = list(clips)
    rows: dict[int, Sequence[RowName]] = {2: names[:70], 3: names[70:], 1: windows_of(names)}
    leave(path, clips, rows)

    def go_on(fatal: str) -> None:
        with monkeypatch.context() as patch:
            if fatal == "marks":  # after 64 rows of the second file
                writes = iter([False, False, True])
                write = EmbeddingWriter._write_marks
                patch.setattr(
                    EmbeddingWriter,
                    "_write_marks",
                    lambda *a: die() if next(writes) else write(*a),
                )
            elif fatal == "unlink":
                patch.setattr(Path, "unlink", die)
            else:
                patch.setattr(os, fatal, die)
            finish(path, clips, then)

    killed(lambda: go_on(moment))
    if moment in ("unlink", "marks"):
        assert parts_of_others(path)
        killed(lambda: go_on("replace"))
    assert not path.exists()
    assert finish(path, clips, 3) == []
    check_finished(path, clips)


def test_killed_while_a_file_was_laid_out(
    path: Path, clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_writer(path, clips).close()

    def lay_out() -> None:
        monkeypatch.setattr(os, "link", die)
        open_writer(path, clips, 2)

    killed(lay_out)
    hidden = [found for found in path.parent.iterdir() if found.name.startswith(".")]
    assert len(hidden) == 1 and parts_of_others(path) == []
    finish(path, clips)
    check_finished(path, clips)


def test_what_was_left_of_other_clips_is_kept_if_its_audio_is_the_same(
    path: Path, clips: dict[str, Path]
) -> None:
    names = list(clips)
    leave(path, clips, {1: names[:5], 2: names[5:30], 3: names[30:40]})
    for gone in (names[0], names[6]):
        del clips[gone]
    write(clips[names[7]], "OTHER")  # of the same size would be seen by its digest, too
    os.utime(clips[names[8]], (2e9, 2e9))  # touched
    clips["new"] = clips[names[1]].with_name("new.wav")
    write(clips["new"], "new")
    todo = finish(path, clips, 2)
    assert set(todo) == {*names[40:], names[7], "new", *windows_of(list(clips))}
    check_finished(path, clips)


@pytest.mark.parametrize("known", [True, False])
def test_a_clip_that_was_written_while_it_was_embedded_is_embedded_again(
    known: bool, path: Path, clips: dict[str, Path]
) -> None:
    """Although it is older than the unfinished files, which are opened afterwards."""
    names = list(clips)
    rows = {1: names[:5], 2: names[5:30], 3: names[30:40]}
    leave(path, clips, rows)
    for number, name in ((1, names[2]), (2, names[17]), (3, names[33])):
        if known:
            with h5py.File(part_of(path, number), "r+") as file:
                file[SIZE][names.index(name)] = -1  # as earlier versions wrote it
        else:
            part_of(path, number).unlink()
            with open_writer(path, clips, number) as writer:
                put(writer, rows[number], clips)
                writer.forget([name])
                writer.record(name, None)
                frame = np.zeros((1, *SHAPE), np.float32)
                writer.put([name], frame, frame[:, :, 0])
    todo = finish(path, clips)
    assert set(todo) - set(windows_of(names)) == {names[2], names[17], names[33], *names[40:]}
    check_finished(path, clips)


def test_rows_of_one_clip_from_different_audio_are_computed_again(
    path: Path, clips: dict[str, Path]
) -> None:
    """A longer clip is replaced while one process has its beginning and another one a window."""
    names = list(clips)
    with open_writer(path, clips) as writer, open_writer(path, clips, 2) as other:
        put(writer, names, clips)
        write(clips[names[3]], "other")
        put(other, windows_of(names), clips)
        other.close()
        merge(writer, 2)
        writer.finish()
    sources = read_sources(path, names)
    assert [name for name, one in sources.items() if one == CHANGED] == [names[3]]
    todo = finish(path, clips)
    assert {clip_of(row) for row in todo} == {names[3]} and len(todo) == 3
    check_finished(path, clips)


def test_what_was_left_of_other_weights_is_dropped_and_counted(
    path: Path, clips: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    leave(path, clips, {1: list(clips)[:5], 2: list(clips)[5:30]})
    with open_writer(path, clips, identity={"checkpoint_sha256": "cd" * 32}) as writer:
        take_over("set", writer, clips, progress=False)
        assert len(writer.todo) == 170
    assert [found.name for found in path.parent.iterdir()] == ["set.hdf5.part"]
    told = "set: dropped 30 embeddings that an interrupted run has computed with other"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("foreign", "message"),
    [
        (b"notes", r"part\.2: not an HDF5 file; move it away and run extract_embeddings.py again"),
        ("finished", r"part\.2: not an unfinished file of this program; move it away"),
        ("cut short", r"part\.2: damaged or cut short .*; move it away"),
    ],
)
def test_a_file_of_somebody_else_in_its_place_is_kept(
    foreign: str | bytes, message: str, path: Path, clips: dict[str, Path]
) -> None:
    names = list(clips)
    leave(path, clips, {1: names[:5], 2: names[5:30], 3: names[30:40]})
    part = part_of(path, 2)
    if foreign == "finished":
        with h5py.File(part, "r+") as file:
            del file["finished"]
    else:
        part.write_bytes(foreign if isinstance(foreign, bytes) else part.read_bytes()[:9000])
    before = {found.name: found.read_bytes() for found in path.parent.iterdir()}
    with open_writer(path, clips) as writer, pytest.raises(InputError, match=message):
        take_over("set", writer, clips, progress=False)
    assert {found.name: found.read_bytes() for found in path.parent.iterdir()} == before
    part.unlink()
    assert len(finish(path, clips)) == 170 - 15
    check_finished(path, clips)


def test_a_file_that_another_run_writes_is_refused(path: Path, clips: dict[str, Path]) -> None:
    names = list(clips)
    leave(path, clips, {1: names[:5], 2: names[5:30], 3: names[30:40]})
    other = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print(flush=True); input()"
    command = [sys.executable, "-c", other, str(part_of(path, 3))]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(2):
            with (
                open_writer(path, clips) as writer,
                pytest.raises(InputError, match=r"part\.3: another run is writing it; wait until"),
            ):
                take_over("set", writer, clips, progress=False)
        with pytest.raises(InputError, match=r"part\.3: another run is writing it"):
            open_writer(path, clips, 3)
        process.communicate(b"\n")
    assert len(parts_of_others(path)) == 2
    assert len(finish(path, clips)) == 170 - 40
    check_finished(path, clips)


def test_a_full_disk_loses_nothing(
    path: Path, clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = list(clips)
    leave(path, clips, {1: names[:5], 2: names[5:110], 3: names[110:]})
    written = 0

    def full(*args: object) -> object:
        nonlocal written
        written += 1
        if written > 80:
            raise OSError(28, "No space left on device")
        return write_row(*args)

    write_row = embedding_writer.EmbeddingWriter._write
    with monkeypatch.context() as patch:
        patch.setattr(embedding_writer.EmbeddingWriter, "_write", full)
        with open_writer(path, clips) as writer, pytest.raises(DiskFullError):
            take_over("set", writer, clips, progress=False)
    assert len(parts_of_others(path)) == 2
    assert finish(path, clips, 2) == windows_of(names)
    check_finished(path, clips)


def test_only_files_of_processes_are_taken_for_them(path: Path, clips: dict[str, Path]) -> None:
    kept = ("set.hdf5.part.old", "set.hdf5.part.02", "set.hdf5.part.2.bak", "set.hdf5.part.1")
    others = ("other.hdf5.part.2", "set_hdf5.part.2", "set.hdf5.part.x", "set.hdf5.part.0")
    for name in (*kept, *others):
        (path.parent / name).touch()
    assert parts_of_others(path) == []
    for number in (12, 2, 3):
        part_of(path, number).touch()
    assert parts_of_others(path) == [part_of(path, number) for number in (2, 3, 12)]
    assert part_of(path).name == "set.hdf5.part"
