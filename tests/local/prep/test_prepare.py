"""Preparation of what is on disk, step by step and as a whole."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from desed_task.errors import InputError
from local.cli.own_files import RECORD_FILE
from local.config import load_config
from local.config_schema import Data
from local.prep.layout import DATA_PARTS, FOLDERS, TABLES, DataLayout, rebase
from local.prep.prepare import prepare
from local.prep.resample import original_folder, resample_parts

ROOT = Path(__file__).parents[3]
RATE = 2000  # Only the ratio of two rates counts here.


@pytest.fixture(scope="module")
def data():
    """The published folders, resampled to 1 kHz."""
    config = load_config(ROOT / "confs" / "pretrained.yaml", ["data.fs=1000", *_FEATS])
    return config.data


_FEATS = ("feats.sample_rate=1000", "feats.f_max=500")


def write(path, duration_s=10.0, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (round(duration_s * RATE), channels))
    sf.write(path, samples, RATE)


@pytest.fixture
def base(tmp_path, data):
    """One clip of each set, one MAESTRO recording of each split."""
    base = tmp_path / "base"
    layout = DataLayout(data, base, base)
    for folder in FOLDERS:
        if folder.part != "maestro":
            write(layout.made(f"{folder.key}_44k") / f"{folder.key}.wav")
    for recording, duration_s in (("cafe_restaurant_00", 12.5), ("city_center_05", 21.0)):
        write(layout.recordings_audio / recording[:-3] / f"{recording}.wav", duration_s, 2)
        labels = layout.recordings_labels / f"soft_labels_{recording[:-3]}" / f"{recording}.txt"
        labels.parent.mkdir(parents=True)
        labels.write_text(f"0\t{duration_s}\tfootsteps\t0.75\n")
    for table in TABLES:
        layout.made(table.key).parent.mkdir(parents=True, exist_ok=True)
        layout.made(table.key).write_text("filename\tonset\toffset\tevent_label\n")
    return base


def files_below(folder):
    """Relative path -> time of change, of every file."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


def counts(outcome):
    return {step.title: (step.done, step.there, len(step.failed)) for step in outcome.steps}


def test_every_folder_of_the_config_belongs_to_a_part():
    keys = {key.removesuffix("_44k") for key in Data.model_fields if key.endswith("_44k")}
    assert {folder.key for folder in FOLDERS} == keys
    assert {material.part for material in (*FOLDERS, *TABLES)} <= set(DATA_PARTS)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("../../data/dcase/dataset/audio/train/weak/", "/base/dcase/dataset/audio/train/weak"),
        ("./data/mini/dcase/dataset/a.tsv", "/base/dcase/dataset/a.tsv"),
        ("/elsewhere/weak", "/elsewhere/weak"),
    ],
)
def test_published_paths_move_below_a_root(path, expected):
    assert rebase(path, Path("/base")) == Path(expected)


def test_everything_on_disk_is_prepared(base, data):
    outcome = prepare(data, base, progress=False)
    assert outcome.failed == ()
    layout = DataLayout(data, base, base)
    for folder in FOLDERS:
        for path in layout.made(folder.key).iterdir():
            assert sf.info(path).samplerate == 1000
    train, val = (f"real_maestro_{split}_folder" for split in ("train", "val"))
    assert sorted(path.name for path in layout.made(train).iterdir()) == [
        "cafe_restaurant_00-000000-001000.wav",
        "cafe_restaurant_00-000100-001100.wav",
        "cafe_restaurant_00-000200-001200.wav",
        "cafe_restaurant_00-000300-001250.wav",
    ]
    shortest = layout.made(val) / "city_center_05-001500-002100.wav"
    assert (sf.info(shortest).frames, sf.info(shortest).channels) == (6000, 2)
    assert layout.made("real_maestro_val_dur").read_text() == (
        "filename\tduration\ncafe_restaurant_00.wav\t12.5\ncity_center_05.wav\t21.0\n"
    )
    assert layout.made("test_dur").read_text() == "filename\tduration\ntest_folder.wav\t10.0\n"
    assert layout.made("synth_val_dur").exists()


