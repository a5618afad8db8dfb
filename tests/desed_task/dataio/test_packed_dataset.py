"""Packed sets: the same rows to the bit, made whole, made again when their clips change."""

from __future__ import annotations

import errno
import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile as sf
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from desed_task.batch import collate
from desed_task.dataio import packed_writer
from desed_task.dataio.annotations import EventTable, WeakTable
from desed_task.dataio.datasets import (
    ItemKey,
    JoinedDataset,
    NoTargets,
    SedDataset,
    StrongTargets,
    WeakTargets,
)
from desed_task.dataio.embedding_writer import EmbeddingWriter
from desed_task.dataio.embeddings import EmbeddingReader
from desed_task.dataio.packed_clips import PackedClips
from desed_task.dataio.packed_dataset import PackedBatches
from desed_task.dataio.packed_format import ALIGNMENT, PackedSet, Packing
from desed_task.dataio.packed_writer import ClipFiles, pack
from desed_task.dataio.sampler import QuotaBatchSampler
from desed_task.errors import InputError
from desed_task.labels import FrameGrid, Vocabulary

ROOT = Path(__file__).resolve().parents[3]
RATE = 16000
CLIP_S = 1.0
GRID = FrameGrid.for_clip(CLIP_S, RATE, 256, 4)
VOCABULARY = Vocabulary(["Dog", "Cat"])
CLIPS = ("exact", "short", "long", "longer")
SECONDS = (1.0, 0.3, 1.5, 2.25)
POOLED = Packing(RATE, RATE, "pooled", GRID.n_frames)


def write_wavs(folder, subtype="PCM_16", channels=1):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name, seconds in zip(CLIPS, SECONDS, strict=True):
        # Floats go beyond full scale.
        peak = 1.5 if subtype == "FLOAT" else 1
        samples = rng.uniform(-peak, peak, (round(seconds * RATE), channels))
        sf.write(folder / f"{name}.wav", samples, RATE, subtype=subtype)
    # Full scale, where a wrong factor or sign would show.
    if subtype == "PCM_16" and channels == 1:
        samples = sf.read(folder / "exact.wav", dtype="int16")[0]
        samples[:4] = (-32768, 32767, 0, -1)
        sf.write(folder / "exact.wav", samples, RATE, subtype=subtype)


def write_embeddings(path, seed=0):
    rng = np.random.default_rng(seed)
    frame = rng.standard_normal((len(CLIPS), 6, 48)).astype(np.float32)
    # In another order than the clips.
    with EmbeddingWriter(path, CLIPS[::-1], n_features=6, n_tokens=48, identity={"a": 1.5}) as out:
        out.put(CLIPS, frame, frame.mean(2))
        out.finish()
    return EmbeddingReader(path)


@pytest.fixture
def files(tmp_path):
    write_wavs(tmp_path / "wav")
    reader = write_embeddings(tmp_path / "set.hdf5")
    wavs = [tmp_path / "wav" / f"{name}.wav" for name in CLIPS]
    return ClipFiles("a set", CLIPS, wavs, reader)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "packed" / f"set.{POOLED.name}.packed"


def packed(path, files, packing=POOLED):
    return pack(path, files, packing, progress=False)


def datasets(files, clips, embedding_type="frame"):
    """A weak, a strong and an unlabelled corpus of the same clips, in other orders."""
    weak_ids = ("longer", "exact", "short")
    target = np.array([[True, False], [False, False], [True, True]])
    events = EventTable(
        CLIPS,
        np.array([2, 3, 0, 2, 1]),
        np.array([0.7, 0.1, 0.0, 1.2, 0.1]),
        np.array([1.1, 2.0, 0.5, 1.4, 0.2]),
        np.array([0, 1, 1, 0, 0]),
        np.array([1.0, 0.25, 1.0, 0.5, 1.0], dtype=np.float32),
        VOCABULARY,
    )
    parts = (
        (weak_ids, WeakTargets(WeakTable(weak_ids, target, VOCABULARY), GRID), 3),
        (CLIPS, StrongTargets(events, GRID), 2),
        (CLIPS, NoTargets(2, GRID), 4),
    )
    made = [
        SedDataset(
            clip_ids,
            [files.wavs[0].with_name(f"{clip_id}.wav") for clip_id in clip_ids],
            policy,
            VOCABULARY.mask(["Dog"] if source == 3 else ["Dog", "Cat"]),
            source,
            embeddings=files.reader,
            embedding_type=embedding_type,
            sample_rate=RATE,
            clip_s=CLIP_S,
            packed=clips,
        )
        for clip_ids, policy, source in parts
    ]
    # The last two as one set, so that a batch has their rows mixed.
    return JoinedDataset([made[0], JoinedDataset(made[1:])])


