"""Tables as spreadsheets and other systems save them: encodings, line ends, file names."""

import codecs
from pathlib import Path

import pytest

from desed_task.dataio.annotations import read_durations, read_strong_table, read_weak_table
from desed_task.dataio.tables import read_text_table
from desed_task.errors import InputError
from desed_task.labels import Vocabulary

VOCABULARY = Vocabulary(("Speech", "Dog"))
TEXT = "filename\tonset\toffset\tevent_label\nä/日.wav\t0\t1\tSpeech\nb.wav\t1\t2.5\tDog\n"


def saved(folder: Path, data: bytes) -> Path:
    path = folder / "table.tsv"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=repr)
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
    ],
)
def test_unicode_with_a_byte_order_mark_is_read(mark, encoding, newline, tmp_path):
    path = saved(tmp_path, mark + TEXT.replace("\n", newline).encode(encoding))
    events = read_strong_table(path, VOCABULARY)
    assert events.clip_ids == ("ä/日", "b")
    assert events.offset_s.tolist() == [1.0, 2.5]


def test_the_trial_in_utf_16_is_read(trial):
    events = read_strong_table(trial("utf16.tsv"), VOCABULARY)
    assert events.clip_ids == ("a",)
    assert (events.onset_s.tolist(), events.offset_s.tolist()) == ([0.0], [1.0])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (TEXT.encode("utf-8") + b"\xff\t0\t1\tDog\n", "is not UTF-8 text (line 4, byte 0xff)"),
        (b"filename\r\x81.wav\r", "is not UTF-8 text (line 2, byte 0x81)"),
        (TEXT.encode("utf-32-le"), "contains NUL bytes, which no UTF-8 text has"),
        (TEXT.encode("utf-16-le")[:-1], "contains NUL bytes, which no UTF-8 text has"),
        (b"a\tb\n\xe4\x01\x02\n", "is not UTF-8 text (line 2, byte 0xe4)"),
        (b"\x89PNG\r\n\x1a\n\xff\0\1\2\3\4\5\6", "contains NUL bytes, which no UTF-8 text has"),
        (TEXT.encode("utf-16")[:-1], "is not UTF-16 text (its end)"),
    ],
)
def test_other_encodings_are_not_guessed(data, message, tmp_path):
    path = saved(tmp_path, data)
    with pytest.raises(InputError) as refused:
        read_text_table(path, ("filename",))
    assert str(refused.value) == f"{path}: {message}; save it as UTF-8"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=repr)
@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-16-le", "UTF-16 (little endian), e.g. 'ä/x.wav' in line 2"),
        ("utf-16-be", "UTF-16 (big endian), e.g. 'ä/x.wav' in line 2"),
        ("latin-1", "Windows-1252, the common extension of Latin-1, e.g. 'ä/x.wav' in line 2"),
    ],
)
def test_an_encoding_that_is_assumed_is_named_once(encoding, told, newline, tmp_path):
    text = TEXT.replace("日", "x").replace("\n", newline)
    path = saved(tmp_path, text.encode(encoding))
    with pytest.warns(UserWarning, match="read as") as caught:
        events = [read_strong_table(path, VOCABULARY) for _ in range(2)][1]
    assert events.clip_ids == ("ä/x", "b")
    (warning,) = caught
    message = "is not UTF-8 text and has no byte order mark; read as"
    assert str(warning.message) == (f"{path}: {message} {told}; if that is wrong, save it as UTF-8")


def test_the_curly_quotes_and_the_euro_of_windows_are_read(tmp_path):
    path = saved(tmp_path, "filename\tduration\n“5 €”.wav\t1\n".encode("cp1252"))
    with pytest.warns(UserWarning, match="“5 €”"):
        assert read_durations(path) == {"“5 €”": 1.0}


def test_quotes_stay_what_they_are(tmp_path):
    path = saved(tmp_path, TEXT.replace("b.wav", 'b"c.wav').encode())
    assert read_strong_table(path, VOCABULARY).clip_ids == ("ä/日", 'b"c')


def test_two_files_of_one_name_in_two_folders_are_two_clips(trial):
    events = read_strong_table(trial("same_name_two_dirs.tsv"), VOCABULARY)
    assert events.clip_ids == ("x/1", "y/1")
    assert events.clip_index.tolist() == [0, 1]


@pytest.mark.parametrize("row", ["/data/a.wav", r"C:\a.wav", "../a.wav", "x/../../a.wav", ".wav"])
def test_names_outside_the_folder_are_refused_with_their_line(row, tmp_path):
    path = saved(tmp_path, f"filename\tduration\nb.wav\t1\n{row}\t10\n".encode())
    with pytest.raises(InputError) as refused:
        read_durations(path)
    assert f"table.tsv, line 3: {row!r} " in str(refused.value)


def test_files_that_differ_in_their_ending_only_are_no_single_clip(tmp_path):
    path = saved(tmp_path, b"filename\tevent_labels\nx/a.wav\tDog\nx/a.flac\tSpeech\nb\tDog\n")
    with pytest.raises(InputError) as refused:
        read_weak_table(path, VOCABULARY)
    assert "table.tsv: x/a.wav and x/a.flac would be one clip" in str(refused.value)
    same = saved(tmp_path, b"filename\tduration\na.wav\t9\na.WAV\t9\na\t9\nb.flac\t9\n")
    assert read_durations(same) == {"a": 9.0, "b": 9.0}


def test_two_durations_of_one_clip_are_refused(tmp_path):
    path = saved(tmp_path, b"filename\tduration\na.wav\t9\nb.wav\t3\n./a.WAV\t10\n")
    with pytest.raises(InputError) as refused:
        read_durations(path)
    said = (
        "line 4: duration '10' is another one than in an earlier row of the clip; correct the row"
    )
    assert said in str(refused.value)