def test_a_second_run_redoes_nothing(base, data):
    prepare(data, base, progress=False)
    before = files_below(base)
    outcome = prepare(data, base, progress=False)
    assert {done for done, _, _ in counts(outcome).values()} == {0}
    # The two tables of clips come from the annotation each time.
    after = files_below(base)
    changed = {name for name in before if before[name] != after[name]}
    assert after.keys() == before.keys()
    assert changed == {
        "dcase/dataset/metadata/maestro_real_train.tsv",
        "dcase/dataset/metadata/maestro_real_validation.tsv",
    }


def test_results_go_below_out_dir_and_the_base_is_left_alone(base, data, tmp_path):
    before = files_below(base)
    outcome = prepare(data, base, tmp_path / "out", progress=False)
    assert files_below(base) == before
    assert outcome.failed == ()
    made = files_below(tmp_path / "out")
    assert "dcase/dataset/audio/train/weak_16k/weak_folder.wav" in made
    assert "dcase/dataset/audio/maestro_real_train_16k/cafe_restaurant_00-000000-001000.wav" in made
    assert "dcase/dataset/metadata/validation/validation_durations.tsv" in made
    assert {done for done, _, _ in counts(prepare(data, base, tmp_path / "out")).values()} == {0}


@pytest.mark.parametrize(
    ("part", "titles"),
    [
        (
            "synth",
            {"synthetic, training", "synthetic, validation", "synthetic, validation: durations"},
        ),
        ("strong", {"strong real"}),
        (
            "real",
            {
                "weak",
                "unlabelled in domain",
                "DESED validation (dev-test)",
                "DESED validation: durations",
            },
        ),
        ("eval", {"evaluation"}),
    ],
)
def test_a_part_is_prepared_alone(base, data, part, titles):
    outcome = prepare(data, base, parts=[part], progress=False)
    assert set(counts(outcome)) == titles
    assert outcome.absent == ()


def test_maestro_alone_lists_the_recordings_that_are_not_there(base, data):
    outcome = prepare(data, base, parts=["maestro"], progress=False)
    assert counts(outcome) == {
        "MAESTRO real, training cut": (4, 0, 0),
        "MAESTRO real, validation cut": (4, 0, 0),
        "MAESTRO real, training clips": (4, 0, 0),
        "MAESTRO real, validation clips": (4, 0, 0),
        "MAESTRO real recordings: durations": (1, 0, 0),
    }
    (train, where), (validation, _) = outcome.absent
    assert (train, validation) == ("MAESTRO training, 32 of 33", "MAESTRO validation, 15 of 16")
    assert "development_audio (cafe_restaurant_06.wav, cafe_restaurant_07.wav, " in where


def test_what_is_absent_is_listed_with_its_place(base, data):
    layout = DataLayout(data, base, base)
    weak = layout.made("weak_folder_44k")
    for path in (weak / "weak_folder.wav", layout.made("weak_tsv")):
        path.unlink()
    weak.rmdir()
    outcome = prepare(data, base, parts=["real"], progress=False)
    assert outcome.absent == (
        ("weak", str(weak)),
        ("weak: labels", str(layout.made("weak_tsv"))),
    )
    assert f"weak: labels {' ' * 21}{layout.made('weak_tsv')}" in outcome.summary()
    assert "Run again to fetch what can be fetched" in outcome.summary()


def test_a_resampled_folder_without_its_source_is_not_absent(base, data):
    prepare(data, base, parts=["real"], progress=False)
    folder = DataLayout(data, base, base).made("weak_folder_44k")
    (folder / "weak_folder.wav").unlink()
    folder.rmdir()
    assert prepare(data, base, parts=["real"], progress=False).absent == ()