def epoch(dataset, collate_fn, workers=0):
    sampler = QuotaBatchSampler({"weak": 3, "both": 8}, (1, 2), seed=5)
    sampler.set_epoch(2)
    # Spawned workers, the default of Python 3.14, do not find the functions of a test.
    how = {"num_workers": workers, "multiprocessing_context": "fork"} if workers else {}
    return list(DataLoader(dataset, batch_sampler=sampler, collate_fn=collate_fn, **how))


def in_network(batch, kind):
    """What today's batch becomes where embeddings are pooled beforehand."""
    if kind != "pooled":
        return batch
    return batch._replace(embedding=F.adaptive_avg_pool1d(batch.embedding, GRID.n_frames))


def assert_same(one, other):
    assert one.clip_id == other.clip_id
    assert one.span == other.span
    for name, left, right in zip(one._fields, one.tensors, other.tensors, strict=False):
        assert left.dtype == right.dtype, name
        assert torch.equal(left.cpu(), right.cpu()), name


SOUNDS = [("PCM_16", 1), ("PCM_24", 1), ("PCM_16", 2), ("FLOAT", 1), ("PCM_U8", 1)]


GPU = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
)


@pytest.mark.parametrize("place", [None, "cpu", GPU])
@pytest.mark.parametrize(("subtype", "channels"), SOUNDS)
def test_batches_of_an_epoch_are_the_same_to_the_bit(files, path, subtype, channels, place):
    write_wavs(files.wavs[0].parent, subtype, channels)
    assert packed(path, files) == "it did not exist"
    store = PackedSet(path)
    whole = subtype in ("PCM_16", "PCM_U8") and channels == 1
    assert store.header.audio_dtype == ("int16" if whole else "float32")
    clips = PackedClips(store, None if place is None else torch.device(place))
    expected = epoch(datasets(files, None), collate)
    found = epoch(PackedBatches(datasets(files, clips)), lambda batch: batch)
    assert len(found) == len(expected) == 3
    for one, other in zip(found, expected, strict=True):
        assert_same(one, in_network(other, "pooled"))


@pytest.mark.parametrize("kind", ["frame", "global", "none"])
def test_other_embeddings_are_the_same_to_the_bit(files, path, kind):
    if kind == "none":
        files = files._replace(reader=None)
    packed(path, files, POOLED._replace(kind=kind))
    clips = PackedClips(PackedSet(path), torch.device("cpu"))
    embedding_type = "global" if kind == "global" else "frame"
    expected = epoch(datasets(files, None, embedding_type), collate)
    found = epoch(PackedBatches(datasets(files, clips, embedding_type)), lambda batch: batch)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_testing_reads_clips_from_their_beginning(files, path):
    packed(path, files)
    plain = datasets(files, None)
    for device in (None, torch.device("cpu")):
        batches = PackedBatches(datasets(files, PackedClips(PackedSet(path), device)))
        assert len(batches) == len(plain) == 11
        loader = DataLoader(batches, batch_size=4, collate_fn=lambda batch: batch)
        expected = DataLoader(plain, batch_size=4, collate_fn=collate)
        for one, other in zip(loader, expected, strict=True):
            assert_same(one, in_network(other, "pooled"))
        assert_same(batches[3], in_network(collate([plain[3]]), "pooled"))
        key = ItemKey(10, (1, 2))
        assert_same(batches[key], in_network(collate([plain[key]]), "pooled"))


