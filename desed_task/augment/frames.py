"""Augmentation of times: circular shifts of clips, and masked spans.

Steps of all tensors stand for the same times: frames of the log-mel spectrogram for multiples of
its hop, those of an encoder's for multiples of its own, label frames for `net_subsample` frames of
the spectrogram. Tokens that were extracted beforehand are spread over the label frames evenly, as
the network's fusion spreads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from desed_task.augment.groups import RowGroups
from desed_task.augment.rows import WHOLE_BATCH, BatchShare
from desed_task.augment.step import StepInputs


class FrameTimes(NamedTuple):
    """How long the steps of the tensors are.

    Attributes:
        net_subsample: frames of the log-mel spectrogram per label frame.
        mel_rate: frames of the log-mel spectrogram per second.
        encoder_rates: of the spectrogram of each encoder, per second.
    """

    net_subsample: int
    mel_rate: float
    encoder_rates: tuple[float, ...] = ()

    def for_encoders(self, inputs: StepInputs) -> Sequence[tuple[Tensor, float]]:
        """What each encoder is given, with its frames per frame of the log-mel spectrogram."""
        rates = (rate / self.mel_rate for rate in self.encoder_rates)
        return list(zip(inputs.encoder_inputs, rates, strict=True))


def draw_shift(
    n_rows: int,
    n_frames: int,
    std: float,
    generator: Generator | None = None,
    rows: BatchShare = WHOLE_BATCH,
) -> Tensor:
    """(own row,) frames to shift each clip by, the integer part of N(0, (std * n_frames)^2).

    Args:
        n_rows: own rows.
        n_frames: of the log-mel spectrogram.
        std: standard deviation as a share of the clip.
        generator: CPU generator.
        rows: which rows of a batch these are.

    Returns:
        int64, on the CPU; positive ones shift to later times.
    """
    drawn = torch.randn(rows.total(n_rows), generator=generator)
    return rows.own((drawn * std * n_frames).trunc().long())


def shift_frames(
    inputs: StepInputs, shift: Tensor, times: FrameTimes, is_strong: Tensor
) -> StepInputs:
    """Shift clips in a circle, and the labels with them.

    Args:
        inputs: the step.
        shift: (batch,) frames of the log-mel spectrogram.
        times: lengths of the steps.
        is_strong: (batch,) bool, rows whose targets have times; others keep theirs, as a weak label
            stands in the first frame alone.
    """
    n_mel, embedding = inputs.mel.shape[-1], inputs.embedding
    of_labels = (shift / times.net_subsample).round().long()
    encoded = times.for_encoders(inputs)
    if embedding.numel() and embedding.ndim == 3:
        embedding = _rolled(embedding, (shift * (embedding.shape[-1] / n_mel)).round().long())
    pseudo = inputs.pseudo
    return inputs._replace(
        mel=_rolled(inputs.mel, shift),
        encoder_inputs=tuple(_rolled(x, (shift * rate).round().long()) for x, rate in encoded),
        embedding=embedding,
        target=_rolled(inputs.target, of_labels * is_strong),
        pseudo=None if pseudo is None else _rolled(pseudo, of_labels),
    )


def _rolled(x: Tensor, shift: Tensor) -> Tensor:
    """x (batch, any, step) with each row shifted in a circle by its own number of steps."""
    steps = torch.arange(x.shape[-1], device=x.device)
    origin = (steps - shift[:, None]) % x.shape[-1]
    return x.gather(2, origin[:, None].expand_as(x))


class SpanDraw(NamedTuple):
    """Spans of label frames, of the rows of a batch.

    Attributes:
        first: (batch, 1) first frame.
        after: (batch, 1) first frame after it.
    """

    first: Tensor
    after: Tensor


def draw_spans(
    groups: RowGroups,
    n_frames: int,
    shortest: float,
    longest: float,
    generator: Generator | None = None,
) -> SpanDraw:
    """Draw a span for each group, its length from U(shortest, longest), rounded down to frames.

    Args:
        groups: of the rows.
        n_frames: label frames of a clip.
        shortest: as a share of the clip.
        longest: as a share of the clip.
        generator: CPU generator.
    """
    length, start = torch.rand(2, groups.n_draws, 1, generator=generator)
    length = ((shortest + (longest - shortest) * length) * n_frames).floor()
    first = (start * (n_frames - length + 1)).floor().minimum(n_frames - length)
    return SpanDraw(groups.of_rows(first), groups.of_rows(first + length))


def mask_spans(
    inputs: StepInputs, spans: SpanDraw, times: FrameTimes, is_masked: Tensor
) -> StepInputs:
    """Zero a span of everything that the networks are given, and of targets and pseudo-labels.

    Args:
        inputs: the step.
        spans: of its rows.
        times: lengths of the steps.
        is_masked: (batch,) bool, the rows to mask.
    """
    n_labels, embedding = inputs.target.shape[-1], inputs.embedding
    per_label = times.net_subsample

    def masked(x: Tensor, label_frames_per_step: float, offset: float = 0.0) -> Tensor:
        step = torch.arange(x.shape[-1], device=x.device)
        # Steps after the last label frame belong to it.
        frame = ((step + offset) * label_frames_per_step).floor().clamp(max=n_labels - 1)
        hidden = (frame >= spans.first) & (frame < spans.after) & is_masked[:, None]
        return x.masked_fill(hidden[:, None], 0)

    if embedding.numel() and embedding.ndim == 3:
        embedding = masked(embedding, n_labels / embedding.shape[-1], 0.5)
    encoded = times.for_encoders(inputs)
    return inputs._replace(
        mel=masked(inputs.mel, 1 / per_label),
        encoder_inputs=tuple(masked(x, 1 / (rate * per_label)) for x, rate in encoded),
        embedding=embedding,
        target=masked(inputs.target, 1.0),
        pseudo=None if inputs.pseudo is None else masked(inputs.pseudo, 1.0),
    )
