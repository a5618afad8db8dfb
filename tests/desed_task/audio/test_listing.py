"""Folders are listed whole: what is not listed is accounted for, with its reason."""

from __future__ import annotations

import os
import socket

import pytest

from desed_task.audio import listing
from desed_task.audio.formats import AUDIO_SUFFIXES
from desed_task.audio.listing import list_audio
from desed_task.errors import InputError


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def below(listed):
    return [path.relative_to(listed.folder).as_posix() for path in listed.files]


def reasons(listed):
    return {path.relative_to(listed.folder).as_posix(): why for path, why in listed.left_out}


def test_every_ending_of_audio_is_found_in_either_case(tmp_path):
    make(tmp_path, *(f"{i}{s}" for i, s in enumerate(AUDIO_SUFFIXES)), "A.WAV", "b.M4a", "c/d.OPUS")
    listed = list_audio(tmp_path)
    assert len(listed.files) == len(AUDIO_SUFFIXES) + 3
    assert listed.files == sorted(listed.files) and listed.line() == ""


def test_other_endings_are_counted_per_ending(tmp_path):
    make(tmp_path, "a.wav", "1.txt", "2.txt", "x/3.TXT", "4.json", "readme", "v.1 of the morning")
    assert list_audio(tmp_path).line() == (
        f"{tmp_path}: 1 recording; left out: 3 .txt, 1 .json, 1 without ending, "
        "1 with a long ending (not audio by ending)"
    )
    make(tmp_path, *(f"f.{letter}{letter}" for letter in "abcdefghijkl"))
    assert "of 8 other endings" in list_audio(tmp_path).line()


def test_what_is_no_file_is_named_with_its_reason(tmp_path):
    make(tmp_path, "a.wav", ".a.wav", ".git/b.wav", "elsewhere/z.txt")
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    (tmp_path / "old data").symlink_to("/not/mounted")
    (tmp_path / "round.flac").symlink_to("round.flac")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    (tmp_path / "second.wav").symlink_to("a.wav")
    here = os.getcwd()
    os.chdir(tmp_path)  # The path of a socket is limited to 108 characters.
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s.wav")
    finally:
        os.chdir(here)
    listed = list_audio(tmp_path)
    assert below(listed) == ["a.wav", "second.wav"]
    assert reasons(listed) == {
        ".a.wav": listing.HIDDEN,
        ".git": listing.HIDDEN,
        "elsewhere/z.txt": listing.OTHER_ENDING,
        "gone.wav": listing.BROKEN_LINK,
        "old data": listing.BROKEN_LINK,
        "round.flac": listing.LINK_LOOP,
        "pipe.wav": listing.SPECIAL,
        "s.wav": listing.SPECIAL,
        "zero.wav": listing.SPECIAL,
    }
    text = listed.line("clip")
    assert f"{tmp_path}: 2 clips; left out: 1 .txt (not audio by ending), 2 hidden (" in text
    assert "2 links to nothing (gone.wav, old data)" in text
    assert "3 not a regular file (pipe.wav, s.wav, zero.wav)" in text
    assert "hidden" not in listed.left_out_text(audio_only=True)
    assert ".txt" not in listed.left_out_text(audio_only=True)


def test_linked_folders_are_searched_once_and_links_in_a_circle_end(tmp_path):
    make(tmp_path, "rec/a.wav", "rec/sub/b.wav", "data/c.wav", "data/in/d.wav", "beside/e.wav")
    for name, target in (
        ("data", "../data"),
        ("sub/data again", "../../data"),
        ("itself", "."),
        ("up", ".."),
        ("root", "/"),
        ("inside", "sub"),
    ):
        (tmp_path / "rec" / name).symlink_to(target)
    (tmp_path / "data/back").symlink_to("../rec")
    (tmp_path / "data/in/more").symlink_to("../../beside")
    listed = list_audio(tmp_path / "rec")
    found = ["a.wav", "data/c.wav", "data/in/d.wav", "data/in/more/e.wav", "sub/b.wav"]
    assert below(listed) == found
    assert reasons(listed) == {
        "data/back": listing.SEARCHED,
        "sub/data again": listing.SEARCHED,
        "itself": listing.SEARCHED,
        "inside": listing.SEARCHED,
        "up": listing.LINK_UPWARDS,
        "root": listing.LINK_UPWARDS,
    }
    assert "5 recordings (3 of them in 2 linked folders: data, data/in/more); left" in listed.line()


def test_a_linked_folder_may_be_given_itself(tmp_path):
    make(tmp_path, "data/a.wav")
    (tmp_path / "link").symlink_to("data")
    assert below(list_audio(tmp_path / "link")) == ["a.wav"]


def test_other_suffixes_and_no_subfolders(tmp_path):
    make(tmp_path, "a.wav", "b.flac", "c.m4a", "d.jams", "e/f.wav")
    listed = list_audio(tmp_path, (".wav",), recursive=False)
    assert below(listed) == ["a.wav"]
    assert listed.left_out_text() == "1 .flac, 1 .m4a, 1 .jams (not .wav)"
    assert listed.left_out_text(audio_only=True) == "1 .flac, 1 .m4a (not .wav)"


def test_folders_that_cannot_be_opened(tmp_path, monkeypatch):
    make(tmp_path, "a.wav", "locked/b.wav")
    scan = os.scandir

    def refuse(path):
        if path.name in refused:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)  # Tests may run as root, who may open anything.
    refused = {"locked"}
    listed = list_audio(tmp_path)
    assert below(listed) == ["a.wav"] and reasons(listed) == {"locked": listing.UNREADABLE}
    assert listed.line().endswith("left out: 1 that cannot be opened (locked)")
    refused = {tmp_path.name}
    with pytest.raises(InputError, match=r"cannot be opened \(Permission denied\); check its perm"):
        list_audio(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        list_audio(tmp_path / "absent")
    with pytest.raises(InputError, match="is not a folder"):
        list_audio(tmp_path / "a.wav")


def test_odd_names_are_listed_and_shown_in_one_line(tmp_path):
    odd = [
        b"n\xff.wav",
        b"a\tb.wav",
        b"c\nd.wav",
        b"-o.wav",
        b"e .wav",
        b"e\xcc\x81.wav",
        b"%s{}.wav",
    ]
    for name in odd:
        (tmp_path / os.fsdecode(name)).touch()
    (tmp_path / os.fsdecode(b"\x1b[31m\xfe.wav")).symlink_to("nothing")
    listed = list_audio(tmp_path)
    assert {os.fsencode(path.name) for path in listed.files} == set(odd)
    assert r"1 link to nothing (\x1b[31m\xfe.wav)" in listed.line()
    assert listed.line().isprintable()


def test_links_need_not_be_followed_and_one_folder_can_be_excluded(tmp_path):
    make(tmp_path, "rec/a.wav", "rec/out/b.wav", "data/c.wav", "more/d.wav")
    for name in ("data", "more"):
        (tmp_path / "rec" / name).symlink_to(tmp_path / name)
    listed = list_audio(tmp_path / "rec", follow_links=False, without=tmp_path / "rec" / "out")
    assert below(listed) == ["a.wav"]
    assert listed.left_out_text() == "2 linked folders (data, more)"
