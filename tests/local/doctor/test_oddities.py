"""What is odd about the data of a described task, and the same from pure tables."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import yaml

from desed_task.dataio.annotations import EventTable
from desed_task.labels import Vocabulary
from local.config import load_config
from local.describe.describe import describe_folder
from local.doctor.check import check_data
from local.doctor.oddities.equal_audio import equal_audio
from local.doctor.oddities.events import alike, events_by_class, few, overlapping_events
from local.doctor.oddities.leaks import ClipSet, find_leaks, video_of
from tests.local.describe.folders import record, tracks, write


@pytest.mark.parametrize(
    ("clip", "video"),
    [
        ("YaBcDeFgHiJk_0.000_10.000", "aBcDeFgHiJk"),
        ("x/y/Y-BcDeFgHi_k_30.000_40.000", "-BcDeFgHi_k"),
        ("aBcDeFgHiJk_0.000_10.000", "aBcDeFgHiJk"),
        ("aBcDeFgHiJk_30000", "aBcDeFgHiJk"),
        ("aBcDeFgHiJk_0", "aBcDeFgHiJk"),
        ("YaBcDeFgHiJk_30_40", "aBcDeFgHiJk"),
        # Names that only look like it.
        ("recording01_10_20", None),
        ("recording01_0001", None),
        ("YaBcDeFgHiJ_0.000_10.000", "YaBcDeFgHiJ"),
        ("garden", None),
        ("aBcDeFgHiJü_0.000_10.000", None),
    ],
)
def test_videos_are_told_by_their_names(clip, video):
    assert video_of(clip) == video


def test_equal_audio_is_found_whatever_the_file(tmp_path):
    record(tmp_path / "a.wav", seconds=2, seed=1)
    shutil.copy(tmp_path / "a.wav", tmp_path / "b.wav")
    samples, rate = sf.read(tmp_path / "a.wav", dtype="int16")
    sf.write(tmp_path / "c.flac", samples, rate)
    middle = samples.copy()
    middle[10_000] += 1  # Outside of what is looked at first.
    sf.write(tmp_path / "d.wav", middle, rate)
    sf.write(tmp_path / "e.wav", samples, rate // 2)
    for name in ("s", "t"):
        sf.write(tmp_path / f"{name}.wav", np.zeros(8000, dtype=np.int16), rate)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "link.wav").symlink_to("d.wav")
    files = {path.stem: path for path in sorted(tmp_path.iterdir())}
    assert {frozenset(group) for group in equal_audio(files)} == {
        frozenset({"a", "b", "c"}),
        frozenset({"d", "link"}),
    }


def sets(tmp_path: Path, **names: list[str]) -> list[ClipSet]:
    uses = {"train": "training", "val": "validation", "test": "test", "more": "training"}
    found = []
    for title, clips in names.items():
        for clip in clips:
            record(tmp_path / title / f"{clip}.wav", seconds=0.5)
        files = {clip: tmp_path / title / f"{clip}.wav" for clip in clips}
        found.append(ClipSet(title, uses[title], files))
    return found


def test_leaks_are_told_once_and_only_between_uses(tmp_path):
    video = "YaBcDeFgHiJk_{}.000_9.000"
    train, more, test = sets(
        tmp_path, train=[video.format(0), "1"], more=["1", "2"], test=[video.format(1), "1", "3"]
    )
    assert [(one.by, dict(one.clips)) for one in find_leaks([train, more, test])] == [
        ("YouTube video", {video.format(0): video.format(1)})
    ]
    # The same names in several folders are other clips, the same file is the same clip.
    shutil.copy(more.files["2"], test.files["3"])
    (same,) = find_leaks([more, test])
    assert same.by == "audio" and same.concerns_training
    assert same.text() == (
        "1 clip of more (training) is in test (test) too, by audio (2 = 3); scores will be too "
        "good: take it out of one of the two"
    )
    shared = ClipSet("val", "validation", test.files)
    (whole,) = find_leaks([shared, test])
    assert whole.by == "file" and len(whole.clips) == 3 and not whole.concerns_training
    assert "3 clips of val (validation) are in test (test) too, by file (" in whole.text()
    assert list(find_leaks([train, train._replace(title="again")])) == []


def table(*events: tuple[str, float, float, str], confidence: float = 1.0) -> EventTable:
    clips = tuple(dict.fromkeys(clip for clip, *_ in events))
    vocabulary = Vocabulary(("cat", "dog", "bird"))
    return EventTable(
        clips,
        np.array([clips.index(clip) for clip, *_ in events], dtype=np.int64),
        np.array([onset for _, onset, _, _ in events], dtype=float),
        np.array([offset for _, _, offset, _ in events], dtype=float),
        np.array([vocabulary.index(label) for *_, label in events], dtype=np.int64),
        np.full(len(events), confidence, dtype=np.float32),
        vocabulary,
    )


def test_overlapping_events():
    events = table(
        ("b", 3, 4, "dog"),
        ("a", 0, 9, "dog"),
        ("a", 1, 2, "dog"),
        ("a", 5, 10, "dog"),  # Inside the first, though behind the second.
        ("a", 1, 2, "cat"),
        ("a", 2, 3, "cat"),  # They only touch.
        ("b", 0, 3.5, "dog"),
        ("b", 0, 3, "cat"),
    )
    assert overlapping_events(events) == {"b": ("dog",), "a": ("dog",)}
    assert overlapping_events(table()) == {}


def test_counts_and_likeness_of_labels():
    events = table(("a", 0, 1, "dog"), ("a", 2, 3, "dog"), ("b", 0, 1, "cat"))
    assert events_by_class(events) == {"cat": 1, "dog": 2}
    assert events_by_class(table(("a", 0, 1, "dog"), confidence=0.4)) == {}
    assert events_by_class(None) == {}
    assert few({"cat": 1, "dog": 20}, ("bird", "dog", "cat")) == {"cat": 1}
    labels = ["Dog", "dog", "d og", "running_water", "Running water", "café", "cafe\u0301", "x"]
    assert alike(labels) == [("Dog", "dog", "d og"), ("running_water", "Running water"),
                             ("café", "cafe\u0301")]  # fmt: skip


def test_the_doctor_tells_what_is_odd_in_a_described_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clips = [f"{use}/{number}" for use in ("train", "val", "test") for number in range(4)]
    for clip in clips:
        record(Path("rec") / f"{clip}.wav", seed=7 if clip in ("train/0", "test/3") else None)
    texts = tracks(clips)
    texts["train/1.txt"] = "0.1\t0.9\tdog\n0.5\t1.5\tdog\n"
    texts["train/2.txt"] = ""
    for clip in clips[4:8]:
        texts[f"{clip}.txt"] = "0.1\t0.9\tdog\n"
    write(Path("rec"), texts)
    path = describe_folder(Path("rec"))
    tree = yaml.safe_load(path.read_text())
    tree["task"]["corpora"]["spare"] = {"audio": "rec", "labels": "none"}
    tree["task"]["classes"].append("bird")
    path.write_text(yaml.safe_dump(tree))
    report = check_data(load_config(path), progress=False)
    assert not report.training_would_fail
    told = {finding.message: finding.level for finding in report.findings}
    for level, text in (
        ("warning", "no training clip has an event or label of 'bird'; add some, or take it out"),
        ("warning", "1 clip of train (training) is in test (test) too, by audio (train/0 = test/3"),
        (
            "note",
            "classes with fewer than 10 events or labelled clips in training: cat (1), dog",
        ),
        ("note", "validation: no events of 'cat', 'bird' in the validation, so that they are not"),
        ("note", "rec/{clip}.txt: events of one class overlap in 1 clip (train/1: dog); they are"),
        ("note", "train: 1 of 4 clips has no events (train/2): negative examples"),
        ("note", "task.corpora.spare: is not used: it has no rows in a batch and is not scored"),
    ):
        assert [found for message, found in told.items() if message.startswith(text)] == [level], (
            text,
            told,
        )
    assert {part.name for part in report.parts} == {"train", "validation", "test"}
    assert all((part.listed, part.present) == (4, 4) for part in report.parts)
