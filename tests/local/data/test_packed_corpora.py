"""Packed corpora in the recipe: the same batches and weights as from the original files."""

from __future__ import annotations

import itertools
import json
import os
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import soundfile as sf
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch.nn import functional as F

from desed_task.dataio.datasets import ItemKey
from desed_task.dataio.packed_dataset import PackedBatches
from desed_task.errors import InputError
from local import run
from local.config import load_config
from local.data.datamodule import SedDataModule
from local.data.loading import packed_corpora
from local.data.loading.memory_placement import Placement
from local.data.loading.packed_corpora import choose_packing
from local.sed_trainer_pretrained import SEDTask4
from tests.local.data.published import TASK

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).resolve().parents[3]
TWO_PROCESSES = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def packed_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("packed")


def opened(path, stage="fit", *overrides):
    """A data module as Lightning has it when a stage begins."""
    data = SedDataModule(load_config(path, overrides))
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.datamodule = data
    data.trainer = trainer
    trainer.state.fn = TrainerFn(stage)
    data.prepare_data()
    data.setup(stage)
    return data


def batches(loader, epoch=None):
    if epoch is not None:
        loader.batch_sampler.set_epoch(epoch)
    return list(loader)


def assert_pooled(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.clip_id == other.clip_id
        pooled = F.adaptive_avg_pool1d(other.embedding, 156)
        assert torch.equal(one.embedding, pooled)
        for name in ("waveform", "target", "known", "source"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.fixture(scope="module")
def plain(extracted):
    return opened(extracted)


@pytest.mark.parametrize("resident", ["ram", "disk"])
def test_every_loader_gives_the_same_batches_to_the_bit(
    extracted, plain, packed_dir, resident, capsys
):
    where = (f"data.packed_dir={packed_dir}", f"data.resident={resident}")
    data = opened(extracted, "fit", *where)
    said = capsys.readouterr().out
    assert "GB in memory" in said if resident == "ram" else "GB read from the disk" in said
    train, expected = data.train_dataloader(), plain.train_dataloader()
    for epoch in (0, 1):
        assert_pooled(batches(train, epoch), batches(expected, epoch))
    assert_pooled(batches(data.val_dataloader()), batches(plain.val_dataloader()))
    assert_pooled(batches(data.test_dataloader()), batches(plain.test_dataloader()))
    # Testing after training: everything is there.
    data.setup("test")
    assert capsys.readouterr().out == ""


def test_the_evaluation_set_too(extracted, packed_dir):
    data = opened(extracted, "predict", f"data.packed_dir={packed_dir}")
    expected = opened(extracted, "predict")
    assert_pooled(batches(data.predict_dataloader()), batches(expected.predict_dataloader()))


def test_packed_once_and_again_when_a_clip_has_changed(extracted, tmp_path, capsys):
    """In folders of its own, as other tests read the session's."""
    packed_dir, weak = tmp_path / "gepackt", tmp_path / "weak ä"
    shutil.copytree(load_config(extracted).data.weak_folder, weak)
    where = (f"data.packed_dir={packed_dir}", "data.resident=disk", f"data.weak_folder={weak}")
    opened(extracted, "validate", *where)
    capsys.readouterr()
    data = opened(extracted, "validate", *where)
    said = capsys.readouterr().out
    assert "packed " not in said.replace("packed sets", "")
    names = [corpus.name for corpus in data.task.needed_by("validate")]
    assert f"; not written again, as they are current: {', '.join(names)}\n" in said
    loaded = data.loaded["weak_train"]
    wav = loaded.folder / f"{loaded.clip_ids[0]}.wav"
    os.utime(wav)
    opened(extracted, "validate", *where)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2  # stereo: its downmix is no multiple of 1/32768
    assert f"(float32 audio, pooled156-float32) to {packed_dir}" in said[0]
    assert said[0].endswith(f"1 wav file has changed (e.g. {loaded.clip_ids[0]})")
    others = [name for name in names if name != loaded.corpus.name]
    assert said[1].endswith(f"as they are current: {', '.join(others)}")


def test_names_in_any_script_and_clips_of_any_length(extracted, tmp_path):
    """Long clips are cropped at random, short ones padded, packed or not."""
    names = ("ключ 10.5", "Ünïcödé-ß", "日本_0.000_10.000", "plain")
    rng, folder = np.random.default_rng(0), tmp_path / "clips"
    folder.mkdir()
    for name, seconds in zip(names, (10.5, 3.2, 10.0, 31.7), strict=True):
        sf.write(folder / f"{name}.wav", rng.uniform(-0.5, 0.5, round(seconds * 16000)), 16000)
    rows = [f"{name}.wav\t{0.25 * n}\t{9 - n}\tDog" for n, name in enumerate(names)]
    rows.append("plain.wav\t18.3\t31.5\tSpeech")
    table = tmp_path / "clips.tsv"
    head = "filename\tonset\toffset\tevent_label"
    table.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    overrides = (
        f"data.synth_folder={folder}",
        f"data.synth_tsv={table}",
        "net.use_embeddings=false",
    )
    files = opened(extracted, "fit", *overrides)
    data = opened(extracted, "fit", *overrides, f"data.packed_dir={tmp_path / 'packed'}")
    title = "synthetic training"
    rows, packed = (one._training_sets()[title] for one in (files, data))
    packed = PackedBatches(packed)
    targets = {name: set() for name in names}
    for row, seed in itertools.product(range(len(names)), range(12)):
        key = ItemKey(row, (seed,))
        one, other = rows[key], packed[key]
        assert one.clip_id == other.clip_id == (names[row],)
        for name in ("waveform", "target", "known", "source"):
            assert torch.equal(getattr(one, name), getattr(other, name)[0]), name
        targets[names[row]].add(one.target.numpy().tobytes())
    counts = [len(targets[name]) for name in names]
    assert counts[0] > 3 and counts[1:3] == [1, 1] and counts[3] > 3


def test_sets_that_hold_clips_without_events_serve_runs_that_leave_them_out(
    extracted, plain, packed_dir, capsys
):
    where = (f"data.packed_dir={packed_dir / 'kept'}", "data.resident=disk")
    kept = opened(extracted, "test", *where, "data.keep_clips_without_events=[devtest]")
    capsys.readouterr()
    data = opened(extracted, "test", *where)
    assert "packed " not in capsys.readouterr().out.replace("packed sets", "")
    assert_pooled(batches(data.test_dataloader()), batches(plain.test_dataloader()))
    name = "devtest"
    assert len(kept.loaded[name].clip_ids) == len(data.loaded[name].clip_ids) + 1


def test_validating_and_then_training_brings_all_to_one_place(extracted, packed_dir, monkeypatch):
    places = [
        Placement(torch.device("cpu"), "there was room"),
        Placement(None, "there was none left"),
    ]
    monkeypatch.setattr(packed_corpora, "choose_placement", lambda *_: places.pop(0))
    data = opened(extracted, "validate", f"data.packed_dir={packed_dir}")
    assert data.loaded["weak_train"].packed.resident
    data.trainer.state.fn = TrainerFn.FITTING
    data.prepare_data()
    data.setup("fit")
    assert {one.packed.resident for one in data.loaded.values()} == {False}
    assert batches(data.train_dataloader())


def test_without_workers_where_all_is_in_memory(extracted, packed_dir):
    where = (f"data.packed_dir={packed_dir}", "training.num_workers=2")
    for resident, workers in (("ram", 0), ("disk", 2)):
        data = opened(extracted, "validate", *where, f"data.resident={resident}")
        assert data.val_dataloader().num_workers == workers


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "pooled156-float32"),
        (["data.packed_dtype=float16"], "pooled156-float16"),
        (["net.aggregation_type=interpolate"], "frame-float32"),
        (["net.aggregation_type=frame"], "frame-float32"),
        (["net.aggregation_type=global", "net.embedding_type=global"], "global-float32"),
        (["net.use_embeddings=false"], "audio"),
    ],
)
def test_only_what_the_network_would_pool_is_pooled(overrides, name):
    config = load_config(ROOT / "confs" / "mini.yaml", overrides)
    assert choose_packing(config, SedDataModule(config).grid).name == name


