"""Whether a module may compute with kernels instead of PyTorch's operations."""

from __future__ import annotations

import functools
import importlib
import warnings

import torch
from torch import Tensor, nn


def fits_kernels(x: Tensor, module: nn.Module) -> bool:
    """Whether kernels can compute what `module` does to `x`: float32 on a CPU, outside autocast.

    A GPU's memory is fast enough. Hooks, for instance those that count operations, need the
    modules.
    """
    return (
        runs_on_cpu(x)
        and x.dtype == torch.float32
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not _is_hooked(module)
        and has_kernels()
    )


def runs_on_cpu(x: Tensor) -> bool:
    """Whether operations on `x` run on a CPU now, not on a GPU or in a graph for an exporter."""
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return x.device.type == "cpu" and not (traced or torch.compiler.is_compiling())


def _is_hooked(module: nn.Module) -> bool:
    return any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


@functools.cache
def has_kernels() -> bool:
    """Whether numba, which compiles the kernels, can be used; a warning says so once if not."""
    try:
        importlib.import_module("desed_task.kernels.compiled")
    except ImportError as error:
        warnings.warn(
            f"numba cannot be used ({error}): on a CPU the network runs module by module, which "
            "takes longer; install it with: pip install numba",
            stacklevel=2,
        )
        return False
    return True
