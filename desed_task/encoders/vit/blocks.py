"""The pre-norm block that ATST-Frame, fPaSST, ASiT and M2D share, and the sizes of their weights.

Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021. Names are those of published files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torch import Tensor, nn
from torch.nn import functional

from desed_task.encoders.interface import StateDict, numbered
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


def make_blocks(width: int, inner: int, n_blocks: int, *, qkv_bias: bool = True) -> nn.ModuleList:
    """`n_blocks` blocks."""
    return nn.ModuleList(Block(width, inner, qkv_bias=qkv_bias) for _ in range(n_blocks))


def block_sizes(state: Mapping[str, Tensor], origin: str) -> tuple[int, int]:
    """Features inside the feed-forward, and the number of blocks, of a file's tensors.

    Raises:
        InputError: there are no blocks.
    """
    first = state.get("blocks.0.mlp.fc1.bias")
    numbers = list(numbered(state, "blocks."))
    if first is None or first.ndim != 1 or not numbers:
        raise InputError(f"{origin}: blocks.0.mlp.fc1.bias is missing: no transformer block")
    return len(first), max(numbers) + 1


def load_tensors(module: nn.Module, state: StateDict, origin: str, title: str) -> None:
    """Load a file's tensors into a module; tensors that the module has no place for are left.

    Raises:
        InputError: naming tensors that are missing, have another shape or are not finite.
    """
    own = module.state_dict()
    problems = [f"{name} is missing" for name in own if name not in state]
    problems += [
        f"{name} has shape {tuple(state[name].shape)}, not {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    problems += [
        f"{name} is not finite"
        for name in own
        if name in state and not state[name].isfinite().all()
    ]
    if problems:
        raise InputError.collect(problems, f"{origin}: not a complete {title}:")
    module.load_state_dict({name: state[name] for name in own})
