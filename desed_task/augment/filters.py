"""FilterAugment: random filters over frequency, as of rooms, distances and devices.

Nam et al., "FilterAugment: An Acoustic Environmental Data Augmentation Method", ICASSP 2022
(arXiv 2110.03282). A filter is drawn over the bands of the log-mel spectrogram. An encoder's bands
take the gain that it has at their centres, so that both hear one filter, in Hz.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

from desed_task.augment.groups import RowGroups
from desed_task.augment.rows import WHOLE_BATCH, BatchShare, moved, row_draws
from desed_task.augment.step import StepInputs

FilterType = Literal["linear", "step"]


class BandScale(NamedTuple):
    """The bands of the log-mel spectrogram, equally spaced in log(1 + f / 700).

    Attributes:
        n_mels: number of bands.
        f_min: lower corner of the first band, Hz.
        f_max: upper corner of the last band, Hz.
    """

    n_mels: int
    f_min: float
    f_max: float

    def places(self, frequencies_hz: Sequence[float]) -> Tensor:
        """Frequencies as places on the bands: k + 0.5 is the centre of band k, those outside are
        in the first or last band. (frequency,), float32."""
        low, high = (math.log1p(hz / 700) for hz in (self.f_min, self.f_max))
        step = (high - low) / (self.n_mels + 1)
        found = [(math.log1p(hz / 700) - low) / step - 0.5 for hz in frequencies_hz]
        return torch.tensor(found).clamp(0.5, self.n_mels - 0.5)

    def own_places(self) -> Tensor:
        """Those of the bands themselves."""
        return torch.arange(self.n_mels) + 0.5


class FilterDraw(NamedTuple):
    """Filters of the rows of a batch.

    Attributes:
        borders: for each group, places of the borders of its bands, from 0 to the number of mel
            bands.
        gains_db: (own row, border or band) gains on the CPU, more than any group needs.
    """

    borders: tuple[tuple[int, ...], ...]
    gains_db: Tensor


def draw_filters(
    groups: RowGroups,
    n_mels: int,
    bands: tuple[int, int],
    least_width: int,
    gain_db: tuple[float, float],
    generator: Generator | None = None,
    rows: BatchShare = WHOLE_BATCH,
) -> FilterDraw:
    """Draw borders for each group, and gains for each row.

    Args:
        groups: of the rows.
        n_mels: bands of the log-mel spectrogram.
        bands: fewest and most bands of a filter.
        least_width: of a band, in mel bands; `bands[1] * least_width` fit into `n_mels`.
        gain_db: lowest and highest gain.
        generator: CPU generator.
        rows: which rows of a batch these are.
    """
    fewest, most = bands
    drawn = torch.rand(groups.n_draws, most, generator=generator).double().numpy()
    borders = []
    for number, *cuts in drawn:
        n_bands = min(fewest + int(number * (most - fewest + 1)), most)
        spare = n_mels - n_bands * least_width
        # What is beyond the least widths is divided at random.
        inner = sorted(min(int(cut * (spare + 1)), spare) for cut in cuts[: n_bands - 1])
        widened = (cut + least_width * (i + 1) for i, cut in enumerate(inner))
        borders.append((0, *widened, n_mels))
    low, high = gain_db
    gains = low + (high - low) * row_draws(len(groups.number), generator, rows, most + 1)
    return FilterDraw(tuple(borders), gains)


def filter_gains(draw: FilterDraw, groups: RowGroups, places: Tensor, kind: FilterType) -> Tensor:
    """Gains in dB at places on the mel bands, (batch, place), on the device of the groups.

    Args:
        draw: borders and gains.
        groups: of the rows.
        places: see `BandScale`.
        kind: "linear": gains at borders, with straight lines between; "step": one for each band.
    """
    n_gains = draw.gains_db.shape[1]
    weights = torch.zeros(groups.n_draws, n_gains, len(places))
    for weight, borders in zip(weights, draw.borders, strict=True):
        edges = torch.tensor(borders, dtype=places.dtype)
        band = torch.bucketize(places, edges[1:-1], right=True)
        if kind == "step":
            weight.scatter_(0, band[None], 1.0)
            continue
        share = (places - edges[band]) / (edges[band + 1] - edges[band])
        weight.scatter_(0, band[None], 1 - share[None])
        weight.scatter_(0, band[None] + 1, share[None])
    gains = moved(draw.gains_db, groups.number.device)
    # Not as a matrix product, which autocast would round.
    return (gains[:, :, None] * groups.of_rows(weights)).sum(1)


def filter_spectra(
    inputs: StepInputs,
    draw: FilterDraw,
    groups: RowGroups,
    scale: BandScale,
    kind: FilterType,
    encoders: Sequence[tuple[Tensor, float]],
) -> StepInputs:
    """Multiply mel magnitudes by the filter, and add its decibel to what encoders are given.

    Args:
        inputs: the step.
        draw: the filters.
        groups: of the rows.
        scale: the bands of the log-mel spectrogram.
        kind: see `filter_gains`.
        encoders: of each encoder, the places of its bands and how much 1 dB is in its numbers.
    """
    gains = filter_gains(draw, groups, scale.own_places(), kind)
    encoded = []
    for x, (places, per_db) in zip(inputs.encoder_inputs, encoders, strict=True):
        raised = filter_gains(draw, groups, places, kind) * per_db
        encoded.append(x + raised[:, :, None].to(x.dtype))
    mel = inputs.mel * (10 ** (gains / 20))[:, :, None].to(inputs.mel.dtype)
    return inputs._replace(mel=mel, encoder_inputs=tuple(encoded))
