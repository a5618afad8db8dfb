"""Masks and mixup: what they touch, what they leave, and their distributions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from desed_task import augment
from desed_task.augment import MixupDraw, zero_runs
from desed_task.batch import SourceRoles
from desed_task.errors import InputError

UNLABELLED = 4
ROLES = SourceRoles(
    n_sources=5,
    strong=(0, 1, 2),
    weak=(3,),
    consistency=(1, 2, 3, 4),
    mixup_groups=((3,), (1, 2), (0,)),
)
BATCH = torch.tensor([*[0] * 4, *[1] * 3, *[2] * 3, *[3] * 4, *[4] * 6])


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def batch(source: Tensor = BATCH) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """mel, embedding and target that hold one random number in [0, 1] a row, and the sources."""
    number = torch.rand(len(source), 1, 1, generator=seeded(9))
    n = len(source)
    return number.expand(n, 3, 4).clone(), number.expand(n, 2, 5), number.expand(n, 6, 2), source


def groups(source: Tensor) -> Tensor:
    """(batch,) name of the group each row may be mixed within; unlabelled rows have their own."""
    names = {one: name for name, sources in enumerate(ROLES.mixup_groups) for one in sources}
    return torch.tensor([names.get(int(one), 99) for one in source])


def mixup(**arguments: Any) -> augment.Mixup:
    return augment.Mixup(ROLES, **arguments)


def draw_mixup(source: Tensor, alpha: float, generator: Generator) -> MixupDraw:
    return augment.draw_mixup(source, ROLES, alpha, generator)


def runs_of_zeroes(x: Tensor) -> tuple[int, int]:
    """Number and total length of the runs of zeroes in a vector."""
    zero = torch.cat([torch.zeros(1), (x == 0).float(), torch.zeros(1)])
    return int((zero.diff() == 1).sum()), int(zero.sum())


@pytest.mark.parametrize(("dim", "size"), [(1, 50), (2, 30)])
def test_each_row_loses_one_run_along_the_axis(dim: int, size: int) -> None:
    out = zero_runs(torch.ones(200, 50, 30), dim, 16, 0.3, "clip", seeded())
    along = out.movedim(dim, 1)
    assert torch.equal(along.amin(2), along.amax(2))  # the same run for all of the other axis
    found = [runs_of_zeroes(row) for row in along[:, :, 0]]
    assert max(n for n, _ in found) == 1
    lengths = torch.tensor([float(length) for _, length in found])
    limit = min(16, int(0.3 * size))
    assert lengths.max() == limit - 1
    assert lengths.mean() == pytest.approx((limit - 1) / 2, abs=0.8)
    starts = along[:, :, 0].argmin(1)
    assert starts.min() < size / 10
    assert (starts + lengths).max() > 0.9 * size


def test_a_share_of_zero_draws_nothing() -> None:
    x, generator = torch.ones(2, 3, 4), seeded()
    before = generator.get_state()
    assert zero_runs(x, 1, 5, 0.0, "clip", generator) is x
    assert torch.equal(before, generator.get_state())


def test_runs_come_from_the_generator_alone() -> None:
    x = torch.ones(8, 60, 2)
    state = torch.get_rng_state()
    first, again, other = (zero_runs(x, 1, 16, 0.3, "clip", seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("dim", [1, 2])
def test_one_run_serves_the_whole_batch_where_its_scope_says_so(dim: int) -> None:
    generator = seeded()
    lengths = []
    for _ in range(400):
        out = zero_runs(torch.ones(3, 40, 40), dim, 16, 0.3, "batch", generator)
        along = out.movedim(dim, 1)[:, :, 0]
        assert torch.equal(along[0], along[1]) and torch.equal(along[0], along[2])
        n_runs, length = runs_of_zeroes(along[0])
        assert n_runs <= 1
        lengths.append(length)
    # U(0, 12) rounded down: 0 ... 11, all equally often.
    counts = torch.bincount(torch.tensor(lengths), minlength=12)
    assert len(counts) == 12 and counts.min() > 10
    assert sum(lengths) / 400 == pytest.approx(5.5, abs=0.6)


@pytest.mark.parametrize(("share", "limit"), [(0.3, 5), (0.06, 1), (0.05, 0)])
def test_the_bound_is_rounded_down_before_the_length_is_drawn(share: float, limit: int) -> None:
    # 19 steps: 0.3 * 19 = 5.7, 0.06 * 19 = 1.14 (runs of U(0, 1), so none), 0.05 * 19 = 0.95.
    out = zero_runs(torch.ones(3000, 19), 1, 16, share, "clip", seeded())
    lengths = (out == 0).sum(1)
    assert lengths.max() == max(limit - 1, 0)
    if limit > 1:
        assert lengths.float().mean() == pytest.approx((limit - 1) / 2, abs=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_partners_are_a_permutation_within_each_group(seed: int) -> None:
    source = BATCH[torch.randperm(len(BATCH), generator=seeded(seed))]
    drawn = draw_mixup(source, 0.2, seeded(seed))
    assert torch.equal(drawn.partner.sort().values, torch.arange(len(source)))
    assert torch.equal(groups(source)[drawn.partner], groups(source))


def test_partners_reach_every_row_of_the_group() -> None:
    pairs = {(0, int(draw_mixup(BATCH, 0.2, seeded(seed)).partner[0])) for seed in range(60)}
    assert pairs == {(0, 0), (0, 1), (0, 2), (0, 3)}
    strong = {int(draw_mixup(BATCH, 0.2, seeded(seed)).partner[4]) for seed in range(120)}
    assert strong == {4, 5, 6, 7, 8, 9}


def test_a_group_shares_one_share_drawn_from_beta() -> None:
    shares = torch.stack([draw_mixup(BATCH, 0.2, seeded(seed)).share for seed in range(3000)])
    for group in groups(BATCH).unique():
        rows = shares[:, groups(BATCH) == group]
        assert torch.equal(rows.amin(1), rows.amax(1))
    weak = shares[:, 10]
    assert weak.mean().item() == pytest.approx(0.5, abs=0.03)
    assert weak.var().item() == pytest.approx(1 / (4 * (2 * 0.2 + 1)), rel=0.05)
    assert torch.corrcoef(torch.stack([weak, shares[:, 0]]))[0, 1].abs() < 0.1


def test_a_joint_draw_mixes_the_three_tensors_alike() -> None:
    mel, embedding, target, source = batch()
    mixed = mixup(probability=1.0)(mel, embedding, target, source, seeded(1))
    numbers = [x.flatten(1)[:, 0] for x in mixed]
    torch.testing.assert_close(numbers[0], numbers[1])
    torch.testing.assert_close(numbers[0], numbers[2])
    drawn = draw_mixup(source, 0.2, after_coin(seeded(1)))
    number = mel[:, 0, 0]
    expected = drawn.share * number + (1 - drawn.share) * number[drawn.partner]
    torch.testing.assert_close(numbers[0], expected)
    assert not torch.allclose(expected[:14], number[:14])


def after_coin(generator: Generator) -> Generator:
    """A generator past the draw that decides whether a step is mixed."""
    torch.rand((), generator=generator)
    return generator


def test_an_independent_draw_mixes_labels_by_both() -> None:
    mel, embedding, target, source = batch()
    mixing = mixup(probability=1.0, draw="independent")
    mixed = mixing(mel, embedding, target, source, seeded(1))
    generator = after_coin(seeded(1))
    first, second = draw_mixup(source, 0.2, generator), draw_mixup(source, 0.2, generator)
    torch.testing.assert_close(mixed[0], first.blend(mel))
    torch.testing.assert_close(mixed[1], second.blend(embedding))
    torch.testing.assert_close(mixed[2], second.blend(first.blend(target)))
    assert not torch.equal(first.partner, second.partner)


@pytest.mark.parametrize("shape", [None, (0,)])
def test_without_embeddings_there_is_no_second_draw(shape: tuple[int] | None) -> None:
    mel, _, target, source = batch()
    absent = None if shape is None else mel.new_empty(len(mel), *shape)
    joint, independent = (
        mixup(probability=1.0, draw=draw)(mel, absent, target, source, seeded(1))
        for draw in ("joint", "independent")
    )
    assert torch.equal(joint[0], independent[0]) and torch.equal(joint[2], independent[2])


@pytest.mark.parametrize("labels", ["soft", "hard"])
@pytest.mark.parametrize("draw", ["joint", "independent"])
def test_unlabelled_rows_stay(labels: str, draw: str) -> None:
    mel, embedding, target, source = batch()
    mixed = mixup(probability=1.0, labels=labels, draw=draw)(mel, embedding, target, source)
    for before, after in zip((mel, embedding, target), mixed, strict=True):
        assert torch.equal(before[source == UNLABELLED], after[source == UNLABELLED])


def test_hard_labels_are_summed_and_clamped() -> None:
    mel, embedding, target, source = batch()
    generator = seeded(2)
    mixed = mixup(probability=1.0, labels="hard")(mel, embedding, target, source, generator)[2]
    drawn = draw_mixup(source, 0.2, after_coin(seeded(2)))
    expected = (target + target[drawn.partner]).clamp(max=1)[:14]
    torch.testing.assert_close(mixed[:14], expected)
    assert mixed.max() == 1.0


def test_batches_without_embeddings_or_with_one_source_mix() -> None:
    mel, _, target, source = batch(torch.tensor([3, 3, 3]))
    mixed, none, _ = mixup(probability=1.0)(mel, None, target, source, seeded(1))
    assert none is None
    assert not torch.equal(mixed, mel)
    alone = mixup(probability=1.0)(mel[:1], None, target[:1], source[:1], seeded(1))
    torch.testing.assert_close(alone[0], mel[:1])


def test_the_probability_is_that_of_mixing_a_step() -> None:
    inputs, generator = batch(), seeded()
    mixed = [mixup(probability=0.3)(*inputs, generator)[0] is not inputs[0] for _ in range(1000)]
    assert sum(mixed) / 1000 == pytest.approx(0.3, abs=0.04)
    assert mixup(probability=0.0)(*inputs, generator)[0] is inputs[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": "both"}, "training.mixup: unknown 'both'; known: soft, hard"),
        ({"draw": "twice"}, "training.mixup_draw: unknown 'twice'; known: joint, independent"),
        ({"probability": 1.5}, r"training.mixup_prob: 1.5 is not in \[0, 1\]"),
        ({"alpha": 0.0}, "alpha = 0.0 is not positive"),
    ],
)
def test_unknown_mixups_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        mixup(**arguments)


@pytest.mark.parametrize("groups", [(), ((0, 1, 2, 3, 4),), ((2,), (0,))])
def test_there_may_be_any_number_of_groups(groups: tuple[tuple[int, ...], ...]) -> None:
    mel, embedding, target, source = batch()
    roles = ROLES._replace(mixup_groups=groups)
    for labels in ("soft", "hard"):
        mixing = augment.Mixup(roles, probability=1.0, labels=labels, draw="independent")
        mixed = mixing(mel, embedding, target, source, seeded(1))
        of_groups = torch.isin(source, torch.tensor([one for group in groups for one in group]))
        for before, after in zip((mel, embedding, target), mixed, strict=True):
            assert torch.equal(before[~of_groups], after[~of_groups])
            assert not groups or not torch.equal(before[of_groups], after[of_groups])
