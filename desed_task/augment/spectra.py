"""Freq-mixstyle, and the frequency warp of what encoders are given.

Schmid et al., "CP-JKU Submission to DCASE 2022 Task 1" (freq-mixstyle); Li et al., "Self-supervised
Audio Teacher-Student Transformer", TASLP 2024 (frequency warp).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional

from desed_task.augment.groups import RowGroups
from desed_task.augment.rows import rowwise
from desed_task.augment.step import RowMix, StepInputs
from desed_task.features import to_db

VARIANCE_FLOOR: Final = 1e-6


def mix_styles(inputs: StepInputs, mix: RowMix) -> StepInputs:
    """Give each clip some of the loudness of its partner's bands, in spectrograms of the step.

    It is done on decibel, which for the log-mel spectrogram are magnitudes again afterwards, and on
    the logarithms that encoders are given.

    Args:
        inputs: the step.
        mix: partners and shares of the clips' own statistics, as drawn for mixup.
    """
    decibel = restyle(to_db(inputs.mel), mix)
    encoded = tuple(restyle(one, mix) for one in inputs.encoder_inputs)
    return inputs._replace(mel=10 ** (decibel / 20), encoder_inputs=encoded)


def restyle(x: Tensor, mix: RowMix) -> Tensor:
    """x (batch, band, frame) with blended means and deviations over time, in each band.

    No gradient flows through the statistics. Clips with a share of 1 stay as they are.
    """
    with torch.no_grad():
        variance, mean = torch.var_mean(x, dim=2, correction=0, keepdim=True)
        deviation = (variance + VARIANCE_FLOOR).sqrt()
        new_mean, new_deviation = mix.blend(mean), mix.blend(deviation)
    styled = (x - mean) / deviation * new_deviation + new_mean
    return torch.where(rowwise(mix.share, x) < 1, styled, x)


class WarpDraw(NamedTuple):
    """Strips of bands that are stretched to all bands, one for each group; on the CPU.

    Attributes:
        height: (group,) share of the bands.
        place: (group,) in [0, 1): how far up the strip lies, of the places that it can have.
    """

    height: NDArray[np.float32]
    place: NDArray[np.float32]


def draw_warp(groups: RowGroups, lowest: float, generator: Generator | None = None) -> WarpDraw:
    """Draw a strip for each group, its height from U(lowest, 1).

    Args:
        groups: of the rows.
        lowest: least height, as a share of the bands.
        generator: CPU generator.
    """
    height, place = torch.rand(2, groups.n_draws, generator=generator).numpy()
    return WarpDraw(lowest + (1 - lowest) * height, place)


def warp(x: Tensor, draw: WarpDraw, groups: RowGroups) -> Tensor:
    """x (batch, band, frame) with the strip of each row's group stretched to all bands.

    Bicubic, with corners aligned, and only along frequency, as the number of frames stays.
    """
    n_bands = x.shape[1]
    # Interpolation is linear in the values: that of unit vectors gives its weights.
    unit = torch.eye(n_bands)
    weights = []
    for height, place in zip(draw.height, draw.place, strict=True):
        n_strip = max(1, int(height * n_bands))
        first = min(int(place * (n_bands - n_strip + 1)), n_bands - n_strip)
        strip = unit[None, None, first : first + n_strip]
        stretched = functional.interpolate(
            strip, (n_bands, n_bands), mode="bicubic", align_corners=True
        )
        weights.append(stretched[0, 0])
    with torch.autocast(x.device.type, enabled=False):
        return (groups.of_rows(torch.stack(weights)) @ x.float()).to(x.dtype)
