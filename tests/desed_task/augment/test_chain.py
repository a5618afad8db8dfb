"""The augmentations of a step together: order, teacher's copy, draws and processes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from desed_task.augment import rows as row_module
from desed_task.augment.chain import StepAugmentation
from desed_task.augment.filters import filter_gains
from desed_task.augment.responses import DeviceResponses
from desed_task.augment.row_mixup import draw_row_mix, mix_rows
from desed_task.augment.rows import BatchShare
from desed_task.augment.step import StepInputs
from tests.desed_task.augment.made import (
    LAYOUT,
    ROLES,
    SCALE,
    SOURCE,
    TIMES,
    groups_of,
    seeded,
    step_of,
)

SPECTRAL = {"mixstyle_prob": 1.0, "warp_prob": 1.0, "filter_prob": 1.0}
RESPONSES = DeviceResponses(torch.rand(3, 20, generator=seeded(8)), torch.tensor([0, 3, 9]))
ALL = {
    **{"shift_std": 0.1, "time_mask_prob": 1.0, "mixup_prob": 1.0},
    **SPECTRAL,
    **{"wavmix_prob": 0.5, "device_prob": 0.5, "gain_db": 6.0, "responses": RESPONSES},
}


def chain(**values) -> StepAugmentation:
    return StepAugmentation(ROLES, TIMES, SCALE, (LAYOUT,), **values)


def tensors(step: StepInputs) -> list[Tensor]:
    return [step.mel, *step.encoder_inputs, step.embedding, step.target, step.pseudo, step.known]


def same(a: StepInputs, b: StepInputs) -> bool:
    return all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))


def test_what_is_off_draws_nothing_and_returns_what_was_given():
    draws, step = seeded(), step_of()
    before = draws.get_state()
    waveform, labels = torch.ones(len(SOURCE), 50), (step.target,)
    found = chain().waveforms(waveform, labels, SOURCE, draws)
    assert found[0] is waveform and found[1] is labels
    done = chain()(step, SOURCE, draws)
    assert done.student is step and done.teacher is step and done.mixed is None
    assert torch.equal(draws.get_state(), before)


def test_the_mean_teacher_is_given_what_the_student_is():
    done = chain(**ALL)(step_of(), SOURCE, seeded())
    assert done.teacher is done.student and done.mixed is None
    other = chain(**ALL, filter_transforms=2)(step_of(), SOURCE, seeded())
    assert same(other.student, done.student)
    assert not torch.equal(other.teacher.mel, done.student.mel)
    # Only a factor for each band differs.
    ratio = other.teacher.mel / done.student.mel
    heard = done.student.mel.amin(2) > 0
    spread = (ratio.amax(2) / ratio.amin(2))[heard]
    assert torch.allclose(spread, torch.ones_like(spread), atol=1e-4)
    assert torch.equal(other.teacher.target, done.student.target)


@pytest.mark.parametrize("n_filters", [1, 2])
def test_interpolation_shows_the_teacher_the_step_before_mixup(n_filters: int):
    values = {**ALL, "filter_transforms": n_filters, "interpolates": True}
    done = chain(**values)(step_of(), SOURCE, seeded(4))
    # The same draws up to there, as nothing after mixup draws earlier.
    in_time = {"shift_std": 0.1, "time_mask_prob": 1.0}
    unmixed = chain(**in_time)(step_of(), SOURCE, seeded(4)).student
    assert done.mixed is not None
    for name in ("target", "pseudo", "known", "embedding"):
        assert torch.equal(getattr(done.teacher, name), getattr(unmixed, name))
    added = done.teacher.encoder_inputs[0] - unmixed.encoder_inputs[0]
    assert torch.allclose(added, added[..., :1].expand_as(added), atol=1e-5)
    assert added.abs().amax() > 0.01
    assert torch.equal(done.student.target, mix_rows(unmixed, done.mixed).target)
    assert torch.equal(done.student.known, mix_rows(unmixed, done.mixed).known)


def test_a_step_that_is_not_mixed_has_the_mean_teacher():
    values = {**ALL, "mixup_prob": 0.0, "interpolates": True}
    done = chain(**values)(step_of(), SOURCE, seeded())
    assert done.teacher is done.student and done.mixed is None
    mixed = [
        chain(mixup_prob=0.3, interpolates=True)(step_of(), SOURCE, draws).mixed is not None
        for draws in [seeded()]
        for _ in range(300)
    ]
    assert sum(mixed) / 300 == pytest.approx(0.3, abs=0.07)


def test_one_filter_is_one_draw_for_mel_and_encoder():
    done = chain(filter_prob=1.0, filter_type="step")(step_of(), SOURCE, seeded(6)).student
    draws = seeded(6)
    torch.rand((), generator=draws)
    draw = chain()._draw_filters(groups_of(), draws, BatchShare())
    gains = filter_gains(draw, groups_of(), SCALE.places(LAYOUT.centres_hz), "step")
    added = done.encoder_inputs[0] - step_of().encoder_inputs[0]
    assert torch.allclose(added[..., 0], gains * LAYOUT.per_db, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_packed_embeddings_keep_their_type(dtype):
    step = step_of()
    packed = step._replace(embedding=step.embedding.to(dtype), pseudo=None)
    done = chain(**ALL)(packed, SOURCE, seeded()).student
    assert done.embedding.dtype == dtype and done.pseudo is None
    exact = chain(**ALL)(step, SOURCE, seeded()).student
    assert torch.allclose(done.embedding.float(), exact.embedding, atol=0.05)
    assert torch.equal(done.mel, exact.mel)


def test_processes_that_share_a_batch_draw_what_one_process_does():
    unpaired = {**ALL, "mixup_prob": 0.0, "mixstyle_prob": 0.0, "wavmix_prob": 0.0}
    waveform = torch.randn(len(SOURCE), 300, generator=seeded(2))

    def both(index: slice, rows: BatchShare) -> tuple[Tensor, StepInputs]:
        draws, step = seeded(3), step_of()
        own = StepInputs(
            step.mel[index],
            (step.encoder_inputs[0][index],),
            *(one[index] for one in (step.embedding, step.target, step.pseudo, step.known)),
        )
        augmented = chain(**unpaired)
        given = waveform[index], (own.target,), SOURCE[index], draws, rows
        heard, _ = augmented.waveforms(*given)
        return heard, augmented(own, SOURCE[index], draws, rows).student

    whole_heard, whole = both(slice(None), BatchShare())
    for first in (0, 1):
        index = slice(first, None, 2)
        heard, own = both(index, BatchShare(first, 2, len(SOURCE)))
        assert torch.allclose(heard, whole_heard[index], atol=1e-5)
        for part, all_rows in zip(tensors(own), tensors(whole), strict=True):
            assert torch.allclose(part.float(), all_rows[index].float(), atol=1e-5)
    share = draw_row_mix(groups_of(SOURCE[1::2]), 0.2, seeded(), BatchShare(1, 2, len(SOURCE)))
    assert torch.equal(
        groups_of(SOURCE[1::2]).number[share.partner], groups_of(SOURCE[1::2]).number
    )


def test_what_happens_has_its_probability_and_draws_nothing_if_never():
    draws = seeded()
    assert sum(row_module.happens(0.2, draws) for _ in range(2000)) == pytest.approx(400, abs=60)
    state = draws.get_state()
    assert not row_module.happens(0.0, draws)
    assert torch.equal(draws.get_state(), state)
    assert all(row_module.happens(1.0, draws) for _ in range(50))


def test_soft_labels_are_shifted_and_not_masked():
    """Spans are masked in rows with hard strong labels, as published."""
    step, roles = step_of(), ROLES._replace(soft=(0,))
    half = StepAugmentation(
        roles, TIMES, SCALE, (LAYOUT,), time_mask_prob=1.0, time_mask_min=0.5, time_mask_max=0.5
    )
    done = half(step, SOURCE, seeded())
    masked = (done.student.mel == 0).all(1).any(1)
    hard = torch.isin(SOURCE, torch.tensor([1, 2]))
    assert torch.equal(masked, hard) and hard.any() and (SOURCE == 0).any()
    assert torch.equal(done.student.target[~hard], step.target[~hard])
