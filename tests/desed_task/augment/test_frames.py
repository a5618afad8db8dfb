"""Frame shift and time mask: labels stay where the sounds are."""

from __future__ import annotations

import pytest
import torch

from desed_task.augment.frames import (
    FrameTimes,
    draw_shift,
    draw_spans,
    mask_spans,
    shift_frames,
)
from desed_task.augment.rows import BatchShare
from desed_task.augment.step import StepInputs
from desed_task.encoders.vit.atst_frame import AtstFrame
from desed_task.encoders.vit.blocks import BlockSizes
from desed_task.features import LogMel
from tests.desed_task.augment.made import (
    N_LABELS,
    SOURCE,
    STRONG,
    TIMES,
    groups_of,
    seeded,
    step_of,
)


def heard(click_s: float) -> StepInputs:
    """Two clips of 2 s, strongly and weakly labelled, with a click and its labels."""
    waveform = torch.zeros(2, 32000)
    waveform[:, round(click_s * 16000)] = 1.0
    target = torch.zeros(2, 1, 31)
    target[0, 0, int(click_s * 16000 / 1024)] = 1
    target[1, 0, 0] = 1
    pseudo = target[:1].repeat(2, 1, 1)
    encoder = AtstFrame(BlockSizes(64, 64, 1))
    token = torch.zeros(2, 3, 40)
    token[:, :, int(click_s / 2 * 40)] = 1
    mel = LogMel()(waveform)
    known = torch.ones(2, 1, dtype=torch.bool)
    return StepInputs(mel, (encoder.front_end(waveform),), token, target, pseudo, known)


def loudest(x: torch.Tensor) -> list[float]:
    """Centre of what is loudest in each row, in steps."""
    level = x.sum(1)
    peak = (level > level.amax(1, keepdim=True) - 1e-4 * level.abs().amax()).float()
    return ((peak * torch.arange(level.shape[1])).sum(1) / peak.sum(1)).tolist()


@pytest.mark.parametrize("shift", [20, -20, 40])
def test_a_click_that_is_moved_moves_its_labels_and_pseudo_labels(shift: int):
    """40 frames of 16 ms are 0.64 s, and 10 label frames."""
    times = FrameTimes(4, 62.5, (100.0,))
    is_strong = torch.tensor([True, False])
    before, after = heard(0.648), heard(0.648 + shift * 0.016)
    moved = shift_frames(before, torch.tensor([shift, shift]), times, is_strong)
    assert loudest(moved.mel) == pytest.approx(loudest(after.mel), abs=0.01)
    assert loudest(moved.encoder_inputs[0]) == pytest.approx(
        loudest(after.encoder_inputs[0]), abs=0.01
    )
    assert torch.equal(moved.target, after.target)
    assert torch.equal(moved.pseudo, after.pseudo)
    # The weak label is the clip's, and stays in the first frame.
    assert moved.target[1, 0, 0] == 1
    assert moved.embedding[0, 0].argmax() == pytest.approx(after.embedding[0, 0].argmax(), abs=1)


def test_shifts_go_round_and_are_rounded_to_label_frames():
    step = step_of()
    shift = torch.arange(len(SOURCE)) * 5 - 20
    moved = shift_frames(step, shift, TIMES, STRONG)
    for row, frames in enumerate(shift.tolist()):
        assert torch.equal(moved.mel[row], step.mel[row].roll(frames, 1))
        assert torch.equal(moved.pseudo[row], step.pseudo[row].roll(round(frames / 4), 1))
        there = step.target[row].roll(round(frames / 4) if STRONG[row] else 0, 1)
        assert torch.equal(moved.target[row], there)
        encoded = step.encoder_inputs[0][row].roll(round(frames * 1.6), 1)
        assert torch.equal(moved.encoder_inputs[0][row], encoded)
        assert torch.equal(
            moved.embedding[row], step.embedding[row].roll(round(frames * 50 / 64), 1)
        )
    assert torch.equal((moved.target > 0).any(2), (step.target > 0).any(2))


def test_shifts_are_drawn_from_a_rounded_normal_distribution():
    shift = draw_shift(20000, 100, 0.075, seeded()).float()
    assert shift.mean().abs() < 0.2
    assert shift.std() == pytest.approx(7.5, rel=0.05)  # less for rounding towards 0
    assert (shift == 0).float().mean() == pytest.approx(0.106, abs=0.01)  # P(|x| < 1)
    own = draw_shift(3, 100, 0.1, seeded(1), BatchShare(0, 2, 6))
    assert torch.equal(own, draw_shift(6, 100, 0.1, seeded(1))[::2])


def test_embeddings_without_tokens_are_left_alone():
    step = step_of()._replace(embedding=torch.ones(len(SOURCE), 7), pseudo=None)
    spans = draw_spans(groups_of(), N_LABELS, 0.2, 0.4, seeded())
    shifted = shift_frames(step, torch.full((len(SOURCE),), 9), TIMES, STRONG)
    assert shifted.embedding is step.embedding and shifted.pseudo is None
    assert mask_spans(step, spans, TIMES, STRONG).embedding is step.embedding


def test_spans_have_their_lengths_and_lie_within_the_clip():
    groups, draws = groups_of(), seeded()
    lengths, first, behind = [], [], []
    for _ in range(300):
        spans = draw_spans(groups, 50, 0.1, 0.3, draws)
        by_group = {g: spans.first[groups.number == g] for g in range(4)}
        assert all((one == one[0]).all() for one in by_group.values())
        lengths.append(spans.after - spans.first)
        first.append(spans.first.min())
        behind.append(spans.after.max())
    found = torch.cat(lengths)
    assert (found.min(), found.max()) == (5, 14)
    assert min(first) == 0 and max(behind) == 50
    whole = draw_spans(groups, 50, 1.0, 1.0, draws)
    assert (whole.first == 0).all() and (whole.after == 50).all()


def test_a_masked_span_is_silent_in_all_tensors_of_strong_rows():
    step, spans = step_of(), draw_spans(groups_of(), N_LABELS, 0.2, 0.4, seeded(3))
    masked = mask_spans(step, spans, TIMES, STRONG)
    for row in range(len(SOURCE)):
        a, b = (int(one[row, 0]) for one in spans)
        of_mel = torch.arange(64).div(4).long()
        # 6.4 frames of the encoder per label frame; those behind the last one belong to it.
        of_encoder = torch.tensor([min(int(i / 6.4), 15) for i in range(103)])
        of_tokens = torch.tensor([int((i + 0.5) * 16 / 50) for i in range(50)])
        for before, after, frame in (
            (step.mel, masked.mel, of_mel),
            (step.encoder_inputs[0], masked.encoder_inputs[0], of_encoder),
            (step.embedding, masked.embedding, of_tokens),
            (step.target, masked.target, torch.arange(16)),
            (step.pseudo, masked.pseudo, torch.arange(16)),
        ):
            hidden = (frame >= a) & (frame < b) & STRONG[row]
            assert torch.equal(after[row], before[row].masked_fill(hidden, 0.0))
