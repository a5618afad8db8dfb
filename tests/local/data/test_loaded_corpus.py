"""Bad input is refused before any training, with value, place and remedy; all of it at once."""

from __future__ import annotations

import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from desed_task.dataio.embedding_sources import SIZE
from desed_task.errors import InputError
from local.config import load_config
from local.data.datamodule import SedDataModule
from local.data.loaded_corpus import LoadedCorpus, table_durations
from local.data.splits import split_clips
from tests.local.data.published import TASK


@pytest.fixture
def refused(extracted):
    """The message with which a configuration is refused before training."""

    def check(*overrides: str, stage: str = "fit") -> str:
        with pytest.raises(InputError) as error:
            SedDataModule(load_config(extracted, overrides)).check(stage)
        return str(error.value)

    return check


@pytest.fixture
def data(extracted):
    """The paths of a configuration that is in order."""
    return load_config(extracted).data


@pytest.fixture
def embeddings(extracted, tmp_path):
    """A copy of the embeddings, to be spoilt, and the override that uses it."""
    copy = tmp_path / "embeddings"
    shutil.copytree(load_config(extracted).pretrained.extracted_embeddings_dir, copy)
    return copy / "beats", f"pretrained.extracted_embeddings_dir={copy}"


def test_a_missing_and_an_empty_folder(refused, tmp_path):
    text = refused("data.weak_folder=nowhere", f"data.unlabeled_folder={tmp_path}")
    assert "data.weak_folder: nowhere: no such folder (looked up from " in text
    assert f"data.unlabeled_folder: {tmp_path}: contains no WAV file; put the audio there" in text
    assert text.count("or prepare the data with generate_dcase_task4_2024.py") == 2


def test_a_missing_table_and_one_without_rows(refused, tmp_path):
    (tmp_path / "empty.tsv").write_text("filename\tevent_labels\n")
    text = refused("data.test_tsv=nowhere.tsv", f"data.weak_tsv={tmp_path / 'empty.tsv'}")
    assert "data.test_tsv: nowhere.tsv: no such table (looked up from " in text
    assert "empty.tsv: table without rows; get or prepare the data again" in text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0.0\t1.0\tDgo", "line 2: unknown label 'Dgo'; known: Alarm_bell_ringing, "),
        ("2.0\t1.0\tDog", "line 2: offset 1.0 is before onset 2.0; correct the row"),
        ("nan\t1.0\tDog", "line 2: onset 'nan' is not a number of seconds; correct the row"),
        ("\t1.0\tDog", "line 2: onset '' is not a number of seconds; correct the row"),
    ],
)
@pytest.mark.parametrize("key", ["strong_tsv", "synth_val_tsv", "real_maestro_train_tsv"])
def test_a_wrong_row(row, message, key, refused, data, tmp_path):
    lines = Path(getattr(data, key)).read_text().splitlines()
    bad = tmp_path / "bad.tsv"
    bad.write_text(f"filename\tonset\toffset\tevent_label\n{lines[1].split(chr(9))[0]}\t{row}\n")
    text = refused(f"data.{key}={bad}")
    assert f"data.{key}: {bad}" in text
    assert f"bad.tsv, {message}" in text


def test_a_table_without_any_event(refused, data, tmp_path):
    name = Path(data.test_tsv).read_text().splitlines()[1].split("\t")[0]
    table = tmp_path / "validation.tsv"
    table.write_text(f"filename\tonset\toffset\tevent_label\n{name}\t\t\t\n")
    message = f"{table}: lists clips but no event; get or prepare the data again"
    assert message in refused(f"data.test_tsv={table}")


@pytest.mark.parametrize("key", ["real_maestro_val_tsv", "real_maestro_train_tsv"])
def test_a_truth_that_is_never_certain(key, refused, data, tmp_path):
    table = pd.read_csv(getattr(data, key), sep="\t")
    table["confidence"] = table["confidence"].clip(upper=0.5)
    table.to_csv(tmp_path / "unsure.tsv", sep="\t", index=False)
    text = refused(f"data.{key}={tmp_path / 'unsure.tsv'}")
    assert f"{tmp_path / 'unsure.tsv'}: none of the scored classes (birds_singing" in text
    assert "has an event above 0.5 in its" in text
    held_out = key == "real_maestro_train_tsv"
    assert ("hold out other clips for validation" in text) == held_out


