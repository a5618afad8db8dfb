"""Nothing in a training step waits for the device: no value of a tensor is asked for.

Without a GPU nothing waits, so it is shown by what would: operations that return a value or a shape
that depends on values, and copies between devices that are not asynchronous.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from desed_task.audio.files import write_wav
from desed_task.augment import batch_mixup
from desed_task.kernels import choice
from local.config import load_config
from local.sed_trainer_pretrained import SEDTask4
from tests.local.processes.shared_steps import CLIP, N_BATCHES, Batches

WAITING = {
    *("aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::masked_select"),
    *("aten::is_nonzero", "aten::equal", "aten::unique_dim", "aten::_unique2", "aten::bincount"),
}
MOVING = {torch.Tensor.cpu, torch.Tensor.cuda, torch.Tensor.tolist}
OURS = tuple(
    Path(__file__).resolve().parents[2] / name for name in ("desed_task", "local", "tests")
)
MADE = {torch.tensor, torch.as_tensor}
# Lightning converts what is logged to numbers every so many steps.
LOGGED_EVERY = 10


class NoWaiting(TorchDispatchMode):
    """Fails on operations whose result the host has to wait for."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func._schema.name
        if name in WAITING:
            raise AssertionError(f"{name} waits for the device")
        if name == "aten::index" and any(
            one is not None and one.dtype == torch.bool for one in args[1]
        ):
            raise AssertionError("an index of booleans waits for the device")
        return func(*args, **(kwargs or {}))


class NoCopies(TorchFunctionMode):
    """Fails on copies to another device that do not say whether they wait."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in MADE and "device" in given:
            raise AssertionError(f"{func}: a number on its way waits for the device")
        to_device = func is torch.Tensor.to and any(
            isinstance(one, torch.device | str) for one in (*args[1:], *given.values())
        )
        # Lightning's own moves do nothing where a tensor is on its device already.
        caller = Path(sys._getframe(1).f_code.co_filename)
        ours = any(caller.is_relative_to(folder) for folder in OURS)
        if ours and (func in MOVING or (to_device and "non_blocking" not in given)):
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **given)


class Watched(pl.Callback):
    """Watches whole steps: forward and backward passes, the optimizer, the teacher, logging."""

    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self._modes = (NoWaiting(), NoCopies())
        for mode in self._modes:
            mode.__enter__()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.on_exception(trainer)
        self.steps += 1

    def on_exception(self, trainer: pl.Trainer, *_: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(None, None, None)


def train(watched: Watched, augmented: tuple[str, ...] = (), **more: Any) -> None:
    overrides = (
        *("training.batch_size=[1,1,1,2,1]", "training.mixup_prob=1", "net.n_RNN_cell=8"),
        *("net.nb_filters=[4,4,4,4,4,4,4]", "net.embedding_size=128"),
        *("net.specaugm_t_p=0.2", "net.specaugm_f_p=0.2", CLIP),
        *augmented,
    )
    config = load_config("pretrained", overrides)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[watched],
        limit_val_batches=0,
        num_sanity_val_steps=0,
        gradient_clip_val=5.0,
        log_every_n_steps=LOGGED_EVERY,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **more,
    )
    trainer.fit(SEDTask4(config), Batches())


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "has_kernels", lambda: False)


def test_no_operation_of_a_step_waits_for_the_device() -> None:
    watched = Watched()
    train(watched)
    assert watched.steps == N_BATCHES


def test_no_augmentation_waits_for_the_device(tmp_path: Path) -> None:
    watched = Watched()
    write_wav(tmp_path / "a.wav", np.hanning(99).astype(np.float32), 16000, "FLOAT")
    chances = ("mixup", "mixstyle", "filter", "time_mask", "wavmix", "device")
    values = (
        *("training.mixup=null", "net.use_embeddings=false", f"augment.device_dir={tmp_path}"),
        *(f"augment.{name}_prob=1" for name in chances),
        *("augment.gain_db=3", "augment.shift_std=0.1", "augment.mix_across=true"),
        *("training.consistency=ict", "augment.filter_transforms=2"),
    )
    train(watched, values, limit_train_batches=1)
    assert watched.steps == 1


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: torch.tensor(0.5, device=x.device),
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.to("cpu"),
        lambda x: bool(x.any()),
        lambda x: x.cpu(),
    ],
)
def test_what_waits_is_seen(waits, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = batch_mixup.moved

    def waiting(x: torch.Tensor, device: torch.device) -> torch.Tensor:
        waits(x.float())
        return moved(x, device)

    monkeypatch.setattr(batch_mixup, "moved", waiting)
    with pytest.raises(AssertionError, match="waits for the device"):
        train(Watched())