def test_labels_shift_by_whole_milliseconds_packed_or_not(files, path):
    """Events whose ends are on frames for some crops, where a fraction of 1 ms moves a frame."""
    packed(path, files)
    onset_s = 0.5 + np.arange(40) * 0.001
    events = EventTable(
        CLIPS,
        np.full(40, CLIPS.index("long")),
        onset_s,
        onset_s + 0.064,
        np.arange(40) % 2,
        np.linspace(0.1, 1.0, 40, dtype=np.float32),
        VOCABULARY,
    )

    def rows(clips):
        joined = datasets(files, clips)
        joined.leaves[1].targets = StrongTargets(events, GRID)
        return joined

    plain, batches = rows(None), PackedBatches(rows(PackedClips(PackedSet(path))))
    row = 3 + CLIPS.index("long")
    exact_differs = 0
    for seed in range(60):
        key = ItemKey(row, (seed,))
        found = plain[key]
        assert_same(batches[key], in_network(collate([found]), "pooled"))
        start = int(np.random.default_rng((seed,)).integers(RATE // 2 + 1))
        policy = plain.leaves[1].targets
        whole = policy.target(CLIPS.index("long"), round(start / RATE, 3))
        np.testing.assert_array_equal(found.target, whole)
        shifted_s = onset_s - start / RATE
        exact = GRID.encode(shifted_s, shifted_s + 0.064, events.label_index, events.confidence, 2)
        exact_differs += not np.array_equal(found.target, exact)
    assert exact_differs > 5


def test_workers_read_the_same_from_the_disk(files, path):
    packed(path, files)
    batches = PackedBatches(datasets(files, PackedClips(PackedSet(path))))
    expected = epoch(batches, as_it_is)
    for one, other in zip(epoch(batches, as_it_is, workers=2), expected, strict=True):
        assert_same(one, other)
    # What the start method "spawn" does to hand it to workers: no array travels.
    text = pickle.dumps(batches)
    assert len(text) < path.stat().st_size / 4
    assert_same(pickle.loads(text)[5], batches[5])


def as_it_is(batch):
    return batch


def test_resident_sets_are_copies(files, path):
    packed(path, files)
    clips = PackedClips(PackedSet(path), torch.device("cpu"))
    batches = PackedBatches(datasets(files, clips))
    expected = batches[2]
    # In place, as no rename could reach an open file.
    with open(path, "r+b") as file:
        file.seek(ALIGNMENT)
        file.write(bytes(path.stat().st_size - ALIGNMENT))
    assert_same(batches[2], expected)
    assert_same(pickle.loads(pickle.dumps(batches))[2], expected)


def test_what_is_written_in_a_batch_reaches_neither_file_nor_set(files, path):
    packed(path, files)
    before = path.read_bytes()
    for device in (None, torch.device("cpu")):
        batches = PackedBatches(datasets(files, PackedClips(PackedSet(path), device)))
        first = batches[4]
        for tensor in batches[4].tensors:
            tensor.zero_()
        assert_same(batches[4], first)
    PackedSet(path).audio().fill_(1)
    assert path.read_bytes() == before


def test_float16_is_close_and_half_as_large(files, path):
    packed(path, files)
    packed(path.with_name("half.packed"), files, POOLED._replace(dtype="float16"))
    whole, half = PackedSet(path), PackedSet(path.with_name("half.packed"))
    assert half.header.embedding_bytes * 2 == whole.header.embedding_bytes
    batch, expected = (PackedBatches(datasets(files, PackedClips(one)))[3] for one in (half, whole))
    assert batch.embedding.dtype == torch.float32
    assert torch.equal(batch.embedding, expected.embedding.half().float())
    assert torch.equal(batch.waveform, expected.waveform)


def test_embeddings_beyond_float16_are_refused(files, path, tmp_path):
    write_embeddings(tmp_path / "large.hdf5")
    with h5py.File(tmp_path / "large.hdf5", "r+") as file:
        file["frame_embeddings"][...] = 8e4
    large = files._replace(reader=EmbeddingReader(tmp_path / "large.hdf5"))
    with pytest.raises(InputError, match=r"do not fit float16; set data\.packed_dtype"):
        packed(path, large, POOLED._replace(dtype="float16"))
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("kind", ["text", "other format", "folder"])
def test_another_file_in_its_place_stays(files, path, kind):
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"of the user" if kind == "text" else b"SEDPACK9 of another program")
    with pytest.raises(InputError, match="is there, but not a packed set; move it away"):
        packed(path, files, POOLED)
    assert path.is_dir() or b"of" in path.read_bytes()


def test_choices_have_names_of_their_own():
    names = {
        packing.name
        for packing in (
            POOLED,
            POOLED._replace(dtype="float16"),
            POOLED._replace(n_frames=9),
            POOLED._replace(kind="frame"),
            POOLED._replace(kind="global"),
            POOLED._replace(kind="none"),
        )
    }
    assert len(names) == 6


# ---- old, damaged and half-written files


def test_what_is_there_is_not_made_again(files, path):
    packed(path, files)
    before = path.stat()
    assert packed(path, files) is None
    # Not the time of the last access, which reading changes.
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    # Nor for fewer clips, or in another order.
    assert packed(path, files._replace(clip_ids=CLIPS[2:0:-1], wavs=files.wavs[2:0:-1])) is None


def touched(files, tmp_path):
    os.utime(files.wavs[1], ns=(0, 1))
    return files


def grown(files, tmp_path):
    kept = files.wavs[1].stat()
    sf.write(files.wavs[1], np.zeros(99), RATE)
    os.utime(files.wavs[1], ns=(kept.st_atime_ns, kept.st_mtime_ns))
    return files


def extracted_again(files, tmp_path):
    return files._replace(reader=write_embeddings(tmp_path / "set.hdf5", seed=1))


def one_clip_more(files, tmp_path):
    sf.write(tmp_path / "wav" / "new.wav", np.zeros(50), RATE)
    path = tmp_path / "set.hdf5"
    names, rng = (*CLIPS, "new"), np.random.default_rng(0)
    path.unlink()
    with EmbeddingWriter(path, names, n_features=6, n_tokens=48, identity={}) as out:
        out.put(names, rng.random((5, 6, 48), dtype=np.float32), rng.random((5, 6), np.float32))
        out.finish()
    wavs = [*files.wavs, tmp_path / "wav" / "new.wav"]
    return ClipFiles("a set", names, wavs, EmbeddingReader(path))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (touched, r"1 wav file has changed \(e.g. short\)"),
        (grown, r"1 wav file has changed \(e.g. short\)"),
        (extracted_again, "the embeddings file has changed"),
        (one_clip_more, "the embeddings file has changed"),
    ],
)
def test_what_has_changed_is_packed_again(files, path, tmp_path, change, reason):
    packed(path, files)
    files = change(files, tmp_path)
    found = packed(path, files)
    assert found is not None
    assert re.search(reason, found)
    assert packed(path, files) is None
    store = PackedSet(path)
    values = store.embeddings()[store.rows(["short"])[0]]
    frame = torch.from_numpy(files.reader.frame("short"))
    assert torch.equal(values, F.adaptive_avg_pool1d(frame, GRID.n_frames))


