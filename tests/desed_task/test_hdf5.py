"""HDF5 files from elsewhere: what reaches outside the file, lies about its size or is odd."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from desed_task.audio.windows import WindowKey
from desed_task.dataio.embedding_writer import EmbeddingWriter
from desed_task.dataio.embeddings import EmbeddingReader, read_layout
from desed_task.errors import InputError
from desed_task.file_names import escape_name
from desed_task.hdf5 import open_hdf5, read_attributes

CLIPS = ("Yä_0.000_10.000", "b 2", "c")
IDENTITY: dict[str, str | float] = {"checkpoint_sha256": "ab" * 32, "clip_s": 10.0}
FRAME = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
SHAPES = {
    "frame_embeddings": (3, 4, 5),
    "global_embeddings": (3, 4),
    "window_frame_embeddings": (3, 4, 5),
    "window_global_embeddings": (3, 4),
}


def write(path: Path, **changes: Any) -> Path:
    """A whole unfinished file; a data set that is changed to None is left out."""
    members = {
        "frame_embeddings": FRAME,
        "global_embeddings": FRAME.mean(axis=2),
        "filenames": list(CLIPS),
        "finished": np.array([1, 0, 0], dtype=np.uint8),
        **changes,
    }
    with h5py.File(path, "w") as file:
        for name, value in members.items():
            if value is not None:
                file[name] = value
        file.attrs.update(IDENTITY)
    return path


def virtual(name: str, outside: Path) -> Any:
    layout = h5py.VirtualLayout(shape=SHAPES[name], dtype="f4")
    layout[:] = h5py.VirtualSource(str(outside), name, shape=SHAPES[name])
    return layout


def add_virtual(file: Any, name: str, outside: Path) -> None:
    file.create_virtual_dataset(name, virtual(name, outside))


def add_stored_outside(file: Any, name: str, outside: Path) -> None:
    file.create_dataset(name, SHAPES[name], "f4", external=[(str(outside), 0, 4096)])


def add_external_link(file: Any, name: str, outside: Path) -> None:
    file[name] = h5py.ExternalLink(str(outside), name)


def add_soft_link(file: Any, name: str, _: Path) -> None:
    file[name] = h5py.SoftLink("/global_embeddings")


def add_group(file: Any, name: str, _: Path) -> None:
    file.create_group(name)["inside"] = 1.0


def add_type(file: Any, name: str, _: Path) -> None:
    file[name] = np.dtype("f4")


def add_references(file: Any, name: str, _: Path) -> None:
    dset = file.create_dataset(name, (3,), h5py.ref_dtype)
    dset[0] = file["/"].ref


def add_compound(file: Any, name: str, _: Path) -> None:
    file[name] = np.zeros(3, dtype=[("a", "f4"), ("b", "S3")])


def add_ragged(file: Any, name: str, _: Path) -> None:
    file.create_dataset(name, SHAPES[name], h5py.vlen_dtype(np.float32))


def add_unstored(file: Any, name: str, _: Path) -> None:
    file.create_dataset(name, (10**15, *SHAPES[name][1:]), "f4", chunks=(1, *SHAPES[name][1:]))


def add_unstored_compressed(file: Any, name: str, _: Path) -> None:
    shape = (10**9, *SHAPES[name][1:])
    file.create_dataset(name, shape, "f4", chunks=(1, *SHAPES[name][1:]), compression="gzip")
    file[name][0] = 1


def add_overflow(file: Any, name: str, _: Path) -> None:
    shape = (2**31, 2**31, 2**4)[: len(SHAPES[name])]
    file.create_dataset(name, shape, "f4", chunks=(1,) * len(shape))


def add_huge_chunks(file: Any, name: str, _: Path) -> None:
    shape = (2**14, *SHAPES[name][1:-1], 2**13)
    file.create_dataset(name, shape, "f4", chunks=shape, compression="gzip")


def add_foreign_filter(file: Any, name: str, _: Path) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk(SHAPES[name])
    plan.set_filter(32001, h5py.h5z.FLAG_OPTIONAL)  # Blosc, which needs a library.
    space = h5py.h5s.create_simple(SHAPES[name])
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_FLOAT, space, plan)


HOSTILE: dict[str, tuple[Callable[[Any, str, Path], None], str]] = {
    "virtual": (add_virtual, "is a virtual data set"),
    "external storage": (add_stored_outside, "is stored outside the file"),
    "external link": (add_external_link, "is a link"),
    "soft link": (add_soft_link, "is a link"),
    "group": (add_group, "is a group or type"),
    "type": (add_type, "is a group or type"),
    "references": (add_references, "holds neither numbers nor texts"),
    "compound": (add_compound, "holds neither numbers nor texts"),
    "ragged": (add_ragged, "holds neither numbers nor texts"),
    "unstored": (add_unstored, "claims .* only a part of them is stored"),
    "unstored, compressed": (add_unstored_compressed, "claims .* only a part of them is stored"),
    "overflow": (add_overflow, "claims .* only a part of them is stored"),
    "huge chunks": (add_huge_chunks, "is stored in chunks of .* MB"),
    "filter": (add_foreign_filter, "is compressed by filter 32001"),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", SHAPES)
def test_only_plain_data_sets_are_accepted(tmp_path: Path, name: str, kind: str) -> None:
    """In finished and unfinished files and donors, which nothing is read from or written to."""
    add, message = HOSTILE[kind]
    outside = write(tmp_path / "outside.bin", finished=None)
    kept = outside.read_bytes()
    path = write(tmp_path / "set.hdf5", **{name: None})
    with h5py.File(path, "r+") as file:
        add(file, name, outside)
    part = tmp_path / "new.hdf5.part"
    part.write_bytes(path.read_bytes())
    match = f"{name!r} {message}"
    with pytest.raises(InputError, match=rf"set.hdf5: {match}.*; move it away"):
        EmbeddingReader(path)
    with pytest.raises(InputError, match=match):
        read_layout(path)
    with pytest.raises(InputError, match=rf"new.hdf5.part: {match}.*; move it away"):
        open_writer(tmp_path / "new.hdf5")
    assert part.read_bytes() == path.read_bytes()
    with (
        open_writer(tmp_path / "third.hdf5") as writer,
        pytest.raises(InputError, match=match),
    ):
        writer.adopt(path, CLIPS)
    assert outside.read_bytes() == kept


def open_writer(path: Path) -> EmbeddingWriter:
    return EmbeddingWriter(path, CLIPS, n_features=4, n_tokens=5, identity=IDENTITY)


def test_members_that_are_not_needed_are_checked_too(tmp_path: Path) -> None:
    path = write(tmp_path / "set.hdf5", note=np.arange(3.0), finished=None)
    assert EmbeddingReader(path).clip_ids == CLIPS
    with h5py.File(path, "r+") as file:
        add_external_link(file, "more", tmp_path / "absent.hdf5")
    with pytest.raises(InputError, match="'more' is a link"):
        EmbeddingReader(path)


@pytest.mark.parametrize("name", [b"\xff\xfe", b"\xe4 b", b"\n\xf0\x9f"])
def test_names_of_members_need_not_be_utf_8(tmp_path: Path, name: bytes) -> None:
    path = write(tmp_path / "set.hdf5", finished=None)
    with h5py.File(path, "r+") as file:
        file[name] = np.arange(3.0)
    assert EmbeddingReader(path).clip_ids == CLIPS
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = h5py.SoftLink("/filenames")
    with pytest.raises(InputError, match=r"b'.*' is a link"):
        EmbeddingReader(path)


@pytest.mark.parametrize("name", ["a\nb", "c\x1b[2J", "\u202ed"])
def test_a_clip_named_twice_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "set.hdf5", finished=None, filenames=[name, "b", name])
    with pytest.raises(InputError, match="names 1 clip twice") as told:
        EmbeddingReader(path)
    assert f"({escape_name(name)})" in str(told.value)
    assert str(told.value).isprintable()


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
        {"compression": "lzf"},
        {"chunks": (2, 3, 4)},
        {"maxshape": (None, 4, 5)},
        {"dtype": "f8"},
        {"dtype": "f2"},
        {"dtype": ">f4"},
    ],
    ids=str,
)
def test_other_ways_to_store_plain_numbers_are_read(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = write(tmp_path / "set.hdf5", frame_embeddings=None, finished=None)
    with h5py.File(path, "r+") as file:
        file.create_dataset("frame_embeddings", data=FRAME, **options)
    np.testing.assert_allclose(EmbeddingReader(path).frame(CLIPS[1]), FRAME[1], atol=2e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filenames": None}, "has no data set 'filenames'"),
        ({"filenames": np.arange(3)}, "'filenames' holds int64 of shape .*, not texts"),
        ({"filenames": [["a", "b", "c"]]}, "'filenames' holds object of shape .*, not texts"),
        ({"filenames": ["a", "b"]}, "2 marks|3 marks 'finished' of 2 clips"),
        ({"filenames": ["a", "b"], "finished": None}, "shapes disagree: .* 2 filenames"),
        ({"filenames": ["a", "b", "x" * 5000]}, "more than 4096 characters"),
        ({"filenames": np.array([b"a", b"\xff", b"c"], "S1")}, "not UTF-8"),
        ({"filenames": ["c", "b", "c"]}, r"names 1 clip twice \(c\)"),
        ({"frame_embeddings": FRAME.astype(int)}, "holds int64 of shape .*, not numbers"),
        ({"frame_embeddings": FRAME[0]}, r"of shape \(4, 5\), not numbers along 3 axes"),
        ({"frame_embeddings": FRAME[:, :, :0]}, "0 tokens per clip cannot be right"),
        ({"global_embeddings": FRAME[:, 0]}, "shapes disagree"),
        ({"finished": np.ones(3)}, "'finished' holds float64 of shape .*, not whole numbers"),
        ({"finished": np.ones((3, 1), int)}, "not whole numbers along 1 axis"),
    ],
)
def test_data_sets_of_the_wrong_form(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "set.hdf5", **changes)
    with pytest.raises(InputError, match=rf"set.hdf5: .*({message}).*move it away and run"):
        EmbeddingReader(path)


WINDOW_FRAME = np.random.default_rng(1).normal(size=(4, 4, 5)).astype(np.float32)
KEYS = tuple(WindowKey(CLIPS[i], start) for i, start in ((0, 10), (0, 20), (2, 10), (2, 35)))
WINDOWS: dict[str, Any] = {
    "window_frame_embeddings": WINDOW_FRAME,
    "window_global_embeddings": WINDOW_FRAME.mean(axis=2),
    "window_filenames": [key.clip_id for key in KEYS],
    "window_starts": np.array([key.start for key in KEYS]),
    "finished": np.ones(7, dtype=np.uint8),
}


@pytest.mark.parametrize("marks", [WINDOWS["finished"], None], ids=["marks", "no marks"])
def test_windows_are_read(tmp_path: Path, marks: Any) -> None:
    path = write(tmp_path / "set.hdf5", **{**WINDOWS, "finished": marks})
    reader = EmbeddingReader(path)
    assert reader.windows == KEYS
    for row, key in enumerate(KEYS):
        np.testing.assert_array_equal(reader.frame(key), WINDOW_FRAME[row])
        np.testing.assert_array_equal(reader.global_(key), WINDOW_FRAME.mean(axis=2)[row])
    np.testing.assert_array_equal(reader.frame(CLIPS[2]), FRAME[2])
    with pytest.raises(InputError, match="no embeddings of clip 'c' from sample 11"):
        reader.frame(WindowKey("c", 11))


def test_windows_are_found_under_the_names_of_the_corpus(tmp_path: Path) -> None:
    reader = EmbeddingReader(write(tmp_path / "set.hdf5", **WINDOWS))
    reader.match(["x/C", "y/" + CLIPS[0], "z/b 2"])
    assert reader.missing([WindowKey("x/C", 10), WindowKey("x/C", 20)]) == [WindowKey("x/C", 20)]
    np.testing.assert_array_equal(reader.frame(WindowKey("y/" + CLIPS[0], 20)), WINDOW_FRAME[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({name: None}, f"has no data set '{name}'") for name in list(WINDOWS)[:4]),
        ({"window_filenames": np.arange(4)}, "'window_filenames' holds int64 .*, not texts"),
        ({"window_starts": np.arange(4.0)}, "'window_starts' holds float64 .*, not whole numbers"),
        ({"window_starts": np.arange(1, 4)}, "shapes disagree: .* 3 window_starts"),
        ({"window_filenames": list(CLIPS)}, "shapes disagree: .* 3 window_filenames"),
        ({"window_global_embeddings": np.zeros((4, 5))}, "shapes disagree"),
        ({"window_frame_embeddings": WINDOW_FRAME[:, :3]}, r"shapes disagree: \(4, 3, 5\)"),
        ({"window_starts": [10, 10, 5, 7]}, r"names 1 window twice \('Yä.*' from sample 10\)"),
        ({"window_starts": [10, 0, 5, 7]}, "1 window begins nowhere in a clip .* from sample 0"),
        ({"window_starts": [10, 9, -5, 7]}, "1 window begins nowhere in a clip .* from sample -5"),
        ({"window_filenames": ["c", "d", "d", "b 2"]}, "2 windows begin nowhere .*'d' from"),
        ({"finished": np.ones(3, int)}, "3 marks 'finished' of 7 clips and windows"),
    ],
)
def test_windows_of_the_wrong_form(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "set.hdf5", **{**WINDOWS, **changes})
    with pytest.raises(InputError, match=rf"set.hdf5: .*{message}.*move it away and run"):
        EmbeddingReader(path)


def test_a_window_without_its_mark_is_not_finished(tmp_path: Path) -> None:
    marks = np.array([1, 1, 1, 1, 1, 1, 0], dtype=np.uint8)
    with pytest.raises(InputError, match=r"not finished; run extract_embeddings.py"):
        EmbeddingReader(write(tmp_path / "set.hdf5", **{**WINDOWS, "finished": marks}))


@pytest.mark.parametrize("value", [1e30, -3e5, np.nan, np.inf])
def test_absurd_windows_are_named(tmp_path: Path, value: float) -> None:
    frame = WINDOW_FRAME.copy()
    frame[3, 1, 2] = value
    path = write(tmp_path / "set.hdf5", **{**WINDOWS, "window_frame_embeddings": frame})
    reader = EmbeddingReader(path)
    np.testing.assert_array_equal(reader.frame(KEYS[2]), frame[2])
    with pytest.raises(InputError, match=r"window_frame_embeddings of 'c' from sample 35 (re|are)"):
        reader.frame(KEYS[3])
    shape: Any = {"n_features": 4, "n_tokens": 5, "identity": IDENTITY, "windows": KEYS}
    with EmbeddingWriter(tmp_path / "new.hdf5", CLIPS, **shape) as writer:
        with pytest.raises(InputError, match=r"embeddings of 'c' from sample 35 (re|are)"):
            writer.put(KEYS, frame, frame.mean(axis=2))
        with pytest.raises(InputError, match="window_frame_embeddings of 'c' from sample 35"):
            writer.adopt(path, KEYS)
    with EmbeddingWriter(tmp_path / "new.hdf5", CLIPS, **shape) as writer:
        assert writer.todo == [*CLIPS, KEYS[3]]


def test_attributes(tmp_path: Path) -> None:
    path = write(tmp_path / "set.hdf5", finished=None)
    good = {"a": 3, "b": np.array([2.5]), "c": np.bytes_(b"text"), "d": "ü"}
    with h5py.File(path, "r+") as file:
        file.attrs.update(good)
    with open_hdf5(path) as file:
        assert read_attributes(file) == {**IDENTITY, "a": 3.0, "b": 2.5, "c": "text", "d": "ü"}
    for value in (np.arange(4), np.zeros((2, 2)), ["x", "y"], h5py.Empty("f"), np.dtype("f4")):
        with h5py.File(path, "r+") as file:
            if isinstance(value, np.dtype):
                file.attrs["odd"] = file["/"].ref
            else:
                file.attrs["odd"] = value
        with pytest.raises(InputError, match=r"attribute 'odd' holds .*, not one text or number"):
            EmbeddingReader(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1e30, r"reach 1e\+30, more than 100000"),
        (-2e6, r"reach 2e\+06"),
        (np.nan, "are not finite"),
        (np.inf, "are not finite"),
    ],
)
def test_absurd_values_are_named_when_they_are_read(
    tmp_path: Path, value: float, message: str
) -> None:
    frame, mean = FRAME.copy(), FRAME.mean(axis=2)
    frame[1, 2, 3] = mean[2, 1] = value
    path = write(tmp_path / "s.hdf5", frame_embeddings=frame, global_embeddings=mean, finished=None)
    reader = EmbeddingReader(path)
    np.testing.assert_array_equal(reader.frame(CLIPS[0]), frame[0])
    with pytest.raises(InputError, match=f"frame_embeddings of {CLIPS[1]} {message}"):
        reader.frame(CLIPS[1])
    with pytest.raises(InputError, match=f"global_embeddings of c {message}"):
        reader.global_("c")
    with open_writer(tmp_path / "t.hdf5") as writer:
        with pytest.raises(InputError, match=f"embeddings of {CLIPS[1]} {message}"):
            writer.put(CLIPS[:2], frame[:2], mean[:2])
        with pytest.raises(InputError, match=f"global_embeddings of c {message}"):
            writer.adopt(path, CLIPS[2:])
        assert writer.todo == list(CLIPS)


def test_what_is_no_hdf5_file(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.hdf5").read_bytes()
    for name, content in (("text", b"text"), ("empty", b""), ("cut", whole[: len(whole) // 2])):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, message in (
        ("text", "not an HDF5 file"),
        ("empty", "not an HDF5 file"),
        ("cut", "damaged or cut short"),
        ("folder", "is a folder"),
        ("pipe", "is a pipe or device"),
        ("absent", "no such file"),
    ):
        with pytest.raises(InputError, match=f"{name}: {message}"):
            open_hdf5(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = write(tmp_path / "set.hdf5")
    path.chmod(stat.S_IWUSR)
    with pytest.raises(InputError, match="permission denied"):
        open_hdf5(path)


def test_a_damaged_file_leaves_no_traceback(tmp_path: Path) -> None:
    """Bytes that are overwritten anywhere: an error for the user, or other numbers."""
    whole = write(tmp_path / "whole.hdf5", finished=None).read_bytes()
    path, draw, n_refused = tmp_path / "hurt.hdf5", np.random.default_rng(7), 0
    for _ in range(150):
        hurt = bytearray(whole)
        at = int(draw.integers(0, len(whole) - 8))
        hurt[at : at + 8] = draw.bytes(8)
        path.write_bytes(hurt)
        try:
            reader = EmbeddingReader(path)
            for clip_id in reader.clip_ids:
                reader.frame(clip_id)
                reader.global_(clip_id)
        except InputError:
            n_refused += 1
    assert 10 < n_refused < 150


@pytest.mark.parametrize("name", ["frame_embeddings", "filenames", "more"])
def test_data_sets_without_a_shape(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "set.hdf5", finished=None)
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        file[name] = h5py.Empty("f4")
    with pytest.raises(InputError, match=rf"'{name}' is empty, without a shape"):
        EmbeddingReader(path)


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [("f8", 1e300, r"reach 1e\+300"), ("f8", -1e39, r"reach 1e\+39"), ("f2", np.inf, "not finite")],
)
@pytest.mark.filterwarnings("error")
def test_absurd_values_of_other_widths(
    tmp_path: Path, dtype: str, value: float, message: str
) -> None:
    path = write(tmp_path / "set.hdf5", finished=None)
    with h5py.File(path, "r+") as file:
        values = file["frame_embeddings"][:].astype(dtype)
        values[0, 0, 0] = value
        del file["frame_embeddings"]
        file["frame_embeddings"] = values
    with pytest.raises(InputError, match=message):
        EmbeddingReader(path).frame(CLIPS[0])
