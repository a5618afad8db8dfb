"""All augmentations of a step, in their order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from desed_task.augment.filters import (
    BandScale,
    FilterDraw,
    FilterType,
    draw_filters,
    filter_spectra,
)
from desed_task.augment.frames import (
    FrameTimes,
    draw_shift,
    draw_spans,
    mask_spans,
    shift_frames,
)
from desed_task.augment.groups import RowGroups, pairing_groups
from desed_task.augment.responses import DeviceResponses
from desed_task.augment.row_mixup import draw_row_mix, mix_rows
from desed_task.augment.rows import WHOLE_BATCH, BatchShare, happens, moved
from desed_task.augment.spectra import draw_warp, mix_styles, warp
from desed_task.augment.step import AugmentedStep, StepInputs
from desed_task.augment.waveforms import (
    amplify,
    convolve,
    draw_devices,
    draw_gains,
    draw_wavmix,
    mix_waveforms,
)
from desed_task.batch import SourceRoles
from desed_task.features import SpectrumLayout


@dataclass
class StepAugmentation:
    """Augmentation of a step (docs/augmentation.md). Without further values it does nothing.

    Those of `waveforms` come first, then those of a call: frame shift, time mask, mixup, mixstyle,
    frequency warp, FilterAugment. Each number is drawn once and applied to all tensors. What is off
    draws nothing.

    Attributes:
        roles: what rows of each source take part in.
        times: lengths of the steps of all tensors.
        scale: the bands of the log-mel spectrogram.
        layouts: what each encoder that runs in the step is given.
        interpolates: whether the teacher is given rows that are not mixed, for interpolation
            consistency.
        responses: of devices; needed for `device_prob`.
        wavmix_prob: that a strongly labelled clip is mixed with another of its corpus.
        wavmix_alpha: of the Beta distribution of its shares.
        device_prob: that a clip is convolved with a response.
        gain_db: largest gain of a clip, up or down.
        shift_std: standard deviation of the shift of a clip, as a share of its length.
        time_mask_prob: that a step masks a span of the rows with hard strong labels.
        time_mask_min, time_mask_max: bounds of its length, as a share of the clip.
        mixup_prob: that a step mixes rows.
        mixup_alpha: of the Beta distribution of its shares.
        mix_across: see `pairing_groups`.
        mixstyle_prob: that a step mixes styles.
        mixstyle_alpha: of the Beta distribution of its shares.
        warp_prob: that a step warps what encoders are given.
        warp_min: least height of the strip, as a share of the bands.
        filter_prob: that a step filters.
        filter_type: "linear" or "step".
        filter_db: lowest and highest gain.
        filter_bands: fewest and most bands.
        filter_min_bins: least width of a band, in mel bands.
        filter_transforms: 2 if student and teacher are given different filters, else 1.
    """

    roles: SourceRoles
    times: FrameTimes
    scale: BandScale
    layouts: tuple[SpectrumLayout, ...] = ()
    interpolates: bool = False
    responses: DeviceResponses | None = None
    wavmix_prob: float = 0.0
    wavmix_alpha: float = 0.2
    device_prob: float = 0.0
    gain_db: float = 0.0
    shift_std: float = 0.0
    time_mask_prob: float = 0.0
    time_mask_min: float = 0.05
    time_mask_max: float = 0.3
    mixup_prob: float = 0.0
    mixup_alpha: float = 0.2
    mix_across: bool = False
    mixstyle_prob: float = 0.0
    mixstyle_alpha: float = 0.3
    warp_prob: float = 0.0
    warp_min: float = 0.6
    filter_prob: float = 0.0
    filter_type: FilterType = "linear"
    filter_db: tuple[float, float] = (-6.0, 6.0)
    filter_bands: tuple[int, int] = (3, 5)
    filter_min_bins: int = 6
    filter_transforms: int = 1
    _moved: dict[torch.device, DeviceResponses] = field(default_factory=dict, repr=False)

    def waveforms(
        self,
        waveform: Tensor,
        labels: tuple[Tensor, ...],
        source: Tensor,
        generator: Generator | None = None,
        rows: BatchShare = WHOLE_BATCH,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Wavmix, device responses and gain.

        Args:
            waveform: (batch, sample).
            labels: the target and, if there are any, pseudo-labels, each (batch, class, frame).
            source: (batch,) the number of each row's corpus.
            generator: CPU generator.
            rows: which rows of a batch these are.

        Returns:
            Waveform and labels; those given if nothing is drawn.
        """
        n_rows = len(source)
        if self.wavmix_prob:
            each = [(one,) for one in self.roles.strong]
            groups = RowGroups.of(source, each, self.roles.n_sources)
            mix = draw_wavmix(groups, self.wavmix_prob, self.wavmix_alpha, generator, rows)
            waveform, mixed = mix_waveforms(waveform, labels, mix)
            labels = tuple(mixed)
        if self.device_prob:
            responses = self._responses(waveform.device)
            n_responses = len(responses.delay)
            devices = draw_devices(n_rows, n_responses, self.device_prob, generator, rows)
            waveform = convolve(waveform, devices, responses)
        if self.gain_db:
            gains = draw_gains(n_rows, self.gain_db, generator, rows)
            waveform = amplify(waveform, moved(gains, waveform.device))
        return waveform, labels

    def __call__(
        self,
        inputs: StepInputs,
        source: Tensor,
        generator: Generator | None = None,
        rows: BatchShare = WHOLE_BATCH,
    ) -> AugmentedStep:
        """What student and teacher are given.

        Args:
            inputs: the step without augmentation, but that of waveforms.
            source: (batch,) the number of each row's corpus.
            generator: CPU generator.
            rows: which rows of a batch these are.
        """
        inputs = self._in_time(inputs, source, generator, rows)
        unmixed = inputs
        paired = pairing_groups(self.roles, across=self.mix_across)
        groups = RowGroups.of(source, paired, self.roles.n_sources)
        mix = None
        if happens(self.mixup_prob, generator):
            mix = draw_row_mix(groups, self.mixup_alpha, generator, rows)
            inputs = mix_rows(inputs, mix)
        if happens(self.mixstyle_prob, generator):
            style = draw_row_mix(groups, self.mixstyle_alpha, generator, rows)
            inputs = mix_styles(inputs, style)
        if happens(self.warp_prob, generator):
            strips = draw_warp(groups, self.warp_min, generator)
            warped = tuple(warp(one, strips, groups) for one in inputs.encoder_inputs)
            inputs = inputs._replace(encoder_inputs=warped)
        interpolated = mix if self.interpolates else None
        teacher = inputs if interpolated is None else unmixed
        return AugmentedStep(
            *self._filtered(inputs, teacher, groups, generator, rows), interpolated
        )

    def _in_time(
        self, inputs: StepInputs, source: Tensor, generator: Generator | None, rows: BatchShare
    ) -> StepInputs:
        """Frame shift and time mask."""
        is_strong = self._rows_of(self.roles.strong, source)
        if self.shift_std:
            n_frames = inputs.mel.shape[-1]
            shift = draw_shift(len(source), n_frames, self.shift_std, generator, rows)
            inputs = shift_frames(inputs, moved(shift, source.device), self.times, is_strong)
        if happens(self.time_mask_prob, generator):
            paired = pairing_groups(self.roles, across=self.mix_across)
            groups = RowGroups.of(source, paired, self.roles.n_sources)
            n_labels = inputs.target.shape[-1]
            bounds = self.time_mask_min, self.time_mask_max
            spans = draw_spans(groups, n_labels, *bounds, generator)
            hard = set(self.roles.strong) - set(self.roles.soft)
            inputs = mask_spans(inputs, spans, self.times, self._rows_of(hard, source))
        return inputs

    def _rows_of(self, sources: Iterable[int], source: Tensor) -> Tensor:
        """(batch,) bool, the rows of some sources."""
        chosen = torch.zeros(self.roles.n_sources, dtype=torch.bool)
        chosen[list(sources)] = True
        return moved(chosen, source.device)[source]

    def _filtered(
        self,
        student: StepInputs,
        teacher: StepInputs,
        groups: RowGroups,
        generator: Generator | None,
        rows: BatchShare,
    ) -> tuple[StepInputs, StepInputs]:
        """FilterAugment."""
        if not happens(self.filter_prob, generator):
            return student, teacher
        first = self._draw_filters(groups, generator, rows)
        filtered = self._apply(first, student, groups)
        if self.filter_transforms == 1:
            same = teacher is student
            return filtered, filtered if same else self._apply(first, teacher, groups)
        second = self._draw_filters(groups, generator, rows)
        return filtered, self._apply(second, teacher, groups)

    def _draw_filters(
        self, groups: RowGroups, generator: Generator | None, rows: BatchShare
    ) -> FilterDraw:
        n_mels, width = self.scale.n_mels, self.filter_min_bins
        return draw_filters(
            groups, n_mels, self.filter_bands, width, self.filter_db, generator, rows
        )

    def _apply(self, draw: FilterDraw, inputs: StepInputs, groups: RowGroups) -> StepInputs:
        encoders = [(self.scale.places(one.centres_hz), one.per_db) for one in self.layouts]
        return filter_spectra(inputs, draw, groups, self.scale, self.filter_type, encoders)

    def _responses(self, device: torch.device) -> DeviceResponses:
        """The responses on a device, copied there once."""
        if self.responses is None:
            raise ValueError("device_prob without responses")
        if device not in self._moved:
            copies = (moved(one, device) for one in self.responses)
            self._moved[device] = DeviceResponses(*copies)
        return self._moved[device]
