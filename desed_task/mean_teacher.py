"""The mean teacher: weight averaging and the losses of a step (docs/method.md, Training)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import get_ema_multi_avg_fn

from desed_task.batch import SourceRoles
from desed_task.distributed.collectives import n_processes, summed
from desed_task.nnet.CRNN import Detection, at_least_float32

SelfSupLoss = Literal["mse", "bce"]

ROLES = ("student", "teacher")


class DetectionLosses(NamedTuple):
    """All loss terms of a step, under the names that are logged."""

    loss: Tensor  # tot_supervised + tot_self_loss
    loss_strong: Tensor
    loss_weak: Tensor
    tot_supervised: Tensor  # loss_strong + loss_weak
    strong_self_sup_loss: Tensor
    weak_self_sup_loss: Tensor
    tot_self_loss: Tensor  # weight * (strong_self_sup_loss + weak_self_sup_loss)
    weight: float

    @classmethod
    def of(
        cls,
        loss_strong: Tensor,
        loss_weak: Tensor,
        strong_self_sup_loss: Tensor,
        weak_self_sup_loss: Tensor,
        *,
        weight: float,
    ) -> DetectionLosses:
        """Build from the separate terms; the sums follow."""
        supervised = loss_strong + loss_weak
        consistency = weight * (strong_self_sup_loss + weak_self_sup_loss)
        return cls(
            loss=supervised + consistency,
            loss_strong=loss_strong,
            loss_weak=loss_weak,
            tot_supervised=supervised,
            strong_self_sup_loss=strong_self_sup_loss,
            weak_self_sup_loss=weak_self_sup_loss,
            tot_self_loss=consistency,
            weight=weight,
        )


def ema_update(
    student: nn.Module, teacher: nn.Module, step: int, ema_factor: float = 0.999
) -> None:
    """Move the teacher's parameters towards the student's (Tarvainen and Valpola 2017).

    teacher = a teacher + (1 - a) student with a = min(1 - 1 / (step + 1), ema_factor). Buffers
    are not averaged: the teacher's batch-norm statistics come from its own forward passes. The
    published training updates the teacher between the forward passes of a step and the optimizer's
    update, so the teacher follows the student as the previous step left it.

    Args:
        student: network of the same architecture as the teacher.
        teacher: changed in place.
        step: current optimizer step, counted from 1.
        ema_factor: upper bound of a.
    """
    kept = min(1.0 - 1.0 / (step + 1), ema_factor)
    average = get_ema_multi_avg_fn(kept)  # type: ignore[no-untyped-call]
    average(tuple(teacher.parameters()), tuple(student.parameters()), step)


def detection_losses(
    student: Detection,
    teacher: Detection,
    target: Tensor,
    known: Tensor,
    source: Tensor,
    roles: SourceRoles,
    *,
    weight: float,
    self_sup_loss: SelfSupLoss = "mse",
) -> DetectionLosses:
    """Supervised and consistency losses of a batch whose rows come from any sources.

    Each term is the mean over its rows, all classes and frames; a term without rows is 0. Unknown
    classes have score and target 0, so that they add no loss.

    If a batch is shared by several processes, the mean over the processes, of losses as of
    gradients, is that over all rows of the batch; a process may have no row of a term.

    Args:
        student: scores of the student, with unknown classes masked.
        teacher: scores of the teacher, masked in the same way; no gradient flows into them.
        target: (batch, class, frame) in [0, 1], after mixup.
        known: (batch, class) bool.
        source: (batch,) the number of each row's corpus.
        roles: which sources each term takes.
        weight: weight of the consistency terms, see `schedules.consistency_weight`.
        self_sup_loss: "mse" or "bce".
    """
    target = at_least_float32(target) * known.unsqueeze(-1)
    weak_target = (target > 0).any(-1).to(target.dtype)
    compare = row_comparison(self_sup_loss)
    terms = (
        (bce_by_row(student.strong, target), roles.strong),
        (bce_by_row(student.weak, weak_target), roles.weak),
        (compare(student.strong, teacher.strong.detach()), roles.consistency),
        (compare(student.weak, teacher.weak.detach()), roles.consistency),
    )
    means = row_means([(per_row, rows_from(source, of_term)) for per_row, of_term in terms])
    return DetectionLosses.of(*means, weight=weight)


def row_comparison(name: SelfSupLoss) -> Callable[[Tensor, Tensor], Tensor]:
    """What compares the scores of two networks row by row."""
    return bce_by_row if name == "bce" else mse_by_row


def row_means(terms: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Means over some rows of a batch that several processes may share; 0 over none.

    The mean over the processes, of results as of gradients, is that over all rows of the batch.
    Collective call: every process must reach it, with as many terms.

    Args:
        terms: (batch,) values, and (batch,) bool, the rows that count.
    """
    counts = summed(torch.stack([rows.sum() for _, rows in terms])).clamp(min=1)
    sums = (per_row.masked_fill(~rows, 0.0).sum() for per_row, rows in terms)
    share = n_processes()
    return [share * total / count for total, count in zip(sums, counts, strict=True)]


def rows_from(source: Tensor, sources: Collection[int]) -> Tensor:
    """(batch,) bool, True for rows from one of `sources`."""
    if not sources:
        return torch.zeros_like(source, dtype=torch.bool)
    return torch.stack([source == one for one in sources]).any(0)


def bce_by_row(scores: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, mean over all but the rows: (batch, ...) -> (batch,)."""
    # Autocast refuses this loss whatever the type; the scores are float32 or better already.
    with torch.autocast(scores.device.type, enabled=False):
        scores = at_least_float32(scores)
        loss = F.binary_cross_entropy(scores, target.to(scores.dtype), reduction="none")
    return loss.flatten(1).mean(1)


def mse_by_row(scores: Tensor, other: Tensor) -> Tensor:
    """Squared difference, mean over all but the rows: (batch, ...) -> (batch,)."""
    return (scores - other).square().flatten(1).mean(1)
