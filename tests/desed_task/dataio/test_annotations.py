"""Annotation tables: what is read, and what is said of every wrong line."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest

from desed_task.dataio.annotations import (
    read_durations,
    read_strong_table,
    read_weak_table,
    write_strong_table,
)
from desed_task.errors import InputError
from desed_task.labels import Vocabulary
from local.classes_dict import DESED_CLASSES

VOCABULARY = Vocabulary(["Dog", "Cat", "Speech"])
HEAD = "filename\tonset\toffset\tevent_label\n"


def table(tmp_path, text, name="validation.tsv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_events_are_columns_and_a_clip_without_events_is_kept(tmp_path):
    text = HEAD + "b.wav\t0.5\t2\tCat\na.wav\t\t\t\nb.wav\t1\t3.25\tDog\n"
    events = read_strong_table(table(tmp_path, text), VOCABULARY)
    assert events.clip_ids == ("b", "a")
    assert events.clip_index.tolist() == [0, 0]
    assert events.onset_s.tolist() == [0.5, 1.0]
    assert events.offset_s.tolist() == [2.0, 3.25]
    assert events.label_index.tolist() == [1, 0]
    assert events.confidence.tolist() == [1.0, 1.0]
    assert [column.tolist() for column in events.events_of("a")] == [[], [], [], []]


def test_clips_in_whose_rows_no_event_is_named(tmp_path):
    """One whose events were left out has events all the same: its row names them."""
    rows = (
        *("empty.wav\t\t\t", "empty.wav\t\t\t", "both.wav\t\t\t", "both.wav\t1\t2\tDog"),
        *("short.wav\t1\t1\tCat", "Ünïcöde ß 日.wav\t\t\t", "x/folder.flac\t\t\t"),
    )
    path = table(tmp_path, HEAD + "".join(f"{row}\n" for row in rows))
    with pytest.warns(UserWarning, match="ends where it begins"):
        events = read_strong_table(path, VOCABULARY)
    assert events.clip_ids == ("empty", "both", "short", "Ünïcöde ß 日", "x/folder")
    assert events.eventless == {"empty", "Ünïcöde ß 日", "x/folder"}
    assert events.rows(np.zeros(len(events), dtype=bool)).eventless == events.eventless
    chosen = events.select(["x/folder", "both", "new"])
    assert chosen.eventless == {"x/folder"}


def test_a_file_name_may_hold_dots(tmp_path):
    text = HEAD + "Y0_30.000_40.000.wav\t0\t1\tDog\n"
    assert read_strong_table(table(tmp_path, text), VOCABULARY).clip_ids == ("Y0_30.000_40.000",)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.wav\t0\t1\tDgo", r"line 3: unknown label 'Dgo'; known: Dog, Cat, Speech"),
        ("a.wav\t2\t1\tDog", r"line 3: offset 1 is before onset 2; correct the row"),
        ("a.wav\tnan\t1\tDog", r"line 3: onset 'nan' is not a number of seconds"),
        ("a.wav\t\t1\tDog", r"line 3: onset '' is not a number of seconds"),
        ("a.wav\t0\tx\tDog", r"line 3: offset 'x' is not a number of seconds"),
        ("a.wav\t-1\t1\tDog", r"line 3: onset -1 is before the clip"),
    ],
)
def test_a_wrong_row_is_named_with_its_line(row, message, tmp_path):
    path = table(tmp_path, HEAD + "a.wav\t0\t1\tDog\n" + row + "\n")
    with pytest.raises(InputError, match=rf"validation.tsv, {message}"):
        read_strong_table(path, VOCABULARY)


def test_all_wrong_rows_are_reported_at_once_in_order(tmp_path):
    text = HEAD + "a.wav\t2\t1\tDgo\na.wav\t0\t1\tDog\na.wav\tq\t1\tCat\n"
    with pytest.raises(InputError) as error:
        read_strong_table(table(tmp_path, text), VOCABULARY)
    text = str(error.value)
    assert "line 3" not in text
    assert text.index("line 2: offset") < text.index("line 2: unknown") < text.index("line 4")


def test_the_first_twenty_mistakes_are_shown_and_the_rest_counted(tmp_path):
    text = HEAD + "".join(f"a.wav\t0\t1\tDgo{n}\n" for n in range(50))
    with pytest.raises(InputError) as error:
        read_strong_table(table(tmp_path, text), VOCABULARY)
    assert str(error.value).count("unknown label") == 20
    assert str(error.value).endswith("... and 30 more")


def test_events_without_length_are_left_out_with_one_warning(tmp_path):
    text = HEAD + "a.wav\t0\t1\tDog\nb.wav\t2\t2\tDog\na.wav\t3\t3\tCat\n"
    with pytest.warns(UserWarning, match=r"tsv, line 3: the event ends .* as is 1 more") as caught:
        events = read_strong_table(table(tmp_path, text), VOCABULARY)
    assert len(caught) == 1
    assert events.clip_ids == ("a", "b")
    assert events.offset_s.tolist() == [1.0]


def test_a_stray_quote_is_a_character_like_others(tmp_path):
    text = HEAD + 'a".wav\t0\t1\tDog\nb.wav\t0\t1\t"Dog\nc.wav\t0\t1\tCat\n'
    with pytest.raises(InputError, match="line 3: unknown label '\"Dog'") as error:
        read_strong_table(table(tmp_path, text), VOCABULARY)
    assert str(error.value).count("line") == 1


def test_line_numbers_hold_behind_a_blank_line_and_trailing_ones_do_not_matter(tmp_path):
    text = HEAD + "a.wav\t0\t1\tDog\n\nb.wav\t0\t1\tDgo\n\n\n"
    with pytest.raises(InputError, match="line 4: unknown label 'Dgo'"):
        read_strong_table(table(tmp_path, text), VOCABULARY)
    events = read_strong_table(table(tmp_path, text.replace("Dgo", "Cat")), VOCABULARY)
    assert events.clip_ids == ("a", "b")


def test_a_table_without_file_names_is_refused(tmp_path):
    path = table(tmp_path, HEAD + "\t0\t1\tDog\n")
    with pytest.raises(InputError, match="line 2: no file name"):
        read_strong_table(path, VOCABULARY)


def test_a_row_with_too_many_cells_is_refused(tmp_path):
    path = table(tmp_path, HEAD + "a.wav\t0\t1\tDog\nb.wav\t0\t1\tDog\tCat\n")
    with pytest.raises(InputError, match=r"validation.tsv: not a tab-separated table .*line 3"):
        read_strong_table(path, VOCABULARY)


def test_the_real_annotation_is_read(parity):
    path = parity("real_desed") / "validation.tsv"
    events = read_strong_table(path, Vocabulary(DESED_CLASSES))
    assert (len(events), len(events.clip_ids)) == (4224, 1168)


def test_a_large_table_is_read_fast(tmp_path):
    rows = (f"c{n % 3000}.wav\t{n % 9}.125\t9.5\tDog\n" for n in range(9500))
    path = table(tmp_path, HEAD + "".join(rows))
    seconds = []
    for _ in range(3):
        start = time.process_time()
        events = read_strong_table(path, VOCABULARY)
        seconds.append(time.process_time() - start)
    assert len(events) == 9500
    assert min(seconds) < 0.2


def test_a_confidence_outside_its_range(tmp_path):
    text = HEAD.replace("\n", "\tconfidence\n") + "a.wav\t0\t1\tDog\t0.5\na.wav\t0\t1\tDog\t1.5\n"
    with pytest.raises(
        InputError, match=r"line 3: confidence '1.5' is not in \[0, 1\]; correct the row"
    ):
        read_strong_table(table(tmp_path, text), VOCABULARY)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD, "table without rows"),
        ("", "lacks the columns filename, onset"),
        ("filename,onset,offset,event_label\na,0,1,Dog\n", "lacks the columns"),
        (None, "no such table"),
    ],
)
def test_a_table_that_is_none(text, message, tmp_path):
    path = tmp_path / "validation.tsv" if text is None else table(tmp_path, text)
    with pytest.raises(InputError, match=rf"validation.tsv: {message}"):
        read_strong_table(path, VOCABULARY)


def test_selecting_reorders_and_keeps_unlisted_clips_empty(tmp_path):
    text = HEAD + "a.wav\t0\t1\tDog\nb.wav\t0\t2\tCat\nc.wav\t0\t3\tDog\n"
    chosen = read_strong_table(table(tmp_path, text), VOCABULARY).select(["c", "new", "a"])
    assert chosen.clip_ids == ("c", "new", "a")
    assert chosen.clip_index.tolist() == [2, 0]
    assert chosen.offset_s.tolist() == [1.0, 3.0]


def test_overlapping_events_of_a_class_are_merged_with_one_warning(tmp_path):
    rows = ["0\t2\tDog", "1\t3\tDog", "3\t4\tDog", "1\t2\tCat", "6\t7\tDog", "6.5\t6.6\tDog"]
    path = table(tmp_path, HEAD + "".join(f"a.wav\t{row}\n" for row in rows))
    with pytest.warns(UserWarning, match=r"validation.tsv: 2 events overlap.*'Dog' at 1 s in a"):
        merged = read_strong_table(path, VOCABULARY).merged()
    assert list(zip(merged.label_index, merged.onset_s, merged.offset_s, strict=True)) == [
        (0, 0.0, 4.0),
        (0, 6.0, 7.0),
        (1, 1.0, 2.0),
    ]


def test_a_table_that_is_scored_again_is_not_warned_of_again(tmp_path):
    """PyTorch changes the filters of warnings in each epoch, after which Python repeats them."""
    rows = ["0\t2\tDog", "1\t3\tDog", "4\t5\tDog", "4.5\t6\tDog", "9\t10\tCat", "9\t11\tCat"]
    path = table(tmp_path, HEAD + "".join(f"a.wav\t{row}\n" for row in rows))
    events = read_strong_table(path, VOCABULARY)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for n_events in (6, 4, 6):  # A validation over a few batches has other counts.
            with warnings.catch_warnings():
                warnings.simplefilter("default")
            events.rows(np.arange(n_events)).merged()
            events.rows(np.arange(n_events)).within({"a": 9.0 - n_events})
    assert [str(one.message).partition(", e.g.")[0] for one in caught] == [
        f"{path}: 3 events overlap an earlier one of their class and are merged with it",
        f"{path}: 4 events begin after their clip's end and are left out",
    ]


def test_one_event_is_not_several(tmp_path):
    rows = ["0\t2\tDog", "1\t3\tDog", "4\t5\tCat"]
    path = table(tmp_path, HEAD + "".join(f"a.wav\t{row}\n" for row in rows))
    events = read_strong_table(path, VOCABULARY)
    with pytest.warns(
        UserWarning, match="tsv: 1 event overlaps an earlier one of its class and is"
    ):
        events.merged()
    with pytest.warns(
        UserWarning, match="tsv: 1 event begins after its clip's end and is left out"
    ):
        events.within({"a": 4.0})


def test_events_of_other_clips_and_touching_ones_raise_no_warning(tmp_path):
    text = HEAD + "a.wav\t0\t9\tDog\nb.wav\t0\t1\tDog\nb.wav\t1\t2\tDog\n"
    events = read_strong_table(table(tmp_path, text), VOCABULARY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        merged = events.merged()
    assert merged.offset_s.tolist() == [9.0, 2.0]


def test_a_written_table_reads_back(tmp_path):
    text = HEAD + "b.wav\t0.5\t2.0\tCat\na.wav\t\t\t\n"
    events = read_strong_table(table(tmp_path, text), VOCABULARY)
    write_strong_table(tmp_path / "copy.tsv", events)
    copy = read_strong_table(tmp_path / "copy.tsv", VOCABULARY)
    assert copy.clip_ids == events.clip_ids
    assert copy.eventless == events.eventless == {"a"}
    np.testing.assert_array_equal(copy.offset_s, events.offset_s)


def test_weak_labels(tmp_path):
    text = "filename\tevent_labels\na.wav\tDog,Speech\nb.wav\tCat\n"
    weak = read_weak_table(table(tmp_path, text), VOCABULARY)
    assert weak.clip_ids == ("a", "b")
    assert weak.target.tolist() == [[True, False, True], [False, True, False]]


def test_wrong_weak_rows_are_all_named(tmp_path):
    text = "filename\tevent_labels\na.wav\tDog,Fish\na.wav\tCat\nb.wav\t\n"
    with pytest.raises(InputError) as error:
        read_weak_table(table(tmp_path, text, "weak.tsv"), VOCABULARY)
    text = str(error.value)
    assert "weak.tsv, line 2: unknown label 'Fish'; known: Dog" in text
    assert "line 3: a is listed twice" in text
    assert "line 4: no label" in text


def test_durations(tmp_path):
    path = table(tmp_path, "filename\tduration\na.wav\t10.0\nb.wav\t9.5\n", "durations.tsv")
    assert read_durations(path) == {"a": 10.0, "b": 9.5}
    path = table(tmp_path, "filename\tduration\na.wav\t-1\n", "durations.tsv")
    with pytest.raises(InputError, match=r"durations.tsv, line 2: duration '-1'"):
        read_durations(path)


def test_a_joined_event_is_as_certain_as_its_most_certain_part(tmp_path):
    head = HEAD.strip() + "\tconfidence\n"
    rows = "a.wav\t0\t2\tDog\t0.25\na.wav\t1\t3\tDog\t0.75\na.wav\t3\t4\tDog\t0.5\n"
    joined = read_strong_table(table(tmp_path, head + rows), VOCABULARY).joined()
    assert joined.confidence.tolist() == [0.75]


def test_an_event_that_begins_before_its_clip_s_end_stays_though_it_ends_behind_it(tmp_path):
    text = HEAD + "a.wav\t3\t9\tDog\na.wav\t4\t9\tCat\nb.wav\t4\t9\tCat\n"
    events = read_strong_table(table(tmp_path, text), VOCABULARY)
    with pytest.warns(UserWarning, match="1 event begins after .*'Cat' at 4 s in a, .* 4 s"):
        within = events.within({"a": 4.0, "b": 9.0})
    assert within.onset_s.tolist() == [3.0, 4.0]
    assert within.offset_s.tolist() == [9.0, 9.0]


@pytest.mark.parametrize("absurd", ["1e30", "604800.5", "1e308"])
def test_times_that_are_finite_but_absurd_are_named(tmp_path, absurd):
    text = HEAD + f"a.wav\t0\t1\tDog\nü b.wav\t{absurd}\t2e308\tDog\nc.wav\t1\t{absurd}\tCat\n"
    with pytest.raises(InputError) as error:
        read_strong_table(table(tmp_path, text, "odd.tsv"), VOCABULARY)
    text = str(error.value)
    assert f"odd.tsv, line 3: onset '{absurd}' is more than a week of seconds; correct" in text
    assert f"odd.tsv, line 4: offset '{absurd}' is more than a week of seconds; correct" in text
    path = table(tmp_path, f"filename\tduration\na.wav\t10\nb.wav\t{absurd}\n", "durations.tsv")
    with pytest.raises(InputError, match=r"durations.tsv, line 3: duration .* is more than a week"):
        read_durations(path)
    weeks = table(tmp_path, HEAD + "a.wav\t604799\t604800\tDog\n")
    assert read_strong_table(weeks, VOCABULARY).offset_s.tolist() == [604800.0]


def test_a_clip_with_two_durations_is_refused_and_with_one_twice_is_not(tmp_path):
    head = "filename\tduration\na.wav\t10\n\nb.wav\t9\n"
    assert read_durations(table(tmp_path, head + "a.wav\t10.0\n")) == {"a": 10.0, "b": 9.0}
    with pytest.raises(InputError) as error:
        read_durations(table(tmp_path, head + "a.wav\t8\nb.wav\t9\na.wav\tx\n", "two.tsv"))
    text = str(error.value)
    assert "two.tsv, line 5: duration '8' is another one than in an earlier row of the clip" in text
    assert "two.tsv, line 7: duration 'x' is not a positive number of seconds" in text
    assert "line 6" not in text
