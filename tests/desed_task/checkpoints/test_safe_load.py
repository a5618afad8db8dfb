"""Checkpoints load without running anything from them; what is none is called by its name."""

from __future__ import annotations

import os
import pickle
import random
import struct
import zipfile
from _codecs import encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from desed_task.checkpoints.safe_load import load_safely, without_counters
from desed_task.encoders.beats.model import write_random_beats
from desed_task.encoders.random_weights import write_random_encoder
from desed_task.errors import InputError
from tests.desed_task.checkpoints.example_checkpoints import (
    Evil,
    published,
    rewritten,
    saved,
    small_spec,
)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        load_safely(path)
    assert str(path) in str(error.value)
    return str(error.value)


def test_the_reference_file_loads_without_counters(parity: Callable[[str], Path]) -> None:
    content = load_safely(parity("reference_tiny.ckpt"))
    (group,) = content["optimizer_states"][0]["param_groups"]
    assert type(group["lr"]) is float and group["lr"] == pytest.approx(0.00073)
    for key in ("state_dict", "sed_student", "sed_teacher"):
        assert content[key] and not any("total_" in name for name in content[key])


@pytest.mark.parametrize("core", [b"numpy._core", b"numpy.core"])
@pytest.mark.parametrize("value", [0.1, -0.0, 1e308, float("inf")])
def test_numpy_scalars_under_both_names(core: bytes, value: float, tmp_path: Path) -> None:
    path = saved({"state_dict": {}, "best": np.float64(value)}, tmp_path / "a.ckpt")
    content = archive_pickle(path).replace(b"numpy._core", core)
    assert core + b".multiarray" in content
    found = load_safely(rewritten(path, {"data.pkl": content}))["best"]
    assert type(found) is float and repr(found) == repr(value)


def test_a_big_endian_scalar_is_read_as_such(tmp_path: Path) -> None:
    path = saved({"state_dict": {}, "best": np.float64(0.3)}, tmp_path / "a.ckpt")
    little, big = struct.pack("<d", 0.3), struct.pack(">d", 0.3)
    content = archive_pickle(path)
    # The bytes lie as text in the pickle, and the order in the state of the type.
    as_text = [part.decode("latin1").encode() for part in (little, big)]
    assert as_text[0] in content and b"X\x01\x00\x00\x00<" in content
    content = content.replace(b"X\x01\x00\x00\x00<", b"X\x01\x00\x00\x00>")
    length = [b"X" + len(text).to_bytes(4, "little") + text for text in as_text]
    path = rewritten(path, {"data.pkl": content.replace(*length)})
    assert load_safely(path)["best"] == 0.3


@pytest.mark.parametrize(
    "value", [np.int64(3), np.float32(0.5), np.array([0.5]), np.str_("a"), np.datetime64("2024")]
)
def test_other_numpy_values_are_refused(value: Any, tmp_path: Path) -> None:
    path = saved({"state_dict": {}, "best": value}, tmp_path / "a.ckpt")
    assert "not a checkpoint that can be loaded safely" in refusal(path)


def test_what_is_allowed_for_a_file_is_not_allowed_afterwards(tmp_path: Path) -> None:
    path = saved(published(small_spec()), tmp_path / "a.ckpt")
    before = torch.serialization.get_safe_globals()
    load_safely(path)
    assert set(torch.serialization.get_safe_globals()) == set(before)
    with pytest.raises(pickle.UnpicklingError, match="numpy"):
        torch.load(path, weights_only=True)


def test_a_pickle_that_asks_for_more_is_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved({"state_dict": {}, "evil": Evil()}, tmp_path / "evil.ckpt")
    with torch.serialization.safe_globals([os.system]):  # whatever the process has allowed
        text = refusal(path)
    assert "not a checkpoint that can be loaded safely: it asks for posix.system" in text
    assert not (tmp_path / "pwned").exists()


