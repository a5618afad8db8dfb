"""Pseudo-labels from the command that writes them to the batches and the digests of a training."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn

from desed_task.audio.files import read_clip
from desed_task.batch import SedBatch
from desed_task.errors import InputError
from desed_task.inference.scorers.opening import open_scorer
from local.checkpoints.restore import detector_spec
from local.config import load_config
from local.data.datamodule import SedDataModule
from local.data.digests import data_changes
from local.sed_trainer_pretrained import SEDTask4
from tests.in_process import run_main

SETS = ("maestro_real_train", "synth_train", "strong_train", "weak_train", "unlabeled_train")
READ = "losses.pseudo=1.5"


@pytest.fixture(scope="module")
def work(extracted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints with random weights: in `b ü.ckpt`, classes are in the reverse order."""
    folder = tmp_path_factory.mktemp("pseüdo labels")
    for seed, name in ((1, "a.ckpt"), (2, "b ü.ckpt")):
        config = load_config(extracted)
        torch.manual_seed(seed)
        module = SEDTask4(config)
        with torch.no_grad():
            for value in module.parameters():
                value.add_(0.3 * torch.randn_like(value))
        spec = detector_spec(config).to_dict()
        if seed == 2:
            spec["classes"] = spec["classes"][::-1]
        content = {"state_dict": module.state_dict(), "hyper_parameters": config.dump()}
        torch.save({**content, "detector": spec}, folder / name)
    return folder


@pytest.fixture(scope="module")
def label(extracted: Path, work: Path) -> Callable[..., Any]:
    """Runs the command with both checkpoints."""

    def run(folder: str, *words: object) -> Any:
        given = [] if "--checkpoint" in words else [*both("a.ckpt", "b ü.ckpt")]
        flags = ("--conf_file", extracted, "--use_gpu", "0", "--pseudo_labels", folder)
        return run_main("extract_embeddings.py", *flags, *given, *words, cwd=work)

    return run


def both(*names: str) -> list[str]:
    return [word for name in names for word in ("--checkpoint", name)]


@pytest.fixture(scope="module")
def labels(label: Callable[..., Any], work: Path) -> Path:
    done = label("pl")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "strong_train: embeddings of beats are read" in done.stdout
    return work / "pl"


def logits(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path, "r", locking=False) as file:
        return dict(zip(file["filenames"].asstr(), file["strong_logits"][:], strict=True))


def test_logits_are_the_mean_over_checkpoints_class_by_class(
    extracted: Path, work: Path, labels: Path, label: Callable[..., Any]
) -> None:
    config = load_config(extracted)
    assert {path.name for path in labels.iterdir()} == {f"{name}.hdf5" for name in SETS}
    # Of the teacher, without stored embeddings, in the other order of checkpoints.
    absent = ("--set", f"pretrained.extracted_embeddings_dir={work / 'absent'}")
    words = ("--use_teacher", "--only", "strong_train", *both("b ü.ckpt", "a.ckpt"), *absent)
    done = label("teacher", *words)
    assert "strong_train: embeddings of beats are computed" in done.stdout
    found = {"student": logits(labels / "strong_train.hdf5")}
    found["teacher"] = logits(work / "teacher" / "strong_train.hdf5")
    name = min(found["student"])
    wav = Path(config.data.strong_folder) / f"{name}.wav"
    clip = read_clip(wav, sample_rate=16000, n_samples=160000, rng=None)
    waveform = torch.from_numpy(clip.waveform)[None]
    for role, of_role in found.items():
        one, other = (
            torch.logit(open_scorer(work / file, role=role).scores(waveform).double())[0]
            for file in ("a.ckpt", "b ü.ckpt")
        )
        expected = (one + other.flip(-1)) / 2
        assert of_role[name].shape == (156, 27)
        np.testing.assert_allclose(of_role[name], expected, atol=1e-4)
    assert np.abs(found["student"][name] - found["teacher"][name]).max() > 0.1


