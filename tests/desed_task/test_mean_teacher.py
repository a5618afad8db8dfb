"""The teacher's average and the losses, against sums written out row by row."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from desed_task.batch import SourceRoles
from desed_task.mean_teacher import DetectionLosses, detection_losses, ema_update
from desed_task.nnet.CRNN import Detection

# Soft, two strong, weak and unlabelled sources; the first takes no part in the consistency loss.
ROLES = SourceRoles(
    n_sources=5, strong=(0, 1, 2), weak=(3,), consistency=(1, 2, 3, 4), mixup_groups=()
)
BATCH = torch.tensor([0, 0, 1, 2, 3, 3, 4, 4, 4])


def make_batch(source: Tensor, seed: int = 0) -> dict[str, Any]:
    """Scores of both models, soft targets with labels in unknown classes too, and known classes."""
    generator = torch.Generator().manual_seed(seed)
    n = len(source)
    known = torch.rand(n, 4, generator=generator) > 0.3
    models = [
        Detection(
            torch.rand(n, 4, 5, generator=generator) * known[..., None],
            torch.rand(n, 4, generator=generator) * known,
        )
        for _ in range(2)
    ]
    target = 0.4 * torch.rand(n, 4, 5, generator=generator)
    target = target * (torch.rand(n, 4, 1, generator=generator) > 0.5)
    return {
        "student": models[0],
        "teacher": models[1],
        "target": target,
        "known": known,
        "source": source,
        "roles": ROLES,
    }


def cross_entropy(score: float, target: float) -> float:
    return -target * math.log(max(score, 1e-30)) - (1 - target) * math.log(1 - score)


def mean_over(rows: list[int], scores: Tensor, targets: Tensor) -> float:
    """Mean cross-entropy of the given rows, entry by entry."""
    pairs = zip(scores[rows].flatten().tolist(), targets[rows].flatten().tolist(), strict=True)
    values = [cross_entropy(*pair) for pair in pairs]
    return sum(values) / len(values)


def test_each_term_is_the_mean_over_its_rows() -> None:
    batch = make_batch(BATCH)
    losses = detection_losses(**batch, weight=1.7)
    student, teacher = batch["student"], batch["teacher"]
    target = batch["target"] * batch["known"][..., None]
    strong = mean_over([0, 1, 2, 3], student.strong, target)
    weak = mean_over([4, 5], student.weak, (target > 0).any(-1).float())
    assert losses.loss_strong.item() == pytest.approx(strong, rel=1e-5)
    assert losses.loss_weak.item() == pytest.approx(weak, rel=1e-5)
    rest = slice(2, 9)
    strong_self = (student.strong[rest] - teacher.strong[rest]).square().mean()
    weak_self = (student.weak[rest] - teacher.weak[rest]).square().mean()
    torch.testing.assert_close(losses.strong_self_sup_loss, strong_self)
    torch.testing.assert_close(losses.weak_self_sup_loss, weak_self)
    torch.testing.assert_close(losses.tot_self_loss, 1.7 * (strong_self + weak_self))
    torch.testing.assert_close(losses.tot_supervised, losses.loss_strong + losses.loss_weak)
    torch.testing.assert_close(losses.loss, losses.tot_supervised + losses.tot_self_loss)
    assert losses.weight == 1.7


def test_cross_entropy_as_consistency() -> None:
    batch = make_batch(BATCH)
    losses = detection_losses(**batch, weight=1.0, self_sup_loss="bce")
    strong = mean_over(list(range(2, 9)), batch["student"].strong, batch["teacher"].strong)
    weak = mean_over(list(range(2, 9)), batch["student"].weak, batch["teacher"].weak)
    assert losses.strong_self_sup_loss.item() == pytest.approx(strong, rel=1e-5)
    assert losses.weak_self_sup_loss.item() == pytest.approx(weak, rel=1e-5)


def test_the_order_of_rows_does_not_matter() -> None:
    batch = make_batch(BATCH)
    order = torch.randperm(len(BATCH), generator=torch.Generator().manual_seed(1))
    shuffled = {
        name: Detection(*(part[order] for part in value))
        if isinstance(value, Detection)
        else value
        if name == "roles"
        else value[order]
        for name, value in batch.items()
    }
    for one, other in zip(*both(batch, shuffled), strict=True):
        torch.testing.assert_close(one, other)


def both(*batches: dict[str, Any]) -> list[DetectionLosses]:
    return [detection_losses(**batch, weight=1.0) for batch in batches]


@pytest.mark.parametrize("source", range(5))
def test_sources_that_are_absent_give_zero(source: int) -> None:
    batch = make_batch(torch.full((3,), source))
    scores = batch["student"].strong.requires_grad_()
    losses = detection_losses(**batch, weight=1.0)
    losses.loss.backward()
    assert torch.isfinite(torch.stack(list(losses[:-1]))).all()
    assert torch.isfinite(scores.grad).all()
    assert (losses.loss_strong > 0) == (source in ROLES.strong)
    assert (losses.loss_weak > 0) == (source in ROLES.weak)
    assert (losses.tot_self_loss > 0) == (source in ROLES.consistency)


@pytest.mark.parametrize("kind", ["strong", "weak", "consistency"])
def test_a_task_may_have_no_rows_of_a_kind(kind: str) -> None:
    batch = make_batch(BATCH)
    whole = detection_losses(**batch, weight=1.0)
    batch["student"].strong.requires_grad_()
    without = detection_losses(**{**batch, "roles": ROLES._replace(**{kind: ()})}, weight=1.0)
    terms = {
        "strong": ("loss_strong",),
        "weak": ("loss_weak",),
        "consistency": ("strong_self_sup_loss", "weak_self_sup_loss", "tot_self_loss"),
    }
    for name in (name for of_kind in terms.values() for name in of_kind):
        value = getattr(without, name)
        assert value.item() == (0.0 if name in terms[kind] else getattr(whole, name).item()), name
    without.loss.backward()
    assert torch.isfinite(batch["student"].strong.grad).all()


def test_labels_of_unknown_classes_do_not_count() -> None:
    batch = make_batch(BATCH)
    cleared = {**batch, "target": batch["target"] * batch["known"][..., None]}
    assert (cleared["target"] != batch["target"]).any()
    for one, other in zip(*both(batch, cleared), strict=True):
        torch.testing.assert_close(one, other)


def test_no_gradient_reaches_the_teacher() -> None:
    batch = make_batch(BATCH)
    for scores in (*batch["teacher"], *batch["student"]):
        scores.requires_grad_()
    detection_losses(**batch, weight=1.0).loss.backward()
    assert all(scores.grad is None for scores in batch["teacher"])
    assert all(scores.grad.abs().sum() > 0 for scores in batch["student"])


def test_losses_under_autocast_are_the_same() -> None:
    batch = make_batch(BATCH)
    with torch.autocast("cpu", torch.bfloat16):
        inside = detection_losses(**batch, weight=1.0).loss
    torch.testing.assert_close(inside, detection_losses(**batch, weight=1.0).loss)


@pytest.mark.parametrize(
    ("step", "kept"), [(1, 0.5), (37, 37 / 38), (998, 998 / 999), (5000, 0.999)]
)
def test_the_teacher_moves_by_the_given_share(step: int, kept: float) -> None:
    student, teacher = nn.Linear(3, 2), nn.Linear(3, 2)
    expected = kept * teacher.weight.detach() + (1 - kept) * student.weight.detach()
    bias = kept * teacher.bias.detach() + (1 - kept) * student.bias.detach()
    before = student.weight.detach().clone()
    ema_update(student, teacher, step)
    torch.testing.assert_close(teacher.weight.detach(), expected)
    torch.testing.assert_close(teacher.bias.detach(), bias)
    assert torch.equal(student.weight, before)


def test_the_teacher_keeps_its_own_statistics() -> None:
    student, teacher = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    student(torch.randn(8, 3) + 5)
    buffers = {name: value.clone() for name, value in teacher.named_buffers()}
    ema_update(student, teacher, 1)
    for name, value in teacher.named_buffers():
        assert torch.equal(value, buffers[name])
