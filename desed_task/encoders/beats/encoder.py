"""The transformer inside BEATs, for inference: no dropout, no masking.

Names differ from a published checkpoint where that saves work: query, key and value are one
projection, the position bias is one table, the positional convolution's weight norm is folded.
`desed_task.encoders.beats.weight_names` translates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class BeatsConfig:
    """The sizes of a BEATs; names as in a checkpoint's `cfg`, defaults as in BEATs_iter3+."""

    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    embed_dim: int = 512
    conv_pos: int = 128
    conv_pos_groups: int = 16
    num_buckets: int = 320
    max_distance: int = 800
    input_patch_size: int = 16
    conv_bias: bool = False

    @classmethod
    def of(cls, cfg: Mapping[str, Any]) -> BeatsConfig:
        """The sizes among a checkpoint's `cfg`; other keys are for training and not needed."""
        return cls(**{field.name: cfg[field.name] for field in fields(cls)})

    def check(self) -> None:
        """Refuse sizes from an untrusted file that no BEATs has.

        Raises:
            ValueError: naming one that is no positive whole number, or too small.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "conv_bias":
                if type(value) is not bool:
                    raise ValueError(f"conv_bias is {value!r}, neither true nor false")
            elif type(value) is not int or value < 1:
                raise ValueError(f"{field.name} is {value!r}, not a positive whole number")
        if self.max_distance <= self.num_buckets // 4:
            raise ValueError(
                f"max_distance is {self.max_distance}, not above a quarter of num_buckets "
                f"({self.num_buckets})"
            )


class BeatsTransformer(nn.Module):
    """The transformer: (batch, token, feature) to the same."""

    def __init__(self, config: BeatsConfig) -> None:
        """See `Beats`."""
        super().__init__()
        width = config.encoder_embed_dim
        self.pos_conv = nn.Conv1d(
            width,
            width,
            config.conv_pos,
            padding=config.conv_pos // 2,
            groups=config.conv_pos_groups,
        )
        self.layer_norm = nn.LayerNorm(width)
        self.position_bias = PositionBias(config)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))

    def positioned(self, tokens: Tensor) -> Tensor:
        """Tokens (batch, token, feature) with their positions, as the first layer takes them."""
        n_tokens = tokens.shape[1]
        # An even kernel gives one output too many; the last is dropped.
        position = self.pos_conv(tokens.transpose(1, 2))[..., :n_tokens]
        normed: Tensor = self.layer_norm(tokens + functional.gelu(position).transpose(1, 2))
        return normed

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, token, feature) to the same."""
        tokens, bias = self.positioned(tokens), self.position_bias(tokens.shape[1])
        for layer in self.layers:
            tokens = layer(tokens, bias)
        return tokens


class PositionBias(nn.Module):
    """T5's bucketed relative position bias, separate for both directions; one table for all layers.

    Raffel et al., "Exploring the limits of transfer learning ...", JMLR 2020.
    """

    def __init__(self, config: BeatsConfig) -> None:
        """See `Beats`."""
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.num_buckets, config.encoder_attention_heads)
        self._last: tuple[tuple[object, ...], Tensor] | None = None

    def forward(self, n_tokens: int) -> Tensor:
        """The bias of each query (row) on each key, (head, token, token)."""
        # Clips of a run have one length, so one result is kept, but not as a weight, and not where
        # the table is trained: it would keep a graph, or what the table was. What is computed in
        # inference mode cannot be part of a training.
        table, inference = self.table.weight, torch.is_inference_mode_enabled()
        version = 0 if table.is_inference() else table._version
        key = (n_tokens, table.device, table.dtype, version, inference)
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        position = torch.arange(n_tokens, device=table.device)
        buckets = self._bucket(position[None, :] - position[:, None])
        bias: Tensor = self.table(buckets).permute(2, 0, 1).contiguous()
        self._last = None if table.requires_grad else (key, bias)
        return bias

    def _bucket(self, distance: Tensor) -> Tensor:
        """Distances (key - query) to rows of the table.

        Half of the rows are for keys behind the query. Of each half, one half is for single
        distances, the other for ranges growing with the logarithm up to `max_distance`.
        """
        n_side = self.config.num_buckets // 2
        n_exact = n_side // 2
        far = distance.abs().clamp(min=1).float() / n_exact
        growth = (n_side - n_exact) / math.log(self.config.max_distance / n_exact)
        ranged = n_exact + (far.log() * growth).long().clamp(min=0, max=n_side - n_exact - 1)
        side = torch.where(distance.abs() < n_exact, distance.abs(), ranged)
        return side + n_side * (distance > 0)


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each normalised after its deep-norm residual.

    Wang et al., "DeepNet: Scaling Transformers to 1,000 Layers", 2022.
    """

    def __init__(self, config: BeatsConfig) -> None:
        """See `Beats`."""
        super().__init__()
        width = config.encoder_embed_dim
        self.residual_gain = (2 * config.encoder_layers) ** 0.25
        self.self_attn = GatedAttention(width, config.encoder_attention_heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, config.encoder_ffn_embed_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_embed_dim, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, bias: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, token, feature) to the same.

        Args:
            tokens: see above.
            bias: as `PositionBias` returns it.
            mask: (batch, token) bool, False for tokens that get no attention.
        """
        attended = self.self_attn(tokens, bias, mask)
        tokens = self.self_attn_layer_norm(attended.add_(tokens, alpha=self.residual_gain))
        expanded = self.fc2(functional.gelu(self.fc1(tokens)))
        out: Tensor = self.final_layer_norm(expanded.add_(tokens, alpha=self.residual_gain))
        return out


class GatedAttention(nn.Module):
    """Self-attention with a position bias that each query scales by a gate of its own.

    Chi et al., "XLM-E", ACL 2022 (gated relative position bias).
    """

    def __init__(self, width: int, n_heads: int) -> None:
        """Attention over `width` features in `n_heads` heads."""
        super().__init__()
        self.n_heads = n_heads
        self.qkv_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.grep_linear = nn.Linear(width // n_heads, 8)
        self.grep_a = nn.Parameter(torch.ones(1, n_heads, 1, 1))

    def forward(self, tokens: Tensor, bias: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, token, feature) to the same; `bias` is (head, token, token), `mask` as above."""
        # (batch, token, 3 * feature) -> three times (batch, head, token, feature of the head)
        qkv = self.qkv_proj(tokens).unflatten(2, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        gated = self._gate(query) * bias
        if mask is not None:
            gated = gated.masked_fill(~mask[:, None, None], -math.inf)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=gated)
        out: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return out

    def _gate(self, query: Tensor) -> Tensor:
        """(batch, head, token, 1), around 2."""
        sums = self.grep_linear(query).unflatten(-1, (2, 4)).sum(dim=-1)
        inner, outer = sums.sigmoid().chunk(2, dim=-1)
        gate: Tensor = inner * (outer * self.grep_a - 1) + 2
        return gate