def test_only_what_is_new_or_has_changed_is_computed(
    extracted: Path, work: Path, labels: Path, label: Callable[..., Any]
) -> None:
    audio = work / "strong audio"
    shutil.copytree(load_config(extracted).data.strong_folder, audio)
    first, second, *_ = sorted(audio.glob("*.wav"))
    bad, good = first.read_bytes()[:100], first.read_bytes()
    first.write_bytes(bad)
    words = ("--only", "strong_train", "--set", f"data.strong_folder={audio}")
    done = label("some", *words)
    assert done.returncode == 1 and first.name in done.stderr
    assert not (work / "some" / "strong_train.hdf5").exists()
    first.write_bytes(good)
    done = label("some", *words)
    assert done.returncode == 0
    assert "strong_train: resuming, 3 of 4 clips are done" in done.stdout
    whole, path = logits(labels / "strong_train.hdf5"), work / "some" / "strong_train.hdf5"
    for name, of_clip in logits(path).items():
        np.testing.assert_allclose(of_clip, whole[name], atol=1e-5)
    before = path.stat()
    assert "strong_train: 4 clips, already up to date" in label("some", *words).stdout
    assert path.stat() == before
    second.write_bytes(first.read_bytes())
    assert "0 new and 1 changed clip since" in (told := label("some", *words).stdout), told
    found = logits(path)
    np.testing.assert_allclose(found[second.stem], found[first.stem], atol=1e-5)
    # One checkpoint less is another network.
    done = label("some", *words, *both("a.ckpt"))
    assert "has other checkpoints, network" in done.stdout and done.returncode == 0
    assert not np.allclose(logits(path)[first.stem], found[first.stem], atol=1e-2)


def test_two_processes_write_what_one_does(
    extracted: Path, work: Path, labels: Path, run_script: Callable[..., Any]
) -> None:
    flags = ("--conf_file", extracted, "--use_gpu", "0", "--devices", "2", "--pseudo_labels", "two")
    given = both("a.ckpt", "b ü.ckpt")
    done = run_script("extract_embeddings.py", *flags, *given, cwd=work)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in SETS:
        one, two = (logits(folder / f"{name}.hdf5") for folder in (labels, work / "two"))
        assert [*one] == [*two]
        for clip, values in one.items():
            # Batches are others.
            np.testing.assert_allclose(two[clip], values, atol=1e-5)
        with (
            h5py.File(labels / f"{name}.hdf5") as left,
            h5py.File(work / "two" / f"{name}.hdf5") as right,
        ):
            for key in left.attrs:
                assert np.array_equal(left.attrs[key], right.attrs[key]), key


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--eval_set",), "--eval_set: is about embeddings"),
        (("--only", "devtest"), "--only devtest: no such training set; known: maestro_real_train"),
        (both("a.ckpt", "a.ckpt"), "give each detector once"),
        (("--set", "data.audio_max_len=5"), ".ckpt: has 156 frames of 1024 samples in 10 s"),
        (("--pretrained_model", "x.pt"), "--pretrained_model: it names the encoders of one"),
    ],
)
def test_wrong_input_is_refused(
    words: tuple[str, ...], message: str, label: Callable[..., Any], work: Path
) -> None:
    done = label("refused", *words)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert not (work / "refused").exists()


def test_other_classes_are_refused(extracted: Path, label: Callable[..., Any], work: Path) -> None:
    content = torch.load(work / "a.ckpt", weights_only=True)
    content["detector"]["classes"][3] = "Lion"
    torch.save(content, work / "lion.ckpt")
    done = label("refused", *both("lion.ckpt"))
    assert done.returncode == 2
    assert (
        "lion.ckpt: its classes are not those of the task (lacks Dishes; has Lion)" in done.stderr
    )


def test_files_of_others_are_not_replaced(
    label: Callable[..., Any], labels: Path, work: Path
) -> None:
    path = work / "others" / "strong_train.hdf5"
    as_published(labels / "strong_train.hdf5", path)
    done = label("others", "--only", "strong_train")
    assert done.returncode == 2 and "does not say which checkpoints it is of" in done.stderr
    done = label("others", "--only", "strong_train", "--overwrite")
    assert done.returncode == 0
    with h5py.File(path, "r", locking=False) as file:
        assert file.attrs["network"] == "student"


def as_published(source: Path, path: Path, leave_out: int = 0) -> None:
    """Copy logits and names, and nothing else, without the last clips."""
    path.parent.mkdir(exist_ok=True)
    found = logits(source)
    names = list(found)[: len(found) - leave_out]
    with h5py.File(path, "w") as file:
        file["strong_logits"] = np.stack([found[name] for name in names])
        file["filenames"] = [f"{name}.wav" for name in names]


# ---- training


def data_of(conf: Path, folder: Path, *overrides: str) -> SedDataModule:
    config = load_config(conf, [f"training.pseudo_labels={folder}", READ, *overrides])
    return SedDataModule(config)


def batches(data: SedDataModule) -> list[SedBatch]:
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=1)
    trainer.state.fn = TrainerFn.FITTING
    trainer.datamodule = data
    data.trainer = trainer
    data.prepare_data()
    data.setup("fit")
    return list(data.train_dataloader())


