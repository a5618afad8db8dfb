"""Processes on several machines: the same weights, one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from desed_task.atomic_files import sha256_of
from desed_task.dataio.row_stores.forms import EMBEDDINGS, PSEUDO_LABELS
from desed_task.errors import InputError
from local.extraction import machines
from local.extraction.machines import common_digest, wait_until_seen
from local.processes.group import Group
from local.processes.world import World

CPU = torch.device("cpu")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "beats.pt"
    path.write_bytes(b"weights")
    return path


def together(monkeypatch: pytest.MonkeyPatch, rank: int, others: list[tuple[Any, ...]]) -> None:
    """This process as one of several, of which the others tell so."""
    own = World(rank, len(others) + 1, rank, len(others) + 1, "torchrun")
    monkeypatch.setattr(machines, "group_here", lambda: Group(own, None))
    gather = lambda mine: [*others[:rank], mine, *others[rank:]]  # noqa: E731
    monkeypatch.setattr(machines, "gathered", gather)


def test_each_machine_reads_the_weights_once(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = sha256_of(weights)
    assert common_digest(weights, CPU) == digest
    together(monkeypatch, 0, [("process 2 of 2", "here", "cpu", None)])
    assert common_digest(weights, CPU) == digest
    monkeypatch.setattr(machines, "sha256_once", None)  # the second process does not read
    together(monkeypatch, 1, [("process 1 of 2", "here", "cpu", digest)])
    assert common_digest(weights, CPU) == digest


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (("process 2 of 2", "node7", "cpu", "ab" * 32), r"beats.pt: other weights on node7 than"),
        (("process 2 of 2", "node7", "cuda", None), r"process 2 of 2 on node7 computes on cuda"),
    ],
)
def test_processes_that_would_not_compute_alike_are_refused(
    other: tuple[Any, ...], message: str, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together(monkeypatch, 0, [other])
    with pytest.raises(InputError, match=message):
        common_digest(weights, CPU)


def test_a_folder_that_is_not_shared_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "_SEEN_S", 0.1)
    path = tmp_path / "devtest.hdf5"
    for number in (2, 12):
        (tmp_path / f"devtest.hdf5.part.{number}").touch()
    wait_until_seen(path, {2: "one", 12: "another"}, EMBEDDINGS)
    wait_until_seen(path, {}, EMBEDDINGS)
    said = r"the first process does not see /x/devtest.hdf5.part.3 of process 3; .*"
    for form, flag in ((EMBEDDINGS, "--output_dir"), (PSEUDO_LABELS, "--pseudo_labels")):
        with pytest.raises(InputError, match=said + flag):
            wait_until_seen(path, {2: "one", 3: "/x/devtest.hdf5.part.3 of process 3"}, form)


def test_a_file_may_appear_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = tmp_path / "devtest.hdf5.part.2"
    monkeypatch.setattr("time.sleep", lambda _: part.touch())
    wait_until_seen(tmp_path / "devtest.hdf5", {2: "one"}, EMBEDDINGS)
