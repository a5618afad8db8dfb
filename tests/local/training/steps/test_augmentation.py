"""The section `augment`: what it makes, what it refuses, and what of it checkpoints keep."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from desed_task.audio.files import write_wav
from desed_task.augment.chain import StepAugmentation
from desed_task.encoders.interface import Encoder
from desed_task.errors import InputError
from desed_task.features import SpectrumLayout
from desed_task.losses.interpolation import interpolated_groups
from desed_task.losses.step_losses import StepLosses
from local.checkpoints.resume import check_same_data
from local.config import check_config, load_config
from local.data.datamodule import SedDataModule
from local.schema.augment import NAMES, Augment
from local.stores.device_responses import device_responses, response_problems
from local.submission.metadata import describe_system
from local.training.steps.augmentation import augmentation_of
from local.training.steps.losses import losses_of
from tests.local.test_sed_trainer_pretrained import CONF, make_batch, module_of

UNMIXED = "training.mixup=null"
NO_EMBEDDINGS = "net.use_embeddings=false"


def configured(*values: str):
    return load_config(CONF, values)


@pytest.fixture
def responses(tmp_path):
    write_wav(tmp_path / "ö" / "a 1.wav", np.hanning(99).astype(np.float32), 16000, "FLOAT")
    return tmp_path / "ö"


def test_everything_is_off_by_default():
    for name in ("pretrained", "mini"):
        config = load_config(name)
        assert config.augment == Augment() and not config.augment.is_on
        assert augmentation_of(config, None) is None
    assert module_of().augmentation is None


def test_values_of_the_configuration_reach_the_step(responses):
    values = {
        **{"wavmix_prob": 0.1, "wavmix_alpha": 0.3, "device_prob": 0.2, "gain_db": 3.0},
        **{"shift_std": 0.4, "time_mask_prob": 0.5, "time_mask_min": 0.06, "time_mask_max": 0.07},
        **{"mixup_prob": 0.8, "mixup_alpha": 0.9, "mix_across": True, "mixstyle_prob": 0.11},
        **{"mixstyle_alpha": 0.12, "filter_prob": 0.13, "filter_type": "step"},
        **{"filter_db": [-1, 2], "filter_bands": [2, 4], "filter_min_bins": 3},
        **{"filter_transforms": 2, "warp_min": 0.8},
    }
    given = [f"augment.{key}={value}" for key, value in values.items()]
    more = (UNMIXED, NO_EMBEDDINGS, "training.consistency=ict", f"augment.device_dir={responses}")
    config = configured(*given, *more)
    made = augmentation_of(config, None)
    assert isinstance(made, StepAugmentation)
    for key in Augment.model_fields:
        if key != "device_dir":
            assert getattr(made, key) == getattr(config.augment, key), key
    assert {key for key in NAMES if not getattr(made, key)} == {"warp_prob"}
    assert made.interpolates and made.times == (2, 31.25, ())
    assert made.scale == (config.feats.n_mels, 0.0, 8000.0)
    assert made.responses is not None and made.responses.samples.shape == (1, 99)
    assert "wavmix" in describe_system(config)["data_augmentation"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["mixup_prob=0.5"], "augment.mixup_prob (0.5): training.mixup mixes already"),
        (["wavmix_prob=0.5"], "augment.wavmix_prob (0.5): changes waveforms, and embeddings"),
        (["gain_db=3"], "augment.gain_db (3): changes waveforms, and embeddings"),
        (
            ["device_prob=0.1", "device_dir=x"],
            "augment.device_prob (0.1): changes waveforms, and embeddings",
        ),
        (["warp_prob=0.5"], "augment.warp_prob (0.5): warps what encoders are given"),
        (["device_prob=0.1"], "device_prob (0.1) needs impulse responses; give device_dir"),
        (
            ["time_mask_min=0.4"],
            "time_mask_min and time_mask_max (0.4 and 0.3): the first is more than the second",
        ),
        (["filter_db=[6,-6]"], "filter_db (6 and -6): the first is more than the second"),
        (["filter_bands=[5,3]"], "filter_bands (5 and 3): the first is more than the second"),
        (
            ["filter_prob=1", "filter_bands=[3,50]"],
            "augment.filter_bands (50 at most) of augment.filter_min_bins (6) need 300 mel bands",
        ),
        (
            ["mixup_prob=1 training.mixup=null training.consistency=ict task.mixup_groups=[]"],
            "training.consistency: ict compares the scores of mixed rows, and no corpus with",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(values, message):
    given = [word for value in values for word in f"augment.{value}".split()]
    with pytest.raises(InputError) as raised:
        configured("training.mixup=soft", *given)
    assert message in str(raised.value)
    assert any(word in str(raised.value) for word in ("set ", "give ", "exchange", "lower"))


def test_a_mask_beside_stored_global_embeddings_is_refused():
    of_clips = ("net.embedding_type=global", "net.aggregation_type=global")
    with pytest.raises(InputError, match="global embeddings contain what is masked"):
        configured(*of_clips, "augment.time_mask_prob=1")
    configured("augment.time_mask_prob=1")


def test_an_encoder_that_says_nothing_of_its_spectrogram_is_refused():
    odd = SimpleNamespace(parts=(SimpleNamespace(name="ours", spectrum=Encoder.spectrum),))
    for needing in ("shift_std=0.1", "time_mask_prob=1", "filter_prob=0.5"):
        with pytest.raises(InputError, match="encoder ours: does not say what its spectrogram is"):
            augmentation_of(configured(UNMIXED, f"augment.{needing}"), odd)
    without = configured(UNMIXED, "augment.mixup_prob=0.5", "augment.mixstyle_prob=0.5")
    assert augmentation_of(without, odd).layouts == ()


def test_each_encoder_has_its_own_bands_and_frames():
    """Of several, in their order, so that a filter meets the bands of each."""
    layouts = [
        SpectrumLayout(0.1, (100.0, 1000.0), 100.0),
        SpectrumLayout(0.3, (50.0, 500.0, 5000.0), 62.5),
    ]
    parts = tuple(SimpleNamespace(name=str(i), spectrum=one) for i, one in enumerate(layouts))
    config = configured(UNMIXED, "augment.filter_prob=0.5")
    made = augmentation_of(config, SimpleNamespace(parts=parts))
    assert list(made.layouts) == layouts and made.times.encoder_rates == (100.0, 62.5)


def step_of(*, seed: int = 7, **augment):
    """A step of the module with this section `augment`, its loss and its tensors."""
    module = module_of(mixup=None)
    tree = module.config.dump()
    tree["augment"].update(augment)
    tree["net"]["use_embeddings"] = not any(augment.get(k) for k in ("gain_db", "wavmix_prob"))
    module.config = check_config(tree, "the test")
    module.__dict__.pop("augmentation", None)
    module.draws.manual_seed(seed)
    batch = make_batch()
    inputs = module._inputs(batch)
    return module, batch, inputs, module._augmented(inputs, batch.source)


def test_a_step_of_the_module_is_augmented_before_the_networks():
    module, batch, plain, step = step_of(
        shift_std=0.1, time_mask_prob=1, mixup_prob=1, mixstyle_prob=1, filter_prob=1
    )
    assert torch.equal(plain.target, batch.target)
    assert not torch.equal(step.student.mel, plain.mel)
    again = step_of(shift_std=0.1, time_mask_prob=1, mixup_prob=1, mixstyle_prob=1, filter_prob=1)
    assert torch.equal(again[3].student.mel, step.student.mel)
    for seed in range(3):
        module.draws.manual_seed(seed)
        loss = module.training_step(batch, seed)
        loss.backward()
        assert loss.isfinite()


def test_waveforms_are_augmented_before_the_spectrogram():
    _, batch, plain, _ = step_of()
    _, _, louder, _ = step_of(gain_db=6.0)
    raised_db = 20 * (louder.mel / plain.mel).log10()
    assert torch.allclose(raised_db, raised_db[:, :1, :1].expand_as(raised_db), atol=0.01)
    assert 0.5 < raised_db.abs().amax() <= 6.01
    _, _, mixed, _ = step_of(wavmix_prob=1.0)
    assert not torch.equal(mixed.target, batch.target)
    assert torch.equal(mixed.known, batch.known)


def test_other_responses_are_seen_when_a_training_is_resumed(responses, capsys):
    values = (NO_EMBEDDINGS, "augment.device_prob=0.5", f"augment.device_dir={responses}")
    config = configured(*values)
    before = SedDataModule(config).digests("fit")
    assert SedDataModule(config).digests("test") == {}
    assert SedDataModule(configured()).digests("fit") == {}
    data, kept = SedDataModule(config), device_responses(config)
    assert data.digests("fit") == before
    assert response_problems(config) == []
    assert device_responses(config) is kept  # read once
    assert capsys.readouterr().out == f"{responses}: 1 device response\n"
    moved = responses.parent / "moved"
    responses.rename(moved)
    assert "no such folder" in response_problems(config)[0]
    assert data.digests("fit") == before  # of a training that has read them
    config = configured(*values[:2], f"augment.device_dir={moved}")
    check_same_data(
        "last.ckpt", before, SedDataModule(config).digests("fit"), config.detection_task
    )
    write_wav(moved / "b.wav", np.ones(9, dtype=np.float32), 16000, "FLOAT")
    now = SedDataModule(config).digests("fit")
    with pytest.raises(InputError, match=r"augment\.device_dir: 1 response before, 2 now"):
        check_same_data("last.ckpt", before, now, config.detection_task)
    # A checkpoint from before, which knows of none, is told by its configuration.
    check_same_data("last.ckpt", {}, now, config.detection_task)


def test_values_that_nothing_reads_are_told(tmp_path):
    unread = {
        f"augment.device_dir={tmp_path}": "augment.device_prob is 0",
        "losses.ramp_steps=270": "losses.ramp_steps: 270 is not read, as losses.ramp is exp",
        "losses.ramp_most=0.5": "losses.ramp_most: 0.5 is not read",
    }
    for value, message in unread.items():
        with pytest.warns(UserWarning, match=message):
            configured(value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        configured("losses.ramp=linear", "losses.ramp_steps=270")


def test_interpolation_weighs_the_terms_of_the_configuration():
    """The module's loss against the losses that are put together by hand."""
    module = module_of(mixup=None)
    tree = module.config.dump()
    tree["training"]["consistency"] = "ict"
    tree["augment"].update(mixup_prob=1.0, mix_across=True)
    tree["losses"].update(weak_consistency=0.5, ramp="linear", ramp_steps=10000, ramp_most=0.4)
    module.config = check_config(tree, "the test")
    module.losses = losses_of(module.config)
    module.__dict__.pop("augmentation", None)
    batch = make_batch()
    module.draws.manual_seed(3)
    found = module.terms_of(batch)
    module.draws.manual_seed(3)
    step = module._augmented(module._inputs(batch), batch.source)
    assert step.mixed is not None
    scores = [
        module._scores(role, one, module._features(one.mel))
        for role, one in (("student", step.student), ("teacher", step.teacher))
    ]
    roles = module.config.detection_task.roles
    groups = interpolated_groups(roles, (roles.strong, roles.weak, roles.unlabelled))
    by_hand = StepLosses(roles, weak_consistency=0.5, groups=groups)
    # const_max 3, and in step 5000 half the ramp, at most 0.4.
    expected = by_hand(*scores, step, batch.source, weight=1.2)
    assert found.others["ict_loss"] > 0
    assert found.others["ict_loss"].item() == pytest.approx(expected.others["ict_loss"].item())
    assert found.losses.loss.item() == pytest.approx(expected.losses.loss.item())
