"""What the trainer does between batches: accumulation, clipping, precision, ends of schedules."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader

from desed_task.batch import SedBatch
from local import sed_trainer_pretrained
from local.config import RecipeConfig, check_config, load_config
from local.sed_trainer_pretrained import SEDTask4
from local.training.trainer import RunOptions, make_trainer
from tests.published_task import NUMBER

CONF = Path(__file__).resolve().parents[2] / "confs" / "mini.yaml"
N_BATCHES = 3
# Of two seconds: what happens between batches does not depend on their length.
CLIP_S, N_SAMPLES, N_FRAMES, N_TOKENS = 2, 32000, 31, 99


def make_batch(seed: int) -> SedBatch:
    """Two rows of each source, a few labels."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.arange(5).repeat_interleave(2)
    target = (torch.rand(10, 27, N_FRAMES, generator=generator) < 0.05).float()
    target[source == NUMBER["unlabeled_train"]] = 0
    return SedBatch(
        0.1 * torch.randn(10, N_SAMPLES, generator=generator),
        target,
        torch.ones(10, 27, dtype=torch.bool),
        source,
        torch.randn(10, 128, N_TOKENS, generator=generator),
        tuple(map(str, range(10))),
    )


BATCHES = [make_batch(seed) for seed in range(N_BATCHES)]


def in_order(batches: list[SedBatch]) -> DataLoader[SedBatch]:
    # Its own generator, as the recipe's loaders have: the global one is what a resumed run shares.
    return DataLoader(batches, batch_size=None, generator=torch.Generator())


class FixedBatches(pl.LightningDataModule):
    """The same few batches every epoch."""

    loaded: ClassVar[dict[str, Any]] = {}

    def digests(self, stage: str) -> dict[str, Any]:
        return {}

    def train_dataloader(self) -> DataLoader[SedBatch]:
        return in_order(BATCHES)

    def val_dataloader(self) -> DataLoader[SedBatch]:
        return in_order(BATCHES[:1])

    def truths(self, stage: str) -> tuple[()]:
        return ()


class GivenObjectives:
    """In place of the scores: a value of val/obj_metric for each validation."""

    def __init__(self, values: Iterable[float]) -> None:
        self.values = iter(values)

    def clear(self) -> None: ...

    def add(self, *_: object) -> None: ...

    def validation_metrics(self, truths: object) -> dict[str, float]:
        return {"val/obj_metric": next(self.values)}


def config_of(**training: Any) -> RecipeConfig:
    tree = load_config(CONF).dump()
    tree["training"].update(
        {"n_epochs": 2, "n_epochs_warmup": 1, "epoch_decay": 1, "validation_interval": 2}
    )
    tree["training"].update(training, enable_progress_bar=False, num_workers=0)
    tree["net"].update(nb_filters=[4, 4, 4, 8], n_RNN_cell=8, dropout=0.3, dropstep_recurrent=0.3)
    tree["data"]["audio_max_len"] = CLIP_S
    tree["energy"]["enabled"] = False
    return check_config(tree, "the test")


def fit(
    config: RecipeConfig,
    tmp_path: Path,
    *callbacks: Callback,
    objectives: Iterable[float] = itertools.count(),
) -> SEDTask4:
    pl.seed_everything(1, verbose=False)
    module = SEDTask4(config)
    module.score_accumulator = GivenObjectives(objectives)
    folder = tmp_path / "exp" / "version_0"
    trainer = make_trainer(config, RunOptions(str(tmp_path / "exp")), folder, callbacks)
    trainer.fit(module, datamodule=FixedBatches())
    return module


class Events(Callback):
    """The order of events in a training, with the step of the schedule."""

    def __init__(self, monkeypatch) -> None:
        self.found: list[tuple[str, int]] = []
        real = sed_trainer_pretrained.ema_update

        def update(student, teacher, step, factor):
            self.found.append(("teacher", step))
            real(student, teacher, step, factor)

        monkeypatch.setattr(sed_trainer_pretrained, "ema_update", update)

    def on_after_backward(self, trainer, pl_module) -> None:
        self.found.append(("backward", pl_module.lr_schedulers().step_num))

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.found.append(("step", pl_module.lr_schedulers().step_num))


