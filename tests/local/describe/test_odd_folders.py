"""What is made of folders that say in unusual ways what is what."""

from __future__ import annotations

from pathlib import Path

import pytest

from desed_task.errors import InputError
from local.config import RecipeConfig, load_config
from local.data.splits import divide
from local.describe.describe import describe_folder
from tests.local.describe.folders import record, write


@pytest.fixture
def named(tmp_path, monkeypatch):
    """Makes short recordings of given names in the current folder, and their description."""
    monkeypatch.chdir(tmp_path)

    def make(clips: list[str], texts: dict[str, str], folder: str = "rec") -> RecipeConfig:
        for clip in clips:
            record(tmp_path / folder / f"{clip}.wav", seconds=1.0)
        write(tmp_path / folder, texts)
        return load_config(describe_folder(Path(folder), Path("d.yaml")))

    return make


CLIPS = [f"c{number}" for number in range(8)]


@pytest.mark.parametrize(
    "clips",
    [
        [f"Yabcdefghi_{n % 5}_{n}.000_{n + 10}.000" for n in range(12)],
        [f"yard{n % 4}_{n}" for n in range(12)],
        [f"yard{n % 4}-{n}" for n in range(12)],
    ],
)
def test_clips_of_one_recording_are_of_one_part(named, clips, capsys):
    task = named(clips, {f"{clip}.txt": "0.1\t0.9\tdog\n" for clip in clips}).detection_task
    assert "clips of one recording, by their names, stay together" in capsys.readouterr().out
    mark = 12 if clips[0].startswith("Y") else 5
    parts = divide(task.corpora[0], clips, 42, 1)
    units = [{clip[:mark] for clip in part} for part in (parts.train, parts.validation, parts.test)]
    assert all(units) and sum(map(len, units)) == len(set().union(*units))


@pytest.mark.parametrize(
    ("header", "scale", "unit"),
    [
        ("file,onset_ms,offset_ms,label", 1000, "ms"),
        ("file,Begin Time (s),End Time (s),Species", 1, "s"),
        ("file,start_seconds,end_seconds,class", 1, "s"),
    ],
)
def test_units_in_names_of_columns(named, header, scale, unit):
    rows = [f"{clip}.wav,{0.1 * scale:g},{0.9 * scale:g},dog" for clip in CLIPS]
    corpus = named(CLIPS, {"l.csv": "\n".join([header, *rows])}).detection_task.corpora[0]
    assert (corpus.labels, corpus.table.unit) == ("strong", unit)


def test_columns_that_are_not_used_are_told(named, capsys):
    rows = [f"{clip}.wav,0.1,0.5,dog" for clip in CLIPS]
    named(CLIPS, {"l.csv": "\n".join(["file,onset,duration,label", *rows])})
    assert "l.csv: columns that are not used: onset, duration" in capsys.readouterr().out


def test_rows_with_wrong_times_are_no_names_of_classes(named, capsys):
    text = "0.1\t0.9\tdog\n-0.5\t0.3\tcat\n0.8\t0.2\tcat\n0.2\t0.4\tcat\n0.3\t0.4\tcat\n"
    task = named(CLIPS, {f"{clip}.txt": text for clip in CLIPS}).detection_task
    assert task.classes == ("cat", "dog")
    assert "16 rows without usable times, which training will refuse" in capsys.readouterr().out
    with pytest.raises(InputError, match="but no labels"):
        named(CLIPS, {f"{clip}.txt": "0.9\t0.1\tdog\n" for clip in CLIPS}, "other")


@pytest.mark.parametrize("names", [("train", "val", "test"), ("my_train", "weak valid", "eval")])
def test_tables_say_which_recordings_are_for_what(named, names):
    clips = [*CLIPS, "without"]
    texts = {
        f"{name}.csv": "\n".join(
            ["filename,onset,offset,event_label"]
            + [f"{clip}.wav,0.1,0.9,dog" for clip in CLIPS[first::3]]
        )
        for first, name in enumerate(names)
    }
    task = named(clips, texts).detection_task
    assert [(one.name, one.split, one.table and Path(one.table.path).stem) for one in task.corpora][
        :1
    ] == [("train", "train", names[0])]
    assert {one.name for one in task.corpora} == {
        *("train", "train_unlabelled", "validation", "test")
    }


def test_folders_with_glob_characters(named):
    clips = [f"a[1]/{use}/{n}" for use in ("train", "test") for n in range(5)]
    task = named(clips, {f"{clip}.txt": "0.1\t0.9\tdog\n" for clip in clips}).detection_task
    assert [one.pattern for one in task.corpora] == ["a[[]1]/train/**", "a[[]1]/test/**"]


@pytest.mark.parametrize("folder", ["${data.fs}", "x {clip}"])
def test_names_that_mean_something_in_a_description(named, folder):
    with pytest.raises(InputError, match="stands for something else in a description; rename"):
        named(CLIPS, {f"{clip}.txt": "0.1\t0.9\tdog\n" for clip in CLIPS}, folder)
    assert not Path("d.yaml").exists()


def test_a_table_of_other_recordings_is_named(named):
    with pytest.raises(InputError, match=r"no labels in l\.csv"):
        named(CLIPS, {"l.csv": "filename,onset,offset,label\n/old/c0.wav,0.1,0.9,dog\n"})
