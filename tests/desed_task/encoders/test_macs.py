"""Operations of encoders, against formulas and against counts of what is computed."""

import pytest
import torch
from torch import nn

from desed_task.encoders.beats.encoder import BeatsConfig
from desed_task.encoders.beats.model import SMALL_CONFIG, Beats
from desed_task.encoders.macs import encoder_macs, macs_counter
from desed_task.encoders.vit.atst_frame import AtstFrame
from desed_task.encoders.vit.blocks import BlockSizes

CLIP = 160000


def test_macs_of_beats_are_those_of_its_formula():
    width, inner, tokens = SMALL_CONFIG.encoder_embed_dim, SMALL_CONFIG.encoder_ffn_embed_dim, 496
    layers = SMALL_CONFIG.encoder_layers * (
        4 * tokens * width**2 + 2 * tokens * width * inner + 2 * tokens**2 * width
    )
    patches = tokens * 256 * SMALL_CONFIG.embed_dim + tokens * SMALL_CONFIG.embed_dim * width
    positions = (
        (tokens + 1) * width * (width // SMALL_CONFIG.conv_pos_groups) * SMALL_CONFIG.conv_pos
    )
    filterbank = 998 * 257 * 128
    expected = layers + patches + positions + filterbank
    assert encoder_macs(Beats(SMALL_CONFIG), CLIP) == pytest.approx(expected, rel=0.03)


def test_macs_of_a_shape_without_memory_are_those_of_its_formula():
    with torch.device("meta"):
        encoder = AtstFrame(BlockSizes(768, 3072, 12))
    tokens = 250
    block = 12 * tokens * 768**2 + 2 * tokens**2 * 768
    expected = 12 * block + tokens * 256 * 768 + 64 * 513 * 1001
    assert encoder_macs(encoder, CLIP) == expected


@pytest.mark.parametrize("n_samples", [CLIP, 33333])
def test_nothing_is_computed_and_nothing_changes(n_samples):
    """What is counted without computing is what is counted while computing."""
    encoder = Beats(SMALL_CONFIG).train()
    waveform = torch.zeros(1, n_samples)
    with torch.no_grad(), macs_counter() as counter:
        before = encoder(waveform)
    counted = encoder_macs(encoder, n_samples)
    assert counted == counter.get_total_flops() // 2
    assert encoder.training and all(p.requires_grad for p in encoder.parameters())
    with torch.no_grad():
        assert torch.equal(encoder(waveform), before)


def test_blocks_that_are_left_out_do_not_count():
    sizes = BlockSizes(64, 128, 3)
    whole, part = AtstFrame(sizes), AtstFrame(sizes).stop_after(2)
    block = 250 * (4 * 64**2 + 2 * 64 * 128) + 2 * 250**2 * 64
    assert encoder_macs(whole, CLIP) - encoder_macs(part, CLIP) == block


def test_an_encoder_whose_code_looks_at_values_is_computed():
    class Looking(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(160, 8)

        def forward(self, waveform):
            gain = 0.5 if float(waveform.abs().max()) > 1 else 1.0
            return self.linear(gain * waveform.unflatten(1, (-1, 160)))

    assert encoder_macs(Looking(), CLIP) == CLIP * 8


def test_too_short_a_waveform():
    with pytest.raises(ValueError, match="10 samples are too few"):
        encoder_macs(Beats(BeatsConfig(encoder_layers=1)), 10)
