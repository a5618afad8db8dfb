"""The table of detectors that can be had."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.predict.detectors.listing import table
from tests.conftest import ROOT
from tests.desed_task.audioset.small_detectors import saved_detector


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    monkeypatch.setattr("sys.argv", ["predict.py"])


def test_every_detector_has_size_licence_figure_and_command():
    lines = table().splitlines()
    rows = {line.split()[0]: (line, lines[n + 1]) for n, line in enumerate(lines[:-1])}
    for name, psds1, megabytes in (
        ("atst_frame_strong", "0.458", 344),
        ("beats_strong", "0.465", 364),
        ("fpasst_strong", "0.454", 356),
        ("asit_strong", "0.462", 345),
        ("m2d_strong", "0.463", 356),
    ):
        row, after = rows[name]
        assert f"about {megabytes} MB" in row and f"  no  {'':3}" in row and psds1 in row
        assert "code: MIT" in row and "447 classes" in row
        assert after.endswith(f"python generate_dcase_task4_2024.py --only_encoders {name}")
    row, after = rows["../../data/baseline_pretrained_2024"]
    assert "0.48" in row and "27 classes" in row
    assert after.endswith("python generate_dcase_task4_2024.py --only_checkpoint")
    assert lines[-1].startswith("several are averaged: python predict.py street.wav --checkpoint")


def test_what_is_there_is_said():
    folder = Path("pretrained_models")
    folder.mkdir()
    saved_detector(folder).rename(folder / "ATST-F_strong_1.pt")
    saved_detector(folder, "m2d").rename(folder / "mein Modell.pth")
    (folder / "notes.txt").write_text("strong_head.weight")
    run = Path("exp/größe/version_3/checkpoints")
    run.mkdir(parents=True)
    (run / "last.ckpt").touch()
    Path("../../data/baseline_pretrained_2024").mkdir(parents=True)
    lines = table().splitlines()
    row = next(n for n, line in enumerate(lines) if line.startswith("atst_frame_strong "))
    assert "  there  " in lines[row] and "about" not in lines[row]
    assert "get it" not in lines[row + 1]
    (own,) = [line for line in lines if line.startswith("pretrained_models/mein Modell.pth")]
    assert "there" in own and "AudioSet" in own
    assert any(line.startswith("exp/größe/version_3 ") and "trained here" in line for line in lines)
    assert not any("notes.txt" in line or "--only_checkpoint" in line for line in lines)


def test_the_command_needs_neither_torch_nor_a_network():
    program = (
        "import sys, socket; socket.socket.connect = None; import predict;"
        "status = predict.main(['--list_checkpoints', 'x.wav', '--classes', 'desed']);"
        "print(status, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr
    assert "--classes is not used" in done.stdout and "1 recording is not processed" in done.stdout
