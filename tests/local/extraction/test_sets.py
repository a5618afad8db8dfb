"""Which sets are extracted, from which folders, on which device."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from desed_task.errors import InputError
from local.cli.devices import choose_torch_device
from local.config import RecipeConfig, load_config
from local.extraction.sets import choose_sets, find_wavs, sets_of

CONFIG = load_config("confs/pretrained.yaml")
SETS = sets_of(CONFIG)


def test_the_sets_are_the_published_ones() -> None:
    published = "synth_train weak_train weak_val strong_train unlabeled_train synth_val devtest"
    assert sorted(SETS) == sorted(
        [*published.split(), "eval", "maestro_real_dev", "maestro_real_train"]
    )


def test_the_evaluation_set_is_asked_for() -> None:
    assert set(SETS) - set(choose_sets(CONFIG, None, eval_set=False)) == {"eval"}
    assert set(choose_sets(CONFIG, None, eval_set=True)) == set(SETS)
    assert choose_sets(CONFIG, ["eval"], eval_set=False) == ("eval",)


def test_a_repeated_set_comes_after_what_it_repeats() -> None:
    assert choose_sets(CONFIG, ["weak_val"], eval_set=False) == ("weak_train", "weak_val")


def test_an_unknown_set_is_named() -> None:
    with pytest.raises(InputError, match=r"--only weak: no such set; known: .*weak_train"):
        choose_sets(CONFIG, ["devtest", "weak"], eval_set=False)


def test_commas_separate_sets_too() -> None:
    for only in (["devtest,weak_val"], ["devtest", "weak_val"], ["devtest,", "weak_val"]):
        assert choose_sets(CONFIG, only, eval_set=False) == ("weak_train", "devtest", "weak_val")
    with pytest.raises(InputError, match="--only weak: no such set"):
        choose_sets(CONFIG, ["devtest,weak"], eval_set=False)
    with pytest.raises(InputError, match="--only names no set; known: "):
        choose_sets(CONFIG, [","], eval_set=False)


def config_in(folder: Path) -> RecipeConfig:
    data = load_config("confs/mini.yaml").data
    moved = [f"data.{key}={folder / key}" for key in type(data).model_fields if "folder" in key]
    return load_config("confs/mini.yaml", moved)


def test_all_folders_that_are_missing_or_empty_are_named_at_once(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    (tmp_path / "test_folder").mkdir()
    (tmp_path / "weak_folder").mkdir()
    (tmp_path / "weak_folder" / "a.wav").touch()
    with pytest.raises(InputError) as caught:
        find_wavs(config, ("weak_train", "weak_val", "devtest", "synth_train"))
    message = str(caught.value)
    assert f"data.synth_folder: {tmp_path / 'synth_folder'}: no such folder" in message
    assert f"data.test_folder: {tmp_path / 'test_folder'}: contains no WAV file" in message
    assert "weak" not in message
    assert "--only" in message
    wavs = {"a": tmp_path / "weak_folder" / "a.wav"}
    found = find_wavs(config, ("weak_train", "weak_val"))
    assert found == {"weak_train": wavs, "weak_val": wavs}


def test_another_sample_rate_is_refused(tmp_path: Path) -> None:
    config = load_config("confs/mini.yaml", ["data.fs=32000", "feats.sample_rate=32000"])
    with pytest.raises(InputError, match=r"data.fs is 32000; encoders take audio at 16000 Hz"):
        find_wavs(config, ("devtest",))


@pytest.mark.parametrize(
    ("there", "use_gpu", "device"),
    [
        (True, None, "cuda"),
        (True, True, "cuda"),
        (True, False, "cpu"),
        (False, None, "cpu"),
        (False, False, "cpu"),
    ],
)
def test_device(
    there: bool, use_gpu: bool | None, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert choose_torch_device(use_gpu) == torch.device(device)


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="--use_gpu: PyTorch finds no GPU"):
        choose_torch_device(True)


def test_clips_of_subfolders_are_found_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("x/1.wav", "y/1.WAV", "2.wav", "3.mp3"):
        (tmp_path / "weak_folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "weak_folder" / name).touch()
    found = find_wavs(config_in(tmp_path), ("weak_train", "weak_val"))
    assert list(found["weak_train"]) == ["2", "x/1", "y/1"] == list(found["weak_val"])
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / 'weak_folder'}: 2 of 3 clips come from subfolders (x, y)",
        f"{tmp_path / 'weak_folder'}: audio that is not WAV, left out: 1 .mp3; convert it",
    ]


def test_clips_that_no_table_can_name_are_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "eval_folder"
    folder.mkdir()
    names = (b"a.wav", b"n\xff.wav", b"t\tb.wav", b"c.m4a")
    for name in names:
        (folder / os.fsdecode(name)).touch()
    found = find_wavs(config_in(tmp_path), ("eval",))
    assert found == {"eval": {"a": folder / "a.wav"}}
    told = capsys.readouterr().out
    assert r"left out: 2 (n\xff.wav, t\tb.wav); rename them" in told
    assert f"{folder}: audio that is not WAV, left out: 1 .m4a; convert it" in told
