"""MAESTRO: windows, clips, and tables."""

import os
import re

import numpy as np
import pytest
import soundfile as sf

from desed_task.errors import InputError
from local.cli.own_files import RECORD_FILE
from local.prep import maestro_clips
from local.prep.maestro_clips import clip_name, cut_recordings, windows
from local.prep.maestro_recordings import scene_of

RATE = 1000  # Windows do not depend on the rate, and small files are quick.


@pytest.fixture
def tree(tmp_path):
    """Recordings in scene folders, annotations in folders named otherwise."""

    def write(recording, duration_s, lines, channels=1, subtype="PCM_16", rate=RATE):
        audio = tmp_path / "audio" / scene_of(recording) / f"{recording}.wav"
        labels = tmp_path / "labels" / f"soft_labels_{scene_of(recording)}"
        audio.parent.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        shape = (round(duration_s * rate), channels)
        samples = np.random.default_rng(len(lines)).uniform(-1, 1, shape)
        sf.write(audio, samples, rate, subtype=subtype)
        (labels / f"{recording}.txt").write_text("".join(f"{line}\n" for line in lines))
        return audio

    write.root = tmp_path
    return write


def cut(tree, recordings, hop_s=5.0, **options):
    root = tree.root
    layout = (root / "audio", root / "labels", recordings, root / "clips", root / "clips.tsv")
    return cut_recordings(*layout, hop_s=hop_s, progress=False, **options)


def clips_of(tree):
    return sorted(path.name for path in (tree.root / "clips").iterdir())


def rows_of(tree):
    return [line.split("\t") for line in (tree.root / "clips.tsv").read_text().splitlines()]


@pytest.mark.parametrize(
    ("n_samples", "hop", "expected"),
    [
        (312, 50, [(0, 100), (50, 150), (100, 200), (150, 250), (200, 300), (250, 312)]),
        (240, 50, [(0, 100), (50, 150), (100, 200), (150, 240)]),
        (250, 50, [(0, 100), (50, 150), (100, 200), (150, 250)]),
        (123, 10, [(0, 100), (10, 110), (20, 120), (30, 123)]),
        (100, 10, [(0, 100)]),
        (101, 10, [(0, 100), (10, 101)]),
        (62, 50, [(0, 62)]),
    ],
)
def test_one_shorter_window_takes_what_is_left(n_samples, hop, expected):
    assert windows(n_samples, 100, hop) == expected


def test_names_count_whole_centiseconds():
    assert clip_name("car_1", 25 * 44100, 31 * 44100 + 9000, 44100) == "car_1-002500-003120.wav"
    # 4.35 s exactly, where int(100 * 4.35) gives 434.
    assert clip_name("car_1", 0, 191835, 44100) == "car_1-000000-000435.wav"


def test_published_table_comes_out_of_its_recordings(tree, parity):
    """A published run's clips tell the recordings' annotation; cut again, they are the same."""
    published = parity("metrics/real_maestro_val_tsv.tsv").read_text().splitlines()
    durations = dict(
        line.split("\t")
        for line in parity("metrics/real_maestro_val_dur.tsv").read_text().splitlines()
    )
    lines = {}
    for row in published[1:]:
        clip, onset, offset, label, value = row.split("\t")
        recording, start = re.fullmatch(r"(\w+)-(\d+)-\d+\.wav", clip).groups()
        shift = int(start) / 100
        line = f"{round(float(onset) + shift, 6)}\t{round(float(offset) + shift, 6)}\t{label}"
        lines.setdefault(recording, {})[f"{line}\t{value}"] = None
    assert len(lines) == 5
    for recording, events in lines.items():
        tree(recording, float(durations[f"{recording}.wav"]), list(events))
    report = cut(tree, tuple(lines))
    assert report.done == len({row.split("\t")[0] for row in published[1:]})
    assert (tree.root / "clips.tsv").read_text().splitlines() == published


def test_events_are_clipped_and_relative(tree):
    tree(
        "city_center_07",
        23.5,
        [
            "9\t11\tcar\t0.25",
            "0\t1\tfootsteps\t1",
            "14.25\t15\tcar\t0.5",
            "23\t24\tbirds_singing\t0.125",
        ],
    )
    cut(tree, ["city_center_07"])
    assert rows_of(tree) == [
        ["filename", "onset", "offset", "event_label", "confidence"],
        ["city_center_07-000000-001000.wav", "9.0", "10.0", "car", "0.25"],
        ["city_center_07-000000-001000.wav", "0.0", "1.0", "footsteps", "1.0"],
        ["city_center_07-000500-001500.wav", "4.0", "6.0", "car", "0.25"],
        ["city_center_07-000500-001500.wav", "9.25", "10.0", "car", "0.5"],
        ["city_center_07-001000-002000.wav", "0.0", "1.0", "car", "0.25"],
        ["city_center_07-001000-002000.wav", "4.25", "5.0", "car", "0.5"],
        ["city_center_07-001500-002350.wav", "8.0", "8.5", "birds_singing", "0.125"],
    ]


