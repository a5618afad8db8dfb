"""Dataset statistics: fitted once, saved, loaded, and carried by checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from desed_task.errors import InputError
from local import run
from local.config import load_config
from local.data.datamodule import SedDataModule
from local.sed_trainer_pretrained import SEDTask4
from local.training import feature_statistics
from local.training.feature_statistics import prepare_scaler

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def config(extracted, tmp_path):
    def load(*overrides):
        path = f"scaler.savepath={tmp_path / 'scaler.ckpt'}"
        return load_config(extracted, ["scaler.statistic=dataset", path, *overrides])

    return load


def prepared(config):
    module, data = SEDTask4(config), SedDataModule(config)
    data.check()
    digests = data.digests("fit")
    prepare_scaler(module.mel_spec, module.scaler, data.train_dataloader, config, digests)
    return module.scaler


def test_statistics_are_fitted_saved_and_loaded(config, tmp_path, capsys):
    fitted = prepared(config("scaler.normtype=standard"))
    assert (tmp_path / "scaler.ckpt").is_file()
    assert "fitted on the training set" in capsys.readouterr().out
    loaded = prepared(config("scaler.normtype=standard"))
    assert "fitted on" not in capsys.readouterr().out
    assert torch.equal(fitted.shift, loaded.shift)
    assert -50 < float(fitted.shift) < 80 and float(fitted.scale) > 1


def test_statistics_of_other_features_are_fitted_again(config, capsys):
    first = prepared(config())
    second = prepared(config("scaler.dims=[2]"))
    assert "fitting them again" in capsys.readouterr().out
    assert first.shift.numel() == 1
    assert second.shift.numel() == config().feats.n_mels


def test_a_foreign_file_is_named(config, tmp_path):
    (tmp_path / "scaler.ckpt").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"scaler.savepath: .*scaler.ckpt contains no feature"):
        prepared(config())


def test_a_checkpoint_carries_them(config, tmp_path):
    chosen = config("scaler.dims=[2]", "training.n_epochs=1", "energy.enabled=false")
    folder = run.fit(chosen, run.RunOptions(str(tmp_path / "fit")))
    (tmp_path / "scaler.ckpt").unlink()
    (best,) = folder.glob("checkpoints/epoch=*.ckpt")
    again = run.test(chosen, str(best), run.RunOptions(str(tmp_path / "test")))
    one, other = (json.loads((f / "results.json").read_text()) for f in (folder, again))
    assert one["metrics"] == other["metrics"]


def test_statistics_are_those_of_the_decibels(config):
    chosen = config("scaler.normtype=minmax")
    scaler = prepared(chosen)
    low, high = float(scaler.shift), float(scaler.shift + 2 * scaler.scale)
    assert -50.0 <= low < -20.0  # the corpus has silence, whose magnitudes would be 0
    assert low < high <= 80.0


def made_from(config):
    data = SedDataModule(config)
    data.check()
    return feature_statistics._made_from(config, data.digests("fit"))


@pytest.mark.parametrize(
    "override",
    [
        *("feats.f_min=50.0", "scaler.normtype=mean", "data.audio_max_len=5"),
        "data.keep_clips_without_events=[synth_train]",
    ],
)
def test_what_statistics_depend_on_is_kept_with_them(config, override):
    # Clips of 10 s are scored in windows if the network takes 5 s.
    base = ("net.use_embeddings=false", "predict.hop_s=2.56")
    assert made_from(config(*base)) != made_from(config(*base, override))
    assert made_from(config(*base)) == made_from(config(*base, "training.n_epochs=9"))


def test_statistics_of_other_clips_are_fitted_again_and_of_moved_ones_not(
    config, extracted, tmp_path
):
    """Under the same path the table may be another one, and under another the same."""
    before = load_config(extracted).data.synth_tsv
    lines = Path(before).read_text().splitlines()
    table = tmp_path / "synth.tsv"
    table.write_text("\n".join(lines) + "\n")
    chosen = config(f"data.synth_tsv={table}")
    assert made_from(chosen) == made_from(config())
    table.write_text("\n".join(lines[:-1]) + "\n")
    assert made_from(chosen) != made_from(config())


def test_statistics_of_earlier_rules_are_fitted_again(config, monkeypatch):
    before = made_from(config())
    monkeypatch.setattr(feature_statistics, "REVISION", feature_statistics.REVISION + 1)
    assert made_from(config()) != before
