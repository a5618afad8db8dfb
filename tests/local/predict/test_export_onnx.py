"""ONNX files of a checkpoint, as predict.py writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile as sf
import torch

from desed_task.checkpoints.spec import load_detector
from desed_task.errors import InputError
from local.predict.export_onnx import export_onnx
from tests.desed_task.checkpoints.example_checkpoints import ours, saved, small_spec

MINI = Path(__file__).resolve().parents[3] / "confs" / "mini.yaml"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of networks that take the embeddings of beats_tiny.pt."""
    path = tmp_path_factory.mktemp("ours") / "best.ckpt"
    return str(saved(ours(small_spec(embedding_size=96)), path))


def test_both_graphs_checked_on_a_recording(parity, checkpoint, tmp_path, capsys):
    recording = tmp_path / "short.wav"
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (3 * 44100, 2))
    sf.write(recording, noise, 44100)
    files = export_onnx(
        checkpoint,
        tmp_path / "out",
        role="teacher",
        encoder=str(parity("beats_tiny.pt")),
        recordings=[recording],
    )
    assert [file.name for file in files] == ["crnn_teacher.onnx", "detector_teacher.onnx"]
    assert sorted(files) == sorted((tmp_path / "out").glob("[!.]*"))
    told = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in told] == [str(file) for file in files]
    assert all("on random" in line and "on sound" in line for line in told)
    session = onnxruntime.InferenceSession(str(files[1]))
    assert session.get_modelmeta().custom_metadata_map["role"] == "teacher"


@pytest.mark.parametrize("beats_file", [None, "absent.pt"])
def test_without_beats_only_the_crnn_is_written(beats_file, checkpoint, tmp_path, capsys):
    (file,) = export_onnx(checkpoint, tmp_path, role="student", encoder=beats_file)
    assert list(tmp_path.glob("[!.]*")) == [file]
    told = capsys.readouterr().out
    assert "detector_student.onnx: not written, as it needs BEATs: " in told
    assert ("absent.pt: no such file" if beats_file else "are not found: no pretrained_m") in told
    detector = load_detector(Path(checkpoint))
    mel, embeddings = torch.rand(1, 16, 1001), torch.randn(1, 96, 496)
    given = {"mel": mel.numpy(), "embeddings": embeddings.numpy()}
    strong = onnxruntime.InferenceSession(str(file)).run(["strong"], given)[0]
    expected = detector.networks["student"](mel, embeddings).strong
    np.testing.assert_allclose(strong, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "absent.pt", "required": True}, "absent.pt: no such file of BEATs weights"),
        ({"recordings": [Path("absent.wav")]}, "absent.wav: no such file or folder"),
        ({"role": "pupil"}, "no network 'pupil'"),
    ],
)
def test_what_was_named_must_be_there(change, message, checkpoint, tmp_path):
    given = {"role": "student", **change}
    with pytest.raises(InputError, match=message):
        export_onnx(checkpoint, tmp_path, **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["crnn_student.onnx", "detector_student.onnx"])
def test_graphs_of_the_user_stay(checkpoint, tmp_path, name):
    (tmp_path / name).write_text("of the user")
    with pytest.raises(InputError, match=f"--overwrite:\n  - {tmp_path / name}$"):
        export_onnx("absent.ckpt", tmp_path, role="student")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    if name.startswith("crnn"):
        export_onnx(checkpoint, tmp_path, role="student", overwrite=True)
        export_onnx(checkpoint, tmp_path, role="student")  # Now it is ours.