def test_a_label_of_another_corpus(refused, data, tmp_path):
    table = Path(data.weak_tsv)
    text = table.read_text().splitlines()
    weak = tmp_path / "weak.tsv"
    weak.write_text("\n".join([*text[:-1], text[-1].split("\t")[0] + "\tcar"]))
    message = refused(f"data.weak_tsv={weak}")
    assert f"{weak}: labels that this corpus (weak) does not have: 'car'; known: Al" in message


def test_a_corrupt_wav_and_one_of_another_rate(refused, data, tmp_path):
    folder = tmp_path / "unlabelled"
    shutil.copytree(data.unlabeled_folder, folder)
    first, second = sorted(folder.glob("*.wav"))[:2]
    first.write_bytes(b"RIFF no audio at all")
    shutil.copy(next(Path(data.unlabeled_folder_44k).glob("*.wav")), second)
    text = refused(f"data.unlabeled_folder={folder}")
    assert f"{first}: is not readable as audio" in text
    assert f"{folder}: 1 of " in text
    assert f"is at 44100 Hz, 16000 Hz are needed ({second.stem}); prepare the data" in text


def test_a_wav_that_is_cut_short(refused, data, tmp_path):
    folder = tmp_path / "weak"
    shutil.copytree(data.weak_folder, folder)
    first = sorted(folder.glob("*.wav"))[0]
    first.write_bytes(first.read_bytes()[:5000])
    assert f"{first}: is cut short" in refused(f"data.weak_folder={folder}")


def test_a_suffix_in_capitals(extracted, refused, data, tmp_path):
    folder = tmp_path / "weak"
    shutil.copytree(data.weak_folder, folder)
    first = min(folder.iterdir())
    first.rename(first.with_suffix(".WAV"))
    loaded = SedDataModule(load_config(extracted, [f"data.weak_folder={folder}"]))
    loaded.check()
    assert loaded.loaded["weak_train"].files[first.stem].suffix == ".WAV"
    assert loaded.missing["weak_train"] == ()
    shutil.copy(first.with_suffix(".WAV"), first)
    text = refused(f"data.weak_folder={folder}")
    message = f"{first.stem}.WAV and {first.stem}.wav would be one clip; rename one of them"
    assert message in text


def test_many_corrupt_files_do_not_hide_what_else_is_wrong(refused, data, tmp_path):
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    for number in range(50):
        (folder / f"{number:02d}.wav").write_bytes(b"nothing")
    text = refused(f"data.unlabeled_folder={folder}", "data.eval_folder=x", "data.test_tsv=nowhere")
    assert text.count("is not readable as audio") == 3
    assert f"... and 47 more files in {folder}" in text
    assert "data.test_tsv: nowhere: no such table" in text
    # Its absence does not matter before an evaluation.
    assert "eval_folder" not in text


def test_embeddings_that_are_absent_or_lack_clips(refused, embeddings):
    folder, override = embeddings
    (folder / "devtest.hdf5").unlink()
    weak = folder / "weak_train.hdf5"
    with h5py.File(weak, "r+") as file:
        names = file["filenames"][:]
        lost = names[0].decode()
        names[0] = b"somebody_else"
        file["filenames"][:] = names
    text = refused(override)
    assert f"{folder / 'devtest.hdf5'}: no such embeddings file; run extract_embeddings.py" in text
    assert f"{weak}: lacks the embeddings of 1 of {len(names)} clips" in text
    assert f"({lost}); run extract_embeddings.py" in text


def test_embeddings_of_the_evaluation_set_have_a_flag_of_their_own(refused, embeddings):
    folder, override = embeddings
    (folder / "eval.hdf5").unlink()
    text = refused(override, stage="predict")
    assert "no such embeddings file; run extract_embeddings.py with --eval_set" in text


def test_an_embeddings_file_that_is_none(refused, embeddings):
    folder, override = embeddings
    (folder / "synth_train.hdf5").write_bytes(b"no HDF5")
    text = refused(override)
    assert f"{folder / 'synth_train.hdf5'}: not an HDF5 file; move it away and run" in text
    assert "move it away and run extract_embeddings.py" in text


def test_an_embedding_size_that_is_not_the_network_s(refused):
    text = refused("net.embedding_size=768")
    assert "embeddings have 128 features, the network takes net.embedding_size 768" in text
    assert "leave the key out, which" in text


