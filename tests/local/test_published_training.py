"""Twenty steps of training through the Lightning module and Trainer, against the published code's.

The rule that makes the batches stands beside the numbers, in `parity/README.md`.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from desed_task.batch import SedBatch
from local.config import RecipeConfig, check_config, load_config
from local.sed_trainer_pretrained import SEDTask4
from local.training.trainer import RunOptions, make_trainer

ROOT = Path(__file__).resolve().parents[2]
N_STEPS = 20
TERMS = (
    *("loss_strong", "loss_weak", "strong_self_sup_loss", "weak_self_sup_loss"),
    *("tot_self_loss", "loss"),
)
# Batch norm takes away again what the bias of a convolution adds, so its gradient is rounding
# noise, which Adam scales up to the learning rate.
NO_GRADIENT = tuple(f"cnn.cnn.conv{i}.bias" for i in range(7))


@pytest.fixture(scope="module")
def given(parity) -> dict[str, Any]:
    return torch.load(parity("train_20_steps.pt"), weights_only=True)


@pytest.fixture
def config(given) -> RecipeConfig:
    """confs/pretrained.yaml but for the sizes and the schedule, without mixup."""
    tree = load_config(ROOT / "confs" / "pretrained.yaml").dump()
    schedule = given["schedule"]
    for key in ("n_epochs", "n_epochs_warmup", "epoch_decay", "const_max", "ema_factor"):
        tree["training"][key] = schedule[key]
    tree["training"].update(
        mixup=None,
        gradient_clip=schedule["gradient_clip"],
        batch_size=given["batch_size"],
        validation_interval=schedule["n_epochs"],
        enable_progress_bar=False,
        num_workers=0,
    )
    tree["opt"]["lr"] = schedule["lr"]
    net = {key: value for key, value in given["net"].items() if key != "rnn_layers"}
    tree["net"].update(net, n_layers_RNN=2)
    tree["energy"]["enabled"] = False
    return check_config(tree, "the fixture")


def make_batch(given: dict[str, Any], k: int) -> SedBatch:
    rng = np.random.RandomState(1000 * given["seed"] + k)
    waveform = (0.1 * rng.standard_normal((9, 160000))).astype(np.float32)
    embedding = rng.standard_normal((9, 24, 496)).astype(np.float32)
    value = np.where(rng.rand(9, 27, 1) < 0.5, 1.0, rng.rand(9, 27, 1))
    target = ((rng.rand(9, 27, 156) < 0.1) * value).astype(np.float32)
    source = np.repeat(np.arange(5), given["batch_size"])
    weak, unlabelled = source == 3, source == 4
    target[weak] = np.pad(target[weak, :, :1] > 0, ((0, 0), (0, 0), (0, 155)))
    target[unlabelled] = 0
    sums = [binascii.crc32(part.tobytes()) for part in (waveform, embedding, target)]
    assert sums == given["crc32_of_waveform_embedding_target"][k]
    return SedBatch(
        torch.from_numpy(waveform),
        torch.from_numpy(target),
        given["valid_class_mask"],
        torch.from_numpy(source),
        torch.from_numpy(embedding),
        tuple(f"clip{row}" for row in range(9)),
    )


class EpochsInOrder(IterableDataset):
    """The batches of the fixture: an epoch's at each iteration."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given, self.epoch = given, 0

    def __len__(self) -> int:
        return self.given["schedule"]["steps_per_epoch"]

    def __iter__(self) -> Iterator[SedBatch]:
        first, self.epoch = self.epoch * len(self), self.epoch + 1
        return (make_batch(self.given, first + k) for k in range(len(self)))


class Batches(pl.LightningDataModule):
    """What the module asks of a data module in training."""

    loaded: ClassVar[dict[str, Any]] = {}

    def digests(self, stage: str) -> dict[str, Any]:
        return {}

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__()
        self.given = given

    def train_dataloader(self) -> DataLoader[SedBatch]:
        return DataLoader(EpochsInOrder(self.given), batch_size=None)


