"""Which files are searched and what their results are called: no two alike."""

from __future__ import annotations

import os
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
    found, faults, notes, _ = find_recordings([tree / "a"])
    assert faults == []
    left_out = "1 .txt (not audio by ending), 2 hidden (.git, .hidden.wav)"
    assert notes == [f"{tree}/a: 3 recordings; left out: {left_out}"]
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
    found, *_ = find_recordings([tree / "a", tree / "b"])
    whole = tree.absolute().as_posix().lstrip("/")
    assert names(found) == {f"{whole}/a/x.wav", f"{whole}/b/x.wav", "x.mp3", "deep/x", "y", "v.1"}
    assert len(names(found)) == len(found)


def test_names_that_differ_in_capitals_only_are_alike(tmp_path):
    for name in ("one/Bell.wav", "two/bell.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    found, *_ = find_recordings([tmp_path / "one", tmp_path / "two"])
    assert len({recording.name.casefold() for recording in found}) == 2


def test_a_file_is_searched_once_however_often_it_is_named(tree):
    link = tree / "link.wav"
    link.symlink_to(tree / "a" / "x.wav")
    found, *_ = find_recordings([tree / "a" / "x.wav", tree / "a", link])
    assert sorted(names(found)) == ["deep/x", "x", "y"]


def test_a_file_that_is_named_may_have_any_ending(tree):
    assert names(find_recordings([tree / "d" / "s.aiff"])[0]) == {"s"}


def test_what_is_not_there_is_told_and_the_others_stay(tree, monkeypatch):
    monkeypatch.chdir(tree)
    found, faults, *_ = find_recordings([Path("c"), Path("nowhere.wav"), Path("b/x.wav")])
    assert [(recording.path, recording.name) for recording in found] == [(Path("b/x.wav"), "x")]
    assert len(faults) == 2
    assert faults[0].startswith(
        "c: contains no audio (left out: 1 .md (not audio by ending)); check the folder"
    )
    assert faults[1].startswith("nowhere.wav: no such file or folder")


def test_what_a_folder_leaves_out_is_told_in_a_line_per_folder(tree):
    (tree / "a/gone.m4a").symlink_to("nowhere")
    (tree / "a/again.wav").symlink_to("x.wav")
    (tree / "a/linked").symlink_to(tree / "b")
    found, faults, notes, _ = find_recordings([tree / "a", tree / "b", tree / "d"])
    assert faults == []
    assert {"linked/v.1", "linked/x.mp3", "s"} < names(found)
    assert len(notes) == 2
    assert "1 link to nothing (gone.m4a)" in notes[0] and "1 linked folder: linked" in notes[0]
    assert "1 listed already (x.wav)" in notes[0]  # again.wav comes first.
    assert notes[1] == f"{tree}/b: 0 recordings; left out: 3 listed already (v.1.ogg, x.mp3, x.wav)"


def test_what_is_given_and_is_no_file_is_told(tmp_path):
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    given = ["gone.wav", "pipe.wav", os.fsdecode(b"n\xff.wav"), "x" * 300]
    found, faults, *_ = find_recordings([tmp_path / name for name in given])
    assert found == []
    for fault, told in zip(
        faults,
        (
            "gone.wav: is a link to nothing",
            "pipe.wav: is not a regular",
            r"n\xff.wav: no",
            "no such",
        ),
        strict=True,
    ):
        assert told in fault


def test_long_names_leave_room_for_endings_and_stay_different(tmp_path):
    long = ["é" * 125 + "a.wav", "é" * 125 + "b.wav", "short.wav", "x" * 240 + ".wav"]
    for name in long:
        (tmp_path / name).touch()
    found, _, notes, _ = find_recordings([tmp_path])
    assert len(names(found)) == 4 and {"short", "x" * 240} < names(found)
    for recording in found:
        (tmp_path / f"{recording.name}.scores.tsv").touch()
    assert len(notes) == 1 and notes[0].startswith("2 names too long for the endings of results")
    assert find_recordings([tmp_path]).recordings == found
