"""What the numbers of an encoder's spectrogram are: decibel, frequencies and times."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

# A natural logarithm of power per decibel.
LOG_POWER_PER_DB: Final = math.log(10) / 10


class SpectrumLayout(NamedTuple):
    """What `Encoder.front_end` gives, for augmentations that work on it.

    Attributes:
        per_db: by how much a value rises if the band is 1 dB louder, above any floor.
        centres_hz: centre of each band, ascending.
        frame_rate: frames per second.
    """

    per_db: float
    centres_hz: tuple[float, ...]
    frame_rate: float


def mel_centres_hz(n_mels: int, f_min: float, f_max: float) -> tuple[float, ...]:
    """Centres of bands that are equally spaced in log(1 + f / 700), as HTK's and Kaldi's are, Hz.

    Args:
        n_mels: number of bands.
        f_min: lower corner of the first band, Hz.
        f_max: upper corner of the last band, Hz.
    """
    low, high = (math.log1p(hz / 700) for hz in (f_min, f_max))
    step = (high - low) / (n_mels + 1)
    return tuple(700 * math.expm1(low + step * (band + 1)) for band in range(n_mels))
