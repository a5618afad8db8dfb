"""Label files in every form that a description may give: what is read, and what is said of it."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from desed_task.errors import InputError
from local.data.label_tables import read_label_set, read_labels
from local.schema.task import TaskDescription
from local.task.build import TaskBuilder
from local.task.corpus import Corpus

CLASSES = ["dog", "cat", "water, running", "Gähnen/ä"]
WEAK = "weak"


class Place:
    """A folder with label files, and corpora that are described by them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
        return path

    def corpus(self, table, classes=CLASSES, **more) -> Corpus:
        described = {"audio": "audio", "table": table, "rows": 1, **more}
        raw = {
            "root": str(self.root),
            "classes": classes,
            "corpora": {
                "own": described,
                "val": {**described, "split": "validation", "rows": 0},
                "test": {**described, "split": "test", "rows": 0},
            },
            "scored": {"tags": {"validation": "val", "test": "test"}},
        }
        builder = TaskBuilder(TaskDescription.model_validate(raw), raw, None)
        task = builder.build()
        assert not builder.problems, builder.problems
        self.vocabulary = task.vocabulary
        return task.corpus("own")

    def read(self, table, present=(), **more):
        corpus = self.corpus(table, **more)
        there = {clip_id: self.root / f"{clip_id}.wav" for clip_id in present}
        return read_labels(corpus, self.vocabulary, there)

    def rows(self, table, present=(), **more):
        """(clip, onset, offset, label, confidence) of each event."""
        return rows_of(self.read(table, present, **more))

    def refused(self, table, present=(), **more) -> str:
        with pytest.raises(InputError) as error:
            self.read(table, present, **more)
        return str(error.value)


def rows_of(events):
    columns = zip(
        events.clip_index.tolist(),
        events.onset_s.round(6).tolist(),
        events.offset_s.round(6).tolist(),
        events.label_index.tolist(),
        [round(value, 4) for value in events.confidence.tolist()],
        strict=True,
    )
    return [(events.clip_ids[c], on, off, events.vocabulary[i], p) for c, on, off, i, p in columns]


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture(autouse=True)
def _silence_is_meant():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