def test_the_teacher_moves_once_per_step_before_the_backward_pass(tmp_path, monkeypatch):
    events = Events(monkeypatch)
    fit(config_of(n_epochs=1, validation_interval=1), tmp_path, events)
    expected = [
        (what, s) for s in range(1, N_BATCHES + 1) for what in ("teacher", "backward", "step")
    ]
    assert events.found == expected


def test_accumulated_batches_are_one_step_of_everything(tmp_path, monkeypatch):
    """Three batches in twos: the odd one at the epoch's end is a step of its own."""
    events = Events(monkeypatch)
    fit(config_of(accumulate_batches=2), tmp_path, events)
    assert [s for what, s in events.found if what == "step"] == [1, 2, 3, 4]
    assert [s for what, s in events.found if what == "teacher"] == [1, 2, 3, 4]
    assert sum(what == "backward" for what, _ in events.found) == 2 * N_BATCHES
    first_step = events.found[: events.found.index(("step", 1)) + 1]
    assert [what for what, _ in first_step] == ["teacher", "backward", "backward", "step"]


class Steps(Callback):
    """Learning rate and norm of the student's gradient in each step, as Adam sees them."""

    def __init__(self) -> None:
        self.lr: list[float] = []
        self.norms: list[float] = []
        self.losses: list[float] = []

    def on_train_start(self, trainer, pl_module) -> None:
        parameters = list(pl_module.sed_student.parameters())

        def note(optimizer, args, kwargs) -> None:
            gradients = [p.grad for p in parameters if p.grad is not None]
            self.norms.append(float(torch.nn.utils.get_total_norm(gradients)))
            self.lr.append(optimizer.param_groups[0]["lr"])

        trainer.optimizers[0].register_step_post_hook(note)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.losses.append(float(outputs["loss"]))


@pytest.mark.parametrize("limit", [0.01, 0.0])
def test_the_norm_of_the_gradient_is_clipped_and_0_turns_that_off(tmp_path, limit):
    steps = Steps()
    fit(config_of(gradient_clip=limit), tmp_path, steps)
    assert len(steps.norms) == 2 * N_BATCHES
    if limit:
        assert steps.norms == pytest.approx([limit] * len(steps.norms), rel=1e-3)
    else:
        assert min(steps.norms) > 0.02


def rate(step: int, warmup: int, start: int, end: int) -> float:
    """Share of the learning rate at a step, counted from 1, by the formula of the method."""
    if step <= start:
        return math.exp(-5 * (1 - min(step / warmup, 1)) ** 2) if warmup else 1.0
    return max(1e-8 / 0.002, math.cos(math.pi / 2 * (step - start) / (end - start)))