def test_embeddings_of_two_lengths(refused, embeddings):
    folder, override = embeddings
    with h5py.File(folder / "synth_val.hdf5", "r+") as file:
        shorter = file["frame_embeddings"][:, :, :100]
        del file["frame_embeddings"]
        file["frame_embeddings"] = shorter
    text = refused(override)
    assert "embeddings differ in length: 496 tokens per clip in " in text
    assert f"100 tokens per clip in {folder / 'synth_val.hdf5'}; delete the wrong files" in text


def test_without_embeddings_their_files_do_not_matter(extracted):
    overrides = ["net.use_embeddings=false", "pretrained.extracted_embeddings_dir=nowhere"]
    module = SedDataModule(load_config(extracted, overrides))
    module.check()
    assert next(iter(module.train_dataloader())).embedding.numel() == 0


def test_a_median_filter_of_the_wrong_length(refused):
    text = refused("net.median_filter=[3, 5]")
    assert "net.median_filter: has 2 lengths; give one for each of 27 classes" in text


def test_every_quota_larger_than_its_set(refused):
    text = refused("training.batch_size=[2, 1, 1, 99, 77]")
    assert "training.batch_size: 99 rows of weak, but the set has" in text
    assert "77 rows of unlabelled in domain, but the set has" in text
    assert text.count("lower the quota or add clips") == 2


def test_no_clip_left_to_validate_on(refused, data, tmp_path):
    lines = Path(data.weak_tsv).read_text().splitlines()
    weak = tmp_path / "weak.tsv"
    weak.write_text("\n".join(lines[:3]))
    text = refused(f"data.weak_tsv={weak}", "training.batch_size=[2, 1, 1, 1, 2]")
    assert "data.weak_tsv: none of the clips held out for validation is in" in text
    assert f"{Path(data.weak_folder)}; add clips" in text


def test_one_recording_of_each_scene_is_held_out_and_trains_on_none(refused, data, tmp_path):
    table = tmp_path / "table.tsv"
    head, *rows = Path(data.real_maestro_train_tsv).read_text().splitlines()
    recordings = [row.split("-")[0] for row in rows]
    of_scene = {name.rpartition("_")[0]: name for name in recordings}
    kept = [row for row, name in zip(rows, recordings, strict=True) if name in of_scene.values()]
    assert 0 < len(kept) < len(rows)
    table.write_text("\n".join([head, *kept]) + "\n")
    text = refused(f"data.real_maestro_train_tsv={table}")
    assert "data.real_maestro_train_tsv: none of the clips to train on is in " in text
    folder = Path(data.real_maestro_train_folder)
    assert f"{folder}; add recordings: at least one per group is held out" in text
    assert "a group with a single recording has none to train on" in text
    assert "training.batch_size" not in text  # what is wrong is said once


def test_no_held_out_recording_on_disk(refused, extracted, data, tmp_path):
    whole = SedDataModule(load_config(extracted))
    whole.check()
    corpus = whole.task.corpus("maestro_real_train")
    trained_on, held_out = whole.part(corpus, "train"), whole.part(corpus, "validation")
    folder = tmp_path / "clips"
    folder.mkdir()
    for clip_id in trained_on.clip_ids:
        (folder / f"{clip_id}.wav").symlink_to(trained_on.folder / f"{clip_id}.wav")
    text = refused(f"data.real_maestro_train_folder={folder}")
    assert f"none of the clips held out for validation is in {folder}; add recordings" in text
    assert len(held_out.clip_ids) > 0


def test_a_maestro_clip_of_no_scene_is_told_with_the_rest(refused, data, tmp_path):
    folder, table = tmp_path / "clips", tmp_path / "table.tsv"
    folder.mkdir()
    sf.write(folder / "kitchen_00.wav", np.zeros(16000), 16000)
    table.write_text(
        "filename\tonset\toffset\tevent_label\tconfidence\nkitchen_00.wav\t0\t1\tcar\t1\n"
    )
    text = refused(
        f"data.real_maestro_train_folder={folder}",
        f"data.real_maestro_train_tsv={table}",
        "data.test_folder=nowhere",
    )
    assert "data.real_maestro_train_tsv: 'kitchen_00': is of no group of recordings" in text
    assert "data.test_folder: nowhere: no such folder" in text