class Recorder(Callback):
    """Loss terms, learning rates, gradient and parameter norms of each step; ends after the last.

    Lightning calls `on_before_optimizer_step` before it clips, `on_train_batch_end` after the step.
    """

    def __init__(self) -> None:
        self.rows: dict[str, list[float]] = {}

    def note(self, name: str, value: Tensor | float) -> None:
        self.rows.setdefault(name, []).append(float(value))

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        gradients = [p.grad for p in pl_module.sed_student.parameters() if p.grad is not None]
        self.note("grad_norm", torch.nn.utils.get_total_norm(gradients))
        self.note("lr", optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        for name in TERMS:
            self.note(name, trainer.callback_metrics[f"train/student/{name}"])
        self.note("weight", trainer.callback_metrics["train/weight"])
        for role, network in pl_module.networks.items():
            self.note(f"{role}_norm", torch.nn.utils.get_total_norm(list(network.parameters())))
        if len(self.rows["lr"]) == N_STEPS:
            trainer.should_stop = True


def train(config: RecipeConfig, given: dict[str, Any], tmp_path, double: bool) -> tuple[Any, ...]:
    """The trained module and what was recorded, by the trainer that `run.fit` makes."""
    module, recorder = SEDTask4(config), Recorder()
    module.sed_student.load_state_dict(given["state"])
    module.sed_teacher.load_state_dict(given["state"])
    if double:  # the networks and losses; the front end of the fixture is float32
        for network in module.networks.values():
            network.double().register_forward_pre_hook(
                lambda network, args: (args[0].double(), args[1].double(), *args[2:])
            )
    options = RunOptions(str(tmp_path / "exp"))
    trainer = make_trainer(config, options, tmp_path / "exp" / "version_0", [recorder])
    trainer.fit(module, datamodule=Batches(given))
    return module, recorder.rows


@pytest.mark.parametrize(
    ("double", "of_losses", "of_parameters"), [(True, 1e-6, 1e-5), (False, 1e-5, 1e-4)]
)
def test_twenty_steps_are_the_published_ones(
    given, config, tmp_path, double, of_losses, of_parameters
):
    module, rows = train(config, given, tmp_path, double)
    expected = given["ramped"]
    for names, atol in (
        ((*TERMS, "weight", "lr"), of_losses),
        # Norms over all parameters, thousands of values.
        (("grad_norm", "student_norm", "teacher_norm"), 10 * of_parameters),
    ):
        for name in names:
            found = torch.tensor(rows[name], dtype=torch.float64)
            torch.testing.assert_close(
                found, expected[name], rtol=0, atol=atol, msg=lambda text, at=name: f"{at}: {text}"
            )
    for role, network in module.networks.items():
        after = expected[f"{role}_after"]
        found = network.state_dict()
        assert found.keys() == after.keys()
        left_out = set(NO_GRADIENT)
        if not double:  # they follow those biases, whose noise is 10^9 times as large as in float64
            left_out |= {f"cnn.cnn.batchnorm{i}.running_mean" for i in range(7)}
        for name in found.keys() - left_out:
            torch.testing.assert_close(
                found[name].double(),
                after[name].double(),
                rtol=0,
                atol=of_parameters,
                msg=lambda text, at=f"{role} {name}": f"{at}: {text}",
            )


def test_the_published_first_step_differs_by_its_learning_rate_alone(given):
    """What docs/method.md says of the first step, from the published numbers themselves."""
    published, ramped = given["published"], given["ramped"]
    assert published["lr"][0] == given["schedule"]["lr"]
    assert ramped["lr"][0] < 0.03 * published["lr"][0]
    assert torch.equal(published["lr"][1:], ramped["lr"][1:])
    assert torch.equal(published["alpha"], ramped["alpha"])
