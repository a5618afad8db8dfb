"""Several encoders joined: the frames are those that the CRNN would make of each by itself."""

import pytest
import torch

from desed_task.encoders.beats.model import SMALL_CONFIG, Beats
from desed_task.encoders.concatenated import ConcatenatedEncoders, align_tokens
from desed_task.encoders.vit.atst_frame import AtstFrame
from desed_task.encoders.vit.blocks import BlockSizes
from desed_task.errors import InputError
from desed_task.nnet.fusion import nearest_tokens, pool_tokens

ALIGNED = {"pool1d": pool_tokens, "interpolate": nearest_tokens, "global": pool_tokens}


@pytest.fixture(scope="module")
def encoders():
    torch.manual_seed(3)
    return [one.eval() for one in (Beats(SMALL_CONFIG), AtstFrame(BlockSizes(64, 128, 2)))]


@pytest.mark.parametrize("aggregation", ["pool1d", "interpolate", "frame", "global"])
@pytest.mark.parametrize("n_tokens", [1, 62, 155, 156, 157, 250, 496])
def test_frames_are_those_of_the_fusion(aggregation, n_tokens):
    embedding = torch.randn(3, 5, n_tokens)
    aligned = align_tokens(embedding, 156, aggregation)
    wanted = ALIGNED.get(aggregation, pool_tokens)(embedding, 156)
    assert torch.equal(aligned.transpose(1, 2), wanted)
    # The CRNN then changes nothing.
    again = ALIGNED.get(aggregation, pool_tokens)(aligned, 156)
    assert torch.equal(again.transpose(1, 2), aligned)
    assert torch.equal(align_tokens(embedding[1], 156, aggregation), aligned[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_stay(dtype):
    embedding = torch.randn(2, 3, 4, 50).to(dtype)
    aligned = align_tokens(embedding, 7, "pool1d")
    assert aligned.shape == (2, 3, 4, 7) and aligned.dtype == dtype


@torch.no_grad()
@pytest.mark.parametrize("aggregation", ["pool1d", "interpolate"])
def test_two_encoders_are_one_with_the_features_of_both(encoders, aggregation):
    both = ConcatenatedEncoders(encoders, 16, aggregation)
    assert (both.name, both.width) == ("beats+atst_frame", 128 + 64)
    assert both.n_tokens(16000) == 16 and both.n_tokens(100) == 0
    assert both.n_parameters() == sum(one.n_parameters() for one in encoders)
    waveform = 0.1 * torch.randn(2, 16385)
    found = both.embed(waveform)
    assert found.frame.shape == (2, 192, 16) and found.global_.shape == (2, 192)
    for part, frame, clip in zip(
        encoders, found.frame.split([128, 64], 1), found.global_.split([128, 64], 1), strict=True
    ):
        alone = part.embed(waveform)
        assert torch.equal(frame, align_tokens(alone.frame, 16, aggregation))
        assert torch.equal(clip, alone.global_)
    assert torch.equal(both(waveform).transpose(1, 2), found.frame)


def test_order_is_that_of_the_features(encoders):
    turned = ConcatenatedEncoders(encoders[::-1], 16, "pool1d")
    assert turned.name == "atst_frame+beats"
    assert [part.name for part in turned.parts] == ["atst_frame", "beats"]


@pytest.mark.parametrize("indices", [(), (0, 0)])
def test_several_different_ones_are_needed(encoders, indices):
    with pytest.raises(InputError, match="several different ones"):
        ConcatenatedEncoders([encoders[index] for index in indices], 16, "pool1d")
