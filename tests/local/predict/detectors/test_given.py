"""Which detectors --checkpoint names, and which flags go with them."""

from __future__ import annotations

import argparse
import os
import zipfile
from pathlib import Path

import pytest
import torch

from desed_task.errors import InputError
from local.cli.arguments import command_parser
from local.predict.detectors.given import own_checkpoint, settle_detectors
from local.predict.flags import parse_predict_args
from tests.desed_task.audioset.small_detectors import saved_detector
from tests.desed_task.checkpoints.example_checkpoints import ours, saved, small_spec


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of ours, and detectors of AudioSet's classes."""
    folder = tmp_path_factory.mktemp("files")
    saved(ours(small_spec(use_embeddings=False)), folder / "own.ckpt")
    (folder / "other.ckpt").write_bytes((folder / "own.ckpt").read_bytes())
    (folder / "pretrained_models").mkdir()
    saved_detector(folder).rename(folder / "pretrained_models" / "ATST-F_strong_1.pt")
    return folder


@pytest.fixture(autouse=True)
def _there(files, monkeypatch):
    monkeypatch.chdir(files)


def settled(*flags: str) -> argparse.Namespace:
    args = parse_predict_args(command_parser(""), ["a.wav", *flags])
    settle_detectors(args)
    return args


FILE = "pretrained_models/ATST-F_strong_1.pt"


@pytest.mark.parametrize("name", ["atst_frame_strong", "atst_frame", FILE])
def test_a_released_detector_has_a_name(name, capsys):
    args = settled("--checkpoint", name)
    assert args.checkpoints == [FILE] == [args.checkpoint] and args.of_audioset == [True]
    assert own_checkpoint(args) is None
    assert capsys.readouterr().out == ("" if name == FILE else f"checkpoint: {FILE}\n")


def test_a_file_comes_before_a_name(files):
    (files / "beats").symlink_to(files / "own.ckpt")
    args = settled("--checkpoint", "beats", "--checkpoint", "atst_frame")
    assert args.checkpoints == ["beats", FILE] and own_checkpoint(args) == "beats"
    (files / "beats").unlink()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["m2d_strong"], r"M2D_strong_1.pt: not there; get M2D .*--only_encoders m2d_strong"),
        (["m2d_ssl"], "m2d_ssl: weights without a head for events, not a detector; take beats_s"),
        (["atst_fram"], "no such file, and no released detector of that name; known: beats_s"),
        (["nothing"], "nothing: no such checkpoint"),
        ([""], "an empty path to a checkpoint"),
        (["own.ckpt", "--checkpoint", "./own.ckpt"], r"--checkpoint .*own.ckpt: given twice"),
        (["own.ckpt", "--checkpoint", "none.ckpt"], "none.ckpt: no such checkpoint"),
        (
            ["own.ckpt", "second.ckpt"],
            "second.ckpt: a checkpoint among the recordings; repeat the flag, --checkpoint "
            "own.ckpt --checkpoint second.ckpt, to average them, or give one",
        ),
        (["own.ckpt", "--checkpoint", FILE, "--tuned", "x"], "--tuned: its values were tuned for"),
        (
            [
                *("own.ckpt", "--checkpoint", FILE, "--checkpoint", "other.ckpt"),
                *("--pretrained_model", "x.pt"),
            ],
            "--pretrained_model: it names the weights of one .* 2 checkpoints are given",
        ),
        (
            ["own.ckpt", "--checkpoint", FILE, "--export", "onnx"],
            "--export: it exports one network",
        ),
        ([FILE, "--model", "teacher"], "--model: goes with checkpoints of this recipe, but pretr"),
        (
            [FILE, "--tuned", "x", "--model", "student"],
            "--tuned and --model: go with checkpoints of this recipe, .*leave them out",
        ),
        ([FILE, "--export", "onnx"], "--export: goes with checkpoints of this recipe"),
        (
            [FILE, "--pretrained_model", "x"],
            "--pretrained_model: goes with checkpoints of this rec",
        ),
    ],
)
def test_what_does_not_go_is_told(flags, message):
    with pytest.raises(InputError, match=message):
        settled("--checkpoint", *flags)


