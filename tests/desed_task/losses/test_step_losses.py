"""Losses with weights, interpolation and pseudo-labels, against sums written out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from desed_task.augment import Mixup
from desed_task.augment.batch_mixup import Draw, Labels
from desed_task.augment.step import AugmentedStep, RowMix, StepInputs
from desed_task.batch import SourceRoles
from desed_task.losses.interpolation import InterpolatedGroup, interpolated, interpolated_groups
from desed_task.losses.step_losses import StepLosses
from desed_task.mean_teacher import detection_losses
from desed_task.nnet.CRNN import Detection
from desed_task.schedules import linear_ramp

# Soft, strong, synthetic, weak and unlabelled: 3 + 1 + 2 + 2 + 1 rows.
ROLES = SourceRoles(
    n_sources=5,
    strong=(0, 1, 2),
    weak=(3,),
    consistency=(1, 2, 3, 4),
    mixup_groups=((3,), (4,), (0, 1, 2)),
    unlabelled=(4,),
    soft=(0,),
)
SOURCE = torch.tensor([0, 0, 0, 1, 2, 2, 3, 3, 4])
WEIGHTS = {0: ("soft", 0.5), 1: ("strong", 0.25), 2: ("synthetic", 0.125), 3: ("weak", 2.0)}
N = len(SOURCE)
LAST = torch.tensor([N - 1])


class Made:
    """Scores, targets and pseudo-labels of a batch; some classes are unknown."""

    def __init__(self, seed: int = 0) -> None:
        draws = torch.Generator().manual_seed(seed)

        def rand(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=draws, dtype=torch.float64)

        known = rand(N, 3) > 0.3
        self.student, self.teacher = (
            Detection(rand(N, 3, 4) * known[..., None], rand(N, 3) * known) for _ in range(2)
        )
        target = rand(N, 3, 4) * (rand(N, 3, 1) > 0.5)
        # Also labels of unknown classes, which must not count.
        inputs = StepInputs(rand(0), (), rand(0), target, rand(N, 3, 4), known)
        self.step = AugmentedStep(inputs, inputs)
        self.known = known
        self.target = target * known[..., None]

    def losses(self, of: StepLosses, weight: float = 1.5, source: Tensor = SOURCE):
        return of(self.student, self.teacher, self.step, source, weight=weight)


def cross_entropy(scores: Tensor, targets: Tensor, rows: list[int]) -> float:
    """Entry by entry; an unknown class has score and target 0, and loss 0."""
    pairs = zip(scores[rows].flatten().tolist(), targets[rows].flatten().tolist(), strict=True)
    terms = [-t * math.log(s or 1) - (1 - t) * math.log(1 - s) for s, t in pairs]
    return sum(terms) / len(terms)


def squares(one: Tensor, other: Tensor, rows: list[int]) -> float:
    return float((one[rows] - other[rows]).square().mean())


def test_without_weights_they_are_the_published_ones_to_the_bit() -> None:
    made = Made()
    found = made.losses(StepLosses(ROLES))
    published = detection_losses(
        *(made.student, made.teacher, made.step.student.target, made.known, SOURCE, ROLES),
        weight=1.5,
    )
    assert found.losses == published
    assert not found.others
    # The other way to the same losses gives them too.
    half = made.losses(replace(StepLosses(ROLES), weak_consistency=0.5)).losses
    torch.testing.assert_close(half[1:6], published[1:6], rtol=1e-12, atol=0)
    terms = half.strong_self_sup_loss + 0.5 * half.weak_self_sup_loss
    assert half.loss.item() == pytest.approx((half.tot_supervised + 1.5 * terms).item())


def test_weights_of_corpora() -> None:
    made = Made()
    found = made.losses(StepLosses(ROLES, corpora=WEIGHTS))
    strong, target = made.student.strong, made.target
    soft, real, synthetic = (
        cross_entropy(strong, target, rows) for rows in ([0, 1, 2], [3], [4, 5])
    )
    present = (target > 0).any(-1).double()
    weak = cross_entropy(made.student.weak, present, [6, 7])
    assert found.losses.loss_strong.item() == pytest.approx(
        (0.5 * soft + 0.25 * real + 0.125 * synthetic) / 3
    )
    assert found.losses.loss_weak.item() == pytest.approx(2.0 * weak / 2)
    names, losses = ("soft", "strong", "synthetic", "weak"), (soft, real, synthetic, weak)
    assert {name: one.item() for name, one in found.others.items()} == pytest.approx(
        {f"loss_of_{name}": loss for name, loss in zip(names, losses, strict=True)}
    )
    assert not {*found.others} & {*found.losses._fields}  # of corpora called strong and weak


@pytest.mark.parametrize("absent", range(5))
def test_a_corpus_without_a_row_adds_nothing(absent: int) -> None:
    """The other terms keep their divisors, and every gradient is finite."""
    made = Made()
    made.student.strong.requires_grad_()
    made.student.weak.requires_grad_()
    groups = interpolated_groups(ROLES, ROLES.mixup_groups)
    losses = StepLosses(ROLES, corpora=WEIGHTS, groups=groups, pseudo=0.7)
    source = torch.where(absent == SOURCE, (absent + 1) % 5, SOURCE)
    found = made.losses(losses, source=source)
    found.losses.loss.backward()
    for scores in made.student:
        assert torch.isfinite(scores.grad).all()
    if absent in WEIGHTS:
        assert found.others[f"loss_of_{WEIGHTS[absent][0]}"].item() == 0.0
    whole = made.losses(losses).others
    same = {name for one, (name, _) in WEIGHTS.items() if one not in (absent, (absent + 1) % 5)}
    for name in same:
        assert found.others[f"loss_of_{name}"].item() == whole[f"loss_of_{name}"].item()


@pytest.mark.parametrize("corpora", [{}, WEIGHTS])
def test_pseudo_labels_count_by_kind_of_label(corpora: dict[int, tuple[str, float]]) -> None:
    made = Made()
    found = made.losses(StepLosses(ROLES, corpora=corpora, pseudo=1.5))
    labels = made.step.student.pseudo * made.known[..., None]
    soft = cross_entropy(made.student.strong, labels, [0, 1, 2])
    others = cross_entropy(made.student.strong, labels, [3, 4, 5, 6, 7, 8])
    weights = (2.375, 0.5) if corpora else (1.0, 1.0)
    expected = 1.5 * (weights[0] * others + weights[1] * soft)
    assert found.others["pseudo_loss"].item() == pytest.approx(expected)
    without = made.losses(StepLosses(ROLES, corpora=corpora)).losses.loss
    assert (found.losses.loss - without).item() == pytest.approx(expected)


# Partners within the groups of ROLES; row 8 is alone in its group.
MIX = RowMix(
    torch.tensor([3, 2, 1, 5, 0, 4, 7, 6, 8]),
    torch.tensor([0.5, 0.75, 1.0, 0.625, 0.9, 0.8, 0.7, 1.0, 0.6]),
)


def mixed(made: Made, grown: tuple[int, int] | None = None) -> AugmentedStep:
    """The student's rows are mixed; a class that a row's partner has may have become known."""
    known = made.known.clone()
    if grown is not None:
        known[grown] = True
    return AugmentedStep(made.step.student._replace(known=known), made.step.teacher, MIX)


def test_interpolated_targets_by_hand() -> None:
    scores = torch.tensor([[0.2, 1.0], [0.6, 0.0]])
    pair = RowMix(torch.tensor([1, 0]), torch.tensor([0.75, 1.0]))
    expected = torch.tensor([[0.75 * 0.2 + 0.25 * 0.6, 0.75], [0.6, 0.0]])
    torch.testing.assert_close(interpolated(scores, pair), expected)
    above = RowMix(torch.tensor([1, 0]), torch.tensor([1.5, 1.0]))
    assert interpolated(scores, above)[0].tolist() == [0.0, 1.0]  # clamped


def test_kinds_of_labels_count_in_groups() -> None:
    whole = ROLES._replace(consistency=(0, 1, 2, 3, 4))
    assert interpolated_groups(whole, ROLES.mixup_groups) == (
        InterpolatedGroup((3,), 1),
        InterpolatedGroup((4,), 1),
        InterpolatedGroup((0, 1, 2), 2),
    )
    assert interpolated_groups(ROLES, ROLES.mixup_groups)[2] == InterpolatedGroup((1, 2), 1)
    assert interpolated_groups(whole._replace(consistency=(3,)), ROLES.mixup_groups) == (
        InterpolatedGroup((3,), 1),
    )


def test_interpolation_of_mixed_rows() -> None:
    """The published sum: weak, unlabelled, and strong with soft rows twice, over 8, times 1/4."""
    roles = ROLES._replace(consistency=(0, 1, 2, 3, 4))
    groups = interpolated_groups(roles, ROLES.mixup_groups)
    made = Made()
    row, label = next(
        (row, label) for row in (0, 3, 4, 5) for label in range(3) if not made.known[row, label]
    )
    made.step = mixed(made, (row, label))
    # The student knows the class now; the teacher, with the row's own classes, does not.
    made.student.strong[row, label] = 0.25
    known = made.step.student.known
    losses = StepLosses(roles, weak_consistency=0.5, groups=groups)
    found = made.losses(losses, weight=60.0)
    total = 0.0
    for rows, times in (([6, 7], 1), ([8], 1), ([0, 1, 2, 3, 4, 5], 2)):
        for one, share in ((0, 1.0), (1, 0.5)):
            terms = []
            for a in rows:
                b, c = int(MIX.partner[a]), float(MIX.share[a])
                target = c * made.teacher[one][a] + (1 - c) * made.teacher[one][b]
                mask = known[a] if one else known[a, :, None]
                terms.append((made.student[one][a] - target * mask).square().mean())
            total += times * share * float(sum(terms)) / len(rows)
    expected = 60.0 * total / 8 / 4
    assert found.others["ict_loss"].item() == pytest.approx(expected, rel=1e-6)
    assert found.losses.strong_self_sup_loss.item() == found.losses.weak_self_sup_loss.item() == 0
    assert found.losses.tot_self_loss.item() == pytest.approx(expected, rel=1e-6)


def test_rows_of_no_group_have_the_mean_teacher_in_mixed_steps_too() -> None:
    """Row 8 is not mixed where only weak and labelled rows are."""
    groups = interpolated_groups(ROLES, ((3,), (0, 1, 2)))
    made = Made()
    made.step = mixed(made)
    made.step = made.step._replace(mixed=MIX._replace(share=MIX.share.index_fill(0, LAST, 1.0)))
    found = made.losses(StepLosses(ROLES, groups=groups), weight=60.0)
    strong, weak = (squares(*pair, [8]) for pair in zip(made.student, made.teacher, strict=True))
    # Of six rows with consistency.
    assert found.losses.strong_self_sup_loss.item() == pytest.approx(strong / 6)
    assert found.losses.weak_self_sup_loss.item() == pytest.approx(weak / 6)
    expected = 60.0 * (strong + weak) / 6 + found.others["ict_loss"].item()
    assert found.losses.tot_self_loss.item() == pytest.approx(expected)


def test_steps_that_are_not_mixed_have_the_mean_teacher() -> None:
    made = Made()
    groups = interpolated_groups(ROLES, ROLES.mixup_groups)
    found = made.losses(StepLosses(ROLES, weak_consistency=0.5, groups=groups), weight=60.0)
    rows = [3, 4, 5, 6, 7, 8]
    strong, weak = (squares(*pair, rows) for pair in zip(made.student, made.teacher, strict=True))
    assert found.others["ict_loss"].item() == 0.0
    assert found.losses.tot_self_loss.item() == pytest.approx(60.0 * (strong + 0.5 * weak))
    # Without groups, a mixed step has it too.
    made.step = mixed(made)
    alone = made.losses(StepLosses(ROLES, weak_consistency=0.5), weight=60.0)
    assert alone.losses.tot_self_loss.item() == pytest.approx(60.0 * (strong + 0.5 * weak))


def test_no_gradient_reaches_the_teacher_through_interpolation() -> None:
    made = Made()
    made.step = mixed(made)
    for scores in (*made.teacher, *made.student):
        scores.requires_grad_()
    groups = interpolated_groups(ROLES, ROLES.mixup_groups)
    made.losses(StepLosses(ROLES, groups=groups)).losses.loss.backward()
    assert all(scores.grad is None for scores in made.teacher)
    assert all(scores.grad.abs().sum() > 0 for scores in made.student)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.0), (7, 0.5), (14, 1.0), (28, 2.0), (99, 2.0)]
)
def test_a_linear_ramp_may_rise_past_one(step: int, expected: float) -> None:
    assert linear_ramp(step, 14, 2.0) == expected


@pytest.mark.parametrize(("labels", "draw"), [("soft", "independent"), ("hard", "joint")])
def test_published_mixup_mixes_pseudo_labels_as_targets(labels: Labels, draw: Draw) -> None:
    """By the same draws as without pseudo-labels."""
    made = Made()
    inputs = made.step.student._replace(mel=torch.rand(N, 5, 8), embedding=torch.rand(N, 6, 7))
    mixup = Mixup(ROLES, probability=1.0, labels=labels, draw=draw)
    plain, alike, other = (
        mixup.of_step(inputs._replace(pseudo=pseudo), SOURCE, torch.Generator().manual_seed(3))
        for pseudo in (None, inputs.target, inputs.target.flip(1))
    )
    assert plain.pseudo is None and not torch.equal(plain.target, inputs.target)
    assert torch.equal(alike.pseudo, plain.target)
    assert torch.equal(other.pseudo, plain.target.flip(1))
    for field in ("mel", "embedding", "target"):
        assert torch.equal(getattr(alike, field), getattr(plain, field))
