"""predict.py --export onnx as a command; what is in the files is tested with the library."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from tests.desed_task.checkpoints.example_checkpoints import ours, saved, small_spec
from tests.in_process import run_main

CONF = Path(__file__).resolve().parents[2] / "confs" / "mini.yaml"


def test_a_checkpoint_becomes_graphs(tmp_path):
    checkpoint = saved(ours(small_spec(use_embeddings=False)), tmp_path / "best.ckpt")
    asked = ("--export", "onnx", "--checkpoint", checkpoint, "--conf_file", CONF)
    done = run_main("predict.py", *asked, "--output_dir", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    names = ["crnn_student.onnx", "detector_student.onnx"]
    assert [Path(line.split(": ")[0]).name for line in done.stdout.splitlines()] == names
    assert sorted(file.name for file in (tmp_path / "out").glob("[!.]*")) == names
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / names[1]))
    assert [given.name for given in session.get_inputs()] == ["waveform"]


def test_neither_recordings_nor_export_is_an_error(run_script, tmp_path):
    done = run_script("predict.py", "--checkpoint", "a.ckpt", cwd=tmp_path)
    assert done.returncode == 2
    assert "give recordings, or --export onnx" in done.stderr
