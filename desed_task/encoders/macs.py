"""Count the multiply-accumulate operations of an encoder without computing them."""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def macs_counter() -> FlopCounterMode:
    """Count floating-point operations, two per multiply-accumulate, of what runs below it.

    Matrix products, convolutions and attention count, wherever they run.
    """
    # PyTorch counts attention on GPUs only.
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={attention: _attention})


def encoder_macs(encoder: nn.Module, n_samples: int) -> int:
    """Multiply-accumulate operations of an encoder for one waveform.

    Its front end's filter bank and all products and convolutions count, Fourier transforms do not.

    Args:
        encoder: takes waveforms (batch, sample), as `Encoder` does, on any device ("meta" too); it
            stays as it is.
        n_samples: of the waveform.

    Raises:
        ValueError: the waveform is too short for one token.
    """
    values = list(chain(encoder.parameters(), encoder.buffers()))
    # Shapes without values; not on "meta", where there is no autocast.
    shapes_only = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with shapes_only:
            shapes = {id(value): _shape_of(value) for value in values}
            waveform = torch.empty(1, n_samples)
        subject = copy.deepcopy(encoder, shapes).eval()
        with shapes_only:
            return _count(subject, waveform)
    except RuntimeError:  # its code looks at values: compute them
        device = next((value.device for value in values), torch.device("cpu"))
        return _count(copy.deepcopy(encoder).eval(), torch.zeros(1, n_samples, device=device))


def _shape_of(value: Tensor) -> Tensor:
    """The same shape and type on the CPU; without values where a mode makes it so."""
    empty = torch.empty(value.shape, dtype=value.dtype)
    return nn.Parameter(empty, requires_grad=False) if isinstance(value, nn.Parameter) else empty


def _count(encoder: nn.Module, waveform: Tensor) -> int:
    with torch.no_grad(), macs_counter() as counter:
        encoder(waveform)
    return int(counter.get_total_flops()) // 2


def _attention(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]