@pytest.mark.parametrize(
    ("epochs", "warmup", "decay", "accumulated"),
    [(4, 2, 3, 1), (3, 1, 1, 1), (2, 2, 2, 1), (2, 1, 9, 1), (4, 1, 2, 2)],
)
def test_the_learning_rate_of_every_step(tmp_path, epochs, warmup, decay, accumulated):
    """Up to the last step of the last epoch; an annealing that begins at or after it never does."""
    steps = Steps()
    config = config_of(
        n_epochs=epochs,
        n_epochs_warmup=warmup,
        epoch_decay=decay,
        validation_interval=epochs,
        accumulate_batches=accumulated,
    )
    fit(config, tmp_path, steps)
    an_epoch = -(-N_BATCHES // accumulated)
    bounds = (warmup * an_epoch, decay * an_epoch, epochs * an_epoch)
    expected = [0.002 * rate(step, *bounds) for step in range(1, epochs * an_epoch + 1)]
    assert steps.lr == pytest.approx(expected, rel=1e-9)


def test_the_consistency_weight_of_the_last_epochs_ignores_the_ramp(tmp_path):
    class Weights(Callback):
        found: ClassVar[list[float]] = []

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            self.found.append(float(trainer.callback_metrics["train/weight"]))

    schedule = {"n_epochs": 3, "n_epochs_warmup": 2, "epoch_decay": 2, "validation_interval": 3}
    fit(config_of(**schedule), tmp_path, Weights())
    warm = 2 * N_BATCHES
    ramp = [2 * rate(step, warm, warm, 3 * N_BATCHES) for step in range(1, warm + 1)]
    assert Weights.found == pytest.approx([*ramp, *[2.0] * N_BATCHES], rel=1e-6)


@pytest.mark.parametrize(
    ("objectives", "best", "last"),
    [
        # Patience counts validations, one every second epoch: two without a better value end it.
        ([0.5, 0.4, 0.5, 9.0], 1, 5),
        ([0.1, 0.2, 0.2, 0.3, 0.1], 7, 9),
        ([0.1, 0.0, 0.2, 0.1, 0.3], 9, 9),
    ],
)
def test_the_best_epoch_and_early_stopping(tmp_path, objectives, best, last):
    config = config_of(n_epochs=10, early_stop_patience=2, validation_interval=2)
    module = fit(config, tmp_path, objectives=objectives)
    names = {path.name for path in tmp_path.glob("exp/version_0/checkpoints/*.ckpt")}
    assert names == {f"epoch={best}-step={(best + 1) * N_BATCHES}.ckpt", "last.ckpt"}
    assert module.trainer.current_epoch == last + 1
    ended = torch.load(tmp_path / "exp/version_0/checkpoints/last.ckpt", weights_only=True)
    assert (ended["epoch"], ended["global_step"]) == (last, (last + 1) * N_BATCHES)


class Kill(Callback):
    """Ends a training at the beginning of its second epoch."""

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if trainer.current_epoch == 1:
            raise RuntimeError("killed")


def test_a_saved_teacher_lacks_the_last_step_and_a_resumed_run_takes_it(tmp_path):
    config = config_of(validation_interval=1, ema_factor=0.5)
    whole = fit(config, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        fit(config, tmp_path / "killed", Kill())
    last = tmp_path / "killed/exp/version_0/checkpoints/last.ckpt"
    resumed = SEDTask4(config)
    resumed.score_accumulator = GivenObjectives(itertools.count())
    trainer = make_trainer(config, RunOptions("not used"), last.parents[1], ())
    trainer.fit(resumed, datamodule=FixedBatches(), ckpt_path=last, weights_only=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize("self_sup_loss", ["mse", "bce"])
def test_half_precision_trains_as_single_precision_does(tmp_path, self_sup_loss):
    losses = {}
    for precision in ("32", "bf16"):
        steps = Steps()
        config = config_of(precision=precision, self_sup_loss=self_sup_loss)
        module = fit(config, tmp_path / precision, steps)
        losses[precision] = steps.losses
        assert all(value.dtype == torch.float32 for value in module.sed_teacher.parameters())
        assert all(torch.isfinite(value).all() for value in module.sed_teacher.parameters())
    assert losses["bf16"] != losses["32"]
    assert losses["bf16"] == pytest.approx(losses["32"], rel=0.1)


def test_an_epoch_without_a_validation_can_be_resumed_from_too(tmp_path):
    with pytest.raises(RuntimeError, match="killed"):
        fit(config_of(validation_interval=2), tmp_path, Kill())
    (last,) = tmp_path.glob("exp/version_0/checkpoints/*.ckpt")
    assert last.name == "last.ckpt"
    assert torch.load(last, weights_only=True)["epoch"] == 0


def resume(
    config: RecipeConfig, run: Path, *, objectives: Iterable[float] = itertools.count()
) -> SEDTask4:
    module = SEDTask4(config)
    module.score_accumulator = GivenObjectives(objectives)
    trainer = make_trainer(config, RunOptions("not used"), run, ())
    last = run / "checkpoints/last.ckpt"
    trainer.fit(module, datamodule=FixedBatches(), ckpt_path=last, weights_only=True)
    return module


def assert_same_state(one: Path, other: Path) -> None:
    """Weights, optimizer and random states of two checkpoints are equal to the bit."""
    first, second = (torch.load(path, weights_only=True) for path in (one, other))
    assert (first["epoch"], first["global_step"]) == (second["epoch"], second["global_step"])
    for name, value in first["state_dict"].items():
        assert torch.equal(value, second["state_dict"][name]), name
    states = (one["optimizer_states"][0]["state"] for one in (first, second))
    for moments, others in zip(*(state.values() for state in states), strict=True):
        assert all(torch.equal(moments[key], others[key]) for key in ("exp_avg", "exp_avg_sq"))
    assert first["lr_schedulers"] == second["lr_schedulers"]


MOVING = {"mixup": "soft", "mixup_draw": "independent", "validation_interval": 1}
RUN = "exp/version_0"


@pytest.mark.parametrize("accumulated", [1, 2])
def test_with_more_epochs_a_finished_training_goes_on_as_if_it_had_had_them(tmp_path, accumulated):
    more = {**MOVING, "n_epochs_warmup": 2, "epoch_decay": 3, "accumulate_batches": accumulated}
    whole = config_of(n_epochs=6, **more)
    fit(whole, tmp_path / "whole")
    fit(config_of(n_epochs=3, **more), tmp_path / "short")
    resume(whole, tmp_path / "short" / RUN, objectives=itertools.count(3))
    assert_same_state(*(tmp_path / of / RUN / "checkpoints/last.ckpt" for of in ("whole", "short")))


# Two validations without a better value end the first; its third would have been the best.
WAITING = [0.5, 0.4, 0.3, 0.9, 0.8, 0.7]


def test_with_more_patience_a_training_that_had_ended_goes_on(tmp_path):
    more = {**MOVING, "n_epochs": 6, "epoch_decay": 4}
    patient = config_of(early_stop_patience=4, **more)
    fit(patient, tmp_path / "whole", objectives=WAITING)
    short = fit(config_of(early_stop_patience=2, **more), tmp_path / "short", objectives=WAITING)
    assert short.trainer.current_epoch == 3
    resume(patient, tmp_path / "short" / RUN, objectives=WAITING[3:])
    assert_same_state(*(tmp_path / of / RUN / "checkpoints/last.ckpt" for of in ("whole", "short")))
    names = [{path.name for path in (tmp_path / of).rglob("*.ckpt")} for of in ("whole", "short")]
    assert names[0] == names[1] == {f"epoch=3-step={4 * N_BATCHES}.ckpt", "last.ckpt"}


def test_with_less_patience_a_resumed_training_ends_earlier(tmp_path):
    more = {**MOVING, "n_epochs": 6, "epoch_decay": 4}
    with pytest.raises(RuntimeError, match="killed"):
        fit(config_of(early_stop_patience=5, **more), tmp_path, Kill(), objectives=WAITING)
    resumed = resume(
        config_of(early_stop_patience=2, **more), tmp_path / RUN, objectives=WAITING[1:]
    )
    assert resumed.trainer.current_epoch == 3
    # It has ended: resumed again, also without having been told so, it trains no further epoch.
    again = resume(config_of(early_stop_patience=1, **more), tmp_path / RUN, objectives=())
    assert again.trainer.current_epoch == 3


def test_the_longest_wait_is_stored(tmp_path):
    values = [0.5, 0.4, 0.3, 0.9, 0.8, 1.0]
    fit(config_of(early_stop_patience=5, **{**MOVING, "n_epochs": 6}), tmp_path, objectives=values)
    callbacks = torch.load(tmp_path / RUN / "checkpoints/last.ckpt", weights_only=True)["callbacks"]
    (state,) = (state for name, state in callbacks.items() if name.startswith("EarlyStopping"))
    assert (state["longest_wait"], state["wait_count"]) == (2, 0)


def test_a_diverged_training_stays_ended_whatever_the_patience(tmp_path):
    more = {**MOVING, "n_epochs": 4, "epoch_decay": 4}
    config = config_of(early_stop_patience=5, **more)
    fit(config, tmp_path, objectives=[0.5, math.nan])
    again = resume(config_of(early_stop_patience=9, **more), tmp_path / RUN, objectives=())
    assert again.trainer.current_epoch == 2
