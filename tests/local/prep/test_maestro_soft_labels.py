"""MAESTRO's annotation files: what is read and what is refused."""

import numpy as np
import pytest

from desed_task.errors import InputError
from local.prep.maestro_soft_labels import label_files, read_soft_labels


def test_lines_keep_their_order(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("1\t2\tdoor opens/closes\t0.5\n\n0\t1.5\tcar\t1\n")
    soft = read_soft_labels(path)
    np.testing.assert_array_equal(soft.onset_s, [1, 0])
    np.testing.assert_array_equal(soft.offset_s, [2, 1.5])
    np.testing.assert_array_equal(soft.value, [0.5, 1])
    assert soft.label == ("door opens/closes", "car")


def test_a_recording_may_have_no_events(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("")
    assert [len(column) for column in read_soft_labels(path)] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("0 1 car 0.5", "1 field instead of onset, offset, label, value"),
        ("0\t1\tcar", "3 fields instead of"),
        ("zero\t1\tcar\t0.5", "onset 'zero' is not a number"),
        ("nan\t1\tcar\t0.5", "onset 'nan' is not finite"),
        ("0\tinf\tcar\t0.5", "offset 'inf' is not finite"),
        ("3\t1\tcar\t0.5", r"offset 1\.0 is not after onset 3\.0"),
        ("-1\t1\tcar\t0.5", r"onset -1\.0 is before the recording"),
        ("0\t1\tcar\t1.5", r"soft value 1\.5 is not between 0 and 1"),
        ("0\t1\t \t0.5", "the label is empty"),
    ],
)
def test_a_faulty_line_is_named(tmp_path, line, problem):
    path = tmp_path / "a.txt"
    path.write_text(f"0\t1\tcar\t0.5\n{line}\n")
    with pytest.raises(
        InputError, match=rf"a\.txt: correct these lines[^\n]*\n.*line 2: {problem}"
    ):
        read_soft_labels(path)


def test_all_faulty_lines_come_at_once(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("0\t1\tcar\t2\n0\t1\tcar\t1\nx\t1\tcar\t1\n")
    with pytest.raises(InputError, match=r"line 1:(.|\n)*line 3:") as error:
        read_soft_labels(path)
    assert "line 2" not in str(error.value)


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xff\x00\x80\x81\x00")
    with pytest.raises(InputError, match=r"a\.txt: contains NUL bytes"):
        read_soft_labels(path)


def test_files_are_found_below_and_hidden_twins_are_not(tmp_path):
    for name in ("soft_labels_x/b.txt", "a.tsv", "__MACOSX/._a.txt", "readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert [path.name for path in label_files(tmp_path)] == ["a.tsv", "b.txt"]
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        label_files(tmp_path / "nowhere")