EXPECTED = [
    ("süß 1", 0.5, 1.25, "dog", 1.0),
    ("süß 1", 1.0, 2.0, "cat", 1.0),
    ("b/2", 0.0, 10.0, "dog", 1.0),
]
FORMS = {
    "published": (
        {"path": "t.tsv"},
        "filename\tonset\toffset\tevent_label\n"
        "süß 1.wav\t0.5\t1.25\tdog\nsüß 1.wav\t1\t2\tcat\nb/2.wav\t0\t10\tdog\n",
    ),
    "tabs in .csv": (
        {"path": "t.csv", "separator": "tab"},
        "filename\tonset\toffset\tevent_label\r\n"
        "süß 1.wav\t0.5\t1.25\tdog\r\nsüß 1.wav\t1\t2\tcat\r\nb/2.wav\t0\t10\tdog\r\n",
    ),
    "quoted commas": (
        {"path": "t.csv", "columns": {"label": "class"}},
        'filename,onset,offset,class\n"süß 1.wav", 0.5, 1.25, "dog"\nsüß 1.wav,1,2,cat\n'
        "b/2.wav,0,10,dog\n",
    ),
    "semicolons, decimal commas": (
        {"path": "t.txt", "separator": "semicolon", "columns": {"filename": "Datei"}},
        "Datei;onset;offset;event_label\nsüß 1.wav;0,5;1,25;dog\nsüß 1.wav;1;2;cat\n"
        "b/2.wav;0;10;dog\n",
    ),
    "numbers of columns, ms": (
        {
            "path": "t.tsv",
            "header": False,
            "unit": "ms",
            "columns": {"label": 0, "onset": 1, "offset": 2, "filename": 4},
        },
        "dog\t500\t1250\tx\tsüß 1.wav\ncat\t1000\t2000\tx\tsüß 1.wav\ndog\t0\t10000\t\tb\\2.WAV\n",
    ),
    "numbers of columns below a header": (
        {"path": "t.tsv", "columns": {"filename": 0, "onset": 1, "offset": 2, "label": 3}},
        "a\tb\tc\td\nsüß 1\t0.5\t1.25\tdog\nsüß 1\t1\t2\tcat\nb/2\t0\t10\tdog\n",
    ),
    "no header": (
        {"path": "t.tsv", "header": False},
        "süß 1\t0.5\t1.25\tdog\nsüß 1\t1\t2\tcat\nb/2\t0\t10\tdog\n",
    ),
    "chosen rows": (
        {"path": "t.tsv", "where": {"state": ["accepted", "unreviewed"], "4": "x"}},
        "filename\tonset\toffset\tevent_label\tset\tstate\n"
        "süß 1.wav\t0.5\t1.25\tdog\tx\taccepted\nsüß 1.wav\t1\t2\tcat\tx\tunreviewed\n"
        "süß 1.wav\tbroken\t2\tbird\tx\trejected\nb/2.wav\t0\t10\tdog\tx\taccepted\n"
        "c.wav\t0\t10\tdog\ty\taccepted\n",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_tables_of_all_forms_have_the_same_events(place, name):
    form, text = FORMS[name]
    place.write(form["path"], text)
    if "decimal" in name:
        with pytest.warns(UserWarning, match=r"t\.txt, line 2: decimal commas are read as points"):
            assert place.rows(form) == EXPECTED
    else:
        assert place.rows(form) == EXPECTED


CLIPS = ["süß 1", "b/2"]
OF_CLIPS = {
    "by path": ("labels/{clip}.txt", ("labels/süß 1.txt", "labels/b/2.txt"), {"header": False}),
    "by folder and name": (
        "notes/soft_{folder}/{name}.txt",
        ("notes/soft_x/süß 1.txt", "notes/soft_b/2.txt"),
        {"header": False},
    ),
    "by name": ("labels/{name}.ann", ("labels/süß 1.ann", "labels/2.ann"), {"header": False}),
    "blanks": (
        "labels/{clip}.txt",
        ("labels/süß 1.txt", "labels/b/2.txt"),
        {"header": False, "separator": "space"},
    ),
    "audacity": (
        "audio/{clip}.txt",
        ("audio/süß 1.txt", "audio/b/2.txt"),
        {"format": "audacity"},
    ),
}


@pytest.mark.parametrize("name", OF_CLIPS)
def test_one_file_for_each_clip(place, name):
    path, files, more = OF_CLIPS[name]
    present = ["x/süß 1", "b/2"] if "folder" in path else CLIPS
    texts = ["0.5\t1.25\tdog\n1\t2\tcat\n", "0\t10\tdog\n"]
    if name == "audacity":
        texts[0] = "0.500000\t1.250000\tdog\r\n\\\t120.5\t8000.0\r\n1.000000\t2.000000\tcat\r\n"
    elif name == "blanks":
        texts = [text.replace("\t", "  ") for text in texts]
    for file, text in zip(files, texts, strict=True):
        place.write(file, text)
    found = place.rows({"path": path, **more}, present)
    expected = [(present[CLIPS.index(clip)], *rest) for clip, *rest in EXPECTED]
    assert sorted(found) == sorted(expected)
    # Without the audio, as a summary of an old run reads them.
    assert len(place.rows({"path": path, **more})) == 3


def test_annotations_with_file_and_scene_in_front(place):
    place.write("meta/a.ann", "audio/street/a.wav\tstreet\t0.5\t1.5\tdog\n")
    place.write("meta/b.ann", "0.5\t1.5\tcat\n")
    form = {"path": "meta/{name}.ann", "header": False}
    assert place.rows(form, ["street/a", "street/b"]) == [
        ("street/a", 0.5, 1.5, "dog", 1.0),
        ("street/b", 0.5, 1.5, "cat", 1.0),
    ]
    place.write("meta/a.ann", "audio/street/b.wav\tstreet\t0.5\t1.5\tdog\n")
    assert "a.ann, line 1: names 'audio/street/b.wav', but the file is that of street/a" in (
        place.refused(form, ["street/a", "street/b"])
    )


def test_a_label_with_blanks_in_a_file_of_blanks(place):
    place.write("l/a.txt", "0.5   1.5  water, running \n")
    form = {"path": "l/{clip}.txt", "header": False, "separator": "space"}
    assert place.rows(form, ["a"])[0][3] == "water, running"


def test_an_empty_file_is_a_clip_without_events_and_a_missing_one_is_named(place):
    place.write("l/a.txt", "0.5\t1.5\tdog\n")
    place.write("l/b.txt", "")
    place.write("l/gone.txt", "not a label file")  # of no clip on disk: listed, not read
    form = {"path": "l/{clip}.txt", "format": "audacity"}
    with pytest.warns(UserWarning, match="1 of 3 clips has no label file and is left out"):
        events = place.read(form, ["a", "b", "c"])
    assert events.clip_ids == ("a", "b", "gone") and events.eventless == {"b", "gone"}
    assert "nowhere/{clip}.txt: no label file; check the path, or the ending" in place.refused(
        {"path": "nowhere/{clip}.txt"}
    )


def test_soft_labels_outside_the_unit_interval_are_clipped_and_counted(place):
    place.write("soft_x/a.txt", "0\t1\tdog\t0.3\n1\t2\tdog\t1.02\n2\t3\tcat\t-0.01\n")
    form = {"path": "soft_{folder}/{name}.txt", "header": False}
    with pytest.warns(UserWarning, match=r"line 2: 2 confidences outside \[0, 1\] are read as"):
        rows = place.rows(form, ["x/a"], labels="soft")
    assert [row[-1] for row in rows] == [0.3, 1.0, 0.0]
    assert "confidence '1.02' is not in [0, 1]" in place.refused(form, ["x/a"])


def test_labels_are_mapped_ignored_and_counted(place):
    place.write(
        "t.csv",
        "filename,onset,offset,event_label\na.wav,0,1,Dogs & cats\na.wav,1,2,rain\n"
        "b.wav,0,1,wind\nb.wav,1,2,wind\nc.wav,,,\n",
    )
    given = {"label_map": {"Dogs & cats": ["dog", "cat"], "rain": None}, "other_labels": "ignore"}
    with pytest.warns(UserWarning, match=r"3 of 4 labels are ignored: 'wind' \(2\), 'rain' \(1\)"):
        events = place.read({"path": "t.csv"}, **given)
    assert [row[3] for row in rows_of(events)] == ["dog", "cat"]
    assert events.eventless == {"b", "c"}
    text = place.refused({"path": "t.csv"}, label_map={"rain": None, "Dogs & cats": "dog"})
    assert "t.csv, line 4: unknown label 'wind'; known: rain" in text and "line 5" in text


def test_a_label_that_differs_by_case_is_told_to_be_mapped(place):
    place.write("t.csv", "filename,onset,offset,event_label\na.wav,0,1,Dog\n")
    text = place.refused({"path": "t.csv"})
    assert "unknown label 'Dog'; known: dog, cat, water, running, Gähnen/ä; " in text
    assert "it may be 'dog': map it with label_map" in text


def test_identifiers_have_names(place):
    """As in AudioSet's tables of strong labels, with and without a header."""
    place.write("names.tsv", "/m/1\tdog\n/m/2\twater, running\n/m/3\tBark, bow-wow\n")
    place.write("t.csv", "filename,onset,offset,event_label\n" + "".join(
        f"a.wav,0,{n},/m/{n}\n" for n in (1, 2, 3)
    ))  # fmt: skip
    mapped = {"label_names": "names.tsv", "label_map": {"Bark, bow-wow": "cat"}}
    assert [row[3] for row in place.rows("t.csv", **mapped)] == ["dog", "water, running", "cat"]
    text = place.refused("t.csv", label_names="names.tsv")
    assert "line 4: unknown label '/m/3', which is 'Bark, bow-wow'; known: dog" in text
    place.write("names.tsv", "/m/1\tdog\n/m/1\tcat\n/m/2\n")
    text = place.refused("t.csv", label_names="names.tsv")
    assert "line 2: '/m/1' is 'cat', but 'dog' in another line" in text
    assert "line 3: 1 column; give a label and its name" in text


def test_lists_of_weak_labels(place):
    place.write(
        "dev.csv",
        'fname,labels,mids,split\n64760,"dog,water, running",/m/1,train\n1,cat;dog,/m/2,train\n'
        "2,cat|Gähnen/ä,/m/2,val\n",
    )
    form = {"path": "dev.csv", "columns": {"filename": "fname", "label": "labels"}}
    weak = place.read(form, labels=WEAK)
    assert weak.clip_ids == ("64760", "1", "2")
    assert weak.target.astype(int).tolist() == [[1, 0, 1, 0], [1, 1, 0, 0], [0, 1, 0, 1]]
    chosen = place.read({**form, "where": {"split": "val"}}, labels=WEAK)
    assert chosen.clip_ids == ("2",)
    # One label a row.
    place.write("t.csv", "filename,event_label\na.wav,dog\nb.wav,cat\na.wav,cat\n")
    assert place.read("t.csv", labels=WEAK).target[:, :2].tolist() == [[True, True], [False, True]]


WRONG = {
    "lacks the columns onset, offset (has filename, start, end, event_label); check the": (
        {"path": "t.csv"},
        "filename,start,end,event_label\na.wav,0,1,dog\n",
    ),
    "its first line looks like a row: set header: false": (
        {"path": "t.csv"},
        "a.wav,0,1,dog\n",
    ),
    "its first line (filename, onset, offset, label) names the columns; set header: true": (
        {"path": "t.csv", "header": False},
        "filename,onset,offset,label\na.wav,0,1,dog\n",
    ),
    "columns.onset: is 'start', but the table has no header": (
        {"path": "t.csv", "header": False, "columns": {"onset": "start"}},
        "a.wav,0,1,dog\n",
    ),
    "columns.label: is 4, but the table has 4 columns, counted from 0 on": (
        {
            "path": "t.csv",
            "header": False,
            "columns": {"filename": 0, "onset": 1, "offset": 2, "label": 4},
        },
        "a.wav,0,1,dog\n",
    ),
    "lacks the columns 9 (has filename, onset, offset, event_label)": (
        {"path": "t.csv", "columns": {"onset": 9}},
        "filename,onset,offset,event_label\na.wav,0,1,dog\n",
    ),
    "has 3 columns and no header; without `columns` there are 4 (filename, onset": (
        {"path": "t.csv", "header": False},
        "a.wav,0,1\n",
    ),
    "t.csv, line 3: 5 cells, the first line has 4; quote cells that contain the separator": (
        {"path": "t.csv"},
        "filename,onset,offset,event_label\na.wav,0,1,dog\na.wav,0,1,water, running\n",
    ),
    "t.csv, line 2: not a table (": (
        {"path": "t.csv"},
        'filename,onset,offset,event_label\na.wav,0,1,"dog\nb.wav,0,1,cat\n',
    ),
    "t.csv, line 2: onset '0,5' is not a number: write a decimal point": (
        {"path": "t.csv", "separator": "semicolon"},
        "filename;onset;offset;event_label\na.wav;0,5;1.5;dog\n",
    ),
    "onset '1,200' is not a number": (
        {"path": "t.csv", "separator": "tab"},
        "filename\tonset\toffset\tevent_label\na.wav\t1,200\t2,500\tdog\n",
    ),
    "t.csv, line 2: offset 1 is before onset 2; correct the row": (
        {"path": "t.csv"},
        "filename,onset,offset,event_label\na.wav,2,1,dog\n",
    ),
    "t.csv, line 2: no label; correct the row": (
        {"path": "t.csv"},
        "filename,onset,offset,event_label\na.wav,1,2,\n",
    ),
    "t.csv, line 3: no file name; correct the row": (
        {"path": "t.csv"},
        "filename,onset,offset,event_label\na.wav,1,2,dog\n,1,2,dog\n",
    ),
    "where: no row has 'x' in the column 'set', which has 'y'": (
        {"path": "t.csv", "where": {"set": "x"}},
        "filename,onset,offset,event_label,set\na.wav,1,2,dog,y\n",
    ),
    "where: lacks the column 'set' (has filename": (
        {"path": "t.csv", "where": {"set": "x"}},
        "filename,onset,offset,event_label\na.wav,1,2,dog\n",
    ),
    "has several columns 'onset'; rename all but one": (
        {"path": "t.csv"},
        "filename,onset,onset,offset,event_label\na.wav,1,1,2,dog\n",
    ),
    "table without rows": ({"path": "t.csv"}, "filename,onset,offset,event_label\n"),
    "label tracks are one per clip; write {clip}": ({"path": "t.csv", "format": "audacity"}, "\n"),
    "columns: names the annotator, but no rule": (
        {"path": "t.csv", "columns": {"annotator": "who"}},
        "filename,onset,offset,event_label,who\na.wav,1,2,dog,x\n",
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_told_with_file_and_line(place, message):
    form, text = WRONG[message]
    place.write(form["path"], text)
    assert message in place.refused(form)


def test_all_faults_of_all_files_are_told_at_once(place):
    place.write("l/a.txt", "0\t1\tbird\n")
    place.write("l/b.txt", "x\t1\tdog\n0\t1\tdog\n2\t1\tdog\n")
    text = place.refused({"path": "l/{clip}.txt", "format": "audacity"}, ["a", "b"])
    assert "a.txt, line 1: unknown label 'bird'" in text
    assert "b.txt, line 1: onset 'x' is not a number" in text
    assert "b.txt, line 3: offset 1 is before onset 2" in text


def test_a_table_may_have_a_header_that_was_not_announced_or_none(place):
    """Columns by number: of AudioSet's strong labels some copies begin with names."""
    form = {"path": "t.tsv", "columns": {"filename": 0, "onset": 1, "offset": 2, "label": 3}}
    place.write("t.tsv", "a\t0\t1\tdog\nb\t0\t1\tcat\n")
    with pytest.warns(UserWarning, match="has no header, line 1 is read as a row; set header"):
        assert [row[0] for row in place.rows(form)] == ["a", "b"]


def test_lists_and_patterns_choose_clips(place):
    place.write(
        "t.csv",
        "filename,onset,offset,event_label\n"
        + "".join(f"{name}.wav,0,1,dog\n" for name in ("street/a", "street/b", "home/c", "gone")),
    )
    place.write(
        "fold1_train.txt", "audio/street/a.wav\tstreet\t0\t1\tdog\naudio/home/c.wav\t\ngone.wav"
    )
    present = ["street/a", "home/c"]
    listed = place.read("t.csv", present, clips="fold{fold}_train.txt")
    assert listed.clip_ids == ("street/a", "home/c", "gone")
    assert place.read("t.csv", ["street/a"], pattern="street/*").clip_ids == (
        "street/a",
        "street/b",
    )
    assert "has none of the clips that x/* chooses" in place.refused("t.csv", pattern="x/*")


ANNOTATED = (
    "filename,onset,offset,class,annotator_id,annotator_is_creator,review_status\n"
    "a.wav,0,4,dog,A,True,accepted\n"
    "a.wav,2,6,dog,B,False,accepted\n"
    "a.wav,3,5,dog,C,False,unreviewed\n"
    "a.wav,0,9,cat,C,False,rejected\n"
    "b.wav,0,1,cat,B,False,accepted\n"
    "b.wav,,,,A,True,accepted\n"
)
RAW = {
    "path": "raw.csv",
    "columns": {"label": "class", "annotator": "annotator_id"},
    "where": {"review_status": ["accepted", "unreviewed"]},
}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("union", [("a", 0.0, 6.0, "dog", 1.0), ("b", 0.0, 1.0, "cat", 1.0)]),
        ("intersection", [("a", 3.0, 4.0, "dog", 1.0)]),
        ("majority", [("a", 2.0, 5.0, "dog", 1.0), ("b", 0.0, 1.0, "cat", 1.0)]),
        (
            "mean",
            [
                ("a", 0.0, 2.0, "dog", 0.3333),
                ("a", 2.0, 3.0, "dog", 0.6667),
                ("a", 3.0, 4.0, "dog", 1.0),
                ("a", 4.0, 5.0, "dog", 0.6667),
                ("a", 5.0, 6.0, "dog", 0.3333),
                ("b", 0.0, 1.0, "cat", 0.5),
            ],
        ),
        ("collector", [("a", 0.0, 4.0, "dog", 1.0)]),
    ],
)
def test_several_annotators_become_one(place, rule, expected):
    place.write("raw.csv", ANNOTATED)
    events = place.read(RAW, annotators=rule, labels="soft" if rule == "mean" else "strong")
    assert rows_of(events) == expected
    assert events.clip_ids == ("a", "b")
    assert events.eventless == ({"b"} if rule in ("intersection", "collector") else set())


def test_shares_of_annotators_are_soft_labels(place):
    with pytest.raises(AssertionError, match=r"own\.annotators: weighted gives a share of"):
        place.corpus(RAW, annotators="weighted")


def test_one_annotator_of_each_clip_is_there_to_be_drawn(place):
    place.write("raw.csv", ANNOTATED)
    corpus = place.corpus(RAW, annotators="random")
    table, annotated = read_label_set(corpus, place.vocabulary, {})
    assert rows_of(table) == rows_of(place.read(RAW, annotators="majority"))
    assert annotated.looked == {"a": (0, 1, 2), "b": (1, 0)}
    each, spans = annotated.alternatives(["b", "a"])
    assert spans == [(0, 2), (2, 3)]
    assert [row[1:4] for row in rows_of(each)] == [
        (0.0, 4.0, "dog"), (2.0, 6.0, "dog"), (3.0, 5.0, "dog"), (0.0, 1.0, "cat"),
    ]  # fmt: skip


def test_a_recording_without_a_collector_is_left_out_and_counted(place):
    place.write("raw.csv", ANNOTATED.replace("b.wav,,,,A,True", "b.wav,,,,C,False"))
    with pytest.warns(UserWarning, match="1 of 2 clips has no labels by who made the recording"):
        assert place.read(RAW, annotators="collector").clip_ids == ("a",)
