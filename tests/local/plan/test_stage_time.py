"""How long a stage has taken, if it ends, is killed, or ends unseen as the plan is killed."""

from __future__ import annotations

import json
import os
import time

import pytest

from local.plan.stage_time import begin_time, end_killed_time, end_time, seconds_of


def write_at(path, moment: float) -> None:
    path.write_text("x")
    os.utime(path, (moment, moment))


def test_ended_and_resumed(tmp_path):
    assert seconds_of(tmp_path) is None
    begin_time(tmp_path)
    assert seconds_of(tmp_path) == 0
    end_time(tmp_path, 61.23)
    begin_time(tmp_path)
    end_time(tmp_path, 1.0)
    assert seconds_of(tmp_path) == pytest.approx(62.2)
    assert "since" not in json.loads((tmp_path / "time.json").read_text())
    begin_time(tmp_path)
    (tmp_path / "time.json").unlink()
    end_time(tmp_path, 5.0)
    assert seconds_of(tmp_path) == 5


@pytest.mark.parametrize("resumed", [True, False])
def test_killed_it_ran_until_it_wrote_something_last(tmp_path, monkeypatch, resumed):
    now = time.time()
    monkeypatch.setattr("local.plan.stage_time.time.time", lambda: now)
    begin_time(tmp_path)
    end_time(tmp_path, 10.0)
    begin_time(tmp_path)
    (tmp_path / "läuf").mkdir()
    write_at(tmp_path / "läuf" / "a.ckpt", now + 30)
    write_at(tmp_path / "log.txt", now + 5)
    assert seconds_of(tmp_path) == pytest.approx(40)
    if resumed:
        begin_time(tmp_path)
        end_time(tmp_path, 2.0)
        assert seconds_of(tmp_path) == pytest.approx(42)
    else:
        end_killed_time(tmp_path)
        write_at(tmp_path / "later", now + 500)
        assert seconds_of(tmp_path) == pytest.approx(40)


def test_files_that_are_older_than_its_begin_count_nothing(tmp_path):
    """A training is copied where only its test runs again."""
    write_at(tmp_path / "copied", time.time() - 1000)
    begin_time(tmp_path)
    assert seconds_of(tmp_path) == 0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seconds": "long"}', '{"seconds": null}'])
def test_a_broken_file_knows_nothing(tmp_path, text):
    (tmp_path / "time.json").write_text(text)
    assert seconds_of(tmp_path) is None
    begin_time(tmp_path)
    end_time(tmp_path, 3.0)
    assert seconds_of(tmp_path) == 3
