"""Steps of the module by themselves, against their parts: what goes where, and with which masks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from desed_task.augment import Mixup
from desed_task.batch import SedBatch
from desed_task.mean_teacher import detection_losses
from desed_task.nnet.CRNN import Detection
from local.config import check_config, load_config
from local.sed_trainer_pretrained import SEDTask4
from tests.published_task import NUMBER, TASK

CONF = Path(__file__).resolve().parents[2] / "confs" / "mini.yaml"
RAMP = 0.25
# In each source the last classes are not annotated, in each another number of them.
N_KNOWN = torch.tensor([20, 19, 18, 17, 16])


def module_of(**training: Any) -> SEDTask4:
    """A small module in training whose teacher differs from the student; no dropout."""
    tree = load_config(CONF).dump()
    tree["training"].update({"const_max": 3.0, **training})
    tree["net"].update(nb_filters=[4, 4, 4, 8], n_RNN_cell=8, dropout=0.0, dropstep_recurrent=0.9)
    torch.manual_seed(0)
    module = SEDTask4(check_config(tree, "the test"))
    with torch.no_grad():
        for value in module.sed_teacher.parameters():
            value.add_(0.1 * torch.randn_like(value))
    schedule = SimpleNamespace(ramp=RAMP, step_num=5000, get_last_lr=lambda: [1.0])
    module.lr_schedulers = lambda: schedule
    module.log = module.log_dict = lambda *_, **__: None
    module.trainer = SimpleNamespace(current_epoch=0, global_rank=0)
    return module


def make_batch() -> SedBatch:
    """Two rows of each source, a second each."""
    generator = Generator().manual_seed(1)
    source = torch.arange(5).repeat_interleave(2)
    target = torch.rand(10, 27, 16, generator=generator)
    target = target * (torch.rand(10, 27, 1, generator=generator) < 0.2)
    return SedBatch(
        0.1 * torch.randn(10, 16000, generator=generator),
        target.masked_fill((source == NUMBER["unlabeled_train"])[:, None, None], 0.0),
        torch.arange(27) < N_KNOWN.repeat_interleave(2)[:, None],
        source,
        torch.randn(10, 128, 60, generator=generator),
        tuple(map(str, range(10))),
    )


MIXUPS = [
    pytest.param(None, 1.0, "joint", id="none"),
    pytest.param("soft", 1.0, "joint", id="soft"),
    pytest.param("hard", 1.0, "joint", id="hard"),
    pytest.param("soft", 1.0, "independent", id="independent"),
    pytest.param("soft", 0.0, "joint", id="never"),
]


@pytest.mark.parametrize("self_sup_loss", ["mse", "bce"])
@pytest.mark.parametrize(("labels", "probability", "draw"), MIXUPS)
def test_a_step_is_its_parts_in_their_order(labels, probability, draw, self_sup_loss):
    """Magnitudes are mixed, with their labels; both networks train, with masks and drawn runs."""
    module = module_of(
        mixup=labels, mixup_prob=probability, mixup_draw=draw, self_sup_loss=self_sup_loss
    )
    batch, draws = make_batch(), Generator().manual_seed(7)
    module.draws.manual_seed(7)
    loss = module.training_step(batch, 0)
    mel, embedding, target = module.mel_spec(batch.waveform), batch.embedding, batch.target
    if labels is not None:
        mixup = Mixup(TASK.roles, probability=probability, labels=labels, draw=draw)
        mel, embedding, target = mixup(mel, embedding, target, batch.source, draws)
    features = module.scaler(module.mel_spec.to_db(mel))
    student, teacher = (
        network.train()(features, embedding, batch.known, generator=draws)
        for network in (module.sed_student, module.sed_teacher)
    )
    expected = detection_losses(
        student,
        teacher,
        target,
        batch.known,
        batch.source,
        TASK.roles,
        weight=3.0 * RAMP,
        self_sup_loss=self_sup_loss,
    )
    assert loss.item() == pytest.approx(expected.loss.item(), rel=1e-6)


def test_both_networks_train_and_the_gradient_is_the_student_s_alone():
    module = module_of()
    statistics = {name: value.clone() for name, value in module.sed_teacher.named_buffers()}
    module.training_step(make_batch(), 0).backward()
    assert module.sed_teacher.training
    moved = [not torch.equal(b, statistics[n]) for n, b in module.sed_teacher.named_buffers()]
    assert all(moved)
    assert all(value.grad is not None for value in module.sed_student.parameters())
    assert all(value.grad is None for value in module.sed_teacher.parameters())


def drawn(module: SEDTask4, *, seed: int = 1, rank: int = 0, epoch: int = 0, batch: int = 0):
    """What mixup and masks draw first in a batch."""
    module.config.training.__dict__["seed"] = seed
    module.trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank)
    module.on_train_batch_start(make_batch(), batch)
    return torch.rand(4, generator=module.draws).tolist()


def test_seed_process_epoch_and_batch_each_decide_what_is_drawn():
    module = module_of()
    first = drawn(module)
    changes = ({"seed": 2}, {"rank": 1}, {"epoch": 1}, {"batch": 1})
    others = [drawn(module, **change) for change in changes]
    assert drawn(module) == first
    assert len({tuple(numbers) for numbers in (first, *others)}) == 5


class Kept:
    """In place of the scorekeeper: what each network found, and how often it was cleared."""

    def __init__(self) -> None:
        self.found: dict[str, Detection] = {}
        self.cleared = 0

    def add(self, role: str, batch: SedBatch, found: Detection) -> None:
        self.found[role] = found

    def clear(self) -> None:
        self.cleared += 1


@pytest.mark.parametrize("stage", ["validation", "test", "predict"])
@torch.no_grad()
def test_classes_are_masked_in_a_validation_alone_and_each_role_is_its_own_network(stage):
    module, batch = module_of().eval(), make_batch()
    module.score_accumulator = Kept()
    getattr(module, f"{stage}_step")(batch, 0)
    mask = batch.known if stage == "validation" else None
    features = module.scaler(module.mel_spec.to_db(module.mel_spec(batch.waveform)))
    networks = {"student": module.sed_student, "teacher": module.sed_teacher}
    assert set(module.score_accumulator.found) == set(networks)
    for role, network in networks.items():
        found = module.score_accumulator.found[role]
        expected: tuple[Tensor, Tensor] = network(features, batch.embedding, mask)
        torch.testing.assert_close(tuple(found), tuple(expected))
        assert bool((found.strong[~batch.known] == 0).all()) == (stage == "validation")


@pytest.mark.parametrize("stage", ["validation", "test", "predict"])
def test_each_pass_begins_without_the_scores_of_the_last_one(stage):
    module = module_of()
    module.score_accumulator = Kept()
    getattr(module, f"on_{stage}_epoch_start")()
    assert module.score_accumulator.cleared == 1


def test_the_teacher_moves_towards_the_student_by_the_configured_share():
    module = module_of(ema_factor=0.5)
    before = {
        role: {name: value.detach().clone() for name, value in network.named_parameters()}
        for role, network in module.networks.items()
    }
    module.on_before_zero_grad(None)
    for name, value in module.sed_teacher.named_parameters():
        middle = (before["student"][name] + before["teacher"][name]) / 2
        torch.testing.assert_close(value, middle)
    for name, value in module.sed_student.named_parameters():
        assert torch.equal(value, before["student"][name])


def test_other_losses_of_a_step_are_logged_under_names_of_their_own():
    tree = load_config(CONF).dump()
    names = ("maestro_real_train", "synth_train", "strong_train", "weak_train")
    weights = dict.fromkeys(names, 0.5)
    tree["training"].update(pseudo_labels="pl", const_max=4.0)
    tree["losses"].update(corpora=weights, pseudo=1.5, ramp="linear", ramp_steps=10000)
    tree["net"].update(nb_filters=[4, 4, 4, 8], n_RNN_cell=8)
    module, logged = SEDTask4(check_config(tree, "the test")), {}
    schedule = SimpleNamespace(ramp=RAMP, step_num=5000, get_last_lr=lambda: [1.0])
    module.lr_schedulers = lambda: schedule
    module.log = lambda name, value, **_: logged.update({name: float(value.detach())})
    module.log_dict = lambda values, **_: logged.update(
        {n: float(v.detach()) for n, v in values.items()}
    )
    module.trainer = SimpleNamespace(current_epoch=0, global_rank=0)
    batch = make_batch()
    loss = module.training_step(batch._replace(pseudo=batch.target.flip(0)), 0)
    loss.backward()
    assert logged["train/weight"] == 2.0  # half the way to 4
    named = {name.removeprefix("train/student/") for name in logged}
    assert {"pseudo_loss", *(f"loss_of_{name}" for name in names)} < named
    parts = ("tot_supervised", "tot_self_loss", "pseudo_loss")
    total = sum(logged[f"train/student/{name}"] for name in parts)
    assert logged["train/student/loss"] == pytest.approx(total, rel=1e-5)
    assert logged["train/student/pseudo_loss"] > 0