@pytest.mark.parametrize(("channels", "subtype"), [(1, "PCM_16"), (2, "PCM_24"), (2, "FLOAT")])
def test_clips_hold_the_recordings_samples(tree, channels, subtype):
    path = tree("grocery_store_01", 13.0, ["0\t1\tcar\t1"], channels, subtype)
    cut(tree, ["grocery_store_01"], hop_s=1.0)
    assert len(clips_of(tree)) == 4
    whole, _ = sf.read(path, dtype="float64")
    part, rate = sf.read(tree.root / "clips" / "grocery_store_01-000200-001200.wav")
    assert rate == RATE
    assert sf.info(tree.root / "clips" / clips_of(tree)[0]).subtype == subtype
    np.testing.assert_array_equal(part, whole[2 * RATE : 12 * RATE])


def test_table_is_sorted_by_filename(tree):
    for recording in ("metro_station_04", "metro_station_01"):
        tree(recording, 16.0, ["0\t15.5\tmetro leaving\t0.5"])
    cut(tree, ["metro_station_04", "metro_station_01"])
    names = [row[0] for row in rows_of(tree)[1:]]
    assert len(names) == 6
    assert names == sorted(names)


def test_a_stopped_run_is_completed(tree):
    tree("city_center_05", 27.0, ["0\t27\tcar\t1"])
    assert cut(tree, ["city_center_05"]).done == 5
    table = (tree.root / "clips.tsv").read_text()
    first, second, third, *_ = (tree.root / "clips" / name for name in clips_of(tree))
    untouched = third.stat().st_mtime_ns
    first.unlink()
    second.write_bytes(second.read_bytes()[:5000])
    report = cut(tree, ["city_center_05"])
    assert (report.done, report.skipped) == (2, 3)
    assert sf.info(second).frames == 10 * RATE
    assert third.stat().st_mtime_ns == untouched
    assert (tree.root / "clips.tsv").read_text() == table


def test_clips_of_a_replaced_recording_are_cut_again(tree):
    path = tree("city_center_05", 10.0, ["0\t10\tcar\t1"])
    cut(tree, ["city_center_05"])
    sf.write(path, np.zeros(10 * RATE), RATE)
    later = path.stat().st_mtime + 10
    os.utime(path, (later, later))
    assert cut(tree, ["city_center_05"]).done == 1
    assert not sf.read(tree.root / "clips" / clips_of(tree)[0])[0].any()


def test_clips_of_a_recording_replaced_by_an_older_one_are_cut_again(tree):
    path = tree("city_center_05", 12.0, ["0\t10\tcar\t1"])
    cut(tree, ["city_center_05"])
    os.utime(path, (3e9, 3e9))
    assert cut(tree, ["city_center_05"]).done == 0
    sf.write(path, np.zeros(12 * RATE), RATE)
    os.utime(path, (5e8, 5e8))
    assert cut(tree, ["city_center_05"]).done == 2
    assert not any(sf.read(tree.root / "clips" / name)[0].any() for name in clips_of(tree))
    assert cut(tree, ["city_center_05"]).done == 0


def test_faulty_recordings_are_named_and_the_rest_is_cut(tree):
    tree("city_center_05", 10.0, ["0\t10\tcar\t1"])
    corrupt = tree("city_center_09", 10.0, ["0\t10\tcar\t1"])
    corrupt.write_bytes(b"no audio at all")
    unlabelled = tree("city_center_10", 10.0, [])
    next(tree.root.rglob("city_center_10.txt")).unlink()
    twice = tree("grocery_store_01", 10.0, ["0\t1\tcar\t1"])
    (tree.root / "audio" / "grocery_store_01.wav").write_bytes(twice.read_bytes())
    names = ["city_center_05", "city_center_09", "city_center_10", "grocery_store_01", "absent_00"]
    report = cut(tree, names)
    assert report.done == 1
    assert report.missing == ("absent_00",)
    reasons = {path.name: reason for path, reason in report.failed}
    assert set(reasons) == {corrupt.name, unlabelled.name, twice.name}
    assert "city_center_09.wav: is not readable as audio" in reasons[corrupt.name]
    assert "has no annotation; put city_center_10.txt" in reasons[unlabelled.name]
    assert "found 2 times" in reasons[twice.name]
    assert {row[0] for row in rows_of(tree)[1:]} == {"city_center_05-000000-001000.wav"}