def test_rows_have_the_pseudo_labels_of_their_clips(
    extracted: Path, labels: Path, tmp_path: Path
) -> None:
    plain = batches(data_of(extracted, labels))
    stored = {name: row for one in SETS for name, row in logits(labels / f"{one}.hdf5").items()}
    for batch in plain:
        assert batch.pseudo is not None
        for clip_id, row in zip(batch.clip_id, batch.pseudo, strict=True):
            expected = 1 / (1 + np.exp(-stored[clip_id].astype(np.float64).T))
            np.testing.assert_allclose(row, expected, atol=1e-6)
    packed = batches(data_of(extracted, labels, f"data.packed_dir={tmp_path}"))
    for one, other in zip(plain, packed, strict=True):
        assert one.clip_id == other.clip_id
        assert torch.equal(one.pseudo, other.pseudo)
    data = data_of(extracted, labels)
    data.check("fit")
    (scored, *_) = data.val_dataloader().dataset.parts
    assert scored[0].pseudo is None


def test_faults_are_told_before_training(extracted: Path, labels: Path, tmp_path: Path) -> None:
    def faults(*overrides: str, folder: Path = tmp_path) -> str:
        with pytest.raises(InputError) as refused:
            data_of(extracted, folder, *overrides).check("fit")
        return str(refused.value)

    assert "strong_train.hdf5: no such file of pseudo-labels" in faults()
    for one in SETS:
        shutil.copy2(labels / f"{one}.hdf5", tmp_path / f"{one}.hdf5")
    as_published(labels / "strong_train.hdf5", tmp_path / "strong_train.hdf5", leave_out=1)
    last = list(logits(labels / "strong_train.hdf5"))[-1]
    assert f"strong_train.hdf5: lacks 1 of 4 clips ({last});" in faults()
    audio = tmp_path / "audio"
    shutil.copytree(load_config(extracted).data.synth_folder, audio)
    one, other, *_ = sorted(audio.glob("*.wav"))
    shutil.copyfile(one, other)
    told = faults(f"data.synth_folder={audio}")
    assert (
        f"synth_train.hdf5: 1 clip has other audio than it was computed from ({other.stem});"
        in (told)
    )
    with h5py.File(tmp_path / "weak_train.hdf5", "r+") as file:
        file.attrs["classes"] = "\n".join(reversed(file.attrs["classes"].split("\n")))
        file.attrs["clip_s"] = 5.0
    told = faults()
    assert "weak_train.hdf5: has other classes than the task (birds_singing where it has" in told
    assert "weak_train.hdf5: is of clips of 5 s, data.audio_max_len is 10" in told


def test_other_pseudo_labels_are_another_training(
    extracted: Path, labels: Path, tmp_path: Path
) -> None:
    for one in SETS:
        shutil.copy2(labels / f"{one}.hdf5", tmp_path / f"{one}.hdf5")
    as_published(labels / "strong_train.hdf5", tmp_path / "strong_train.hdf5")
    with h5py.File(tmp_path / "weak_train.hdf5", "r+") as file:
        file.attrs["checkpoint_sha256"] = "0" * 64
    data = data_of(extracted, labels)
    data.check("fit")
    before = data.digests("fit")
    other = data_of(extracted, tmp_path)
    with pytest.warns(UserWarning, match="strong_train.hdf5 does not say which checkpoints"):
        other.check("fit")
    corpora = data.task.trained_on
    assert data_changes(before, data.digests("fit"), corpora) == []
    strong, weak = data_changes(before, other.digests("fit"), corpora)
    assert re.search(r"training.pseudo_labels\): pseudo-labels of other checkpoints", strong)
    assert "now)" in strong and "unknown now" in strong and "000000000000 now" in weak


def test_values_that_do_not_fit_are_refused(extracted: Path) -> None:
    def refused(*overrides: str) -> str:
        with pytest.raises(InputError) as found:
            load_config(extracted, list(overrides))
        return str(found.value)

    assert "losses.pseudo: 1.5 weighs pseudo-labels, and" in refused(READ)
    told = refused("losses.corpora={weak_train: 1, unlabeled_train: 2}")
    assert "losses.corpora: unlabeled_train: no such corpus with labels" in told
    assert "gives no weight for maestro_real_train, synth_train, strong_train;" in told
    assert "training.consistency: ict compares" in refused("training.consistency=ict")
    with warnings.catch_warnings(record=True) as told_of:
        warnings.simplefilter("always")
        load_config(extracted, ["training.pseudo_labels=pl"])
    assert any("pl is not read, as losses.pseudo is 0" in str(one.message) for one in told_of)
