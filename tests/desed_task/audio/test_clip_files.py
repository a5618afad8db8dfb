"""The clips below a folder: which files are clips, what they are called, what is left out."""

import os
from pathlib import Path

import pytest

from desed_task.audio.clip_files import clip_files, find_clips
from desed_task.errors import InputError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_clip_is_known_by_its_path_below_the_folder(tmp_path):
    names = (
        "y/1.wav",
        "x/1.wav",
        "b.WAV",
        "x/deep/Ünïcöde 日.Wav",
        "a.wav",
        "1.5_a.wav",
        "a-b.wav",
    )
    found = find_clips(touch(tmp_path, *names))
    # By the parts of the path, as files of one folder always were: "-" comes before ".".
    assert list(found.files) == ["1.5_a", "a-b", "a", "b", "x/1", "x/deep/Ünïcöde 日", "y/1"]
    assert {str(path.relative_to(tmp_path)) for path in found.files.values()} == set(names)
    assert found.notes == (f"{tmp_path}: 3 of 7 clips come from subfolders (x, x/deep, y)",)


def test_a_folder_without_subfolders_has_nothing_to_say(tmp_path):
    touch(tmp_path, "b.wav", "a.wav", "a.jams", "a.txt", "README", ".hidden.wav", ".cache/c.wav")
    found = find_clips(tmp_path)
    assert list(found.files) == ["a", "b"]
    assert found.notes == () and found.linked == () and found.others == ()
    assert found.all_notes == (
        f"{tmp_path}: skipped: not audio by ending: 1 without ending, 1 .jams, 1 .txt, hidden: 2 "
        "(.cache, .hidden.wav)",
    )
    touch(tmp_path / "whole", "a.wav")
    assert find_clips(tmp_path / "whole").all_notes == ()


def test_half_written_files_in_subfolders_are_no_clips(tmp_path):
    touch(tmp_path, "x/a.wav", "x/.a.1b2c.wav", ".x/b.wav", "x/.y/c.wav", "x/wav", "x/d.wav.part")
    assert list(find_clips(tmp_path).files) == ["x/a"]


def test_what_is_left_out_is_named(tmp_path):
    elsewhere = touch(tmp_path / "elsewhere", "far.wav")
    folder = touch(tmp_path / "corpus", "a.wav", "b.flac", "x/c.FLAC", "d.m4a", "e.txt")
    for name in ("link", "x/circle"):
        (folder / name).symlink_to(elsewhere if name == "link" else folder)
    (folder / "linked.wav").symlink_to(elsewhere / "far.wav")
    found = find_clips(folder)
    assert list(found.files) == ["a", "linked"]
    assert found.notes == (
        f"{folder}: linked folders, not searched: 2 (link, x/circle); link or copy their files "
        "instead",
        f"{folder}: audio that is not WAV, left out: 2 .flac, 1 .m4a; convert it",
    )


def test_names_that_no_table_can_hold_are_left_out_and_named(tmp_path):
    odd = [b"n\xff.wav", b"a\tb.wav", b"x\n/c.wav", b"\x1b[2J.WAV"]
    touch(tmp_path, "a.wav", "x/b é.wav", *map(os.fsdecode, odd))
    (tmp_path / "gone.wav").symlink_to("nowhere")
    (tmp_path / "old").symlink_to("/not/mounted")
    os.mkfifo(tmp_path / "pipe.wav")
    found = find_clips(tmp_path)
    assert list(found.files) == ["a", "gone", "x/b é"]
    assert set(map(os.fsencode, found.odd)) == set(odd)
    assert "or contain control characters, left out: 4 (" in found.notes[1]
    assert found.notes[2] == (
        f"{tmp_path}: links to nothing and special files, left out: 2 (old, pipe.wav); mend or "
        "remove them"
    )
    assert all(note.isprintable() for note in found.notes)


def test_a_folder_that_is_itself_a_link_is_searched(tmp_path):
    (tmp_path / "link").symlink_to(touch(tmp_path / "real", "x/a.wav"))
    assert list(find_clips(tmp_path / "link").files) == ["x/a"]


def test_a_folder_inside_can_be_left_out(tmp_path):
    touch(tmp_path, "a.wav", "16k/a.wav", "16k/x/b.wav")
    assert list(find_clips(tmp_path, without=tmp_path / "16k").files) == ["a"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("1.wav", "1.WAV"), "1.WAV and 1.wav would be one clip; rename one of them"),
        (
            ("x/a.wav", "x/a.Wav", "b.wav", "x/a.WAV"),
            "x/a.WAV and x/a.Wav and x/a.wav would be one clip; rename one of them",
        ),
        (("a\tb.wav",), r"contains no WAV file but those left out for their names (a\tb.wav)"),
        (("x/a.txt",), "contains no WAV file; put the audio there or remove the folder"),
        (("x/a.flac", "b.M4A", "c.m4a"), "contains no WAV file but 1 .flac, 2 .m4a; convert it to"),
    ],
)
def test_names_that_do_not_name_one_clip_are_refused(names, message, tmp_path):
    touch(tmp_path, *names)
    with pytest.raises(InputError) as refused:
        find_clips(tmp_path)
    assert message in str(refused.value)
    assert clip_files(tmp_path) == {}


def test_a_folder_that_is_not_there_or_may_not_be_read(tmp_path):
    with pytest.raises(InputError, match="absent: no such folder; check the path"):
        find_clips(tmp_path / "absent")
    touch(tmp_path, "a.wav", "x/b.wav")
    (tmp_path / "x").chmod(0)
    try:
        if os.access(tmp_path / "x", os.R_OK):
            pytest.skip("this user may read everything")
        with pytest.raises(InputError, match="x: cannot be read"):
            find_clips(tmp_path)
    finally:
        (tmp_path / "x").chmod(0o755)