class Doubled:
    """Bytes that codecs make longer and longer."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __reduce__(self) -> tuple[Any, tuple[Any, str]]:
        return encode, (
            Doubled(self.times - 1) if self.times else "a",
            "Hex" if self.times else "u8",
        )


def test_bytes_that_would_grow_are_refused(tmp_path: Path) -> None:
    path = saved({"state_dict": {}, "bomb": Doubled(60)}, tmp_path / "bomb.ckpt")
    assert "it asks for _codecs.encode to Hex" in refusal(path)
    path = saved({"state_dict": {}, "best": b"bytes", "word": "hex"}, tmp_path / "a.ckpt")
    assert "hex" in refusal(path)  # rather than following what goes where
    path = saved({"state_dict": {}, "word": "hex"}, tmp_path / "a.ckpt")
    assert load_safely(path)["word"] == "hex"


@pytest.mark.parametrize(
    "pickled",
    [
        pickle.dumps(bytearray, 0),  # what could be told to fill the memory
        pickle.dumps(Evil(), 4),  # by name from the stack
        b"\x80\x02}q\x00",  # without an end
        b"\xff",
        b"",
    ],
)
def test_other_pickles_are_refused(
    pickled: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved({"state_dict": {}}, tmp_path / "a.ckpt")
    text = refusal(rewritten(path, {"data.pkl": pickled}))
    assert "not a checkpoint that can be loaded safely" in text
    assert not (tmp_path / "pwned").exists()


def test_a_compressed_member_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = saved({"state_dict": {"a": torch.zeros(1 << 20)}}, tmp_path / "bomb.ckpt")
    assert "is compressed" in refusal(rewritten(path, {}, zipfile.ZIP_DEFLATED))


def test_members_that_claim_more_than_the_file_holds_are_refused(tmp_path: Path) -> None:
    path = saved({"state_dict": {"a": torch.zeros(100)}}, tmp_path / "bomb.ckpt")
    content = path.read_bytes()
    size = (400).to_bytes(4, "little") * 2
    assert content.count(size) == 2  # behind the member and in the directory
    path.write_bytes(content.replace(size, (1 << 30).to_bytes(4, "little") * 2))
    assert "its members claim" in refusal(path)


def test_views_that_repeat_what_is_stored_are_refused(tmp_path: Path) -> None:
    path = saved(
        {"state_dict": {"a": torch.zeros(1).expand(1 << 20, 1 << 20)}}, tmp_path / "bomb.ckpt"
    )
    assert f"its tensors would fill {4 << 40} bytes" in refusal(path)


def test_every_cut_and_every_flipped_byte_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    """Checksums tell of every byte inside members; the rest is alignment."""
    path = saved(published(small_spec()), tmp_path / "whole.ckpt")
    whole, expected = path.read_bytes(), load_safely(path)["state_dict"]
    draws, damaged = random.Random(0), tmp_path / "damaged.ckpt"
    unharmed = 0
    for _ in range(150):
        content = bytearray(whole)
        place = draws.randrange(len(content))
        content[place] ^= 1 << draws.randrange(8)
        damaged.write_bytes(content)
        try:
            found = load_safely(damaged)["state_dict"]
        except InputError:
            continue
        unharmed += 1
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert unharmed < 100
    for n_bytes in (*range(1, 80, 13), *range(80, len(whole), len(whole) // 20), len(whole) - 1):
        damaged.write_bytes(whole[:n_bytes])
        refusal(damaged)


def as_text(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\n")


def as_folder(path: Path) -> None:
    path.mkdir()


def as_old_format(path: Path) -> None:
    torch.save({"state_dict": {}}, path, _use_new_zipfile_serialization=False)


def as_download(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("baseline/epoch=259-step=30680.ckpt", "...")


def as_documents(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "...")


def as_script(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)


def as_atst(path: Path) -> None:
    write_random_encoder(path, "atst_frame", seed=0, width=64)


def as_original_atst(path: Path) -> None:
    as_atst(path)
    state = torch.load(path, weights_only=True)
    renamed = {name.replace("model.atst.", "model.teacher.encoder."): state[name] for name in state}
    torch.save({"state_dict": renamed, "epoch": 1}, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such checkpoint"),
        (lambda path: path.touch(), "an empty file, not a checkpoint"),
        (as_folder, "a folder, not a checkpoint"),
        (as_text, "not a checkpoint but text"),
        (lambda path: path.write_bytes(b"\x00\x01\x02"), "not a checkpoint but something else"),
        (lambda path: path.write_bytes(b"PK\x03\x04cut off"), "it may be truncated"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n"), "an HDF5 file, such as embeddings"),
        (as_old_format, "written by torch before 1.6"),
        (as_download, "unpack it and give the checkpoint in it: baseline/epoch=259-step=30680"),
        (as_documents, "a zip archive, but not one of torch.save"),
        (as_script, "not a checkpoint that can be loaded safely"),
        (lambda path: write_random_beats(path, seed=0), "contains weights of BEATs, not a d"),
        (as_atst, "contains weights of ATST-Frame, not a detector; name it in pretrained.check"),
        (as_original_atst, "contains weights of ATST-Frame, not a detector"),
        (lambda path: torch.save([1], path), "contains a list, not a checkpoint"),
        (lambda path: torch.save({"a": 1}, path), "contains no state_dict"),
        (
            lambda path: torch.save({"state_dict": {"a": 1}}, path),
            "state_dict: 'a' is not a tensor",
        ),
    ],
)
def test_what_is_no_checkpoint_is_called_by_its_name(
    write: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "a.ckpt")
    assert message in refusal(tmp_path / "a.ckpt")


def test_counters_are_dropped() -> None:
    state = {
        "a.weight": torch.zeros(1),
        "a.total_ops": torch.zeros(1),
        "total_params": torch.ones(1),
    }
    assert list(without_counters(state)) == ["a.weight"]


def archive_pickle(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        return archive.read(name)