def test_a_faulty_annotation_keeps_the_table_of_before(tree):
    tree("city_center_05", 10.0, ["0\t10\tcar\t1"])
    cut(tree, ["city_center_05"])
    table = (tree.root / "clips.tsv").read_text()
    tree("city_center_05", 10.0, ["0\t10\tcar\t1", "nan\t3\tcar\t1"])
    ((_, reason),) = cut(tree, ["city_center_05"]).failed
    assert "city_center_05.txt" in reason
    assert "line 2: onset 'nan' is not finite" in reason
    assert (tree.root / "clips.tsv").read_text() == table


def test_wrong_folders_say_what_belongs_there(tree):
    with pytest.raises(InputError, match=r"audio: no such folder"):
        cut(tree, ["city_center_05"])
    tree("city_center_05", 10.0, ["0\t10\tcar\t1"])
    with pytest.raises(InputError, match=r"none of the 1 recording .city_center_09\.wav"):
        cut(tree, ["city_center_09"])
    with pytest.raises(InputError, match=r"hop_s = 11"):
        cut(tree, ["city_center_05"], hop_s=11)
    next(tree.root.rglob("*.txt")).unlink()
    with pytest.raises(InputError, match=r"labels: contains no \*.txt annotations"):
        cut(tree, ["city_center_05"])


def test_the_hops_are_those_published():
    assert (maestro_clips.TRAIN_HOP_S, maestro_clips.VALIDATION_HOP_S) == (1.0, 5.0)


@pytest.mark.parametrize(
    "late", [["24\t25\tcar\t1.0"], ["23.9\t25\tcar\t1", "31\t32\tdog bark\t1"]]
)
def test_labels_after_the_recording_s_end_are_named(tree, late):
    audio = tree("metro_station_03", 24.0, ["0\t1\tcar\t0.8", "10\t24.5\tbirds_singing\t1", *late])
    with pytest.warns(UserWarning, match="labels begins? after the recording's end") as told:
        report = cut(tree, ["metro_station_03"])
    (text,) = [str(warning.message) for warning in told]
    labels = tree.root / "labels" / "soft_labels_metro_station" / "metro_station_03.txt"
    onset, _, label, _ = late[-1].split("\t")
    assert text == (
        f"{labels}: 1 of {len(late) + 2} labels begins after the recording's end and is left out, "
        f"e.g. {label!r} at {onset} s; {audio} lasts 24 s"
    )
    assert report.done == 4 and report.failed == ()
    last = [row[3] for row in rows_of(tree) if row[0].endswith("-002400.wav")]
    assert last == ["birds_singing", *["car"] * (len(late) - 1)]


@pytest.mark.parametrize("line", ["0\t1e30\tcar\t1", "1e30\t2e30\tcar\t1", "0\t1\tcar\t1e30"])
def test_absurd_soft_labels_are_named(tree, line):
    tree("metro_station_03", 12.0, ["0\t1\tcar\t0.8", line])
    (failure,) = cut(tree, ["metro_station_03"]).failed
    assert "line 2: " in failure[1] and "e+30" in failure[1].replace("1e30", "1e+30")


def test_a_table_of_the_user_is_replaced_only_on_request(tree):
    tree("city_center_10", 12, ["0\t1\tcar\t0.5"])
    table = tree.root / "clips.tsv"
    cut(tree, ["city_center_10"])
    ours = table.read_text()
    record = tree.root / RECORD_FILE
    lines = record.read_text().splitlines(keepends=True)
    # As an earlier version left it.
    record.write_text("".join(line for line in lines if "clips.tsv" not in line))
    cut(tree, ["city_center_10"])
    table.write_text(ours.replace("car", "dog"))
    with pytest.raises(InputError, match=f"--overwrite:\n  - {table}$"):
        cut(tree, ["city_center_10"])
    assert "dog" in table.read_text()
    cut(tree, ["city_center_10"], overwrite=True)
    assert table.read_text() == ours
    tree("city_center_10", 12, ["0\t1\tcar\t0.5", "2\t3\tcar\t0.7"])
    cut(tree, ["city_center_10"])
    assert table.read_text() != ours
