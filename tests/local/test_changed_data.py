"""A training is not resumed on other data, and a finished one says that its data has changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import pytest
import torch
import yaml

from desed_task.dataio.embedding_sources import DIGEST
from desed_task.errors import InputError
from local import run
from local.checkpoints.resume import check_same_data
from local.config import load_config
from local.data.datamodule import SedDataModule
from local.data.digests import DATA_KEY, data_changes
from tests.published_task import TASK

pytestmark = pytest.mark.usefixtures("undrawn")

TABLES = ("synth_tsv", "strong_tsv", "weak_tsv", "real_maestro_train_tsv", "synth_val_tsv")
TABLES += ("synth_val_dur", "test_tsv", "test_dur")
FOLDERS = ("unlabeled_folder", "weak_folder")


class Place:
    """Tables, some audio and embeddings of the mini corpus that tests may change, and a config."""

    def __init__(self, root: Path, extracted: Path) -> None:
        self.root = root
        source = load_config(extracted)
        for key in TABLES:
            shutil.copy(getattr(source.data, key), root / f"{key}.tsv")
        for key in FOLDERS:
            shutil.copytree(getattr(source.data, key), root / key)
        shutil.copytree(source.pretrained.extracted_embeddings_dir, root / "embeddings")
        paths = [f"data.{key}={root / key}.tsv" for key in TABLES]
        paths += [f"data.{key}={root / key}" for key in FOLDERS]
        paths += [f"pretrained.extracted_embeddings_dir={root / 'embeddings'}"]
        paths += ["training.n_epochs=1", "training.n_epochs_warmup=1", "energy.enabled=false"]
        self.config = load_config(extracted, paths)

    def edit(self, key, change):
        path = self.root / f"{key}.tsv"
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([head, *change(rows)]) + "\n")

    def embeddings(self, name):
        return self.root / "embeddings" / "beats" / f"{name}.hdf5"

    def digests(self):
        data = SedDataModule(self.config)
        data.check("fit")
        return data.digests("fit")


@pytest.fixture(scope="module")
def finished(extracted, tmp_path_factory):
    """A finished run of one epoch in `root / "exp"`."""
    place = Place(tmp_path_factory.mktemp("data"), extracted)
    run.fit(place.config, run.RunOptions(str(place.root / "exp")))
    return place


@pytest.fixture
def place(finished, tmp_path):
    """A copy of it that a test may change; the configuration names the copy."""
    shutil.copytree(finished.root, tmp_path, dirs_exist_ok=True)
    copy = object.__new__(Place)
    copy.root = tmp_path
    record = tmp_path / "exp" / "version_0" / "config.yaml"
    record.write_text(record.read_text().replace(str(finished.root), str(tmp_path)))
    copy.config = load_config(record)
    return copy


def halve(rows):
    return rows[: len(rows) // 2]


def other_label(rows):
    return [rows[0].replace(rows[0].split("\t")[-1], "Speech"), *rows[1:]]


def longer(rows):
    name, seconds = rows[0].split("\t")
    return [f"{name}\t{float(seconds) + 0.001}", *rows[1:]]


def fewer_clips(place):
    next(place.root.joinpath("unlabeled_folder").glob("*.wav")).unlink()


def other_weights(place):
    with h5py.File(place.embeddings("strong_train"), "r+") as file:
        file.attrs["checkpoint_sha256"] = "ab" * 32


def other_audio(place):
    with h5py.File(place.embeddings("weak_train"), "r+") as file:
        file[DIGEST][0] = 0


CHANGES = {
    "half a table": (
        lambda place: place.edit("synth_tsv", halve),
        r"synthetic training \(data\.synth_tsv\): \d+ rows before, \d+ now",
    ),
    "a weak table": (
        lambda place: place.edit("weak_tsv", lambda rows: rows[1:]),
        r"weak \(data\.weak_tsv\): 6 rows before, 5 now",
    ),
    "a label": (
        lambda place: place.edit("strong_tsv", other_label),
        r"strong real \(data\.strong_tsv\): \d+ rows, with other content",
    ),
    "another order": (
        lambda place: place.edit("real_maestro_train_tsv", lambda rows: rows[::-1]),
        r"data\.real_maestro_train_tsv\): \d+ rows, with other content",
    ),
    "a duration of validation": (
        lambda place: place.edit("synth_val_dur", longer),
        r"data\.synth_val_dur\): 4 rows, with other content",
    ),
    "a clip": (fewer_clips, r"data\.unlabeled_folder\): 5 clips before, 4 now"),
    "other BEATs": (
        other_weights,
        r"strong real \(strong_train\): embeddings of other weights \(SHA-256 \w+ before, abab",
    ),
    "other audio": (other_audio, r"weak \(weak_train\): embeddings of other audio"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_an_unfinished_run_is_not_resumed_on_other_data(place, what):
    change, message = CHANGES[what]
    folder = place.root / "exp" / "version_0"
    (folder / "results.json").unlink()
    before = sorted(path for path in folder.rglob("*") if path.is_file())
    change(place)
    options = run.RunOptions(str(place.root / "exp"))
    for resume_from in ("auto", str(folder / "checkpoints" / "last.ckpt")):
        with pytest.raises(InputError, match=message) as error:
            run.fit(place.config, options, resume_from=resume_from)
        assert "was trained on other data; restore the data to resume it, or" in str(error.value)
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == before


def test_a_finished_run_says_that_its_data_has_changed(place, capsys):
    options = run.RunOptions(str(place.root / "exp"))
    assert run.fit(place.config, options, resume_from="auto").name == "version_0"
    assert "changed since" not in capsys.readouterr().out
    place.edit("synth_tsv", halve)
    place.edit("test_tsv", lambda rows: rows[1:])
    assert run.fit(place.config, options, resume_from="auto").name == "version_0"
    out = capsys.readouterr().out
    assert "the data has changed since: synthetic training (data.synth_tsv): " in out
    assert "the data has changed since: DESED dev-test (data.test_tsv): " in out
    assert "give another --log_dir or leave out --resume_from_checkpoint" in out
    assert "give its checkpoint to --test_from_checkpoint" in out
    (place.root / "synth_tsv.tsv").write_text("nonsense")
    assert run.fit(place.config, options, resume_from="auto").name == "version_0"
    out = capsys.readouterr().out
    assert "whether its data has changed since is not known" in out and "synth_tsv" in out


def test_a_run_of_an_earlier_version_is_resumed_with_a_line(place, capsys):
    folder = place.root / "exp" / "version_0"
    records = yaml.safe_load((folder / "run.yaml").read_text())
    for record in records:
        del record[DATA_KEY]
    (folder / "run.yaml").write_text(yaml.safe_dump(records))
    last = folder / "checkpoints" / "last.ckpt"
    stored = torch.load(last, weights_only=True)
    del stored[DATA_KEY]
    torch.save(stored, last)
    options = run.RunOptions(str(place.root / "exp"))
    unknown = "which did not store what its data was"
    run.fit(place.config, options, resume_from="auto")
    assert capsys.readouterr().out.count(unknown) == 1
    (folder / "results.json").unlink()
    run.fit(place.config, options, resume_from="auto")
    out = capsys.readouterr().out
    assert out.count(unknown) == 1
    assert (folder / "results.json").is_file()


def test_other_test_data_does_not_keep_a_training_from_going_on(place, capsys):
    before = place.digests()
    place.edit("test_tsv", halve)
    place.edit("test_dur", longer)
    check_same_data(Path("last.ckpt"), before, place.digests(), TASK)
    out = capsys.readouterr().out
    assert "the test data has changed since; the test uses it as it is now: DESED dev-test" in out


def test_moved_and_copied_data_is_the_same(place, extracted):
    """Under other paths, with other times, and another order of files that no one sees."""
    before = place.digests()
    for path in place.root.rglob("*"):
        os.utime(path, (2e9, 2e9))
    moved = Place.__new__(Place)
    moved.root = place.root.with_name("anderswo ü")
    place.root.rename(moved.root)
    tree = place.config.dump()
    for section in ("data", "pretrained"):
        for key, value in tree[section].items():
            if isinstance(value, str):
                tree[section][key] = value.replace(str(place.root), str(moved.root))
    path = moved.root / "conf.yaml"
    path.write_text(yaml.safe_dump(tree))
    moved.config = load_config(path)
    now = moved.digests()
    assert now == before
    assert data_changes(before, now, place.config.detection_task.needed_by("fit")) == []


def test_a_moved_run_is_resumed_where_it_is(place):
    """Its checkpoints name files, not the paths where they were."""
    moved = place.root / "elsewhere"
    (place.root / "exp").rename(moved)
    folder = moved / "version_0"
    (folder / "results.json").unlink()
    run.fit(place.config, run.RunOptions(str(moved)), resume_from="auto")
    assert (folder / "results.json").is_file()
    assert not (place.root / "exp").exists()
