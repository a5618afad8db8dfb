"""The compiler's settings, and functions of one value that compiled loops are made of."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])


def cache_folder() -> Path | None:
    """Where compiled code is kept, because compiling takes seconds; None if nowhere is writable.

    It lies beside the modules or, where these are read-only, in the user's cache. numba recompiles
    a kernel when its own module has changed, but kernels call functions of other modules as well,
    so the name of the folder is a digest of all of them.
    """
    here = Path(__file__).parent
    sources = [path.read_bytes() for path in sorted(here.glob("*.py"))]
    state = hashlib.blake2b(b"".join(sources), digest_size=8).hexdigest()
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    given = [Path(numba.config.CACHE_DIR)] if numba.config.CACHE_DIR else []
    for base in (*given, here / "__pycache__", users / "desed_task"):
        folder = base / f"kernels-{state}"
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                return folder
    return None


_CACHE: Final = cache_folder()


def compiled(function: Function) -> Function:
    """Compile a function of arrays and numbers, on its first call.

    Products and sums may become one instruction; nothing else about the order of operations
    changes.
    """
    compiler = functools.partial(
        numba.njit, nogil=True, error_model="numpy", fastmath={"contract"}, cache=_CACHE is not None
    )
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(_CACHE or "")
    try:
        return cast(Function, compiler(function))
    finally:
        numba.config.CACHE_DIR = before


_LOG2_E: Final = np.float32(1.4426950408889634)
# ln 2 in two parts: products of the first one with whole numbers up to 2^9 are exact.
_LN2_HIGH: Final = np.float32(0.693359375)
_LN2_LOW: Final = np.float32(-2.1219444e-4)
# Added to a number below 2^22, it leaves its nearest whole number in the last bits.
_ROUNDING: Final = np.float32(12582912.0)  # 1.5 * 2^23
_EXPONENT_BITS: Final = np.int32(23)
_EXPONENT_OF_1: Final = np.int32(0x3F800000)
_LARGEST: Final = np.float32(88.0)
_ONE: Final = np.float32(1.0)


@compiled
def exponential(x: np.float32) -> np.float32:
    """e^x for float32, to a relative error of 3e-7 where |x| <= 87; constant beyond 88.

    x = n ln 2 + r with |r| <= ln 2 / 2: a polynomial of r, and n in the exponent's bits. Unlike a
    call of the C library, a loop over it is computed on whole vectors.
    """
    x = min(max(x, -np.float32(87.0)), _LARGEST)
    shifted = np.float32(x * _LOG2_E + _ROUNDING)
    n = shifted - _ROUNDING
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = np.float32(1 / 720)
    p = p * r + np.float32(1 / 120)
    p = p * r + np.float32(1 / 24)
    p = p * r + np.float32(1 / 6)
    p = p * r + np.float32(1 / 2)
    p = p * r + _ONE
    p = p * r + _ONE
    power = np.int32((shifted.view(np.int32) << _EXPONENT_BITS) + _EXPONENT_OF_1)
    return np.float32(p * power.view(np.float32))


@compiled
def sigmoid(x: np.float32) -> np.float32:
    """1 / (1 + e^-x)."""
    return np.float32(_ONE / (_ONE + exponential(-x)))


@compiled
def hyperbolic_tangent(x: np.float32) -> np.float32:
    """tanh(x), to a relative error of 5e-7."""
    square = x * x
    # Near zero the difference of 1 and e^-2x would lose digits: the series.
    series = np.float32(62 / 2835)
    series = series * square - np.float32(17 / 315)
    series = series * square + np.float32(2 / 15)
    series = series * square - np.float32(1 / 3)
    near = x + x * (square * series)
    far = np.float32(2.0) * sigmoid(np.float32(2.0) * x) - _ONE
    return near if square < np.float32(0.0625) else far


_STEP: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / the golden ratio, odd
DRAWS_PER_WORD: Final = 4


@compiled
def random_word(seed: np.uint64, index: np.uint64) -> np.uint64:
    """Word `index` of the 64-bit sequence SplitMix64 that `seed` begins (Steele et al. 2014)."""
    word = seed + (index + np.uint64(1)) * _STEP
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@compiled
def draw_kept(kept: np.ndarray, words: np.ndarray, seed: np.uint64, row: int, dropped: int) -> None:
    """Draw which values of a row dropout keeps.

    Args:
        kept: float32 (value,), set to 1 for kept values and to 0 for dropped ones.
        words: uint64 (words_of(value),), overwritten.
        seed: of the tensor.
        row: number of the row in it. A row is drawn again with the same numbers.
        dropped: probability, in 2^-16: a value has 16 random bits.
    """
    first = np.uint64(row) * np.uint64(words.size)
    for index in range(words.size):
        words[index] = random_word(seed, first + np.uint64(index))
    bits = words.view(np.uint16)
    for index in range(kept.size):
        kept[index] = np.float32(1) if bits[index] >= dropped else np.float32(0)
