"""Names of clips in tables, and the clips that lists of other spellings mean."""

import pytest

from desed_task.dataio.clip_names import (
    clip_id_of,
    flat_names,
    found_elsewhere,
    last_part,
    match_names,
)
from desed_task.errors import InputError


@pytest.mark.parametrize(
    ("name", "clip_id"),
    [
        ("a.wav", "a"),
        ("1.WAV", "1"),
        ("1.Flac", "1"),
        ("x/1.wav", "x/1"),
        (r"x\y\1.wav", "x/y/1"),
        ("./x/1.wav", "x/1"),
        (".\\1.wav", "1"),
        ("x//1.wav", "x/1"),
        ("x/./1.wav", "x/1"),
        ("1", "1"),
        ("1.5_a", "1.5_a"),
        ("x.wav/1.5", "x.wav/1.5"),
        ("a.wav.wav", "a.wav"),
        ("Y-abc_0.000_10.000.wav", "Y-abc_0.000_10.000"),
        ("Y-abc_0.000_10.000", "Y-abc_0.000_10.000"),
        ("Ünïcöde ß 日.m4a", "Ünïcöde ß 日"),
        (" a b.wav ", "a b"),
        ("...wav", ".."),
    ],
)
def test_file_names(name, clip_id):
    assert clip_id_of(name) == clip_id


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/data/1.wav", "is an absolute path; name files by their path below the corpus folder"),
        (r"C:\data\1.wav", "is an absolute path"),
        ("c:/1.wav", "is an absolute path"),
        (r"\\server\1.wav", "is an absolute path"),
        ("../1.wav", "leads out of the corpus folder; name files by their path below it"),
        ("x/../1.wav", "leads out of the corpus folder"),
        (r"x\..\..\1.wav", "leads out of the corpus folder"),
        (".wav", "is not a file name; correct the row"),
        ("x/.WAV", "is not a file name"),
        (" ", "is not a file name"),
        ("./", "is not a file name"),
    ],
)
def test_names_of_no_file_below_the_folder_are_refused(name, message):
    with pytest.raises(InputError) as refused:
        clip_id_of(name)
    assert message in str(refused.value) and repr(name) in str(refused.value)


@pytest.mark.parametrize(
    ("wanted", "there", "found"),
    [
        ("a b", "b a c", {"a": "a", "b": "b"}),
        ("x/1 y/1", "y/1 x/1", {"x/1": "x/1", "y/1": "y/1"}),
        # Names without folders of files in folders, and the other way round.
        ("1 2", "x/1 y/2", {"1": "x/1", "2": "y/2"}),
        ("audio/validation/1 audio/validation/2", "1", {"audio/validation/1": "1"}),
        ("v/x/1 v/y/1", "x/1 y/1", {"v/x/1": "x/1", "v/y/1": "y/1"}),
        # Another folder is another clip, even if there is no such file.
        ("x/1 y/1", "x/1", {"x/1": "x/1"}),
        ("y/1", "x/1", {}),
        ("xx/1", "x/1", {}),
        ("1", "11 x/11", {}),
        # The same name comes first, also if others end like it.
        ("1", "1 x/1 y/1", {"1": "1"}),
        ("1 x/1", "1", {"1": "1"}),
        # Case, Unicode form, separators; the exact name comes first.
        ("A x/B", "a X/b", {"A": "a", "x/B": "X/b"}),
        ("A a", "a", {"a": "a"}),
        ("A a", "a A", {"a": "a", "A": "A"}),
        ("caf\u00e9", "cafe\u0301", {"caf\u00e9": "cafe\u0301"}),
        ("x/1", "x\\1", {"x/1": "x\\1"}),
        ("A", "x/a", {"A": "x/a"}),
        ("", "a", {}),
    ],
)
def test_names_find_their_clips(wanted, there, found):
    assert match_names(wanted.split(), there.split()) == found


def test_a_list_that_names_folders_is_taken_at_its_word():
    """`1` beside `x/1` is a file that is missing, not `y/1`."""
    assert match_names(["1", "x/1", "2"], ["x/1", "y/1", "z/2"]) == {"x/1": "x/1", "2": "z/2"}
    # Embeddings of another clip are none.
    assert match_names(["x/1", "1"], ["x/1", "z/1"]) == {"x/1": "x/1"}
    assert match_names(["X/1", "1"], ["x/1", "y/1"]) == {"X/1": "x/1"}


def test_names_that_differ_by_case_only_are_told_apart_by_it():
    composed, apart = ["É", "é"], ["E\u0301", "e\u0301"]
    assert match_names(composed, apart) == dict(zip(composed, apart, strict=True))
    assert match_names(["a", "A"], ["x/A", "y/a"]) == {"a": "y/a", "A": "x/A"}
    assert match_names(["a"], ["x/A", "y/a"]) == {"a": "y/a"}


@pytest.mark.parametrize(
    ("wanted", "there", "message"),
    [
        ("1 2", "2 x/1 y/1", "1 may be x/1 or y/1"),
        ("x/1 y/1", "1", "x/1 and y/1 may all be 1"),
        ("x/1 y/1 z/1", "1 2", "x/1 and y/1 and z/1 may all be 1"),
        ("a", "A x/A", None),
        ("ab", "aB Ab", "ab may be aB or Ab"),
        ("1", "x/1 x/y/1 z", "1 may be x/1 or x/y/1"),
    ],
)
def test_names_of_several_clips_are_refused(wanted, there, message):
    if message is None:
        assert match_names(wanted.split(), there.split()) == {"a": "A"}
        return
    with pytest.raises(InputError) as refused:
        match_names(wanted.split(), there.split())
    assert str(refused.value) == message


def test_what_is_found_under_another_name_is_counted():
    assert found_elsewhere({"a": "a"}) is None and found_elsewhere({}) is None
    assert found_elsewhere({"a": "a", "1": "x/1"}) == (
        "1 of 2 clips is found under another spelling or folder (1 is x/1)"
    )
    many = {str(number): f"x/{number}" for number in range(9)}
    assert found_elsewhere(many) == (
        "9 of 9 clips are found under another spelling or folder (0 is x/0, 1 is x/1, 2 is x/2, "
        "...)"
    )


def test_flat_names_are_unique_and_leave_flat_ones_alone():
    ids = ["x/1", "x_1", "a", "X/1", "x_1-2", "y/1"]
    names = flat_names(ids)
    assert set(names) == set(ids)
    assert names["x_1"] == "x_1" and names["a"] == "a" and names["x_1-2"] == "x_1-2"
    assert names["y/1"] == "y_1"
    assert len({name.casefold() for name in names.values()}) == len(ids)
    assert not any("/" in name for name in names.values())
    assert last_part("x/y/1") == "1" == last_part("1")
