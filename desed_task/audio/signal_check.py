"""Notice recordings that give the network nothing to hear: silence, and channels that cancel.

    check = SignalCheck(rate)
    for block in blocks:
        check.add(block)
    check.remark()  # "is digitally silent", or ""

Channels are averaged before detection. Two of opposite phase have a mean of zero, in which the
network still finds events.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Peak to peak. Dithered silence of 16 bits moves by one step in both directions.
_SILENT = 2 / 32768
# The mean of n independent channels has 1/n of their mean power, the mean of equal ones all of it,
# and that of one channel among dead ones 1/n. A tenth of 1/n is left only by opposite phase.
_CANCELLED = 0.1
# Shares of a recording from which it is named.
_SHARE_SILENT, _SHARE_CANCELLED = 0.5, 0.1
_MIN_S = 0.1
# Floats that hold integers without scaling reach 2 ** 31. The power of samples from 1e19 on is no
# number any more.
LARGEST = 1e10


def are_usable(samples: NDArray[Any]) -> bool:
    """Whether all samples are finite and none is beyond `LARGEST`."""
    return bool(np.abs(samples).max(initial=0) <= LARGEST)


class SignalCheck:
    """Look at a recording second by second.

    Attributes:
        total_s: seconds seen.
        silent_s: those in which no channel moves by more than dithered silence of 16 bits.
        cancelled_s: those in which the mean of the channels has 10 dB less power than if they were
            independent of each other.

    Args:
        rate: of the samples, Hz.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self.total_s = self.silent_s = self.cancelled_s = 0.0

    def add(self, samples: NDArray[Any]) -> None:
        """Take the next samples, (frame, channel) or (frame,), floats in [-1, 1]."""
        if samples.ndim == 1:
            samples = samples[:, None]
        for start in range(0, len(samples), self._rate):
            # Channels apart: numpy reduces rows ten times faster than the columns of pairs.
            second = np.ascontiguousarray(samples[start : start + self._rate].T)
            length_s = second.shape[1] / self._rate
            self.total_s += length_s
            if (second.max(axis=1) - second.min(axis=1)).max() <= _SILENT:
                self.silent_s += length_s
            elif len(second) > 1 and _cancels(second):
                self.cancelled_s += length_s

    @property
    def silent(self) -> bool:
        """Whether all of it is silent."""
        return self.total_s > 0 and self.silent_s >= self.total_s - 0.5 / self._rate

    @property
    def cancels(self) -> bool:
        """Whether the channels cancel in a good part of it."""
        heard_s = self.total_s - self.silent_s
        return self.cancelled_s > max(_SHARE_CANCELLED * heard_s, min(_MIN_S, heard_s / 2))

    def remark(self) -> str:
        """What to say after the recording's name; "" if nothing."""
        if not self.total_s:
            return ""
        if self.silent:
            return "is digitally silent; events that are detected in it are not real"
        share = f"of {self.total_s:.1f} s"
        if self.cancels:
            return (
                f"its channels cancel each other (opposite phase) in {self.cancelled_s:.1f} "
                f"{share}, and detection uses their mean; invert a channel, or keep only one"
            )
        if self.silent_s >= _SHARE_SILENT * self.total_s:
            return f"is digitally silent in {self.silent_s:.1f} {share}"
        return ""


def _cancels(channels: NDArray[Any]) -> bool:
    power = channels.var(axis=1, dtype=np.float64).mean() / len(channels)
    return bool(channels.mean(axis=0).var(dtype=np.float64) < _CANCELLED * power)