def test_a_table_of_another_folder_is_recognised(refused, data):
    text = refused(f"data.test_folder={data.synth_val_folder}")
    assert f"{data.test_tsv}: none of its" in text
    assert "do not belong together: check both paths" in text


def test_an_evaluation_needs_only_its_folder(refused, extracted):
    overrides = ["data.test_tsv=nowhere", "data.weak_folder=nowhere"]
    module = SedDataModule(load_config(extracted, overrides))
    module.check("predict")
    assert [c for batch in module.predict_dataloader() for c in batch.clip_id]
    text = refused("data.eval_folder=nowhere", stage="predict")
    assert text.startswith("predict: the data cannot be used:")
    assert "data.eval_folder: nowhere: no such folder" in text


def test_listed_clips_that_are_absent_are_named_and_left_out(extracted, data, tmp_path, recwarn):
    folder = tmp_path / "validation_16k"
    shutil.copytree(data.test_folder, folder)
    gone = sorted(folder.glob("*.wav"))[1]
    gone.unlink()
    module = SedDataModule(load_config(extracted, [f"data.test_folder={folder}"]))
    module.check()
    module.check("test")
    told = [str(warning.message) for warning in recwarn if "DESED dev-test" in str(warning.message)]
    assert len(told) == 1
    n_listed = len(module._loaded["devtest"].listed)
    assert told[0].startswith(f"DESED dev-test: 1 of {n_listed} listed clips is not in {folder}")
    assert gone.stem in told[0]
    assert module.missing["devtest"] == (gone.stem,)
    assert module.missing["weak_train"] == ()
    truth = module.truths("test")[0]
    assert gone.stem not in truth.events.clip_ids
    assert gone.stem not in truth.durations


@pytest.fixture
def in_16_bits(data, tmp_path):
    """A copy of a folder with some files in 16 bits, and the override that uses it."""

    def write(key: str, n_files: int | None = None) -> tuple[Path, str]:
        folder = tmp_path / key
        shutil.copytree(getattr(data, key), folder)
        for path in sorted(folder.iterdir())[:n_files]:
            before = path.stat()
            sf.write(path, *sf.read(path), subtype="PCM_16")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return folder, f"data.{key}={folder}"

    return write


def warned(extracted, *overrides: str, stages=("fit", "test")) -> list[str]:
    """What a module warns of over several stages, without the clips that are missing."""
    module = SedDataModule(load_config(extracted, overrides))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for stage in stages:
            module.check(stage)
    return [str(warning.message) for warning in told if warning.category is UserWarning]


def test_corpora_of_floats_are_not_worth_a_word(extracted):
    assert warned(extracted, stages=("fit", "test", "predict")) == []


def test_corpora_of_16_bit_files_are_told_in_one_line_of_a_run(extracted, in_16_bits):
    keys = ("weak_folder", "test_folder", "real_maestro_train_folder")
    overrides = [in_16_bits(key)[1] for key in keys]
    assert warned(extracted, "net.use_embeddings=false", *overrides) == [
        "16-bit audio, used as is: MAESTRO real training, weak, DESED dev-test; published "
        "results come from 32-bit float files, which generate_dcase_task4_2024.py --bits 32 writes"
    ]


def test_each_mixed_corpus_is_told_with_its_counts(extracted, in_16_bits):
    (weak, first), (strong, second) = (
        in_16_bits(key, 1) for key in ("weak_folder", "strong_folder")
    )
    remedy = "generate_dcase_task4_2024.py --bits 32 rewrites all as float"
    assert warned(extracted, "net.use_embeddings=false", first, second) == [
        f"{strong}: mixed sample formats, 16-bit (1) and 32-bit float (3) files; {remedy}",
        f"{weak}: mixed sample formats, 16-bit (1) and 32-bit float (5) files; {remedy}",
    ]


