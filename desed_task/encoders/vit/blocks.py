"""The pre-norm block that ATST-Frame, fPaSST, ASiT and M2D share, and the sizes of their weights.

Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021. Names are those of published files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from desed_task.encoders.files.tensors import n_layers_of
from desed_task.encoders.interface import numbered
from desed_task.errors import InputError

NORM_EPS: Final = 1e-6
# All published ones have heads of this width, which no tensor shows.
HEAD_WIDTH: Final = 64


class SelfAttention(nn.Module):
    """Multi-head self-attention with one projection to queries, keys and values."""

    def __init__(self, width: int, *, qkv_bias: bool = True) -> None:
        """Attention over `width` features in heads of 64."""
        super().__init__()
        self.n_heads = max(1, width // HEAD_WIDTH)
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, token, feature) to the same; `mask` as in `Block`."""
        # (batch, token, 3 * feature) -> three times (batch, head, token, feature of the head)
        qkv = self.qkv(tokens).unflatten(2, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        attends = None if mask is None else mask[:, None, None]
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=attends)
        out: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """Two projections with an exact GELU between them."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., feature) to the same."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return out


class Block(nn.Module):
    """Attention and feed-forward, each normalised before, each with a residual."""

    def __init__(self, width: int, inner: int, *, qkv_bias: bool = True) -> None:
        """Of `width` features, `inner` in the feed-forward."""
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = SelfAttention(width, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = FeedForward(width, inner)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, token, feature) to the same.

        Args:
            tokens: see above.
            mask: (batch, token) bool, False for tokens that get no attention.
        """
        tokens = tokens + self.attn(self.norm1(tokens), mask)
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class BlockSizes(NamedTuple):
    """Sizes of the blocks that a file holds.

    Attributes:
        width: features of a token.
        inner: features inside the feed-forward.
        n_blocks: number of blocks.
    """

    width: int
    inner: int
    n_blocks: int


def block_sizes(
    state: Mapping[str, Tensor], origin: str, title: str, prefix: str = "blocks."
) -> BlockSizes:
    """Sizes of a file's blocks: what most of its tensors say, so that a wrong one can be named.

    Args:
        state: tensors under the names of the encoder.
        origin: name of the file for messages.
        title: the encoder for messages.
        prefix: what stands before the number of a block.

    Raises:
        InputError: there are no blocks, or heads do not fit their width.
    """
    numbers = list(numbered(state, prefix))
    widths: Counter[int] = Counter()
    inners: Counter[int] = Counter()
    for number in numbers:
        for name in ("norm1.bias", "attn.proj.bias", "norm2.bias", "mlp.fc2.bias"):
            widths.update(_length(state.get(f"{prefix}{number}.{name}")))
        inners.update(_length(state.get(f"{prefix}{number}.mlp.fc1.bias")))
        fc2 = state.get(f"{prefix}{number}.mlp.fc2.weight")
        inners.update([fc2.shape[1]] if fc2 is not None and fc2.ndim == 2 else [])
    if not widths or not inners:
        raise InputError(
            f"{origin}: not a complete {title}: {prefix}0.norm1.bias and other tensors of "
            "transformer blocks are missing"
        )
    width = widths.most_common(1)[0][0]
    if width % HEAD_WIDTH:
        raise InputError(
            f"{origin}: not {title}: tokens of {width} features; its heads have {HEAD_WIDTH} each"
        )
    return BlockSizes(width, inners.most_common(1)[0][0], n_layers_of(numbers, origin))


def _length(tensor: Tensor | None) -> list[int]:
    return [len(tensor)] if tensor is not None and tensor.ndim == 1 else []


def make_blocks(sizes: BlockSizes, *, qkv_bias: bool = True) -> nn.ModuleList:
    """Blocks of these sizes."""
    blocks = (Block(sizes.width, sizes.inner, qkv_bias=qkv_bias) for _ in range(sizes.n_blocks))
    return nn.ModuleList(blocks)


def split_positions(
    tokens: Tensor, mask: Tensor | None, n_positions: int
) -> list[tuple[Tensor, Tensor | None]]:
    """Tokens in pieces for which there are positions, each with its mask.

    Where a clip ends before a piece begins, its tokens get attention there, as attention over
    nothing is not a number.
    """
    pieces = list(torch.split(tokens, n_positions, dim=1))
    if mask is None:
        return [(piece, None) for piece in pieces]
    masks = [its | ~its.any(dim=1, keepdim=True) for its in torch.split(mask, n_positions, dim=1)]
    return list(zip(pieces, masks, strict=True))
