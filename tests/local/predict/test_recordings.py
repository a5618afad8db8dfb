"""Which files are searched and what their results are called: no two alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.predict.recordings import find_recordings


@pytest.fixture
def tree(tmp_path):
    for name in (
        "a/x.wav",
        "a/deep/x.WAV",
        "a/y.flac",
        "a/notes.txt",
        "a/.hidden.wav",
        "a/.git/z.wav",
        "b/x.wav",
        "b/x.mp3",
        "b/v.1.ogg",
        "c/readme.md",
        "d/s.aiff",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(found):
    return {recording.name for recording in found}


def test_folders_are_searched_with_their_subfolders(tree):
    found, faults = find_recordings([tree / "a"])
    assert faults == []
    assert {(r.path.relative_to(tree).as_posix(), r.name) for r in found} == {
        ("a/x.wav", "x"),
        ("a/deep/x.WAV", "deep/x"),
        ("a/y.flac", "y"),
    }


def test_a_dot_in_a_name_is_no_ending(tree):
    assert names(find_recordings([tree / "b" / "v.1.ogg"])[0]) == {"v.1"}


def test_one_stem_with_two_endings_keeps_them(tree):
    assert names(find_recordings([tree / "b"])[0]) == {"x.wav", "x.mp3", "v.1"}


def test_one_name_in_two_folders_takes_the_whole_path(tree):
    found, _ = find_recordings([tree / "a", tree / "b"])
    whole = tree.absolute().as_posix().lstrip("/")
    assert names(found) == {f"{whole}/a/x.wav", f"{whole}/b/x.wav", "x.mp3", "deep/x", "y", "v.1"}
    assert len(names(found)) == len(found)


def test_names_that_differ_in_capitals_only_are_alike(tmp_path):
    for name in ("one/Bell.wav", "two/bell.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    found, _ = find_recordings([tmp_path / "one", tmp_path / "two"])
    assert len({recording.name.casefold() for recording in found}) == 2


def test_a_file_is_searched_once_however_often_it_is_named(tree):
    link = tree / "link.wav"
    link.symlink_to(tree / "a" / "x.wav")
    found, _ = find_recordings([tree / "a" / "x.wav", tree / "a", link])
    assert sorted(names(found)) == ["deep/x", "x", "y"]


def test_a_file_that_is_named_may_have_any_ending(tree):
    assert names(find_recordings([tree / "d" / "s.aiff"])[0]) == {"s"}


def test_what_is_not_there_is_told_and_the_others_stay(tree, monkeypatch):
    monkeypatch.chdir(tree)
    found, faults = find_recordings([Path("c"), Path("nowhere.wav"), Path("b/x.wav")])
    assert [(recording.path, recording.name) for recording in found] == [(Path("b/x.wav"), "x")]
    assert len(faults) == 2
    assert faults[0].startswith("c: contains no audio (.wav, .flac, .ogg, .mp3)")
    assert faults[1].startswith("nowhere.wav: no such file or folder")
