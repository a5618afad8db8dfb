"""Half precision on a CPU: only where it is faster than float32.

Without units for bfloat16 a CPU multiplies such matrices hundreds of times more slowly. Which way
PyTorch takes depends on its backends, so the rate is measured, not read from the CPU's flags.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

import torch

from desed_task.errors import InputError
from local.cli.arguments import MPS

SINGLE: Final = 32  # as configurations write it
HALF: Final = "bf16"
TENSOR_FLOAT: Final = "tf32"
# Half precisions by their names in configurations; a CPU computes float16 as bfloat16 (Lightning).
_FLOAT16: Final = ("16", "16-mixed")
_BFLOAT16: Final = (HALF, "bf16-mixed")
# (row, inner, column) of the measured product: 0.7 ms at 100 GFLOP/s, 0.2 s at 0.3.
_PRODUCT: Final = (128, 512, 512)
_CALLS, _BUDGET_S = 7, 0.3


class Rates(NamedTuple):
    """Rates of a matrix product on the CPU, in GFLOP/s (a multiply-add is two operations)."""

    float32: float
    bfloat16: float

    def __str__(self) -> str:
        return f"{self.bfloat16:.3g} against {self.float32:.3g} GFLOP/s"


def measure_rates() -> Rates:
    """Measure both rates on the current threads: the best of a few calls in turn, within 1 s."""
    rows, inner, columns = _PRODUCT
    pairs = [
        (torch.ones(rows, inner, dtype=dtype), torch.ones(inner, columns, dtype=dtype))
        for dtype in (torch.float32, torch.bfloat16)
    ]
    least_s = [float("inf"), float("inf")]
    begun = time.perf_counter()
    # The first call of each prepares kernels.
    for call in range(_CALLS + 1):
        for number, (one, other) in enumerate(pairs):
            start = time.perf_counter()
            one @ other
            taken = time.perf_counter() - start
            least_s[number] = min(least_s[number], taken) if call else least_s[number]
        if call and time.perf_counter() - begun > _BUDGET_S:
            break
    flops = 2 * rows * inner * columns / 1e9
    return Rates(*(flops / seconds for seconds in least_s))


def usable_precision(
    asked: str | int, device: str, *, what: str, keep: bool = False
) -> tuple[str | int, str]:
    """The precision that a device computes with, and a line where it is not the one asked for.

    Args:
        asked: as in `training.precision`.
        device: its type; only a CPU is measured. Macs' GPUs ("mps") compute in float32.
        what: where `asked` was set, for the line.
        keep: use half precision even if it is slower, because what is continued began with it.

    Returns:
        The precision and the line, empty if there is nothing to say.

    Raises:
        InputError: half precision on a device that is only used in float32.
    """
    name = str(asked)
    if device in ("cpu", MPS) and name == TENSOR_FLOAT and not keep:
        return SINGLE, f"{what} {name}: a precision of Nvidia's GPUs; computing in float32"
    if device == MPS and name in (*_FLOAT16, *_BFLOAT16):
        raise InputError(f"{what} {name}: on mps only float32 is computed; set it to {SINGLE}")
    if device != "cpu" or name not in (*_FLOAT16, *_BFLOAT16):
        return asked, ""
    as_bfloat16 = ", as which a CPU computes float16," if name in _FLOAT16 else ""
    rates = measure_rates()
    slower = rates.bfloat16 < rates.float32
    if slower and not keep:
        return SINGLE, (
            f"{what} {name}: on this CPU bfloat16{as_bfloat16} is slower than float32 ({rates}); "
            "computing in float32"
        )
    if slower:
        return asked, (
            f"{what} {name}: on this CPU bfloat16{as_bfloat16} is slower than float32 ({rates}); "
            "kept, as it began with it"
        )
    if name in _FLOAT16 and not keep:
        return HALF, f"{what} {name}: a CPU computes float16 as bfloat16; precision {HALF}"
    return asked, ""
