"""Many recordings: what is written of each, what is counted, and what goes on after a fault."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from shutil import which

import numpy as np
import pytest
import soundfile as sf

from desed_task.checkpoints.spec import build_detector
from desed_task.dataio.annotations import read_strong_table
from desed_task.errors import InputError
from desed_task.file_names import unescape_name
from desed_task.inference.detector import DEFAULT_HOP_S, SoundEventDetector
from desed_task.inference.tuned_values import TunedValues
from desed_task.postprocess import DEFAULT_THRESHOLD
from desed_task.postprocess.calibration import Calibration, IsotonicCurve
from desed_task.postprocess.event_rules import EventRules
from local.classes_dict import VOCABULARY
from local.cli.exit_status import StoppedError
from local.cli.own_files import RECORD_FILE
from local.config import load_config
from local.predict import outputs
from local.predict import predict_all as searching
from local.predict.decoding.settings import settings_in_words, tuned_lines
from local.predict.outputs import FORMATS
from local.predict.predict_all import Output, detect_recordings, predict_all
from local.predict.recordings import Recording, find_recordings
from tests.desed_task.checkpoints.example_checkpoints import small_spec, tensors

RATE = 16000
LOW = 0.05  # of an untrained network everything is an event


@pytest.fixture(scope="module")
def detector():
    spec = small_spec(use_embeddings=False)
    return SoundEventDetector(build_detector(spec, tensors(spec), "small"))


@pytest.fixture
def recordings(tmp_path):
    paths = []
    for number, seconds in enumerate((1.0, 12.0, 3.0)):
        path = tmp_path / "in" / f"r{number}.wav"
        path.parent.mkdir(exist_ok=True)
        sf.write(path, 0.1 * np.random.default_rng(number).normal(size=int(seconds * RATE)), RATE)
        paths.append(Recording(path, f"sub/r{number}"))
    return paths


def output(tmp_path, formats=("tsv",), skip_existing=False):
    return Output(tmp_path / "out", formats, skip_existing, {"model": "student"})


def run(detector, recordings, output, threshold=LOW):
    return detect_recordings(detector, recordings, output, threshold=threshold, progress=False)


def test_every_format_says_the_same(detector, recordings, tmp_path):
    run(detector, recordings[1:2], output(tmp_path, tuple(FORMATS)))
    folder = tmp_path / "out" / "sub"
    assert {path.name for path in folder.iterdir()} == {
        "r1.tsv",
        "r1.json",
        "r1.txt",
        "r1.png",
        "r1.rttm",
        "r1.scores.tsv",
        "r1.npz",
        "r1.html",
    }
    content = json.loads((folder / "r1.json").read_text())
    events = content["events"]
    assert events and content["duration_s"] == 12.0 and content["model"] == "student"
    assert content["recording"] == str(recordings[1].path)
    assert content["thresholds"]["Speech"] == LOW
    head, *table = [line.split("\t") for line in (folder / "r1.tsv").read_text().splitlines()]
    assert head == ["filename", "onset", "offset", "event_label", "confidence"]
    assert [(float(r[1]), float(r[2]), r[3], float(r[4])) for r in table] == [
        (e["onset_s"], e["offset_s"], e["label"], e["confidence"]) for e in events
    ]
    assert {row[0] for row in table} == {"r1.wav"}
    marks = [line.split("\t") for line in (folder / "r1.txt").read_text().splitlines()]
    # Audacity shows the confidence as the last word of the label.
    words = [mark[2].rpartition(" ") for mark in marks]
    assert [(float(m[0]), float(m[1]), w[0]) for m, w in zip(marks, words, strict=True)] == [
        (e["onset_s"], e["offset_s"], e["label"]) for e in events
    ]
    np.testing.assert_allclose(
        [float(w[2]) for w in words], [e["confidence"] for e in events], atol=0.0051
    )
    fields = [line.split(" ") for line in (folder / "r1.rttm").read_text().splitlines()]
    assert {tuple(f[:3] + f[5:7] + f[9:]) for f in fields} == {
        ("SPEAKER", "r1", "1", "<NA>", "<NA>", "<NA>")
    }
    assert [(float(f[3]), f[7], float(f[8])) for f in fields] == [
        (e["onset_s"], e["label"].replace(" ", "_"), e["confidence"]) for e in events
    ]
    ends = [float(f[3]) + float(f[4]) for f in fields]
    np.testing.assert_allclose(ends, [e["offset_s"] for e in events], atol=2e-3)
    arrays = np.load(folder / "r1.npz")
    scores = np.loadtxt(folder / "r1.scores.tsv", delimiter="\t", skiprows=1)
    np.testing.assert_allclose(scores[:, 2:], arrays["postprocessed"], atol=1e-6)
    np.testing.assert_allclose(scores[:, 0], arrays["boundaries_s"][:-1], atol=1e-4)
    assert scores.shape == (300, 29)
    assert arrays["event_labels"].tolist() == list(detector.labels)
    assert (folder / "r1.png").read_bytes().startswith(b"\x89PNG")


def test_every_format_follows_the_rules(detector, recordings, tmp_path):
    """Merged classes, too; the frame scores stay as they are."""
    rules = EventRules(
        merge_gap_s=0.5, min_duration_s={"Dog": 100.0}, merged_classes={"Tür & Co": ["Cat", "car"]}
    )
    where = output(tmp_path, tuple(FORMATS))
    summary = detect_recordings(
        detector, recordings[1:2], where, threshold=LOW, rules=rules, progress=False
    )
    folder = tmp_path / "out" / "sub"
    events = json.loads((folder / "r1.json").read_text())["events"]
    labels = [event["label"] for event in events]
    assert "Tür & Co" in labels and not {"Dog", "Cat", "car"} & set(labels)
    assert set(events[0]) == {"onset_s", "offset_s", "label", "confidence"}
    assert summary.events["Tür & Co"] == labels.count("Tür & Co") < len(labels)
    table = [line.split("\t") for line in (folder / "r1.tsv").read_text("utf-8").splitlines()]
    assert [row[3] for row in table[1:]] == labels
    marks = [line.split("\t")[2] for line in (folder / "r1.txt").read_text("utf-8").splitlines()]
    assert [mark.rpartition(" ")[0] for mark in marks] == labels
    fields = [line.split(" ") for line in (folder / "r1.rttm").read_text("utf-8").splitlines()]
    assert [row[7] for row in fields] == [label.replace(" ", "_") for label in labels]
    assert np.load(folder / "r1.npz")["event_labels"].tolist() == list(detector.labels)


def test_rules_that_cannot_be_meant_write_nothing(detector, recordings, tmp_path):
    rules = EventRules(low_threshold=0.4)
    with pytest.raises(InputError, match=r"0.4 is above the threshold 0.05 of"):
        detect_recordings(
            detector, recordings, output(tmp_path), threshold=LOW, rules=rules, progress=False
        )
    assert not (tmp_path / "out").exists()


def test_settings_name_what_was_chosen_only(detector, tmp_path):
    """So that results of earlier versions, which had fewer settings, count as equal."""
    path = tmp_path / "x.ckpt"
    path.write_bytes(b"x")
    made_by = {"checkpoint": path, "model": "student"}
    plain = settings_in_words(detector, made_by, LOW, EventRules())
    assert set(plain) == {"checkpoint", "model", "threshold"}
    rules = EventRules(merge_gap_s=0.2, merged_classes={"pets": ("Dog", "Cat")})
    spec = small_spec(use_embeddings=False)
    calibration = Calibration("isotonic", {}, IsotonicCurve((0.1,), (0.2,)), {"Dog": 1})
    lengths = (3,) * len(spec.classes)
    tuned = TunedValues("best.yaml", "", lengths, {"kind": "boxes"}, calibration=calibration)
    other = SoundEventDetector(build_detector(spec, tensors(spec), "small"), tuned=tuned)
    chosen = settings_in_words(other, made_by, LOW, rules)
    more = {"merge_gap_s", "merged_classes", "decoder", "median_filter", "confidence"}
    assert set(chosen) == set(plain) | more
    assert chosen["confidence"].startswith("calibrated (isotonic); mean score for Alarm")
    assert all(type(value) is str for value in chosen.values())
    with pytest.raises(InputError, match="threshold: 'pets' is a merged class"):
        settings_in_words(other, made_by, {"pets": 0.4}, rules)
    told = tuned_lines(other, tuned, {"Dog": 0.3}, EventRules())
    assert told == (
        "tuned values: best.yaml (decoder boxes; confidence is calibrated, isotonic, for 1 of 27 "
        "classes and the mean score for the others)"
    )
    fitted = replace(tuned, calibration=replace(calibration, thresholds={"Dog": 0.4}))
    again = SoundEventDetector(build_detector(spec, tensors(spec), "small"), tuned=fitted)
    assert tuned_lines(again, fitted, {"Dog": 0.4}, EventRules()) == told
    assert tuned_lines(again, fitted, 0.4, EventRules()) == told
    assert "the calibration of 1 class (Dog) was fitted at another" in tuned_lines(
        again, fitted, 0.5, EventRules()
    )
    both = "confidences of pets are calibrated for Dog and mean scores for Cat; of joined events"
    assert both in tuned_lines(again, fitted, 0.4, rules)
    without = SoundEventDetector(
        build_detector(spec, tensors(spec), "small"), tuned=tuned, calibrated=False
    )
    assert tuned_lines(without, tuned, 0.5, rules).endswith("boxes; confidence is the mean score)")


def test_an_rttm_has_ten_fields_whatever_the_names(detector, recordings, tmp_path):
    path = recordings[0].path.with_name("a b\tc\u00a0d.wav")
    recordings[0].path.rename(path)
    run(detector, [Recording(path, "x")], output(tmp_path, ("rttm",)))
    rows = (tmp_path / "out/x.rttm").read_text(encoding="utf-8").splitlines()
    assert rows and {len(row.split()) for row in rows} == {10}
    assert {row.split()[1] for row in rows} == {r"a_b\tc_d"}
    assert len({row.split()[7] for row in rows}) > 1


TABLE = "events.tsv"


def run_all(detector, inputs, where, capsys, threshold=LOW):
    status = predict_all(detector, find_recordings(inputs), where, threshold=threshold)
    return status, capsys.readouterr()


def rows_of(table):
    head, *rows = [line.split("\t") for line in table.read_text("utf-8").splitlines()]
    assert head == ["filename", "onset", "offset", "event_label", "confidence"]
    return rows


@pytest.fixture
def folder(tmp_path):
    """Recordings in two subfolders of one name each, one of them without events."""
    folder = tmp_path / "in"
    for number, name in enumerate(("a/x.wav", "b/x.wav", "é z.wav")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise = 0.1 * np.random.default_rng(number).normal(size=2 * RATE)
        sf.write(folder / name, noise, RATE)
    return folder


def test_a_folder_has_one_table_of_all_events(detector, folder, tmp_path, capsys):
    where = output(tmp_path)
    status, said = run_all(detector, [folder], where, capsys)
    assert status == 0 and f"events of all recordings: {where.folder / TABLE}" in said.out
    rows = rows_of(where.folder / TABLE)
    single = []
    for name in ("a/x", "b/x", "é z"):
        for row in rows_of(where.folder / f"{name}.tsv"):
            single.append([f"{name}.wav", *row[1:]])
    assert rows == single and {row[0] for row in rows} == {"a/x.wav", "b/x.wav", "é z.wav"}
    table = read_strong_table(where.folder / TABLE, VOCABULARY)
    assert len(table) == len(rows)
    # Our own, so it may be written again; what the user changed is not.
    assert run_all(detector, [folder], where, capsys)[0] == 0
    (where.folder / TABLE).write_text("mine")
    with pytest.raises(InputError, match=TABLE):
        run_all(detector, [folder], where, capsys)


def test_a_recording_without_events_is_in_the_table(detector, folder, tmp_path, capsys):
    where = output(tmp_path)
    run_all(detector, [folder], where, capsys, threshold=0.9999)
    assert rows_of(where.folder / TABLE) == [
        [name, "", "", "", ""] for name in ("a/x.wav", "b/x.wav", "é z.wav")
    ]
    events = read_strong_table(where.folder / TABLE, VOCABULARY)
    assert len(events) == 0 and events.eventless == {"a/x", "b/x", "é z"}


def test_rows_of_skipped_recordings_stay_and_those_of_failed_ones_go(
    detector, folder, tmp_path, capsys
):
    where = output(tmp_path, skip_existing=True)
    run_all(detector, [folder], where, capsys)
    before = (where.folder / TABLE).read_bytes()
    (where.folder / TABLE).unlink()
    (where.folder / "b/x.tsv").unlink()
    status, said = run_all(detector, [folder], where, capsys)
    assert status == 0 and (where.folder / TABLE).read_bytes() == before
    told = "1 recording, 2 skipped because their files exist (a/x.wav, é z.wav), 2.0 s of audio"
    assert told in said.out
    (folder / "b/x.wav").write_text("no sound")
    status, said = run_all(detector, [folder], where, capsys)
    assert status == 1 and "b/x.wav" in said.err
    assert {row[0] for row in rows_of(where.folder / TABLE)} == {"a/x.wav", "é z.wav"}


@pytest.mark.parametrize("late", [False, True])
def test_a_table_that_is_not_ours_is_named(late, detector, folder, tmp_path, capsys):
    where = output(tmp_path, skip_existing=True)
    run_all(detector, [folder], where, capsys)
    lines = (where.folder / "b/x.tsv").read_text().splitlines()
    text = "\n".join([*lines, "x.wav\t1"]) if late else "begin\tend\n"
    (where.folder / "b/x.tsv").write_text(text)
    status, said = run_all(detector, [folder], where, capsys)
    assert status == 1 and "x.tsv: is not a table of events of this program" in said.err
    assert {row[0] for row in rows_of(where.folder / TABLE)} == {"a/x.wav", "é z.wav"}


def test_a_recording_that_is_called_like_the_table_keeps_its_ending(
    detector, folder, tmp_path, capsys
):
    (folder / "a/x.wav").rename(folder / "Events.wav")
    where = output(tmp_path, ("tsv", "json"))
    assert run_all(detector, [folder], where, capsys)[0] == 0
    assert {row[0] for row in rows_of(where.folder / TABLE)} == {"Events.wav", "b/x.wav", "é z.wav"}
    assert len(rows_of(where.folder / "Events.wav.tsv")) > 0
    # Alone it needs no table, and no other name.
    assert run_all(detector, [folder / "Events.wav"], where, capsys)[0] == 0
    assert (where.folder / "Events.tsv").exists()


def test_a_folder_that_is_called_like_the_table_is_refused(detector, folder, tmp_path, capsys):
    (folder / "a").rename(folder / TABLE)
    with pytest.raises(InputError, match=r"x\.wav would be written below events\.tsv"):
        run_all(detector, [folder], output(tmp_path), capsys)
    assert not (tmp_path / "out").exists()
    assert run_all(detector, [folder], output(tmp_path, ("json",)), capsys)[0] == 0


def test_recordings_of_one_name_in_two_folders_have_their_whole_path(
    detector, folder, tmp_path, capsys
):
    where = output(tmp_path)
    run_all(detector, [folder / "a", folder / "b", folder / "é z.wav"], where, capsys)
    names = {row[0] for row in rows_of(where.folder / TABLE)}
    assert names == {str(folder / "a/x.wav"), str(folder / "b/x.wav"), "é z.wav"}


def test_the_table_of_events_is_one_of_the_field(detector, recordings, tmp_path):
    run(detector, recordings[:1], output(tmp_path))
    table = read_strong_table(tmp_path / "out/sub/r0.tsv", VOCABULARY)
    assert table.clip_ids == ("r0",) and len(table) > 0


def test_what_was_found_is_counted(detector, recordings, tmp_path):
    summary = run(detector, recordings, output(tmp_path, ("json",)))
    written = [
        event
        for path in (tmp_path / "out/sub").glob("*.json")
        for event in json.loads(path.read_text())["events"]
    ]
    assert summary.n_done == 3 and summary.audio_s == 16.0 and summary.busy_s > 0
    assert sum(summary.events.values()) == len(written)
    label = written[0]["label"]
    seconds = sum(e["offset_s"] - e["onset_s"] for e in written if e["label"] == label)
    assert summary.event_s[label] == pytest.approx(seconds, abs=0.01)
    table = summary.table().splitlines()
    assert table[0].split() == ["class", "events", "seconds"]
    assert table[-1].startswith("3 recordings, 16.0 s of audio in ")
    assert "real-time factor" in table[-1]


def test_without_events_the_tables_are_empty_but_there(detector, recordings, tmp_path):
    summary = run(detector, recordings[:1], output(tmp_path, ("tsv", "txt")), threshold=0.999)
    assert summary.table().startswith("no events\n1 recording,")
    assert (tmp_path / "out/sub/r0.tsv").read_text().count("\n") == 1
    assert (tmp_path / "out/sub/r0.txt").read_text() == ""


def test_a_fault_does_not_end_the_others(detector, recordings, tmp_path):
    text = tmp_path / "text.wav"
    text.write_text("hello")
    nan = tmp_path / "nan.wav"
    samples = np.zeros(2 * RATE)
    samples[RATE] = np.nan
    sf.write(nan, samples, RATE, subtype="FLOAT")
    mixed = [Recording(text, "text"), Recording(nan, "nan"), *recordings[:1]]
    summary = run(detector, mixed, output(tmp_path))
    assert summary.n_done == 1
    assert [fault.partition(":")[0] for fault in summary.faults] == [str(text), str(nan)]
    assert {path.name for path in (tmp_path / "out").rglob("*.tsv")} == {"r0.tsv"}


def test_a_fault_without_a_place_gets_one(detector, recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(searching, "stream_file", lambda *_: iter(()))
    (fault,) = run(detector, recordings[:1], output(tmp_path)).faults
    assert fault == f"{recordings[0].path}: the recording contains no samples; give at least one"


@pytest.mark.parametrize("names", [("a.wav", "a.scores.wav"), ("x/B.wav", "x/b.SCORES.wav")])
def test_two_recordings_never_share_a_file(detector, tmp_path, names):
    folder = tmp_path / "in"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(folder / name, np.zeros(16000), 16000)
    found = find_recordings([folder]).recordings
    with pytest.raises(
        InputError, match=r"Rename .*\n  - .* would both write .*\.(scores|SCORES)\.tsv"
    ):
        run(detector, found, output(tmp_path, ("tsv", "scores")))
    run(detector, found, output(tmp_path, ("tsv", "json")))
    assert len(list((tmp_path / "out").rglob("*.tsv"))) == 2


def test_what_is_done_can_be_skipped(detector, recordings, tmp_path):
    run(detector, recordings[:2], output(tmp_path, ("tsv",)))
    os.utime(recordings[0].path, (2e9, 2e9))  # recorded again since
    changed = tmp_path / "out/sub/r1.tsv"
    changed.write_text("mine")
    summary = run(detector, recordings, output(tmp_path, ("tsv",), skip_existing=True))
    assert (summary.n_done, summary.n_skipped) == (2, 1)
    assert changed.read_text() == "mine"
    assert ", 1 skipped because its files exist (r1.wav)" in summary.table()
    both = output(tmp_path, ("tsv", "txt"), skip_existing=True)
    with pytest.raises(InputError, match=str(changed)):
        run(detector, recordings[1:2], both)
    summary = run(detector, recordings[1:2], both._replace(overwrite=True))
    assert summary.n_done == 1 and changed.read_text() != "mine"


def test_ctrl_c_says_how_to_go_on_and_leaves_no_part(detector, recordings, tmp_path, monkeypatch):
    write = FORMATS["tsv"].write

    def stopped(path: Path, prediction):
        if path.name == "r1.tsv":
            with outputs.atomic_path(path) as temporary:
                temporary.write_text("half")
                raise KeyboardInterrupt
        write(path, prediction)

    monkeypatch.setitem(FORMATS, "tsv", FORMATS["tsv"]._replace(write=stopped))
    with pytest.raises(StoppedError, match=r"stopped after 1 of 3 recordings; .* --skip_existing"):
        run(detector, recordings, output(tmp_path))
    assert [path.name for path in (tmp_path / "out" / "sub").iterdir()] == ["r0.tsv"]


def test_the_bar_ends_at_the_length_of_all_recordings(detector, recordings, tmp_path, capsys):
    detect_recordings(detector, recordings, output(tmp_path), threshold=LOW, progress=True)
    assert "detecting: 16/16 seconds (100 %)" in capsys.readouterr().err


def test_the_configuration_has_the_librarys_values():
    root = Path(__file__).resolve().parents[3]
    for name in ("mini", "pretrained"):
        config = load_config(root / f"confs/{name}.yaml")
        assert (config.predict.hop_s, config.predict.threshold) == (
            DEFAULT_HOP_S,
            DEFAULT_THRESHOLD,
        )
    assert type(config.predict)().model_dump() == {
        "hop_s": DEFAULT_HOP_S,
        "threshold": DEFAULT_THRESHOLD,
        "low_threshold": None,
        "min_duration_s": 0.0,
        "merge_gap_s": 0.0,
        "merged_classes": {},
    }


def test_a_folder_that_cannot_be_made_is_told_before_the_work(detector, recordings, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match=r"out \(a folder is needed\)"):
        run(detector, recordings, output(tmp_path))


ODD_NAMES = [
    b"rec\xff.wav",
    b"tab\tnew\nline\r.wav",
    b"\x1b[31mred.wav",
    "cafe\u0301.wav".encode(),
    "café 名.wav".encode(),
    b"- $x_{ %s {} #?&|\\'\".wav",
    b" .wav",
    b"end. .wav",
    b"x" * 251 + b".wav",
    "é".encode() * 125 + b".flac",
]


def test_recordings_of_any_name_are_done(detector, tmp_path, capsys):
    folder = tmp_path / os.fsdecode(b"in\xe9")
    folder.mkdir()
    samples = 0.1 * np.random.default_rng(0).normal(size=RATE)
    for name in ODD_NAMES:
        kind = "FLAC" if name.endswith(b"flac") else "WAV"
        sf.write(os.path.join(os.fsencode(folder), name), samples, RATE, format=kind)
    (folder / os.fsdecode(b"bad\xfe\n.wav")).write_bytes(b"no sound")
    to = output(tmp_path, tuple(FORMATS))._replace(folder=tmp_path / os.fsdecode(b"out\xff"))
    status = searching.predict_all(detector, find_recordings([folder]), to, threshold=LOW)
    told = capsys.readouterr()
    assert status == 1
    errors = told.err.partition("Recordings not read:\n")[2].splitlines()
    assert len(errors) == 1 and r"in\xe9/bad\xfe\n.wav: is not readable as audio" in errors[0]
    assert rf"results: {tmp_path}/out\xff" in told.out and "\x1b" not in told.out + errors[0]
    written = [path for path in to.folder.iterdir() if path.name != RECORD_FILE]
    assert len(written) == len(ODD_NAMES) * len(FORMATS) + 2  # the table and index of all
    contents = [json.loads(path.read_bytes()) for path in to.folder.glob("*.json")]
    recordings = [unescape_name(content["recording"]) for content in contents]
    assert {os.fsencode(name) for name in recordings} == {
        os.path.join(os.fsencode(folder), name) for name in ODD_NAMES
    }
    stems = set()
    for path in to.folder.glob("*.tsv"):
        if not path.name.endswith((".scores.tsv", TABLE)):
            rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()]
            assert {len(row) for row in rows} == {5}
            stems.add(rows[1][0])
    assert {os.fsencode(unescape_name(name)) for name in stems} == set(ODD_NAMES)
    again = detect_recordings(
        detector,
        find_recordings([folder]).recordings,
        to._replace(skip_existing=True),
        threshold=LOW,
        progress=False,
    )
    assert again.n_skipped == len(ODD_NAMES)


def test_a_name_that_the_output_folder_refuses_ends_only_its_recording(
    detector, recordings, tmp_path
):
    refused = recordings[1]._replace(name="x" * 300)
    summary = run(detector, [recordings[0], refused, recordings[2]], output(tmp_path))
    assert summary.n_done == 2 and len(summary.faults) == 1
    assert "r1.wav: its results cannot be called" in summary.faults[0]
    assert "(File name too long); rename the recording or" in summary.faults[0]


def test_a_folder_in_the_place_of_a_result_is_named_first(detector, recordings, tmp_path):
    (tmp_path / "out/sub/r1.tsv").mkdir(parents=True)
    with pytest.raises(InputError, match=r"r1\.tsv \(a folder\)"):
        run(detector, recordings, output(tmp_path))


def test_a_warning_about_an_odd_name_is_one_line(detector, tmp_path, capsys):
    path = tmp_path / "tab\tnew\nline.wav"
    sf.write(path, np.zeros(RATE), RATE)
    assert run(detector, [Recording(path, "a")], output(tmp_path)).n_done == 1
    told = capsys.readouterr().err
    assert rf"warning: {tmp_path}/tab\tnew\nline.wav: is digitally silent; events" in told


def test_recordings_without_sound_are_named_and_done(detector, recordings, tmp_path, capsys):
    mute, opposite, short = (recording.path for recording in recordings)
    sf.write(mute, np.zeros(RATE), RATE)
    half = 0.1 * np.random.default_rng(0).normal(size=3 * RATE)
    sf.write(opposite, np.stack([half, -half], axis=1), RATE)
    short.write_bytes(short.read_bytes()[:-1])
    summary = run(detector, recordings, output(tmp_path))
    assert (summary.n_done, summary.faults) == (3, [])
    told = capsys.readouterr().err
    for path, text in (
        (mute, "is digitally silent; events that are detected in it are not real"),
        (opposite, "its channels cancel each other (opposite phase) in 3.0 of 3.0 s"),
        (short, "1 of 96000 bytes of samples (0.0312 ms) are missing at its end; the rest is read"),
    ):
        assert told.count(f"warning: {path}: {text}") == 1
    assert told.count("warning: ") == 3
    assert len(list((tmp_path / "out" / "sub").iterdir())) == 3


def test_every_recording_that_cannot_be_read_is_named(detector, tmp_path, capsys):
    # Other lists of problems end after 20.
    paths = [tmp_path / f"r{number}.wav" for number in range(24)]
    for path in paths:
        path.write_text("no audio")
    assert predict_all(detector, find_recordings(paths), output(tmp_path), threshold=LOW) == 1
    told = capsys.readouterr().err
    assert [path.name for path in paths if f"  - {path}: is not readable" not in told] == []


def test_a_phone_s_recording_gives_the_events_of_its_samples(detector, recordings, tmp_path):
    plain = recordings[2]
    phone = Recording(plain.path.with_name("-phone: 1.m4a"), "phone")
    if which("ffmpeg") is None:
        what = "ffmpeg is not installed: apt-get install ffmpeg"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(what)
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", plain.path, "-c:a", "alac"]
    subprocess.run([*command, f"file:{phone.path}"], check=True)
    assert run(detector, [plain, phone], output(tmp_path)).n_done == 2
    tables = (tmp_path / "out" / name for name in ("sub/r2.tsv", "phone.tsv"))
    expected, found = (table.read_text().replace("r2.wav", "-phone: 1.m4a") for table in tables)
    assert found == expected and found.count("\n") > 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [("r0.tsv", "file"), ("r1.json", "file"), ("r2.txt", "file"), ("r1.png", "link")],
)
def test_files_of_the_user_beside_recordings_stay(
    detector, recordings, tmp_path, monkeypatch, name, kind
):
    """Results into the folder of the recordings, where labels of the user may be."""
    beside = [Recording(one.path, one.path.stem) for one in recordings]
    where = Output(tmp_path / "in", ("tsv", "json", "txt", "png"), False, {})
    mine = tmp_path / "in" / name
    if kind == "file":
        mine.write_text("of the user")
    else:
        mine.symlink_to(beside[0].path)
    before = {path: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr(searching, "_detect_recording", None)  # Before anything is computed.
        with pytest.raises(InputError, match=f"--overwrite:\n  - {mine}$"):
            run(detector, beside, where)
    assert {path: path.read_bytes() for path in (tmp_path / "in").iterdir()} == before
    # Without the format that it stands in the way of.
    others = tuple(format_ for format_ in where.formats if format_ != mine.suffix[1:])
    assert run(detector, beside, where._replace(formats=others)).n_done == 3
    assert before.items() <= {p: p.read_bytes() for p in (tmp_path / "in").iterdir()}.items()
    assert run(detector, beside[:1], where._replace(formats=others)).n_done == 1
    assert run(detector, beside, where._replace(overwrite=True)).faults == []
    assert not mine.is_symlink() and mine.read_bytes() != b"of the user"
    assert beside[0].path.read_bytes() == before[beside[0].path]


def test_an_edited_result_stays_and_a_stopped_run_goes_on(
    detector, recordings, tmp_path, monkeypatch
):
    detect = searching._detect_recording

    def stop(detector, recording, *more):
        if recording is recordings[1]:
            raise KeyboardInterrupt
        return detect(detector, recording, *more)

    with monkeypatch.context() as patched:
        patched.setattr(searching, "_detect_recording", stop)
        with pytest.raises(StoppedError):
            run(detector, recordings, output(tmp_path))
    assert run(detector, recordings, output(tmp_path, skip_existing=True)).n_skipped == 1
    assert run(detector, recordings, output(tmp_path)).n_done == 3
    edited = tmp_path / "out/sub/r2.tsv"
    edited.write_text(edited.read_text() + "r2.wav\t0\t1\tSpeech\t1\n")
    with pytest.raises(InputError, match=str(edited)):
        run(detector, recordings, output(tmp_path))
    assert run(detector, recordings, output(tmp_path, skip_existing=True)).n_skipped == 3