def test_the_network_computes_the_same_to_the_bit(extracted, plain, packed_dir):
    where = (f"data.packed_dir={packed_dir}", "data.resident=ram")
    data = opened(extracted, "fit", *where)
    torch.manual_seed(0)
    module = SEDTask4(data.config).eval()
    for batch, other in zip(data.val_dataloader(), plain.val_dataloader(), strict=True):
        mel = module.scaler(module.mel_spec.to_db(module.mel_spec(batch.waveform)))
        with torch.no_grad():
            found = module.sed_student(mel, batch.embedding, batch.known)
            expected = module.sed_student(mel, other.embedding, other.known)
        assert torch.equal(found.strong, expected.strong)
        assert torch.equal(found.weak, expected.weak)


def test_mixup_of_pooled_embeddings_is_that_of_all_tokens(extracted, plain, packed_dir):
    # A mean of a sum is the sum of the means, but for the last bits.
    data = opened(extracted, "fit", f"data.packed_dir={packed_dir}", "data.resident=ram")
    module = SEDTask4(data.config)
    mixup = module.mixup
    mixed = []
    for one in (data, plain):
        batch = batches(one.train_dataloader(), 0)[0]
        draws = torch.Generator().manual_seed(3)
        mel = module.mel_spec(batch.waveform)
        _, embedding, _ = mixup(mel, batch.embedding, batch.target, batch.source, draws)
        mixed.append(F.adaptive_avg_pool1d(embedding, 156))
    torch.testing.assert_close(*mixed, rtol=1e-5, atol=1e-6)


