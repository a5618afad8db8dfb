"""What a trainer is made with."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from desed_task.errors import InputError
from local import run
from local.cli.devices import CPU, Device
from local.cli.exit_status import StoppedError
from local.config import load_config
from local.scoring import tested
from local.scoring.tested import TestedFiles
from local.sed_trainer_pretrained import SEDTask4
from local.training.trainer import RunOptions, make_trainer

CONF = Path(__file__).resolve().parents[2] / "confs" / "mini.yaml"
GPU = Device("gpu", [0], "")


@pytest.fixture
def made(monkeypatch):
    """Arguments of the trainers that are made; PyTorch's setting is put back."""
    found = []
    before = torch.get_float32_matmul_precision()
    monkeypatch.setattr(run.pl, "Trainer", lambda **arguments: found.append(arguments))
    yield found
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("precision", "device", "of_lightning", "of_torch"),
    [
        ("32", GPU, "32-true", "highest"),
        ("tf32", GPU, "32-true", "high"),
        ("tf32", CPU, "32-true", "highest"),
        ("16", GPU, "16-mixed", "highest"),
        ("bf16", CPU, "bf16-mixed", "highest"),
    ],
)
def test_precisions(precision, device, of_lightning, of_torch, made, tmp_path):
    config = load_config(CONF, [f"training.precision={precision}"])
    torch.set_float32_matmul_precision("medium")
    make_trainer(config, RunOptions(str(tmp_path), device), tmp_path / "run", ())
    assert made[0]["precision"] == of_lightning
    assert torch.get_float32_matmul_precision() == of_torch


@pytest.mark.parametrize(
    ("precision", "fused"), [("32-true", True), ("16-mixed", False), ("bf16-mixed", False)]
)
def test_adam_runs_in_one_kernel_where_no_scaler_is_in_the_way(precision, fused):
    module = SEDTask4(load_config(CONF))
    module.trainer = SimpleNamespace(
        precision=precision, estimated_stepping_batches=10, max_epochs=2
    )
    optimizer = module.configure_optimizers()["optimizer"]
    assert optimizer.defaults["fused"] == fused


def test_the_fused_adam_steps_as_the_plain_one():
    one, other = SEDTask4(load_config(CONF)).sed_student, SEDTask4(load_config(CONF)).sed_student
    other.load_state_dict(one.state_dict())
    optimizers = [
        torch.optim.Adam(network.parameters(), 1e-3, fused=fused)
        for network, fused in ((one, True), (other, False))
    ]
    torch.manual_seed(1)
    for _ in range(3):
        for first, second in zip(one.parameters(), other.parameters(), strict=True):
            first.grad = torch.randn_like(first)
            second.grad = first.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for (name, first), second in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-7, msg=name)


def test_what_the_configuration_says_of_training_reaches_the_trainer(made, tmp_path):
    values = {
        "n_epochs": 7,
        "validation_interval": 3,
        "gradient_clip": 0.75,
        "accumulate_batches": 4,
        "deterministic": True,
    }
    config = load_config(CONF, [f"training.{key}={value}" for key, value in values.items()])
    make_trainer(config, RunOptions(str(tmp_path)), tmp_path / "run", ())
    (arguments,) = made
    names = (
        "max_epochs",
        "check_val_every_n_epoch",
        "gradient_clip_val",
        "accumulate_grad_batches",
        "deterministic",
    )
    assert {name: arguments[name] for name in names} == dict(
        zip(names, values.values(), strict=True)
    )
    assert arguments.get("gradient_clip_algorithm", "norm") == "norm"
    # The recipe's samplers share the batches among processes; Lightning must not do it once more.
    assert arguments["use_distributed_sampler"] is False


def test_the_seed_decides_what_a_network_starts_from(tmp_path):
    def weights(seed: int) -> torch.Tensor:
        options = RunOptions(str(tmp_path))
        module = run._prepare(load_config(CONF, [f"training.seed={seed}"]), options, None)[1]
        return torch.cat([value.detach().flatten() for value in module.sed_student.parameters()])

    first = weights(3)
    assert torch.equal(first, weights(3))
    assert not torch.equal(first, weights(4))


def test_a_folder_that_tensorboard_cannot_write_to_is_refused_before_the_data_are_read(tmp_path):
    options = RunOptions(str(tmp_path / "lo\udcffg"), CPU)
    with pytest.raises(InputError, match=r"lo\\xffg: TensorBoard writes only to folders whose"):
        run.fit(load_config(str(CONF)), options)
    assert not list(tmp_path.iterdir())


def test_a_short_training_has_a_warm_up_that_fits():
    config = run.shortened(load_config(CONF, ["opt.warmup_steps=300"]))
    assert config.opt.warmup_steps is None and config.training.n_epochs == run.FAST_EPOCHS


def test_a_stopped_test_names_its_checkpoints_for_a_shell():
    def stop(*_, **__):
        raise KeyboardInterrupt

    files = TestedFiles((Path("a b.ckpt"), Path("c.ckpt")))
    with pytest.raises(StoppedError, match=r"--test_from_checkpoint 'a b.ckpt' c.ckpt$"):
        run._test(SimpleNamespace(test=stop), SimpleNamespace(), None, files, loaded=True)


def test_a_tested_file_is_hashed_once(tmp_path, monkeypatch):
    hashed = []
    monkeypatch.setattr(tested, "sha256_of", lambda path: hashed.append(path) or "ab")
    module = SimpleNamespace(tested_checkpoint=TestedFiles((tmp_path / "ä.ckpt",)))
    assert tested.tested_by(module).name == "ä.ckpt" and not hashed
    for _ in range(2):
        found = tested.tested_by(module)
        assert found.sha256 == found.record()["checkpoint"]["sha256"] == "ab"
    assert len(hashed) == 1
