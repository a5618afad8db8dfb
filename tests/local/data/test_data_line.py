"""The line on the data that stands before a run, and what it counts as absent."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import pytest

from local.config import load_config
from local.data.datamodule import SedDataModule
from local.data.summary_lines import data_summary, embedding_identities


@pytest.fixture
def line(extracted):
    """The line before a stage, and what the module names as absent."""

    def tell(*overrides: str, stage: str = "fit") -> tuple[str, SedDataModule]:
        data = SedDataModule(load_config(extracted, overrides))
        data.check(stage)
        return data_summary(data.loaded), data

    return tell


@pytest.fixture
def data(extracted):
    return load_config(extracted).data


def test_a_whole_corpus(line):
    text, data = line()
    n_clips = sum(len(loaded.clip_ids) for loaded in data.loaded.values())
    assert text == f"data: {n_clips} clips in 8 sets, 0.18 h; no listed clip is missing"
    assert set(map(len, data.missing_recordings.values())) == {0}
    assert line(stage="test")[0].startswith("data: 15 clips in 2 sets, 0.04 h; no listed")


def test_absent_clips_and_recordings(line, data, tmp_path):
    """A MAESTRO folder that lies in no mini corpus should have the recordings of the real split."""
    devtest, maestro = tmp_path / "devtest", tmp_path / "maestro"
    shutil.copytree(data.test_folder, devtest)
    shutil.copytree(data.real_maestro_val_folder, maestro)
    for wav in sorted(devtest.glob("*.wav"))[:2]:
        wav.unlink()
    overrides = f"data.test_folder={devtest}", f"data.real_maestro_val_folder={maestro}"
    with pytest.warns(UserWarning, match="2 of 6 listed clips are not in"):
        text, module = line(*overrides, stage="test")
    assert text == (
        "data: 13 clips in 2 sets, 0.03 h; missing: 2 of DESED dev-test, 11 recordings of MAESTRO "
        "real validation (details: generate_dcase_task4_2024.py --check)"
    )
    assert len(module.missing["devtest"]) == 2
    assert len(module.missing_recordings["maestro_real_dev"]) == 11


def test_unlabelled_clips_of_the_table_beside_the_weak_one(line, data, tmp_path):
    weak = tmp_path / "weak.tsv"
    shutil.copy(data.weak_tsv, weak)
    names = [wav.name for wav in sorted(Path(data.unlabeled_folder).glob("*.wav"))]
    (tmp_path / "unlabel_in_domain.tsv").write_text("\n".join(["filename", names[1], "Ygone.wav"]))
    with pytest.warns(UserWarning, match="unlabelled in domain: 1 of 6 listed clips"):
        text, module = line(f"data.weak_tsv={weak}")
    assert "missing: 1 of unlabelled in domain" in text
    assert module.missing["unlabeled_train"] == ("Ygone",)
    # Training takes every file of the folder all the same.
    assert len(module.loaded["unlabeled_train"].clip_ids) == len(names)


def test_embeddings_of_two_models(line, extracted, tmp_path):
    copy = tmp_path / "embeddings"
    shutil.copytree(load_config(extracted).pretrained.extracted_embeddings_dir, copy)
    with h5py.File(copy / "beats" / "devtest.hdf5", "r+") as file:
        file.attrs["checkpoint_sha256"] = "ab" * 32
    text, _ = line(f"pretrained.extracted_embeddings_dir={copy}")
    models = "2 different weights, clip lengths or precisions"
    assert f"; embeddings with {models}: extract them again" in text
    assert text.endswith("(details: generate_dcase_task4_2024.py --check)")


def test_published_embeddings_are_of_no_model_that_is_known():
    class Reader:
        def __init__(self, identity):
            self.identity = identity

    readers = [Reader({}), Reader({"clip_s": 10.0}), Reader({"clip_s": 10.0}), Reader({})]
    assert embedding_identities(readers) == [{"clip_s": 10.0}]