def test_faults_are_named_and_the_rest_goes_on(base, data):
    layout = DataLayout(data, base, base)
    (layout.made("weak_folder_44k") / "corrupt.wav").write_bytes(b"nothing")
    (layout.made("eval_folder_44k") / "eval_folder.wav").unlink()
    next(layout.recordings_labels.rglob("city_center_05.txt")).write_text("2\t1\tcar\t1\n")
    outcome = prepare(data, base, progress=False)
    assert counts(outcome)["weak"] == (1, 0, 1)
    assert counts(outcome)["strong real"] == (1, 0, 0)
    text = outcome.failures()
    assert len(outcome.failed) == 3
    assert "corrupt.wav: is not readable as audio" in text
    assert "eval24: contains no WAV file" in text
    assert "offset 1.0 is not after onset 2.0" in text


def test_many_failures_are_counted(base, data):
    folder = DataLayout(data, base, base).made("weak_folder_44k")
    for i in range(60):
        (folder / f"{i}.wav").write_bytes(b"")
    lines = prepare(data, base, parts=["real"], progress=False).failures().splitlines()
    assert len(lines) == 51
    assert lines[-1] == "... and 10 more"


def test_missing_annotations_say_what_belongs_there(base, data):
    labels = DataLayout(data, base, base).recordings_labels
    labels.rename(labels.with_name("kept"))
    outcome = prepare(data, base, parts=["maestro"], progress=False)
    assert "development_annotation: no such folder; unpack" in outcome.failures()


def test_nothing_to_prepare_is_an_error(tmp_path, data):
    with pytest.raises(InputError, match=r"absent: no such folder; .*--basedir"):
        prepare(data, tmp_path / "absent", progress=False)
    with pytest.raises(
        InputError, match=r"contains nothing to prepare for synth, strong, .*--mini"
    ):
        prepare(data, tmp_path, progress=False)
    with pytest.raises(
        InputError, match=r"contains nothing to prepare for maestro; .*development_aud"
    ):
        prepare(data, tmp_path, parts=["maestro"], progress=False)


