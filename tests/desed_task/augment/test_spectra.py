"""Mixup per row, mixstyle, frequency warp and FilterAugment against closed forms."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from desed_task.augment.filters import (
    BandScale,
    FilterDraw,
    draw_filters,
    filter_gains,
    filter_spectra,
)
from desed_task.augment.groups import RowGroups, pairing_groups
from desed_task.augment.row_mixup import draw_row_mix, mix_rows
from desed_task.augment.spectra import WarpDraw, draw_warp, mix_styles, restyle, warp
from desed_task.augment.step import RowMix
from desed_task.encoders.beats.model import Beats, BeatsConfig
from desed_task.encoders.vit.asit import Asit
from desed_task.encoders.vit.atst_frame import AtstFrame
from desed_task.encoders.vit.blocks import BlockSizes
from desed_task.encoders.vit.fpasst import FramePasst
from desed_task.encoders.vit.m2d import M2d
from desed_task.features import LogMel, mel_centres_hz, to_db
from tests.desed_task.augment.made import (
    LAYOUT,
    N_MELS,
    ROLES,
    SCALE,
    SOURCE,
    groups_of,
    seeded,
    step_of,
)

SIZES = BlockSizes(64, 64, 1)
TINY_BEATS = BeatsConfig(
    embed_dim=16,
    encoder_embed_dim=64,
    encoder_ffn_embed_dim=64,
    encoder_layers=1,
    encoder_attention_heads=2,
)


@pytest.fixture(scope="module")
def encoders():
    return [Beats(TINY_BEATS), *(kind(SIZES) for kind in (AtstFrame, FramePasst, Asit, M2d))]


# ---- mixup


def test_rows_are_mixed_by_one_draw_and_learn_the_classes_of_their_partners():
    step = step_of()
    across = RowGroups.of(SOURCE, pairing_groups(ROLES, across=True), ROLES.n_sources)
    mix = draw_row_mix(across, 0.2, seeded(1))
    mixed = mix_rows(step, mix)
    for row, (partner, share) in enumerate(zip(mix.partner, mix.share, strict=True)):

        def blend(x, row=row, partner=partner, share=share):
            return share * x[row] + (1 - share) * x[partner]

        assert torch.allclose(mixed.mel[row], blend(step.mel))
        assert torch.allclose(mixed.encoder_inputs[0][row], blend(step.encoder_inputs[0]))
        assert torch.allclose(mixed.embedding[row], blend(step.embedding))
        assert torch.allclose(mixed.target[row], blend(step.target))
        assert torch.allclose(mixed.pseudo[row], blend(step.pseudo))
        active = (step.target[partner] > 0).any(1)
        assert torch.equal(mixed.known[row], step.known[row] | (active & (share < 1)))
    assert (mixed.known & ~step.known).any()
    # Whatever has a label is known, and soft labels stay between 0 and 1.
    assert not ((mixed.target > 0).any(2) & ~mixed.known).any()


def test_partners_are_of_the_row_s_group_and_other_rows_stay_to_the_bit():
    step, seen = step_of(), set()
    for seed in range(50):
        mix = draw_row_mix(groups_of(), 0.2, seeded(seed))
        group = groups_of().number
        assert torch.equal(group[mix.partner], group)
        assert mix.share.min() >= 0.5
        seen |= {(int(SOURCE[row]), int(SOURCE[one])) for row, one in enumerate(mix.partner)}
        mixed = mix_rows(step, mix)
        assert torch.equal(mixed.mel[SOURCE == 4], step.mel[SOURCE == 4])
        assert torch.equal(mixed.pseudo[SOURCE == 4], step.pseudo[SOURCE == 4])
    assert seen == {(0, 0), (1, 1), (1, 2), (2, 1), (2, 2), (3, 3), (4, 4)}
    assert pairing_groups(ROLES, across=True) == ((0, 1, 2), (3,), (4,))
    assert pairing_groups(ROLES, across=False) == ROLES.mixup_groups


# ---- mixstyle


def test_styles_are_blended_and_no_gradient_flows_through_statistics():
    x = torch.randn(2, 3, 50, generator=seeded()) * torch.tensor([1.0, 3.0])[:, None, None]
    x = (x + torch.tensor([0.0, 5.0])[:, None, None]).requires_grad_()
    mix = RowMix(torch.tensor([1, 0]), torch.tensor([0.75, 1.0]))
    styled = restyle(x, mix)
    mean, deviation = x.mean(2), x.std(2, correction=0)
    assert torch.allclose(styled.mean(2)[0], 0.75 * mean[0] + 0.25 * mean[1], atol=1e-4)
    expected = 0.75 * deviation[0] + 0.25 * deviation[1]
    assert torch.allclose(styled.std(2, correction=0)[0], expected, atol=1e-4)
    assert torch.equal(styled[1], x[1])  # a share of 1
    styled[0].square().sum().backward()
    # As if statistics were constants: d(styled)/dx is the ratio of the deviations.
    ratio = (expected / deviation[0])[:, None]
    assert torch.allclose(x.grad[0], 2 * styled[0] * ratio, rtol=1e-3)
    assert not x.grad[1].any()  # the partner only lent statistics


def test_styles_of_the_step_are_mixed_by_one_draw_in_decibel():
    step, mix = step_of(), draw_row_mix(groups_of(), 0.3, seeded(2))
    styled = mix_styles(step, mix)
    assert torch.allclose(to_db(styled.mel), restyle(to_db(step.mel), mix), atol=1e-3)
    assert torch.equal(styled.encoder_inputs[0], restyle(step.encoder_inputs[0], mix))
    assert styled.target is step.target and styled.embedding is step.embedding
    silent = restyle(torch.zeros(2, 3, 9), RowMix(torch.tensor([1, 0]), torch.full((2,), 0.6)))
    assert silent.abs().max() < 1e-6


# ---- frequency warp


def test_a_strip_is_stretched_as_pictures_are_and_other_groups_have_others():
    x = torch.randn(4, 20, 30, generator=seeded())
    groups = RowGroups.of(torch.tensor([0, 1, 2, 1]), [(0,), (1,)], 3)
    draw = WarpDraw(torch.tensor([0.6, 0.75, 1.0]).numpy(), torch.tensor([0.0, 0.99, 0.5]).numpy())
    warped = warp(x, draw, groups)
    for row, (first, behind) in enumerate([(0, 12), (5, 20), (0, 20), (5, 20)]):
        strip = x[None, None, row, first:behind]
        expected = functional.interpolate(strip, (20, 30), mode="bicubic", align_corners=True)
        assert torch.allclose(warped[row], expected[0, 0], atol=1e-5)
    assert torch.allclose(warped[2], x[2], atol=1e-6)
    drawn = [draw_warp(groups, 0.6, seeded(seed)).height for seed in range(200)]
    found = torch.tensor([float(one) for heights in drawn for one in heights])
    assert 0.6 <= found.min() < 0.61 and 0.99 < found.max() <= 1
    assert warp(x.bfloat16(), draw, groups).dtype == torch.bfloat16


# ---- FilterAugment


def test_borders_and_gains_are_within_their_bounds():
    groups = groups_of()
    numbers, widths, firsts = set(), set(), set()
    for seed in range(200):
        draw = draw_filters(groups, 128, (2, 5), 6, (-4.5, 6.0), seeded(seed))
        for borders in draw.borders:
            assert borders[0] == 0 and borders[-1] == 128
            numbers.add(len(borders) - 1)
            widths |= {b - a for a, b in pairwise(borders)}
            firsts.add(borders[1])
        assert draw.gains_db.min() >= -4.5 and draw.gains_db.max() <= 6
    assert numbers == {2, 3, 4, 5}
    assert min(widths) == 6 and max(firsts) > 110
    tight = draw_filters(groups, 30, (5, 5), 6, (0.0, 0.0), seeded())
    assert set(tight.borders) == {(0, 6, 12, 18, 24, 30)}


def test_gains_are_steps_or_lines_between_borders():
    groups = RowGroups.of(torch.tensor([0, 1, 0]), [(0,)], 2)
    gains = torch.tensor([[0.0, 4.0, -4.0], [6.0, 0.0, 9.0], [1.0, 1.0, 1.0]])
    draw = FilterDraw(((0, 2, 6), (0, 6)), gains)
    places = torch.arange(6) + 0.5
    lines = filter_gains(draw, groups, places, "linear")
    assert torch.allclose(lines[0], torch.tensor([1.0, 3.0, 3.0, 1.0, -1.0, -3.0]))
    assert torch.allclose(lines[1], torch.tensor([5.5, 4.5, 3.5, 2.5, 1.5, 0.5]))
    assert torch.allclose(lines[2], torch.ones(6))
    steps = filter_gains(draw, groups, places, "step")
    assert steps[0].tolist() == [0, 0, 4, 4, 4, 4]
    assert steps[1].tolist() == [6] * 6


def test_mel_and_encoder_bands_of_a_frequency_get_the_same_gain():
    scale = BandScale(128, 0.0, 8000.0)
    places = scale.places(mel_centres_hz(128, 0.0, 8000.0))
    assert torch.allclose(places, scale.own_places(), atol=1e-3)
    assert scale.places([0.0, 8000.0]).tolist() == [0.5, 127.5]
    centre = mel_centres_hz(128, 0.0, 8000.0)[63]
    assert scale.places([centre]).item() == pytest.approx(63.5, abs=1e-3)
    groups = groups_of()
    draw = draw_filters(groups, N_MELS, (3, 5), 6, (-6.0, 6.0), seeded())
    step, encoders = step_of(), [(SCALE.places(LAYOUT.centres_hz), LAYOUT.per_db)]
    filtered = filter_spectra(step, draw, groups, SCALE, "linear", encoders)
    raised_db = 20 * (filtered.mel / step.mel).log10()
    assert torch.allclose(raised_db, raised_db[..., :1].expand_as(raised_db), atol=1e-3)
    added = (filtered.encoder_inputs[0] - step.encoder_inputs[0]) / LAYOUT.per_db
    own = mel_centres_hz(N_MELS, 0.0, 8000.0)
    for band, hz in enumerate(LAYOUT.centres_hz):
        place = sum(one < hz for one in own)
        if 0 < place < N_MELS:
            share = (hz - own[place - 1]) / (own[place] - own[place - 1])
            near = torch.lerp(raised_db[:, place - 1, 0], raised_db[:, place, 0], share)
            # Borders between two centres bend the line there.
            assert torch.allclose(added[:, band, 0], near, atol=1.0)
    assert filtered.target is step.target


def test_encoders_say_what_a_decibel_is_and_where_their_bands_are(encoders):
    noise = 0.1 * torch.randn(1, 16000, generator=seeded())
    time_s = torch.arange(16000) / 16000
    for encoder in encoders:
        layout = encoder.spectrum
        quiet, loud = encoder.front_end(noise), encoder.front_end(2 * noise)
        rise = (loud - quiet)[0, -20:].median().item()
        assert rise == pytest.approx(layout.per_db * 20 * math.log10(2), rel=2e-3), encoder.name
        assert len(layout.centres_hz) == quiet.shape[1]
        for hz in (800.0, 3000.0):
            tone = encoder.front_end(0.5 * torch.sin(2 * math.pi * hz * time_s)[None])
            band = int(tone[0, :, 20:60].mean(1).argmax())
            near = min(range(quiet.shape[1]), key=lambda k: abs(layout.centres_hz[k] - hz))
            assert abs(band - near) <= 1, encoder.name
        click = torch.zeros(1, 16000)
        click[0, 8000] = 1
        frame = int(encoder.front_end(click)[0].sum(0).argmax())
        assert abs(frame / layout.frame_rate - 0.5) < 0.02
    tone = LogMel()(torch.sin(2 * math.pi * 3000 * time_s)[None])[0, :, 20:40].mean(1)
    assert abs(mel_centres_hz(128, 0.0, 8000.0)[int(tone.argmax())] - 3000) < 60