def assert_batches_are_those_of_the_files(files, path):
    for device in (None, torch.device("cpu")):
        clips = PackedClips(PackedSet(path), device)
        found = epoch(PackedBatches(datasets(files, clips)), as_it_is)
        for one, other in zip(found, epoch(datasets(files, None), collate), strict=True):
            assert_same(one, in_network(other, "pooled"))


def test_a_set_of_16_bit_files_stays_until_these_are_rewritten(files, path):
    packed(path, files)
    small = PackedSet(path)
    assert packed(path, files) is None
    write_wavs(files.wavs[0].parent, "FLOAT")
    assert packed(path, files) == "4 wav files have changed (e.g. exact)"
    large = PackedSet(path)
    assert (small.header.audio_dtype, large.header.audio_dtype) == ("int16", "float32")
    assert large.header.audio_bytes == 2 * small.header.audio_bytes
    assert large.n_bytes - small.n_bytes == small.header.audio_bytes
    assert large.audio().abs().max() > 1
    assert_batches_are_those_of_the_files(files, path)
    write_wavs(files.wavs[0].parent, "PCM_16")
    assert packed(path, files) == "4 wav files have changed (e.g. exact)"
    assert PackedSet(path).header.audio_dtype == "int16"


@pytest.mark.parametrize("n_floats", [1, 3])
def test_a_mixture_of_formats_is_packed_without_loss(files, path, n_floats):
    for wav in files.wavs[:n_floats]:
        samples = sf.read(wav)[0]
        sf.write(wav, 1.7 * samples, RATE, subtype="FLOAT")
    packed(path, files)
    assert PackedSet(path).header.audio_dtype == "float32"
    assert_batches_are_those_of_the_files(files, path)


def test_clips_that_are_lacking_are_packed_again(files, path):
    packed(path, files._replace(clip_ids=CLIPS[:3], wavs=files.wavs[:3]))
    assert packed(path, files) == "it lacks 1 of 4 clips (e.g. longer)"
    with pytest.raises(InputError, match="has no clip 'other'; delete it"):
        PackedSet(path).rows(["exact", "other"])


def test_another_length_of_clips_is_packed_again(files, path):
    packed(path, files)
    assert "n_samples=8000" in packed(path, files, POOLED._replace(n_samples=8000))


def rewritten(path, **changes):
    """The file with other values in its header, which keeps its length."""
    data = path.read_bytes()
    length = int.from_bytes(data[8:16], "little")
    text = data[16 : 16 + length].decode()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    assert len(text) == length
    path.write_bytes(data[:16] + text.encode() + data[16 + length :])


def cut(path):
    os.truncate(path, path.stat().st_size - 1)


def cut_in_its_header(path):
    os.truncate(path, 40)


def emptied(path):
    path.write_bytes(b"")


def of_another_type(path):
    rewritten(path, float32="float64")


