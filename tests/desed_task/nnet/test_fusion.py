"""Embeddings brought onto frames."""

from __future__ import annotations

import pytest
import torch

from desed_task.errors import InputError
from desed_task.nnet import fusion

TOKENS = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(0))


def test_pooling_averages_the_tokens_of_each_frame() -> None:
    expected = TOKENS.view(2, 3, 4, 3).mean(-1).transpose(1, 2)
    torch.testing.assert_close(fusion.pool_tokens(TOKENS, 4), expected)


@pytest.mark.parametrize(("n_tokens", "n_frames"), [(496, 156), (7, 3), (3, 7), (8, 4), (5, 1)])
def test_shares_of_tokens_are_those_of_adaptive_pooling(n_tokens: int, n_frames: int) -> None:
    """The way of devices that pool into equal parts only."""
    embeddings = torch.randn(2, 5, n_tokens, generator=torch.Generator().manual_seed(1))
    expected = fusion.pool_tokens(embeddings, n_frames)
    found = (embeddings @ fusion.token_shares(n_tokens, n_frames)).transpose(1, 2)
    torch.testing.assert_close(found, expected)


def test_nearest_takes_the_token_at_the_centre_of_each_frame() -> None:
    assert torch.equal(fusion.nearest_tokens(TOKENS, 4), TOKENS[..., 1::3].transpose(1, 2))


def test_a_clip_embedding_is_the_mean_of_its_tokens() -> None:
    torch.testing.assert_close(fusion.clip_embedding(TOKENS), TOKENS.mean(-1))
    assert fusion.clip_embedding(TOKENS[..., 0]).shape == (2, 3)


def test_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(InputError, match=r"shape \(2, 3, 12\).*net.embedding_size = 768"):
        fusion.check_embeddings(TOKENS, 768, "pool1d")


def test_clip_level_embeddings_need_global() -> None:
    with pytest.raises(InputError, match=r"shape \(2, 3\) have no tokens.*'interpolate' needs"):
        fusion.check_embeddings(TOKENS[..., 0], 3, "interpolate")
    assert fusion.check_embeddings(TOKENS[..., 0], 3, "global") is not None


def test_missing_embeddings_are_refused() -> None:
    with pytest.raises(InputError, match="none were given"):
        fusion.check_embeddings(None, 3, "pool1d")
