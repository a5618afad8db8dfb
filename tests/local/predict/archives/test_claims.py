"""One process works for all: the others wait, and take over from one that is dead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from local.predict.archives import claims
from local.predict.archives.claims import work_once


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(claims, "LOOK_S", 0.02)
    monkeypatch.setattr(claims, "BEAT_S", 0.05)
    monkeypatch.setattr(claims, "SILENCE_S", 0.6)


@pytest.fixture
def place(tmp_path):
    """The claim, and what the work makes."""
    return tmp_path / "deep/work.claim", tmp_path / "made"


def make(made, *, slow_s=0.0):
    def work():
        time.sleep(slow_s)
        made.write_text(made.read_text() + "x" if made.exists() else "x")

    return work


def claim_of(claim, host, process):
    claim.parent.mkdir(parents=True)
    claim.write_text(json.dumps([host, process, 0]))


def test_it_is_done_once_and_the_claim_goes(place):
    claim, made = place
    for _ in range(2):
        work_once(claim, made.exists, make(made), what="works")
    assert made.read_text() == "x" and not claim.exists()


def test_many_at_once_wait_for_one_longer_than_the_silence_of_a_dead_one(place, capsys):
    claim, made = place
    work = make(made, slow_s=1.0)
    threads = [
        threading.Thread(
            target=work_once, args=(claim, made.exists, work), kwargs={"what": "works"}
        )
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made.read_text() == "x" and not claim.exists()
    told = capsys.readouterr().err
    # A claim that was read before its first line was written is another process's.
    n_unread = told.count("waiting for another process, ")
    assert told.count(f"waiting for process {os.getpid()} on ") + n_unread == 4
    assert "instead" not in told


@pytest.mark.parametrize("content", [["elsewhere", 1, 0], None])
def test_a_silent_claim_of_another_machine_does_not_block(content, place, capsys):
    claim, made = place
    claim_of(claim, "elsewhere", 1)
    if content is None:
        claim.write_bytes(b"")  # killed between its creation and its first line
    work_once(claim, made.exists, make(made), what="lists")
    told = capsys.readouterr().err
    who = "another process" if content is None else "process 1 on elsewhere"
    assert f"waiting for {who}, which lists" in told
    assert f"{who}, which lists, has been silent for 1 s; this process does so instead" in told
    assert made.read_text() == "x" and not claim.exists()


def test_a_claim_of_a_process_of_this_machine_that_has_ended_blocks_for_no_moment(
    place, capsys, monkeypatch
):
    monkeypatch.setattr(claims, "SILENCE_S", 3600.0)
    claim, made = place
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    claim_of(claim, claims.platform.node(), int(child.stdout))
    work_once(claim, made.exists, make(made), what="lists")
    assert "has ended; this process does so instead" in capsys.readouterr().err
    assert made.read_text() == "x"


def test_work_that_fails_leaves_no_claim(place):
    claim, made = place

    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        work_once(claim, made.exists, fail, what="works")
    assert not claim.exists()
    work_once(claim, made.exists, make(made), what="works")
    assert made.exists()


def test_a_holder_that_was_overtaken_leaves_the_new_claim(place):
    claim, made = place

    def overtaken():
        claim.write_text(json.dumps(["elsewhere", 7, 0]))
        time.sleep(0.2)  # several beats
        made.touch()

    work_once(claim, made.exists, overtaken, what="works")
    assert json.loads(claim.read_text()) == ["elsewhere", 7, 0]