def of_another_audio_type(path):
    rewritten(path, int16="int32")


def of_half_the_type(path):
    rewritten(path, **{'"float32"': '"float16"'})


def huge(path):
    with open(path, "r+b") as file:
        file.seek(8)
        file.write(b"\xff" * 8)


DAMAGES = [cut, cut_in_its_header, emptied, of_another_type, of_another_audio_type, huge]


@pytest.mark.parametrize("damage", [*DAMAGES, of_half_the_type])
def test_damaged_files_are_refused_and_made_again(files, path, damage):
    packed(path, files)
    whole = path.read_bytes()
    damage(path)
    with pytest.raises(InputError, match=r"delete it and start again"):
        PackedSet(path)
    assert str(path) in packed(path, files)
    assert path.read_bytes() == whole


def test_a_file_that_is_not_there(path):
    with pytest.raises(InputError, match="no such packed set"):
        PackedSet(path)


def test_a_missing_or_broken_clip_is_named_and_nothing_stays(files, path):
    files.wavs[2].write_bytes(files.wavs[2].read_bytes()[:1000])
    with pytest.raises(InputError, match=r"long.wav: is cut short"):
        packed(path, files)
    sf.write(files.wavs[2], np.full(9, np.nan), RATE, subtype="FLOAT")
    with pytest.raises(InputError, match=r"long.wav: contains samples that are not finite"):
        packed(path, files)
    sf.write(files.wavs[2], np.zeros(9), 8000)
    with pytest.raises(InputError, match=r"long.wav: is at 8000 Hz"):
        packed(path, files)
    files.wavs[2].unlink()
    with pytest.raises(InputError, match=r"long.wav: no such file"):
        packed(path, files)
    assert not list(path.parent.glob("*"))


def test_a_clip_without_embeddings_is_named(files, path, tmp_path):
    sf.write(tmp_path / "wav" / "new.wav", np.zeros(50), RATE)
    wavs = [*files.wavs, tmp_path / "wav" / "new.wav"]
    with pytest.raises(InputError, match="no embeddings of clip 'new'"):
        packed(path, files._replace(clip_ids=(*CLIPS, "new"), wavs=wavs))
    assert not list(path.parent.glob("*"))


def test_too_little_space_is_said_before_anything_is_read(files, path, monkeypatch):
    usage = packed_writer.shutil.disk_usage(path.parents[1])._replace(free=1000)
    monkeypatch.setattr(packed_writer.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"needs 0.00 GB, 0.00 GB are free; free some space"):
        packed(path, files)
    assert not list(path.parent.glob("*"))


def test_a_disk_that_fills_meanwhile_is_said(files, path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    packed(path, files)
    before = path.read_bytes()
    os.utime(files.wavs[0], ns=(0, 1))
    monkeypatch.setattr(packed_writer, "_sync", full)
    with pytest.raises(InputError, match=r"GB are free; free some space, set"):
        packed(path, files)
    # The old one stays, and no part of the new.
    assert [one.read_bytes() for one in path.parent.iterdir()] == [before]


KILLED = """
import sys, time
from pathlib import Path
from desed_task.dataio import packed_writer
from desed_task.dataio.embeddings import EmbeddingReader
from desed_task.dataio.packed_format import Packing

path, wavs, reader, packing = (eval(argument, {"Path": Path}) for argument in sys.argv[1:])
real = packed_writer._embedding_rows
def slowly(files, packing):
    for row in real(files, packing):
        yield row
        print("began", flush=True)
        time.sleep(60)
packed_writer._embedding_rows = slowly
files = packed_writer.ClipFiles("a set", [w.stem for w in wavs], wavs, EmbeddingReader(reader))
packed_writer.pack(path, files, Packing(*packing), progress=False)
"""


def test_killed_and_run_again(files, path):
    arguments = [repr(str(path)), repr([str(w) for w in files.wavs]), repr(str(files.reader.path))]
    arguments[0] = f"Path({arguments[0]})"
    arguments[1] = f"[Path(w) for w in {arguments[1]}]"
    command = [sys.executable, "-c", KILLED, *arguments, repr(tuple(POOLED))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert running.stdout.readline() == b"began\n"
    (part,) = path.parent.iterdir()
    assert part.name.startswith(".")
    # A part in work is left alone ...
    packed_writer.remove_stale_packs(path)
    assert part.exists()
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert part.exists() and not path.exists()
    # ... and one whose writer is dead is removed.
    assert packed(path, files) == "it did not exist"
    assert list(path.parent.iterdir()) == [path]
    assert PackedSet(path).header.clip_ids == CLIPS