def test_an_out_dir_that_cannot_be_made_is_an_error(base, data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file.out: cannot be created .*change --out_dir"):
        prepare(data, base, tmp_path / "file" / "out", progress=False)


def test_clips_cut_elsewhere_are_resampled_from_there(tmp_path, data):
    """Who has MAESTRO cut already needs no recordings."""
    layout = DataLayout(data, tmp_path / "base", tmp_path / "out")
    folder = rebase(data.real_maestro_val_folder_44k, layout.basedir)
    write(folder / "city_center_05-000000-001000.wav")
    (step,) = resample_parts(layout, ["maestro"], progress=False)
    assert (step.title, step.done) == ("MAESTRO real, validation clips", 1)
    # Once clips are cut below out_dir, these count.
    write(layout.made("real_maestro_val_folder_44k") / "city_center_09-000000-001000.wav")
    assert original_folder(layout, "real_maestro_val_folder") != folder


# ---- bits of the 16 kHz files


def formats(data, base):
    """Title -> sample formats of its 16 kHz files."""
    folders = {f.title: DataLayout(data, base, base).made(f.key) for f in FOLDERS}
    return {
        title: {sf.info(path).subtype for path in folder.glob("*.wav")}
        for title, folder in folders.items()
    }


@pytest.mark.parametrize(("bits", "subtype"), [(None, "FLOAT"), (16, "PCM_16"), (32, "FLOAT")])
def test_every_folder_gets_the_bits_that_are_asked_for(base, data, bits, subtype):
    outcome = prepare(data, base, bits=bits, progress=False)
    assert all(found == {subtype} for found in formats(data, base).values())
    assert outcome.notes == ()


def test_folders_of_16_bit_files_are_told_in_one_line(base, data):
    prepare(data, base, bits=16, progress=False)
    weak = DataLayout(data, base, base).made("weak_folder_44k")
    write(weak / "new.wav")
    outcome = prepare(data, base, progress=False)
    assert counts(outcome)["weak"] == (1, 1, 0)
    assert all(found == {"PCM_16"} for found in formats(data, base).values())
    (note,) = outcome.notes
    assert all(folder.title in note for folder in FOLDERS)
    assert note.endswith("--bits 32 writes them again as 32-bit float, as the published files are")
    assert outcome.summary().endswith(f"\n\nnote: {note}")
    assert prepare(data, base, bits=16, progress=False).notes == ()


def test_a_rewrite_is_told_and_that_embeddings_are_older(base, data):
    prepare(data, base, bits=16, progress=False)
    outcome = prepare(data, base, bits=32, parts=["strong", "eval"], progress=False)
    strong, evaluation, extract = outcome.notes
    folder = DataLayout(data, base, base).made("strong_folder")
    assert strong == f"{folder}: had 16-bit (1) files; written again as 32-bit float: 1"
    assert "eval24_16k: had 16-bit (1) files" in evaluation
    assert "run extract_embeddings.py, which computes those of changed clips again" in extract
    assert formats(data, base)["strong real"] == {"FLOAT"}
    assert formats(data, base)["weak"] == {"PCM_16"}
    assert prepare(data, base, bits=32, parts=["strong", "eval"], progress=False).notes == ()


def sine(path, rate, channels=1, seconds=10.0, subtype="FLOAT"):
    """A version of a clip that the user made."""
    sound = np.sin(np.arange(round(seconds * rate)) / 9)
    sf.write(path, np.tile(sound[:, None], channels), rate, subtype=subtype)


USERS = {
    "text": lambda path: path.write_bytes(b"not audio"),
    "empty header": lambda path: path.write_bytes(b"RIFF" + bytes(40)),
    "16-bit": lambda path: sine(path, 1000, subtype="PCM_16"),
    "24-bit": lambda path: sine(path, 1000, subtype="PCM_24"),
    "stereo": lambda path: sine(path, 1000, channels=2),
    "shorter": lambda path: sine(path, 1000, seconds=7),
    "another rate": lambda path: sine(path, 500),
    "older": lambda path: (sine(path, 1000), os.utime(path, (1e9, 1e9))),
}


@pytest.mark.parametrize("make", USERS.values(), ids=USERS)
@pytest.mark.parametrize("before", [True, False])
def test_16_khz_files_of_the_user_are_kept(base, data, make, before):
    """Made before this program ran, or in the place of what it wrote."""
    source, target = (
        DataLayout(data, base, base).made(f"weak_folder{end}") for end in ("_44k", "")
    )
    write(source / "other.wav")
    if before:
        target.mkdir(parents=True)
    else:
        prepare(data, base, parts=["real"], progress=False)
    mine = target / "weak_folder.wav"
    make(mine)
    content = mine.read_bytes()
    sf.write(target / "more.wav", np.zeros(1000), 1000, subtype="FLOAT")  # The folder has floats.
    outcome = prepare(data, base, parts=["real"], progress=False)
    assert mine.read_bytes() == content
    if make is USERS["older"] and not before:  # Its source has not changed, so it is used as it is.
        assert outcome.failed == () and counts(outcome)["weak"] == (0, 2, 0)
        return
    ((failed, reason),) = outcome.failed
    assert failed.name == mine.name and reason.endswith(f"--overwrite:\n  - {mine}")
    assert counts(outcome)["weak"] == ((1, 0, 1) if before else (0, 1, 1))
    outcome = prepare(data, base, parts=["real"], progress=False, overwrite=True)
    assert not outcome.failed and mine.read_bytes() != content


@pytest.mark.parametrize("bits", [16, 32])
def test_16_khz_files_of_earlier_versions_are_ours(base, data, bits):
    layout = DataLayout(data, base, base)
    prepare(data, base, bits=bits, progress=False)
    for record in base.rglob(RECORD_FILE):
        record.unlink()
    cut_off = layout.made("strong_folder") / "strong_folder.wav"
    cut_off.write_bytes(cut_off.read_bytes()[:700])
    old = layout.made("eval_folder") / "eval_folder.wav"
    os.utime(old, (1e9, 1e9))
    clip = min(layout.made("real_maestro_val_folder_44k").iterdir())
    os.utime(clip, (1e9, 1e9))
    for other in (bits, 48 - bits):
        assert prepare(data, base, bits=other, progress=False).failed == ()
    assert len({*map(frozenset, formats(data, base).values())}) == 1


def test_clips_of_maestro_that_the_user_made_are_kept(base, data):
    mine = DataLayout(data, base, base).made("real_maestro_val_folder_44k")
    mine = mine / "city_center_05-000500-001500.wav"
    mine.parent.mkdir(parents=True)
    sine(mine, RATE, 2, 9)
    content = mine.read_bytes()
    outcome = prepare(data, base, parts=["maestro"], progress=False)
    ((_, reason),) = outcome.failed
    assert reason.endswith(f"  - {mine}") and mine.read_bytes() == content
    assert not prepare(data, base, parts=["maestro"], progress=False, overwrite=True).failed
    assert sf.info(mine).duration == 10


def test_clips_added_to_a_durations_table_are_told(base, data):
    layout = DataLayout(data, base, base)
    table = layout.made("test_dur")
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_bytes(b"filename\tduration\r\nmine.wav\t1.5\r\n")
    outcome = prepare(data, base, parts=["real"], progress=False)
    assert f"{table}: added 1 clip that it lacked" in outcome.notes
    assert table.read_bytes() == (
        b"filename\tduration\r\nmine.wav\t1.5\r\ntest_folder.wav\t10.0\r\n"
    )


def test_a_mixed_folder_is_told_once_and_becomes_float(base, data):
    layout = DataLayout(data, base, base)
    write(layout.made("weak_folder_44k") / "other.wav")
    prepare(data, base, parts=["real"], progress=False)
    path = layout.made("weak_folder") / "other.wav"
    sf.write(path, sf.read(path)[0], 1000, subtype="PCM_16")
    outcome = prepare(data, base, parts=["real"], progress=False)
    assert outcome.notes[0] == (
        f"{path.parent}: had 16-bit (1) and 32-bit float (1) files; written again as 32-bit "
        "float: 1"
    )
    assert len(outcome.notes) == 2
    assert prepare(data, base, parts=["real"], progress=False).notes == ()


@pytest.mark.parametrize("whole_folder", [False, True])
def test_files_without_originals_are_told_when_they_keep_other_bits(base, data, whole_folder):
    layout = DataLayout(data, base, base)
    source, target = layout.made("weak_folder_44k"), layout.made("weak_folder")
    for i in range(4):
        write(source / f"{i}.wav")
    prepare(data, base, bits=16, parts=["real"], progress=False)
    for path in source.iterdir():
        if whole_folder or path.stem.isdigit():
            path.unlink()
    if whole_folder:
        source.rmdir()
    outcome = prepare(data, base, bits=32, parts=["real"], progress=False)
    n_stay = 5 if whole_folder else 4
    (note,) = (note for note in outcome.notes if "stay 16-bit" in note)
    assert note == (
        f"{target}: {n_stay} of 5 files stay 16-bit, as their originals are not in {source} "
        "(0.wav, 1.wav, 2.wav, ...); put them there and run again, or remove these files"
    )
    assert len(list(target.iterdir())) == 5
    assert outcome.failed == ()


def test_clipped_files_are_counted_and_named(base, data):
    folder = DataLayout(data, base, base).made("eval_folder_44k")
    for name in ("loud", "louder"):
        samples = np.where(np.arange(4 * RATE) % 40 < 20, 1.0, -1.0)
        sf.write(folder / f"{name}.wav", samples, RATE)
    outcome = prepare(data, base, bits=16, parts=["eval"], progress=False)
    (note,) = outcome.notes
    assert "eval24_16k: 2 of 3 files written have samples beyond full scale, clipped in 16" in note
    assert note.endswith("(loud.wav, louder.wav); --bits 32 keeps them")