def test_resident_wants_a_folder():
    for name in ("mini.yaml", "pretrained.yaml"):
        config = load_config(ROOT / "confs" / name)
        assert (config.data.packed_dir is None) == (name == "pretrained.yaml")
        assert config.data.resident == "auto"
        overrides = ["data.packed_dir=null", "data.resident=ram"]
        with pytest.raises(InputError, match=r"resident \(ram\) is for packed sets; give packed"):
            load_config(ROOT / "confs" / name, overrides)
    with pytest.raises(InputError, match=r"data.resident.*'auto', 'gpu', 'ram' or 'disk'"):
        load_config(ROOT / "confs" / "mini.yaml", ["data.packed_dir=x", "data.resident=tape"])


def test_three_processes_share_packed_batches(extracted, tmp_path):
    functions = runpy.run_path(str(TWO_PROCESSES))
    packed = f"data.packed_dir={tmp_path / 'sets'}"
    *parts, printed = functions["run"](extracted, tmp_path, 3, packed)
    assert printed.count("packed sets: ") == 1
    assert len(list((tmp_path / "sets").iterdir())) == len(TASK.needed_by("fit"))
    # One process with the original files.
    (tmp_path / "one").mkdir()
    alone, _ = functions["run"](extracted, tmp_path / "one", 1)
    for epoch in ("0", "1"):
        together = functions["rows_together"](parts, epoch)
        assert len(together) >= 2
        assert together == alone["train"][epoch]
    assert parts[0]["collected"] == alone["collected"]


class Killed(pl.Callback):
    """Ends a training as a kill would, once its first epoch is saved."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise RuntimeError("killed")


def weights(folder):
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def results(folder):
    """results.json, without the checkpoint's digest: the file holds the configuration, which
    differs.
    """
    content = json.loads((folder / "results.json").read_text())
    return {name: value for name, value in content.items() if name != "checkpoint_sha256"}


def test_trainings_give_the_same_weights_and_results_even_if_resumed(extracted, tmp_path):
    # Without mixup, of which the last bits depend on what is pooled first.
    def fit(name, *overrides, **kwargs):
        config = load_config(extracted, ["training.mixup=null", *overrides])
        return run.fit(config, run.RunOptions(str(tmp_path / name)), **kwargs)

    plain = fit("plain")
    sets = f"data.packed_dir={tmp_path / 'sets'}"
    packed = fit("packed", sets, "data.resident=ram")
    with pytest.raises(RuntimeError, match="killed"):
        fit("resumed", sets, "data.resident=disk", callbacks=[Killed()])
    resumed = fit("resumed", sets, "data.resident=disk", resume_from="auto")
    expected = weights(plain)
    for folder in (packed, resumed):
        found = weights(folder)
        assert all(torch.equal(value, found[name]) for name, value in expected.items())
        assert results(folder) == results(plain)