def test_embeddings_of_other_audio_are_told(extracted, data, tmp_path, embeddings):
    """By size and time, as reading everything would take minutes; the order does not matter."""
    _, override = embeddings
    folder = tmp_path / "weak"
    shutil.copytree(data.weak_folder, folder)
    first, second, third, *_ = sorted(folder.iterdir())
    os.utime(first, (3e9, 3e9))
    os.utime(second, (1e9, 1e9))
    overrides = (override, f"data.weak_folder={folder}")
    touched = (
        "audio with another modification time than at extraction: 2 of 6 clips of weak; run "
        "extract_embeddings.py, which compares the content and updates what differs"
    )
    assert warned(extracted, *overrides) == [touched]
    sf.write(third, np.zeros(16000), 16000, subtype="FLOAT")
    os.utime(third, (1e9, 1e9))
    assert warned(extracted, *overrides) == [
        "embeddings of other audio than is there now: 1 of 6 clips of weak; run "
        "extract_embeddings.py to update them",
        touched,
    ]
    assert warned(extracted, "net.use_embeddings=false", *overrides) == []


def test_embeddings_without_sources_are_held_against_the_order_in_time(
    extracted, data, tmp_path, embeddings
):
    """As earlier versions wrote them, and published ones, which are believed."""
    files, override = embeddings
    folder = tmp_path / "weak"
    shutil.copytree(data.weak_folder, folder)
    with h5py.File(files / "weak_train.hdf5", "r+") as file:
        del file[SIZE]
    first, second, third, *_ = sorted(folder.iterdir())
    for path in (first, second):
        os.utime(path, (3e9, 3e9))
    os.utime(third, (1e9, 1e9))
    overrides = (override, f"data.weak_folder={folder}")
    assert warned(extracted, *overrides) == [
        "embeddings of other audio than is there now: 2 of 6 clips of weak; run "
        "extract_embeddings.py to update them"
    ]
    with h5py.File(files / "weak_train.hdf5", "r+") as file:
        for name in list(file.attrs):
            del file.attrs[name]
    os.utime(files / "weak_train.hdf5", (1e9, 1e9))
    assert warned(extracted, *overrides) == []


def test_durations_are_the_table_s_and_else_the_file_s(extracted, tmp_path):
    table = tmp_path / "durations.tsv"
    table.write_text("filename\tduration\na.wav\t9.5\ngone.wav\t8.0\nrecording.wav\t200\n")
    config = load_config(extracted, [f"data.test_dur={table}"])
    loaded = LoadedCorpus(
        config.detection_task.corpus("devtest"),
        *(Path(), ("a", "b"), {"a": 9.0, "b": 7.0}),
        listed=("a", "gone", "b"),
    )
    assert table_durations(loaded, config) == {"a": 9.5, "b": 7.0, "recording": 200.0}


def test_a_recording_without_a_duration(refused, data, tmp_path):
    rows = Path(data.real_maestro_val_dur).read_text().splitlines()
    table = tmp_path / "durations.tsv"
    table.write_text("\n".join([rows[0], *(row for row in rows[1:] if "cafe" not in row)]))
    text = refused(f"data.real_maestro_val_dur={table}")
    assert "data.real_maestro_val_dur: no duration for " in text
    assert "(e.g. cafe_restaurant_" in text
    assert "add them to the durations table" in text


def weak_corpus(n_clips, absent=()):
    listed = tuple(f"clip{number}" for number in range(n_clips))
    there = {name: 10.0 for name in listed if name not in absent}
    return LoadedCorpus(TASK.corpus("weak_train"), Path(), tuple(there), there, listed=listed)


def split_weak(loaded, seed):
    return [loaded.select(part) for part in split_clips(loaded.listed, 0.9, seed)]


@pytest.mark.parametrize("n_clips", [10, 15, 157, 1578])
def test_the_weak_split_is_pandas_s(n_clips):
    loaded = weak_corpus(n_clips)
    train, held_out = split_weak(loaded, 42)
    frame = pd.DataFrame({"filename": loaded.listed})
    expected = frame.sample(frac=0.9, random_state=42)
    assert list(train.clip_ids) == expected["filename"].tolist()
    assert list(held_out.clip_ids) == frame.drop(expected.index)["filename"].tolist()


def test_absent_clips_do_not_change_who_is_held_out():
    whole, part = weak_corpus(50), weak_corpus(50, absent=("clip3", "clip7"))
    assert part.missing == ("clip3", "clip7")
    for one, other in zip(split_weak(whole, 1), split_weak(part, 1), strict=True):
        left = [name for name in one.clip_ids if name not in part.missing]
        assert left == list(other.clip_ids)
    assert replace(part, listed=()).missing == ()
