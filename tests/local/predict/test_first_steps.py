"""Someone with a recording and nothing else is told what to do."""

import os
from pathlib import Path

import pytest
import soundfile as sf

from desed_task.errors import STARTED_BY_CONSOLE
from local.predict.first_steps import PUBLISHED_WEIGHTS, without_checkpoint
from tests.in_process import run_main


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    monkeypatch.setattr("sys.argv", ["predict.py"])
    monkeypatch.delenv(STARTED_BY_CONSOLE, raising=False)


def test_four_lines_say_what_is_missing_and_how_to_get_it():
    Path("my street.wav").touch()
    told = without_checkpoint([Path("my street.wav")])
    assert told.splitlines() == [
        "my street.wav needs a trained network: give its checkpoint or run folder with "
        "--checkpoint",
        "  447 classes of AudioSet, without training: python generate_dcase_task4_2024.py "
        "--only_encoders atst_frame_strong; then python predict.py 'my street.wav' --checkpoint "
        "atst_frame_strong (others: --list_checkpoints)",
        "  a small one for synthetic sounds, trained in minutes: python "
        "generate_dcase_task4_2024.py --mini && python extract_embeddings.py --conf_file "
        "confs/mini.yaml && python train_pretrained.py --conf_file confs/mini.yaml --log_dir "
        "exp/mini; then python predict.py 'my street.wav' --checkpoint exp/mini",
        "  the published one, for real sounds: python generate_dcase_task4_2024.py "
        "--only_checkpoint; then put BEATs_iter3_plus_AS2M.pt from "
        "https://github.com/microsoft/unilm/tree/master/beats into pretrained_models; then python "
        "predict.py 'my street.wav' --checkpoint ../../data/baseline_pretrained_2024",
    ]


def test_in_the_checkout_one_command_makes_the_small_network():
    Path("Makefile").touch()
    assert "in minutes: make demo; then python predict.py a.wav" in without_checkpoint(
        [Path("a.wav")]
    )


def test_console_commands_are_named_where_one_was_started(monkeypatch):
    monkeypatch.setenv(STARTED_BY_CONSOLE, "desed-predict")
    Path("Makefile").touch()  # of another project
    told = without_checkpoint([Path(name) for name in ("a.wav", "b.wav", "c.wav")])
    assert "desed-generate --mini && desed-extract --conf_file confs/mini.yaml && " in told
    assert "desed-predict a.wav b.wav ... --checkpoint exp/mini" in told
    assert "python" not in told and "make demo" not in told


def test_what_is_there_already_is_not_fetched_again():
    Path("../../data/baseline_pretrained_2024").mkdir(parents=True)
    PUBLISHED_WEIGHTS.parent.mkdir()
    PUBLISHED_WEIGHTS.touch()
    assert without_checkpoint([], "--export onnx").splitlines()[2] == (
        "  the published one, for real sounds: python predict.py --export onnx --checkpoint "
        "../../data/baseline_pretrained_2024"
    )


def test_a_detector_without_training_that_is_there_needs_no_download():
    PUBLISHED_WEIGHTS.parent.mkdir()
    (PUBLISHED_WEIGHTS.parent / "M2D_strong_1.pt").touch()
    assert without_checkpoint([Path("a.wav")]).splitlines()[1] == (
        "  447 classes of AudioSet, without training: python predict.py a.wav --checkpoint "
        "m2d_strong (others: --list_checkpoints)"
    )


def test_the_newest_run_is_named():
    for number, name in enumerate(("exp/mini/version_0", "exp/Größe 2/version_3", "exp/mini/x")):
        folder = Path(name, "checkpoints")
        folder.mkdir(parents=True)
        (folder / "last.ckpt").touch()
        os.utime(name, (number % 2, number % 2))
    told = without_checkpoint([Path("a.wav")]).splitlines()
    assert told[1] == (
        "  the newest trained here: python predict.py a.wav --checkpoint 'exp/Größe 2/version_3'"
    )
    assert "without training" in told[2]


def test_the_command_says_it_and_ends_with_status_2(tmp_path):
    sf.write(tmp_path / "street.wav", [0.0] * 800, 16000)
    done = run_main("predict.py", "street.wav", cwd=tmp_path)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("error: street.wav needs a trained network")
    lines = run_main("predict.py", "absent.wav", cwd=tmp_path).stderr.splitlines()
    assert len(lines) == 4
    assert f"absent.wav (no such file or folder (looked up from {tmp_path})) needs" in lines[0]
    done = run_main("predict.py", "--export", "onnx", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 3)
