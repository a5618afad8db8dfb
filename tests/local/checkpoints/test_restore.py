"""What of a checkpoint a test takes, and what a run stores in its own."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import torch

from desed_task.atomic_files import sha256_of
from desed_task.checkpoints.spec import build_detector
from desed_task.errors import InputError
from local.checkpoints.restore import (
    config_of_checkpoint,
    detector_spec,
    load_networks,
)
from local.checkpoints.resume import check_resumable
from local.checkpoints.revision import REVISION, REVISION_KEY
from local.config import load_config
from local.sed_trainer_pretrained import SEDTask4
from local.stores.size import with_embedding_size

MINI = Path(__file__).resolve().parents[3] / "confs" / "mini.yaml"
SMALL = ["net.nb_filters=[4, 4, 4, 8]", "net.n_RNN_cell=8"]


def stored(*overrides, detector=True):
    """What a checkpoint of ours holds, from before it stored a specification or since."""
    config = load_sized(*overrides)
    content = {"state_dict": SEDTask4(config).state_dict(), "hyper_parameters": config.dump()}
    content[REVISION_KEY] = REVISION
    return {**content, "detector": detector_spec(config).to_dict()} if detector else content


def load_sized(*overrides):
    """With the number of features, as files have it."""
    return with_embedding_size(load_config(MINI, [*SMALL, *overrides]))


def test_the_decoder_is_that_of_the_file_unless_the_configuration_has_one(capsys):
    file = stored("decoder.kind=boxes", "decoder.merge_rel={Dog: 3.0}")
    old = stored()
    del old["detector"]["decoder"]
    old["detector"]["schema_version"] = 2
    default, other = load_config(MINI), load_config(MINI, ["decoder.kind=threshold_boxes"])
    assert config_of_checkpoint(file, default, [], "a.ckpt").decoder.merge_rel == {"Dog": 3.0}
    # A configuration may have been given for the median filters, which are its default.
    told = capsys.readouterr().out
    assert told.startswith("a.ckpt: decoded by boxes, as it says itself (the configuration: median")
    sets = ["decoder.kind=median"]
    assert config_of_checkpoint(file, default, sets, "a.ckpt").decoder.kind == "median"
    told = "a.ckpt: decoded by median, as the configuration says (its own: boxes)\n"
    assert capsys.readouterr().out == told
    assert config_of_checkpoint(old, default, [], "a.ckpt").decoder.kind == "median"
    assert capsys.readouterr().out == ""
    # One setting of the boxes does not make them the median filters of the configuration.
    sets = ["decoder.step_filter_s=0.3"]
    changed = config_of_checkpoint(file, load_config(MINI, sets), sets, "a.ckpt").decoder
    assert (changed.kind, changed.step_filter_s) == ("boxes", 0.3)
    assert changed.merge_rel == {"Dog": 3.0}
    capsys.readouterr()
    assert config_of_checkpoint(file, other, [], "a.ckpt").decoder.kind == "threshold_boxes"
    told = "a.ckpt: decoded by threshold_boxes, as the configuration says (its own: boxes)\n"
    assert capsys.readouterr().out == told
    assert config_of_checkpoint(old, other, [], "a.ckpt").decoder.kind == "threshold_boxes"
    asked = config_of_checkpoint(old, default, ["decoder.kind=boxes"], "a.ckpt")
    assert asked.decoder.kind == "boxes"


def test_what_was_tuned_for_another_checkpoint_is_not_used(tmp_path, capsys):
    """Neither its filters nor its decoder; the file that it was tuned for takes both."""
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"a checkpoint")
    lengths = [5] * 27
    values = ["decoder.kind=boxes", f"net.median_filter={lengths}"]
    other = load_config(MINI, [*values, "tuned.checkpoint_sha256=0123456789abcdef"])
    own = stored()
    found = config_of_checkpoint(own, other, [], str(path))
    assert found.decoder.kind == "median"
    assert list(found.net.median_filter) == own["hyper_parameters"]["net"]["median_filter"]
    assert "tuned for another checkpoint (SHA-256 0123456789ab...)" in capsys.readouterr().out
    right = load_config(MINI, [*values, f"tuned.checkpoint_sha256={sha256_of(path)}"])
    found = config_of_checkpoint(own, right, [], str(path))
    assert (found.decoder.kind, list(found.net.median_filter)) == ("boxes", lengths)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("override", "kept"),
    [
        ("decoder.kind=median", False),
        ("predict.threshold={Speech: 0.9}", False),
        ("net.dropout=0.1", True),
        ("predict.hop_s=2.56", True),
    ],
)
def test_other_thresholds_or_events_than_tuned_ones_are_not_called_tuned(
    override, kept, tmp_path, capsys
):
    file = tmp_path / "a.ckpt"
    file.write_bytes(b"a")
    tuned = [f"tuned.checkpoint_sha256={sha256_of(file)}", "tuned.threshold_metric=collar"]
    here = load_config(MINI, ["predict.threshold={Speech: 0.2}", "decoder.kind=boxes", *tuned])
    config = config_of_checkpoint(stored(), here, [override], str(file))
    assert config.tuned.threshold_metric == ("collar" if kept else "")
    told = f"no F1 at tuned thresholds, as --set changes {override.partition('=')[0]}\n"
    assert capsys.readouterr().out.endswith("" if kept else told)


@pytest.mark.parametrize("detector", [True, False])
def test_the_networks_of_the_file_the_paths_of_here_and_overrides_above_both(detector):
    file = stored(
        "data.test_tsv=there.tsv",
        "scaler.savepath=there.ckpt",
        "training.ema_factor=0.5",
        "net.aggregation_type=interpolate",
        detector=detector,
    )
    here = load_config(
        MINI,
        ["data.test_tsv=here.tsv", "net.n_RNN_cell=99", "scaler.savepath=here.ckpt"],
    )
    config = config_of_checkpoint(file, here, ["net.dropout=0.4"], "best.ckpt")
    assert (config.net.n_RNN_cell, config.data.test_tsv) == (8, "here.tsv")
    assert config.net.aggregation_type == "interpolate"
    assert (config.training.ema_factor, config.scaler.savepath) == (0.5, "here.ckpt")
    assert config.net.dropout == 0.4


def test_clips_without_events_are_kept_as_here_but_a_training_is_resumed_as_it_was(tmp_path):
    kept = "data.keep_clips_without_events=[synth_train, devtest]"
    there, here = load_sized(), load_sized(kept)
    assert config_of_checkpoint(stored(), here, [], "a.ckpt") == here
    path = tmp_path / "last.ckpt"
    for overrides, same, other in (((), there, here), ((kept,), here, there)):
        torch.save({**stored(*overrides), REVISION_KEY: REVISION}, path)
        check_resumable(path, same)
        with pytest.raises(InputError, match=r"data\.keep_clips_without_events: \[.*in the check"):
            check_resumable(path, other)
    # A checkpoint from before the key: none were kept.
    file = {**stored(), REVISION_KEY: REVISION}
    del file["hyper_parameters"]["data"]["keep_clips_without_events"]
    torch.save(file, path)
    check_resumable(path, there)


def test_a_configuration_survives_its_checkpoint():
    config = load_sized()
    assert config_of_checkpoint(stored(), config, [], "a.ckpt") == config
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert config_of_checkpoint(stored(detector=False), config, [], "a.ckpt") == config


def test_the_specification_wins_over_the_hyperparameters():
    file = stored()
    hyper = file["hyper_parameters"]
    hyper["net"].update(n_RNN_cell=99, median_filter=[1] * 27, activation="cg")
    hyper["feats"]["f_max"] = 4000
    hyper["scaler"]["normtype"] = "standard"
    config = load_sized()
    assert config_of_checkpoint(file, config, [], "a.ckpt") == config


def test_module_and_detector_of_one_file_compute_alike():
    file = stored("scaler.dims=[2]")
    config = config_of_checkpoint(file, load_config(MINI), [], "a.ckpt")
    module = SEDTask4(config)
    load_networks(module, file["state_dict"], "a.ckpt")
    detector = build_detector(detector_spec(config), file["state_dict"], "a.ckpt")
    waveform = torch.randn(2, 32000, generator=torch.Generator().manual_seed(0)) / 10
    embeddings = torch.randn(2, 128, 100, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = module.scaler(module.mel_spec.to_db(module.mel_spec(waveform)))
        assert torch.equal(features, detector.front_end(waveform))
        for role, network in module.eval().networks.items():
            one = network(features, embeddings)
            other = detector.networks[role](features, embeddings)
            # Kernels differ in the last bit where weights could be trained.
            torch.testing.assert_close(one.strong, other.strong, atol=1e-6, rtol=0)
            torch.testing.assert_close(one.weak, other.weak, atol=1e-6, rtol=0)


def test_keys_that_nothing_reads_are_dropped_with_one_warning_for_the_unknown():
    file = stored()
    hyper = file["hyper_parameters"]
    hyper["training"].update(backend=None, val_thresholds=[0.5], newer=1)
    hyper["net"].update(rnn_layers=1, newest=2)
    hyper["pretrained"] = {"model": "beats", "e2e": False}
    with pytest.warns(UserWarning, match="a.ckpt: ignoring unknown") as told:
        config_of_checkpoint(file, load_config(MINI), [], "a.ckpt")
    (message,) = (str(warning.message) for warning in told)
    assert message == "a.ckpt: ignoring unknown hyperparameters training.newer, net.newest"


def test_a_file_without_hyperparameters_is_refused():
    file = stored()
    del file["hyper_parameters"]
    with pytest.raises(InputError, match=r"x.ckpt: contains no hyper_parameters"):
        config_of_checkpoint(file, load_config(MINI), [], "x.ckpt")


@pytest.mark.parametrize(
    ("branch", "message"),
    [
        ({"training": 3}, "a.ckpt: hyper_parameters.training is 3, not a section of keys"),
        (
            {"training": {"seed": "x"}},
            r"hyperparameters of a.ckpt cannot be used:\n.*training.seed",
        ),
        ({"opt": {"lr": [1]}}, r"hyperparameters of a.ckpt cannot be used:\n.*opt.lr"),
    ],
)
def test_wrong_hyperparameters_are_named(branch, message):
    file = stored()
    file["hyper_parameters"].update(branch)
    with pytest.raises(InputError, match=message):
        config_of_checkpoint(file, load_config(MINI), [], "a.ckpt")


def test_detectors_that_this_recipe_cannot_test_are_refused():
    file = stored()
    other = copy.deepcopy(file)
    other["detector"]["classes"].reverse()
    with pytest.raises(
        InputError, match="has the classes of the task dcase2024 in another order; give"
    ):
        config_of_checkpoint(other, load_config(MINI), [], "a.ckpt")
    other = copy.deepcopy(file)
    other["detector"]["front_end"]["win"] = 512
    other["state_dict"]["mel_spec.spectrogram.window"] = torch.ones(512)
    with pytest.raises(InputError, match="its FFT has 1024 samples and a window of 512"):
        config_of_checkpoint(other, load_config(MINI), [], "a.ckpt")


def test_every_tensor_that_does_not_fit_is_named():
    module = torch.nn.Linear(2, 3)
    state = {"weight": torch.zeros(3, 4), "more": torch.zeros(1)}
    with pytest.raises(InputError) as error:
        load_networks(module, state, "x.ckpt")
    text = str(error.value)
    assert "bias: missing" in text and "more: not in the network" in text
    assert "weight: shape (3, 4) in the checkpoint, (3, 2) in the network" in text
    with pytest.raises(InputError, match=r"x.ckpt: its training had diverged"):
        load_networks(module, {"weight": torch.zeros(3, 2) / 0, "bias": torch.zeros(3)}, "x.ckpt")


def test_a_broken_file_is_not_gone_on_from(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"PK\x03\x04cut off")
    with pytest.raises(InputError, match=r"last.ckpt: not a checkpoint that can be loaded safely"):
        check_resumable(tmp_path / "last.ckpt", load_config(MINI))