def test_the_weights_of_the_only_checkpoint_of_ours_may_be_named():
    args = settled("--checkpoint", FILE, "--checkpoint", "own.ckpt", "--pretrained_model", "x.pt")
    assert args.pretrained_model == ["x.pt"] and own_checkpoint(args) == "own.ckpt"


@pytest.mark.parametrize("keys", [["model"], ["checkpoint", "model"]])
def test_encoders_of_the_configuration_are_named_where_they_are_not_used(keys, capsys):
    overrides = [word for key in keys for word in ("--set", f"pretrained.{key}=m2d")]
    settled("--checkpoint", FILE, *overrides)
    shown = ", ".join(f"--set pretrained.{key}" for key in keys)
    said = f"have their encoders: {shown} {'is' if len(keys) == 1 else 'are'} not used\n"
    assert said in capsys.readouterr().out
    settled("--checkpoint", FILE, "--checkpoint", "own.ckpt", *overrides)
    assert "not used" not in capsys.readouterr().out


def test_a_pattern_that_matches_two_run_folders_is_told(files):
    for number in (0, 1):
        folder = files / f"exp/version_{number}/checkpoints"
        folder.mkdir(parents=True)
        (folder / "last.ckpt").write_bytes((files / "own.ckpt").read_bytes())
    with pytest.raises(InputError, match="exp/version_1: a checkpoint among the recordings"):
        settled("--checkpoint", "exp/version_0", "exp/version_1")


def test_a_pattern_is_told_whatever_files_are_called(files):
    """By content, as a detector may have any name; also files of torch before 1.6."""
    folder = files / "odd"
    folder.mkdir()
    (folder / "a").write_bytes((files / "own.ckpt").read_bytes())
    (folder / "b v1.2").write_bytes((files / FILE).read_bytes())
    torch.save({"x": 1}, folder / "c.bin", _use_new_zipfile_serialization=False)
    (folder / "D.PT").write_text("")
    (folder / "version_0").mkdir()
    (folder / "version_0/hparams.yaml").write_text("")  # stopped before its first checkpoint
    for second in ("b v1.2", "c.bin", "D.PT", "version_0"):
        for words in (
            ["a.wav", "--checkpoint", "odd/a", f"odd/{second}"],
            ["--checkpoint", "odd/a", f"odd/{second}", "a.wav"],
            [f"odd/{second}", "a.wav", "--checkpoint", "odd/a"],
        ):
            with pytest.raises(InputError, match=f"odd/{second}: a checkpoint among the record"):
                settle_detectors(parse_predict_args(command_parser(""), words))
    with pytest.raises(InputError, match="m2d_strong: a checkpoint among the recordings"):
        settled("--checkpoint", "atst_frame_strong", "m2d_strong")


def test_recordings_are_no_checkpoints(files):
    """Whatever they are called, and however odd they are."""
    folder = files / "archive"
    (folder / "checkpoints").mkdir(parents=True)  # of recordings, as no checkpoint is in it
    with zipfile.ZipFile(folder / "zipped", "w") as archive:
        archive.writestr("a.wav", b"RIFF")
    os.mkfifo(folder / "pipe")
    (folder / "cut").write_bytes(b"PK\x03\x04")
    (files / "beats.wav").write_bytes(b"")
    for name in ("archive", "archive/zipped", "archive/pipe", "archive/cut", "beats.wav", "none"):
        args = settled("--checkpoint", "own.ckpt", name)
        assert args.recordings == [Path("a.wav"), Path(name)]


def test_the_network_of_a_checkpoint_of_ours_may_be_chosen():
    args = settled("--checkpoint", FILE, "--checkpoint", "own.ckpt", "--model", "teacher")
    assert args.of_audioset == [True, False] and own_checkpoint(args) == "own.ckpt"
