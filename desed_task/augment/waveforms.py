"""Augmentation of waveforms, before any front end: wavmix, device responses, gain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from desed_task.augment.groups import RowGroups, larger_shares
from desed_task.augment.responses import DeviceResponses
from desed_task.augment.rows import WHOLE_BATCH, BatchShare, moved, row_draws, rowwise
from desed_task.augment.step import RowMix


def draw_wavmix(
    groups: RowGroups,
    probability: float,
    alpha: float,
    generator: Generator | None = None,
    rows: BatchShare = WHOLE_BATCH,
) -> RowMix:
    """Draw which clips are mixed, each with one of its group, and their shares.

    Args:
        groups: of the rows: one for each strongly labelled corpus.
        probability: that a clip is mixed with another one.
        alpha: both parameters of the Beta distribution of l; the share is max(l, 1 - l).
        generator: CPU generator.
        rows: which rows of a batch these are.
    """
    n_rows, device = len(groups.number), groups.number.device
    mixed = row_draws(n_rows, generator, rows)[:, 0] < probability
    partner = groups.partners(generator, rows)
    share = larger_shares(n_rows, alpha, generator, rows)
    share = moved(share.where(mixed, torch.ones(())), device)
    return RowMix(partner, share.masked_fill(groups.number == groups.n_groups, 1.0))


def mix_waveforms(
    waveform: Tensor, labels: Sequence[Tensor], mix: RowMix
) -> tuple[Tensor, list[Tensor]]:
    """The mean is removed from both clips, and from their blend; labels are blended alike.

    Args:
        waveform: (batch, sample).
        labels: targets and pseudo-labels, each (batch, class, frame).
        mix: the draw; rows with a share of 1 stay as they are, mean included.
    """
    centred = waveform - waveform.mean(dim=1, keepdim=True)
    blend = mix.blend(centred)
    blend = blend - blend.mean(dim=1, keepdim=True)
    mixed = torch.where((mix.share < 1)[:, None], blend, waveform)
    return mixed, [mix.blend(one).clamp(0.0, 1.0) for one in labels]


class DeviceDraw(NamedTuple):
    """Clips that are convolved, and with what; on the CPU.

    Attributes:
        rows: (chosen row,) int64 numbers of own rows.
        responses: (chosen row,) int64 numbers of responses.
    """

    rows: Tensor
    responses: Tensor


def draw_devices(
    n_rows: int,
    n_responses: int,
    probability: float,
    generator: Generator | None = None,
    rows: BatchShare = WHOLE_BATCH,
) -> DeviceDraw:
    """Draw for each clip whether it is convolved, and a response.

    Args:
        n_rows: own rows.
        n_responses: how many there are, all equally likely.
        probability: that a clip is convolved.
        generator: CPU generator.
        rows: which rows of a batch these are.
    """
    drawn = row_draws(n_rows, generator, rows, 2).numpy()
    chosen = np.flatnonzero(drawn[:, 0] < probability)
    response = np.minimum((drawn[chosen, 1] * n_responses).astype(np.int64), n_responses - 1)
    return DeviceDraw(torch.from_numpy(chosen), torch.from_numpy(response))


def convolve(waveform: Tensor, draw: DeviceDraw, responses: DeviceResponses) -> Tensor:
    """Clips as other devices would have recorded them, without the responses' delays.

    Args:
        waveform: (batch, sample).
        draw: the clips and their responses.
        responses: on the device of the waveform.

    Returns:
        (batch, sample); clips that are not drawn stay as they are.
    """
    if not len(draw.rows):
        return waveform
    n_samples, device = waveform.shape[1], waveform.device
    row, response = moved(draw.rows, device), moved(draw.responses, device)
    kernel = responses.samples[response]
    # Long enough for all of the convolution, so that nothing wraps around.
    n_fft = _fast_length(n_samples + kernel.shape[1] - 1)
    with torch.autocast(device.type, enabled=False):
        spectrum = torch.fft.rfft(waveform[row].float(), n_fft) * torch.fft.rfft(kernel, n_fft)
        whole = torch.fft.irfft(spectrum, n_fft)
    place = torch.arange(n_samples, device=device) + responses.delay[response][:, None]
    convolved = whole.gather(1, place).to(waveform.dtype)
    return waveform.index_copy(0, row, convolved)


def _fast_length(least: int) -> int:
    """The next length whose only prime factors are 2, 3 and 5, for which transforms are fast."""
    while True:
        rest = least
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return least
        least += 1


def draw_gains(
    n_rows: int,
    most_db: float,
    generator: Generator | None = None,
    rows: BatchShare = WHOLE_BATCH,
) -> Tensor:
    """(own row,) gains in dB from U(-most_db, most_db), on the CPU."""
    return (2 * row_draws(n_rows, generator, rows)[:, 0] - 1) * most_db


def amplify(waveform: Tensor, gain_db: Tensor) -> Tensor:
    """Clips (batch, sample) louder by their gains (batch,) in dB."""
    return waveform * rowwise(10 ** (gain_db / 20), waveform)
